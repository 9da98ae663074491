"""Make notebooks of the tutorial, one for each backend and language, from the pages themselves.

No second tutorial grows old beside the first.

    python docs/build_notebooks.py docs/notebooks [--execute] [--only tutorial-torch]

A `{both}` block becomes that backend's code, and what holds the two backends against each other is
left out. Notebooks have no outputs, unless they are executed (nbclient).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

from executed import BACKENDS, TAB_NAMES, for_backend, named_block  # noqa: E402

#: Name of the notebooks to the page that they are made of.
PAGES = {"tutorial": DOCS / "tutorial.md", "tutoriel": DOCS / "fr" / "tutoriel.md"}

#: The first cell after the title, by the notebook's name.
HEADS = {
    "tutorial": "*This notebook is the tutorial's {tab} side. It needs "
    '`pip install "bertnli[{backend},plots]"`, no network and no GPU.*',
    "tutoriel": "*Ce notebook contient la partie {tab} du tutoriel. Il demande "
    '`pip install "bertnli[{backend},plots]"`, mais ni réseau ni GPU.*',
}
NOT_RUN = {"tutorial": "Not run here: {why}", "tutoriel": "Non exécuté ici\u00a0: {why}"}

_OPEN = re.compile(r"^(`{3,}|:{3,})\{([\w-]+)\}[ ]*(.*)$")
_OPTION = re.compile(r"^:([\w-]+):[ ]*(.*)$")
_PAGE_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)")

#: Directives that are for the site: what is in them is left out.
LEFT_OUT = ("alone", "beside", "compare", "div", "toctree")


@dataclass
class Piece:
    """A part of a page: a directive, or prose between two of them (then without a name)."""

    name: str = ""
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip("\n")


def pieces(page: str) -> Iterator[Piece]:
    """Yield the parts of a page of MyST Markdown, in their order."""
    prose = Piece()
    lines = iter(page.splitlines())
    for line in lines:
        opened = _OPEN.match(line)
        if opened is None:
            prose.lines.append(line)
            continue
        yield prose
        prose = Piece()
        fence, piece = opened[1], Piece(opened[2], opened[3].strip())
        in_options = True
        for inner in lines:
            if (
                inner.strip()
                and not inner.strip().strip(fence[0])
                and len(inner.strip()) >= len(fence)
            ):
                break
            option = _OPTION.match(inner) if in_options else None
            if option is not None:
                piece.options[option[1]] = option[2].strip()
            elif in_options and not inner.strip() and not piece.lines:
                in_options = not piece.options
            else:
                in_options = False
                piece.lines.append(inner)
        yield piece
    yield prose


def notebook(name: str, page: str, backend: str) -> Any:
    """Return a page as a notebook.

    Args:
        name: ``"tutorial"`` or ``"tutoriel"``.
        page: the Markdown.
        backend: ``"torch"`` or ``"mxnet"``.

    Raises:
        ValueError: the page has a directive that means nothing in a notebook.
    """
    cells: list[Any] = []

    def add(kind: str, text: str) -> None:
        make = getattr(nbformat.v4, f"new_{kind}_cell")
        cells.append(make(text, id=f"{name}-{len(cells)}"))

    for piece in pieces(page):
        if "like" in piece.options:
            piece.lines = named_block(PAGES["tutorial"], piece.options["like"]).splitlines()
        if piece.name in LEFT_OUT or not piece.text:
            continue
        if not piece.name:
            add("markdown", _PAGE_LINK.sub(r"\1", piece.text))
            if len(cells) == 1:
                head = HEADS[name].format(tab=TAB_NAMES[backend], backend=backend)
                add("markdown", head)
        elif piece.name == "both" or (
            piece.name == "run" and piece.options.get("backend", BACKENDS[0]) == backend
        ):
            add("code", _code(piece, backend))
        elif piece.name == "sh":
            add("code", "%%bash\n" + piece.text)
        elif piece.name == "not-run":
            note = NOT_RUN[name].format(why=piece.options["why"])
            code = for_backend(piece.text, backend)[0]
            add("markdown", f"```{piece.argument}\n{code}\n```\n\n*{note}*")
        elif piece.name != "run":
            raise ValueError(f"a notebook cannot hold {{{piece.name}}}, which {name} has")
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    made.metadata["language_info"] = {"name": "python"}
    nbformat.validate(made)
    return made


def _code(piece: Piece, backend: str) -> str:
    """Return a block's code, with a line that shows its picture if it writes one."""
    code = for_backend(piece.text, backend)[0]
    figure = piece.options.get("figure", "").replace("{backend}", backend)
    if figure and figure in code:
        code += f'\n\nfrom IPython.display import Image\n\nImage("{figure}")'
    return code


def write_notebooks(folder: Path) -> list[Path]:
    """Write all notebooks to a folder, without outputs, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, page in PAGES.items():
        for backend in BACKENDS:
            path = folder / f"{name}-{backend}.ipynb"
            nbformat.write(notebook(name, page.read_text(encoding="utf-8"), backend), path)
            written.append(path)
    return written


def execute(path: Path) -> None:
    """Run a notebook's cells in a folder of their own, and keep their outputs in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    result = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="bertnli-notebook-") as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(result, timeout=900, resources=resources).execute()
    nbformat.write(result, path)


def main(arguments: list[str] | None = None) -> int:
    """Write the notebooks, and execute them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--execute", action="store_true", help="run them, and keep their outputs")
    parser.add_argument("--only", metavar="NAME", help="such as tutorial-torch")
    args = parser.parse_args(arguments)
    for path in write_notebooks(args.folder):
        if args.execute and args.only in (None, path.stem):
            print(f"running {path}", flush=True)
            execute(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
