"""The extension that runs a page's code: what is shown, what is an error, what is remembered."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from executed.blocks import ExecutionError, cleaned, for_backend


def cells(page: str) -> list[str]:
    """Return the text of each block of code and output of a page."""
    found = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", block)).strip("\n") for block in found]


def test_code_and_output_are_shown_and_names_last_down_the_page(build: Callable) -> None:
    site = build(
        index="""# Page

```{run} python
x = 3
print("x is", x)
```

```{run} python
:hide-code:
x + 1
```

```{run} python
:hide-output:
print(x)
```
"""
    )
    assert site.warnings == ""
    assert cells(site.page()) == ['x = 3\nprint("x is", x)', "x is 3", "4", "print(x)"]


def test_prints_past_python_are_caught_too(build: Callable) -> None:
    site = build(index='# P\n\n```{run} python\nimport os\n\nn = os.write(1, b"raw")\n```\n')
    assert cells(site.page())[1] == "raw"


def test_an_exception_ends_the_build_with_file_and_line(build: Callable) -> None:
    page = "# Page\n\ntext\n\n```{run} python\n:hide-output:\n\nx = 1\n1 / 0\n```\n"
    with pytest.raises(ExecutionError, match=r"index\.md:8: the block failed") as caught:
        build(index=page)
    assert re.search(r'index\.md", line 9, in <module>\n    1 / 0', str(caught.value))
    assert "ZeroDivisionError" in str(caught.value)
    assert "child.py" not in str(caught.value)


def test_a_process_that_dies_ends_the_build(build: Callable) -> None:
    page = (
        "# P\n\n```{run} python\nimport os, sys\n\n"
        'print("last words", file=sys.stderr, flush=True)\nos._exit(3)\n```\n'
    )
    with pytest.raises(ExecutionError, match=r"(?s)index\.md:4: the process.*last words"):
        build(index=page)


def test_both_runs_each_backends_variant_in_a_process_of_its_own(build: Callable) -> None:
    site = build(
        index="""# Page

```{both} python
import os

name, process = "{backend}", os.getpid()
print("I am", name)
```

```{both} python
print("one way", name)
# ---- MXNet
print("another way", name)
```

```{compare} python
assert torch_ns["process"] != mxnet_ns["process"]
for what in ("name",):
    print(torch_ns[what], "and", mxnet_ns[what])
```
"""
    )
    assert site.warnings == ""
    found = cells(site.page())
    assert [found[i] for i in (1, 3, 5, 7)] == [
        "I am torch",
        "I am mxnet",
        "one way torch",
        "another way mxnet",
    ]
    assert found[4:7:2] == ['print("one way", name)', 'print("another way", name)']
    assert found[-1] == "torch and mxnet"
    assert "torch_ns" not in site.page()  # which no reader has
    for tab in ("torch", "mxnet"):
        assert site.page().count(f'data-sync-id="{tab}"') == 2


def test_what_stands_alone_sees_nothing_of_its_page(build: Callable) -> None:
    code = """# Page

```{run} python
x = open("note.txt", "w").write("text")
```

```{alone} python
:figure: line.png
:alt: a line
import os

from matplotlib.figure import Figure

print("x" in globals(), os.listdir())
Figure(figsize=(1, 1)).savefig("line.png")
```

```{run} python
print(x, os.path.abspath("line.png") if "os" in globals() else "no os")
```
"""
    site = build(index=code)
    assert site.warnings == ""
    assert [cells(site.page())[i] for i in (2, 4)] == ["False []", "4 no os"]
    assert 'alt="a line"' in site.page()
    with pytest.raises(ExecutionError, match=r"index\.md:10: (?s:.*)NameError: name 'x'"):
        build(index=code.replace('print("x" in globals(), os.listdir())', "print(x)"))


def test_an_error_in_the_second_variant_has_its_own_line(build: Callable) -> None:
    page = "# P\n\n```{both} python\nx = 1\n# ---- MXNet\nx = 1\nx.y\n```\n"
    with pytest.raises(ExecutionError, match=r"index\.md:6: (?s:.*)line 7, in <module>"):
        build(index=page)


def test_compare_says_what_cannot_leave_its_process(build: Callable) -> None:
    page = (
        "# P\n\n```{both} python\nf = (i for i in [1])\n```\n\n"
        '```{compare} python\ntorch_ns["f"]\n```\n'
    )
    with pytest.raises(ExecutionError, match=r"index\.md:8: (?s:.*)f is a generator"):
        build(index=page)


def test_folders_of_this_machine_are_not_shown(build: Callable) -> None:
    page = """# P

```{run} python
import os

import bertnli

print(os.path.abspath("note.txt"))
print(bertnli.__file__)
```
"""
    assert cells(build(index=page).page())[1] == "note.txt\nbertnli/__init__.py"


def test_the_shell_shares_the_pages_folder(build: Callable) -> None:
    site = build(
        index="""# Page

```{run} python
n = open("note.txt", "w").write("written by Python\\n")
```

```{sh}
cat note.txt
printf 'half\\rwhole\\033[1m!\\033[0m\\n' >&2
```

