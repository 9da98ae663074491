"""The tutorial as notebooks, and in two languages."""

import ast

import nbformat
import pytest
from build_notebooks import BACKENDS, PAGES, Piece, execute, notebook, pieces, write_notebooks

CODE = ("run", "both", "alone", "compare", "sh", "not-run")
PAGE = """# Title

See [the guide](guide.md) and [a site](https://example.org).

```{both} python
:figure: a-{backend}.png
:alt: a picture

plot("a-{backend}.png", "{backend}")
```

:::::{beside}
Both:

```{compare} python
torch_ns["x"]
```
:::::

```{run} python
:backend: mxnet
only = "mxnet"
```

```{not-run} python
:both:
:why: a download
get("{backend}")
```

```text
a tree
```
"""


def test_pieces_of_a_page():
    result = list(pieces(PAGE))
    assert [piece.name for piece in result if piece.name] == ["both", "beside", "run", "not-run"]
    options = {"figure": "a-{backend}.png", "alt": "a picture"}
    assert result[1] == Piece("both", "python", options, ['plot("a-{backend}.png", "{backend}")'])
    assert result[-1].text == "```text\na tree\n```"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_notebook_is_for_one_backend(backend):
    cells = notebook("tutorial", PAGE, backend).cells
    other = BACKENDS[1 - BACKENDS.index(backend)]
    text = "\n".join(cell.source for cell in cells)
    assert "guide.md" not in text and "the guide" in text and "https://example.org" in text
    assert "torch_ns" not in text and "Both:" not in text
    assert f'get("{backend}")' in text and f'"{other}")' not in text
    assert ("only" in text) == (backend == "mxnet")
    assert "*Not run here: a download*" in text
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert code[0].startswith(f'plot("a-{backend}.png", "{backend}")')
    assert f'Image("a-{backend}.png")' in code[0]
    with pytest.raises(ValueError, match=r"cannot hold \{note\}"):
        notebook("tutorial", "# T\n\n```{note}\nx\n```\n", backend)


def test_notebooks_of_the_tutorials(tmp_path):
    written = write_notebooks(tmp_path)
    assert [path.stem for path in written] == [f"{n}-{b}" for n in PAGES for b in BACKENDS]
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_notebooks(tmp_path)] == before
    for path in written:
        for cell in nbformat.read(path, as_version=4).cells:
            assert "{backend}" not in cell.source
            if cell.cell_type == "code":
                ast.parse(cell.source)
                assert cell.outputs == []


def code_of(page, option):
    """Return name, figure and an option of each block of code of a page, also inside boxes."""
    blocks = []
    for piece in pieces(page):
        if piece.name in CODE:
            blocks.append((piece.name, piece.options.get("figure"), piece.options[option]))
        elif piece.name == "beside":
            blocks += code_of(piece.text, option)
    return blocks


def test_the_translation_has_all_blocks_in_order():
    english, french = (PAGES[name].read_text(encoding="utf-8") for name in ("tutorial", "tutoriel"))
    assert code_of(english, "name") == code_of(french, "like")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["tutorial", pytest.param("tutoriel", marks=pytest.mark.long)])
def test_a_notebook_runs(tmp_path, name, backend):
    write_notebooks(tmp_path)
    path = tmp_path / f"{name}-{backend}.ipynb"
    execute(path)
    cells = nbformat.read(path, as_version=4).cells
    printed = "".join(str(cell.outputs) for cell in cells if cell.cell_type == "code")
    assert "epoch 6:" in printed and printed.count("'image/png'") == 2
