"""A Sphinx extension that runs the code of pages when the site is built.

    {run} python        runs in a namespace that the whole page shares
    {both} python       runs in each backend's namespace; shown as two tabs
    {alone} python      runs in its own process and folder, as a reader would run it
    {compare} python    sees both namespaces, torch_ns and mxnet_ns; only its output is shown
    {sh}                commands, run in the page's temporary folder
    {not-run} LANGUAGE  shown with the note that it is not run
    {cli-help} COMMAND  the output of a command's --help, or of all commands'
    {beside}            a box that compares the two backends

On a translated page, an empty block with :like: NAME has the code of the original's block with
:name: NAME. Any other block of code is a warning, unless its language is text. A block that fails
ends the build with its file and line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import page_runner
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_design.shared import create_component

import bertnli
from bertnli.cli import COMMANDS

logger = logging.getLogger(__name__)

#: Title of each backend's tab.
TAB_NAMES = {"torch": "PyTorch", "mxnet": "MXNet"}
BACKENDS = tuple(TAB_NAMES)
#: Translated pages, and the pages that they translate.
TRANSLATIONS = {"fr/tutoriel": "tutorial"}
#: Time limit of a page in seconds.
LIMIT = 1800
#: The directives' own words: not run, not run with a reason, and the title of {beside}.
WORDS = {
    "en": ("Not run here", "Not run here: {}", "Side by side"),
    "fr": ("Non exécuté ici", "Non exécuté ici\u00a0: {}", "Côte à côte"),
}
_DIVIDER = re.compile(r"^# -{2,} MXNet\s*$\n?", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


class ExecutionError(SphinxError):
    """The error of a block that failed; it ends the build."""

    category = "Execution error"


def for_backend(code: str, backend: str) -> tuple[str, int]:
    """Return a backend's part of a {both} block, and the number of lines before it.

    A line ``# ---- MXNet`` divides PyTorch's code from MXNet's; ``{backend}`` in the code is
    replaced by the backend's name.
    """
    parts = _DIVIDER.split(code)
    if len(parts) > 2:
        raise ExecutionError("more than one line '# ---- MXNet' in a block")
    index = min(BACKENDS.index(backend), len(parts) - 1)
    before = code.count("\n") - parts[index].count("\n") if index else 0
    return parts[index].rstrip("\n").replace("{backend}", backend), before


def named_block(page: Path, name: str) -> str:
    """Find the block with ``:name: NAME`` in the Markdown of a page, and return its code."""
    option = r"(?::.*\n)*"
    block = rf"^```\{{.*\n{option}:name: {re.escape(name)}\n{option}((?s:.*?))\n```$"
    match = re.search(block, page.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ExecutionError(f"{page} has no block of the name {name}")
    return match[1]


def cleaned(text: str) -> str:
    """Remove escape sequences and overwritten progress bars from the output of a terminal."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    kept = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
    return "\n".join(kept).strip("\n")


def literal(text: str, language: str, css_class: str) -> nodes.literal_block:
    """Make a block of code or output that `check_declared` accepts."""
    return nodes.literal_block(text, text, language=language, classes=[css_class], declared=True)


def words(env: Any) -> tuple[str, str, str]:
    """Return the `WORDS` in the language of the page that is being read."""
    return WORDS["fr" if env.docname.startswith("fr/") else "en"]


class Code(SphinxDirective):
    """The directives {run}, {both}, {alone}, {compare}, {sh} and {not-run}."""

    has_content = True
    optional_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("alt", "figure", "like", "name", "why"), directives.unchanged_required),
        **dict.fromkeys(("both", "hide-code", "hide-output"), directives.flag),
        "status": directives.nonnegative_int,
    }

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        if "like" in self.options:
            original = Path(self.env.doc2path(TRANSLATIONS[self.env.docname]))
            self.env.note_dependency(str(original))
            code = named_block(original, self.options["like"])
        if "figure" in self.options and not self.options.get("alt"):
            raise self.error("say with :alt: what the figure shows")
        if self.name != "both" and "both" not in self.options:
            return [self.cell("torch" if self.name == "run" else self.name, code)]
        tabs = create_component("tab-set", ["sd-tab-set"])
        for backend, title in TAB_NAMES.items():
            item = create_component("tab-item", ["sd-tab-item"], selected=False)
            label = nodes.rubric("", title, classes=["sd-tab-label"])
            label["sync_group"], label["sync_id"] = "backend", backend  # one choice for all pages
            content = create_component("tab-content", ["sd-tab-content"])
            content += self.cell(backend, *for_backend(code, backend))
            item += [label, content]
            tabs += item
        return [tabs]

    def cell(self, where: str, code: str, before: int = 0) -> nodes.Element:
        """Make the container of a block, which `run_blocks` fills with code and output.

        Args:
            where: where the block runs; see `page_runner`.
            code: the code of the block.
            before: the number of lines of the directive before the code.
        """
        cell = nodes.container("", classes=["cell"])
        self.set_source_info(cell)
        if self.name == "not-run":
            cell["classes"].append("not-run")
            text = words(self.env)["why" in self.options].format(self.options.get("why"))
            cell += literal(code, self.arguments[0], "cell-code")
            cell += nodes.paragraph("", text, classes=["not-run-note"])
            self.set_source_info(cell[0])
            return cell
        cell["options"] = self.options
        cell["block"] = {
            "page": str(self.env.doc2path(self.env.docname)),
            "line": self.lineno + self.content_offset + 1 + before,
            "where": where,
            "code": code,
            "figure": self.options.get("figure", "").replace("{backend}", where),
            "status": self.options.get("status", 0),
        }
        return cell