```{sh}
:status: 3
exit 3
```
"""
    )
    assert site.warnings == ""
    assert cells(site.page())[2] == "written by Python\nwhole!"


@pytest.mark.parametrize("commands", ["false", "false | cat", "echo $nothing_of_this_name"])
def test_a_status_that_the_page_does_not_say_ends_the_build(build: Callable, commands: str) -> None:
    with pytest.raises(ExecutionError, match=r"index\.md:5: the commands ended with status 1"):
        build(index=f"# Page\n\n\n```{{sh}}\n{commands}\n```\n")


@pytest.mark.parametrize("block", ["```python\nx = 1\n```", "```\nx\n```", "    x = 1"])
def test_code_that_nothing_runs_is_a_warning(build: Callable, block: str) -> None:
    site = build(index=f"# Page\n\nSome text.\n\n{block}\n")
    assert re.search(r"index\.md:\d+: WARNING: a block of code that nothing runs", site.warnings)


def test_text_and_what_is_said_not_to_run_are_no_warning(build: Callable) -> None:
    site = build(
        index="# P\n\n```text\na tree\n```\n\n```{not-run} python\n:why: a download\nf()\n```\n",
        fr__page="# P\n\n```{not-run} bash\n:why: réseau\nf\n```\n",
    )
    assert "nothing runs" not in site.warnings
    assert cells(site.page()) == ["a tree", "f()"]
    assert "Not run here: a download" in site.page()
    assert "Non exécuté ici\u00a0: réseau" in site.page("fr/page")


def test_not_run_for_both_has_two_tabs(build: Callable) -> None:
    site = build(index='# P\n\n```{not-run} python\n:both:\nf("{backend}")\n```\n')
    assert cells(site.page()) == ['f("torch")', 'f("mxnet")']


def test_what_was_run_is_remembered_until_the_code_changes(build: Callable, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f'n = open({str(log)!r}, "a").write("x")\nprint("printed")'
    page = "# Page\n\n{}\n\n```{{run}} python\n{}\n```\n"
    for prose in ("Some text.", "More text,\nin two lines."):
        site = build(index=page.format(prose, code))
        assert cells(site.page())[1] == "printed"
        assert prose.split()[0] in site.page()
    assert log.read_text() == "x"
    build(index=page.format("Some text.", code + "\ny = 1"))
    assert log.read_text() == "xx"


def test_a_figure_is_shown_with_its_text(build: Callable) -> None:
    picture = (
        "from matplotlib.figure import Figure\n\nfigure = Figure()\n"
        "axes = figure.add_subplot()\nn = axes.plot([1, 2])\nfigure"
    )
    site = build(
        index=f"# P\n\n```{{run}} python\n:figure: line.png\n:alt: a line\n{picture}\n```\n"
    )
    assert site.warnings == ""
    shown = re.search(r'<img alt="a line"[^>]* src="([^"]+)"', site.page())
    assert shown
    assert (site.html / shown[1]).read_bytes().startswith(b"\x89PNG")
    assert "<Figure" not in site.page()


def test_each_tab_shows_its_own_figure(build: Callable) -> None:
    site = build(
        index="# P\n\n```{both} python\n:figure: {backend}.png\n:alt: a line\n"
        "from matplotlib.figure import Figure\n\n"
        'Figure(figsize=(1, 1)).savefig("{backend}.png")\n```\n'
    )
    assert re.findall(r'src="_images/([^"]+)"', site.page()) == ["0-torch.png", "1-mxnet.png"]


def test_a_figure_that_a_block_does_not_make_is_an_error(build: Callable) -> None:
    with pytest.raises(ExecutionError, match=r"index\.md:6: (?s:.*)neither writes none\.png"):
        build(index="# P\n\n```{run} python\n:figure: none.png\n:alt: nothing\n1\n```\n")


def test_a_figure_that_commands_do_not_write_is_an_error(build: Callable) -> None:
    with pytest.raises(ExecutionError, match=r"index\.md:6: the block did not write none\.png"):
        build(index="# P\n\n```{sh}\n:figure: none.png\n:alt: nothing\ntrue\n```\n")


def test_a_figure_needs_a_text(build: Callable) -> None:
    with pytest.raises(ExecutionError, match=r"index\.md:3: say with :alt:"):
        build(index="# P\n\n```{run} python\n:figure: line.png\n1\n```\n")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```{run} ruby\nx\n```", "is for python, not 'ruby'"),
        ("```{sh}\n```", "the block is empty"),
    ],
)
def test_what_cannot_be_run_is_an_error(build: Callable, block: str, message: str) -> None:
    with pytest.raises(ExecutionError, match=message):
        build(index=f"# P\n\n{block}\n")


def test_cli_help_is_what_the_command_prints(build: Callable) -> None:
    site = build(index="# P\n\n```{cli-help} predict\n```\n")
    assert "usage: bertnli predict" in cells(site.page())[1]


def test_a_box_for_both_holds_what_is_in_it(build: Callable) -> None:
    site = build(index="# P\n\n:::{beside}\nSome *text*.\n:::\n")
    assert site.warnings == ""
    assert "Side by side" in site.page() and "<em>text</em>" in site.page()


def test_for_backend() -> None:
    assert for_backend("a({backend})", "torch") == ("a(torch)", 0)
    divided = "a\n\n# ---- MXNet\nb({backend})\n"
    assert for_backend(divided, "torch") == ("a", 0)
    assert for_backend(divided, "mxnet") == ("b(mxnet)", 3)
    with pytest.raises(ExecutionError, match="more than one"):
        for_backend("a\n# ---- MXNet\nb\n# ---- MXNet\nc", "torch")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n a \n\n", " a"),
        ("10%\r50%\r100%\nnext\r\n", "100%\nnext"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07", "red"),
        ("bar\r\n\x1b[Aup", "bar\nup"),
    ],
)
def test_cleaned(text: str, shown: str) -> None:
    assert cleaned(text) == shown
