"""The extension that runs a page's code: what it shows, and which errors end the build."""

import html
import re

import pytest
from executed import ExecutionError, cleaned, for_backend

#: Makes a small figure, which is the value of the last line.
FIGURE = "from matplotlib.figure import Figure\n\nfigure = Figure(figsize=(1, 1))\nfigure"


def cells(page):
    """Return the text of each block of code and of output on a page."""
    blocks = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", block)).strip("\n") for block in blocks]


def block(kind, code, *options):
    """Return the Markdown of a block of code."""
    name, _, language = kind.partition(" ")
    return "\n".join([f"```{{{name}}} {language}", *options, code, "```\n"])


def page(*blocks):
    return "\n".join(["# Page\n", *blocks])


def test_the_blocks_of_a_page_share_a_namespace_and_a_folder(build):
    site = build(
        index=page(
            block("run python", 'x = 3\nprint("x is", x)'),
            block("run python", "x + 1", ":hide-code:"),
            block("run python", "print(x)", ":hide-output:"),
            block("run python", 'import os\n\nn = os.write(1, b"raw")', ":hide-code:"),
            block("run python", 'n = open("note.txt", "w").write("by Python\\n")', ":hide-code:"),
            block("sh", "cat note.txt\nprintf 'half\\rwhole\\033[1m!\\033[0m\\n' >&2"),
            block("sh", "exit 3", ":status: 3"),
            block("run python", 'import bertnli\n\nprint(os.path.abspath("a"), bertnli.__file__)'),
            "```{cli-help} predict\n```\n",
            ":::{beside}\nSome *text*.\n:::\n",
        )
    )
    assert site.warnings == ""
    outputs = cells(site.page())
    assert outputs[:5] == ['x = 3\nprint("x is", x)', "x is 3", "4", "print(x)", "raw"]
    assert outputs[6] == "by Python\nwhole!"
    assert outputs[-3] == "a bertnli/__init__.py"  # no paths of this machine
    assert "usage: bertnli predict" in outputs[-1]
    assert "Side by side" in site.page() and "<em>text</em>" in site.page()


def test_each_tab_has_a_namespace_and_compare_sees_both(build):
    site = build(
        index=page(
            block("both python", 'name = "{backend}"\nprint("I am", name)'),
            block("both python", 'print("one", name)\n# ---- MXNet\nprint("another", name)'),
            block("compare python", 'print(torch_ns["name"], "and", mxnet_ns["name"])'),
            block("both python", FIGURE, ":figure: {backend}.png", ":alt: a line"),
        )
    )
    assert site.warnings == ""
    outputs, text = cells(site.page()), site.page()
    texts = ["I am torch", "I am mxnet", "one torch", "another mxnet"]
    assert [outputs[i] for i in (1, 3, 5, 7)] == texts
    assert outputs[8] == "torch and mxnet"
    assert "torch_ns" not in text  # the code of a comparison is not shown
    assert text.count('data-sync-id="torch"') == text.count('data-sync-id="mxnet"') == 3
    assert re.findall(r'src="_images/([^"]+)"', text) == ["5-torch.png", "6-mxnet.png"]


def test_a_block_that_stands_alone_has_its_own_namespace_and_folder(build):
    code = f'import os\n\nprint("x" in globals(), os.path.exists("note.txt"))\n{FIGURE}'
    first = block("run python", 'x = open("note.txt", "w").write("text")')
    alone = block("alone python", code, ":figure: line.png", ":alt: a line")
    site = build(index=page(first, alone))
    assert site.warnings == "" and cells(site.page())[2] == "False False"
    [picture] = re.findall(r'<img alt="a line"[^>]* src="([^"]+)"', site.page())
    assert (site.html / picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ExecutionError, match=r"index\.md:8: (?s:.*)NameError: name 'x'"):
        build(index=page(first, block("alone python", "print(x)")))


DIES = 'import os, sys\n\nprint("last", file=sys.stderr)\nos._exit(3)'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block("run python", "x = 1\n1 / 0"), r"index\.md:4: (?s:.*line 5.*)ZeroDivisionError"),
        (block("both python", "x = 1\n# ---- MXNet\nx = 1\nx.y"), r"md:6: (?s:.*)line 7, in <mod"),
        (block("run python", DIES), r"(?s)index\.md:4: .*the process died\nlast"),
        (block("sh", "false | cat"), r"index\.md:4: (?s:.*)status 1, not 0"),
        (block("sh", "echo $nothing_of_this_name"), r"index\.md:4: (?s:.*)status 1"),
        (
            block("run python", "1", ":figure: none.png", ":alt: nothing"),
            r"index\.md:6: (?s:.*)neither writes none\.png",
        ),
        (block("sh", "true", ":figure: a.png", ":alt: b"), r"index\.md:6: .*\n.*not write a\.png"),
    ],
)
def test_a_failure_ends_the_build_with_file_and_line(build, text, message):
    with pytest.raises(ExecutionError, match=message):
        build(index=page(text))


def test_code_that_is_not_run_and_a_figure_without_text_are_warnings(build):
    code = ("```python\nx = 1\n```", "```\nx\n```", "Some text.\n\n    x = 1")
    for text in code:
        warnings = build(index=f"# Page\n\n{text}\n").warnings
        assert re.search(r"index\.md:\d+: WARNING: a block of code that nothing runs", warnings)
    site = build(
        index=page("```text\na tree\n```\n", block("not-run python", "f()", ":why: a download")),
        fr__page=page(block("not-run bash", "f", ":why: réseau")),
        two=page(block("not-run python", 'f("{backend}")', ":both:", ":why: no")),
    )
    assert "nothing runs" not in site.warnings
    assert cells(site.page()) == ["a tree", "f()"]
    assert cells(site.page("two")) == ['f("torch")', 'f("mxnet")']
    assert "Not run here: a download" in site.page()
    assert "Non exécuté ici\u00a0: réseau" in site.page("fr/page")
    site = build(index=page(block("run python", FIGURE, ":figure: line.png")))
    assert "say with :alt: what the figure shows" in site.warnings


def test_a_translation_shows_the_code_of_its_original(build):
    site = build(
        tutorial=page(block("run python", "6 * 7", ":name: product")),
        fr__tutoriel=page(block("run python", "", ":like: product")),
        index="# P\n\n```{toctree}\ntutorial\nfr/tutoriel\n```\n",
    )
    assert site.warnings == ""
    assert cells(site.page("fr/tutoriel")) == cells(site.page("tutorial")) == ["6 * 7", "42"]


def test_for_backend():
    assert for_backend("a({backend})", "torch") == ("a(torch)", 0)
    divided = "a\n\n# ---- MXNet\nb({backend})\n"
    assert for_backend(divided, "torch") == ("a", 0)
    assert for_backend(divided, "mxnet") == ("b(mxnet)", 3)
    with pytest.raises(ExecutionError, match="more than one"):
        for_backend("a\n# ---- MXNet\nb\n# ---- MXNet\nc", "torch")


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("\n a \n\n", " a"),
        ("10%\r50%\r100%\nnext\r\n", "100%\nnext"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07", "red"),
        ("bar\r\n\x1b[Aup", "bar\nup"),
    ],
)
def test_cleaned(text, visible):
    assert cleaned(text) == visible