class CliHelp(Code):
    """The directive ``{cli-help} COMMAND``."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        if self.arguments:
            return [self.cell("sh", f"bertnli {self.arguments[0]} --help")]
        sections = (f"## `{name}`\n\n```{{cli-help}} {name}\n```\n\n" for name in COMMANDS)
        return self.parse_text_to_nodes("".join(sections), allow_section_headings=True)


class Beside(SphinxDirective):
    """The directive ``{beside}``; notebooks, which are for one backend, leave it out."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        box = nodes.admonition("", nodes.title("", words(self.env)[2]), classes=["beside"])
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]


def run_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Run the blocks of a page, and put their code, output and figures into their containers."""
    cells = [cell for cell in doctree.findall(nodes.container) if "block" in cell]
    if not cells:
        return
    logger.info("running %d blocks", len(cells), color="darkgreen")
    pictures = Path(app.srcdir, "_build", "executed", app.env.docname)  # where Sphinx finds them
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    for i, cell in enumerate(cells):
        name = cell["block"]["figure"]
        cell["block"]["picture"] = str(pictures / f"{i}-{name}") if name else ""
    alone = [[cell] for cell in cells if cell["block"]["where"] == "alone"]
    shared = [cell for cell in cells if cell["block"]["where"] != "alone"]
    for run in filter(None, [shared, *alone]):
        texts = run_process([cell["block"] for cell in run])
        for cell, text in zip(run, texts, strict=True):
            block, options = cell["block"], cell["options"]
            if "hide-code" not in options and block["where"] != "compare":
                language = "bash" if block["where"] == "sh" else "python"
                cell += literal(block["code"], language, "cell-code")
            if text and "hide-output" not in options:
                cell += literal(text, "text", "cell-output")
            if block["picture"]:
                uri = "/" + Path(block["picture"]).relative_to(app.srcdir).as_posix()
                cell += nodes.image("", uri=uri, alt=options["alt"], classes=["cell-figure"])
            for node in cell.findall():
                node.source, node.line = cell.source, cell.line


def run_process(blocks: list[dict[str, Any]]) -> list[str]:
    """Run blocks in one process and a temporary folder; copy each figure to ``picture``.

    Returns:
        The output of each block.

    Raises:
        ExecutionError: a block failed; the message has its page and line.
    """
    with tempfile.TemporaryDirectory(prefix="bertnli-docs-") as home:
        work = Path(home, "page")
        work.mkdir()
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BERTNLI_CACHE": str(Path(home, "cache")),
            "COLUMNS": "92",
            "MPLBACKEND": "agg",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONWARNINGS": "ignore",
        }
        streams = {"input": json.dumps(blocks), "capture_output": True, "text": True}
        command = [sys.executable, page_runner.__file__]
        try:
            done = subprocess.run(command, cwd=work, env=environment, timeout=LIMIT, **streams)
        except subprocess.TimeoutExpired:
            raise ExecutionError(f"{blocks[0]['page']}: took more than {LIMIT} seconds") from None
        results = [json.loads(line) for line in done.stdout.splitlines()]
        why = f"the process died\n{done.stderr[-4000:]}"
        if results and results[-1][1]:
            why = "".join(results.pop())
        if len(results) < len(blocks):
            block = blocks[len(results)]
            raise ExecutionError(f"{block['page']}:{block['line']}: the block failed\n{why}")
        for block in blocks:
            if block["figure"]:
                shutil.copyfile(work / block["figure"], block["picture"])
    # Paths of this machine are not shown.
    library = f"{Path(bertnli.__file__).parents[1]}/"
    return [cleaned(text.replace(f"{work}/", "").replace(library, "")) for text, _ in results]


def check_declared(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of code that is neither run nor declared as not run."""
    for block in doctree.findall(nodes.literal_block):
        if block.get("declared") or block.get("language") == "text":
            continue
        if ":docstring of " not in (block.source or ""):
            logger.warning(
                "a block of code that nothing runs: make it {run}, {both}, {alone} or {sh}, or "
                "{not-run} LANGUAGE with a :why:; anything else has the language text",
                location=block,
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives to Sphinx."""
    app.setup_extension("sphinx_design")
    for name in ("run", "both", "alone", "compare", "sh", "not-run"):
        app.add_directive(name, Code)
    app.add_directive("cli-help", CliHelp)
    app.add_directive("beside", Beside)
    # Before Sphinx collects the pictures of a page.
    app.connect("doctree-read", check_declared, priority=100)
    app.connect("doctree-read", run_blocks, priority=200)
    return {"version": "3", "parallel_read_safe": True, "parallel_write_safe": True}
