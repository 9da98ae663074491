"""A Sphinx extension: pages whose code is run when they are built.

    {run} python        in one backend's namespace, down the page
    {both} python       in each backend's namespace, as two tabs
    {alone} python      in a process and a folder of its own: what a reader can run by itself
    {compare} python    sees both namespaces, torch_ns and mxnet_ns; only its output is shown
    {sh}                commands, in the page's temporary folder
    {not-run} LANGUAGE  shown, and marked as not run
    {cli-help} COMMAND  what a command's --help prints; without a command, of all
    {beside}            a box that compares the two backends

On a translated page, an empty block with :like: NAME has the code of the block :name: NAME of the
original. Any other block of code is a warning, unless its language is text. A block that fails ends
the build with its file and line.
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
#: Seconds that a page may take.
LIMIT = 1800
#: The directives' own words, by the language of the page.
WORDS = {
    "en": {"not-run": "Not run here", "colon": ": ", "beside": "Side by side"},
    "fr": {"not-run": "Non exécuté ici", "colon": "\u00a0: ", "beside": "Côte à côte"},
}
_DIVIDER = re.compile(r"^# -{2,} MXNet\s*$\n?", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")


class ExecutionError(SphinxError):
    """A block that failed; it ends the build."""

    category = "Execution error"


def for_backend(code: str, backend: str) -> tuple[str, int]:
    """Return a tab's code, with its backend's name for ``{backend}``, and the lines before it.

    A line ``# ---- MXNet`` divides the code: PyTorch's before it, MXNet's after it.
    """
    parts = _DIVIDER.split(code)
    if len(parts) > 2:
        raise ExecutionError("more than one line '# ---- MXNet' in a block")
    index = min(BACKENDS.index(backend), len(parts) - 1)
    before = code.count("\n") - parts[index].count("\n") if index else 0
    return parts[index].rstrip("\n").replace("{backend}", backend), before


def named_block(page: Path, name: str) -> str:
    """Return the code of a page's block with ``:name: NAME``."""
    option = r"(?::.*\n)*"
    block = rf"^```\{{.*\n{option}:name: {re.escape(name)}\n{option}((?s:.*?))\n```$"
    match = re.search(block, page.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ExecutionError(f"{page} has no block of the name {name}")
    return match[1]


def cleaned(text: str) -> str:
    """Return what a terminal would show at the end: no escapes, no overwritten progress bars."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    kept = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines]
    return "\n".join(kept).strip("\n")


class executed_block(nodes.General, nodes.Element):  # named as docutils names its nodes
    """The place of a block, which is replaced by code and output when the page has been read."""


def literal(text: str, language: str, css_class: str) -> nodes.literal_block:
    """Return a block of code or output that `check_declared` accepts."""
    return nodes.literal_block(text, text, language=language, classes=[css_class], declared=True)


def tabs(contents: dict[str, nodes.Node]) -> nodes.Element:
    """Return a tab for each backend; choosing one chooses it on all pages."""
    items = []
    for backend, child in contents.items():
        label = nodes.rubric("", TAB_NAMES[backend], classes=["sd-tab-label"])
        label["sync_group"], label["sync_id"] = "backend", backend
        content = create_component("tab-content", classes=["sd-tab-content"], children=[child])
        children = [label, content]
        items.append(
            create_component("tab-item", ["sd-tab-item"], children=children, selected=False)
        )
    return create_component("tab-set", classes=["sd-tab-set"], children=items)


class Code(SphinxDirective):
    """A block of code: {run}, {both}, {alone}, {compare}, {sh} and {not-run}."""

    has_content = True
    optional_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "backend": lambda name: directives.choice(name, BACKENDS),
        "both": directives.flag,
        "figure": directives.unchanged_required,
        "hide-code": directives.flag,
        "hide-output": directives.flag,
        "like": directives.unchanged_required,
        "name": directives.unchanged_required,
        "status": directives.nonnegative_int,
        "why": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        if "like" in self.options:
            original = Path(self.env.doc2path(TRANSLATIONS[self.env.docname]))
            self.env.note_dependency(str(original))
            code = named_block(original, self.options["like"])
        if "figure" in self.options and not self.options.get("alt"):
            raise self.error("say with :alt: what the figure shows")
        if self.name == "not-run":
            if "both" in self.options:
                return [tabs({b: self.not_run(for_backend(code, b)[0]) for b in BACKENDS})]
            return [self.not_run(code)]
        if self.name == "both":
            return [tabs({b: self.block(b, *for_backend(code, b)) for b in BACKENDS})]
        where = self.options.get("backend", "torch") if self.name == "run" else self.name
        return [self.block(where, code)]

    def block(self, where: str, code: str, before: int = 0) -> executed_block:
        """Return the place of a block; ``before`` lines of its directive are another's."""
        block = {
            "page": str(self.env.doc2path(self.env.docname)),
            "line": self.lineno + self.content_offset + 1 + before,
            "where": where,
            "code": code,
            "figure": self.options.get("figure", "").replace("{backend}", where),
            "status": self.options.get("status", 0),
        }
        place = executed_block(block=block, **self.options)
        self.set_source_info(place)
        return place

    def not_run(self, code: str) -> nodes.Element:
        """Return a block that says why it is not run."""
        own, why = words(self.env), self.options.get("why")
        text = own["not-run"] + (own["colon"] + why if why else "")
        note = nodes.paragraph("", text, classes=["not-run-note"])
        children = [literal(code, self.arguments[0], "cell-code"), note]
        self.set_source_info(children[0])
        return nodes.container("", *children, classes=["cell", "not-run"])


class CliHelp(Code):
    """``{cli-help} COMMAND``."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        if self.arguments:
            return [self.block("sh", f"bertnli {self.arguments[0]} --help")]
        sections: list[nodes.Node] = []
        for command in COMMANDS:
            section = nodes.section("", nodes.title("", "", nodes.literal("", command)))
            section["names"].append(command)
            self.state.document.note_implicit_target(section, section)
            section += self.block("sh", f"bertnli {command} --help")
            sections.append(section)
        return sections


class Beside(SphinxDirective):
    """``{beside}``; notebooks, which are of one backend, leave it out."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        title = nodes.title("", words(self.env)["beside"])
        box = nodes.admonition("", title, classes=["beside"])
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]


def words(env: Any) -> dict[str, str]:
    """Return the directives' own words in the language of the page that is read."""
    return WORDS["fr" if env.docname.startswith("fr/") else "en"]


def run_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Replace each place of a block by its code and its output."""
    places = list(doctree.findall(executed_block))
    if not places:
        return
    logger.info("running %d blocks", len(places), color="darkgreen")
    pictures = Path(app.srcdir, "_build", "executed", app.env.docname)  # where Sphinx finds them
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    texts = run_page([place["block"] for place in places], pictures)
    for i, (place, text) in enumerate(zip(places, texts, strict=True)):
        block, cell = place["block"], nodes.container("", classes=["cell"])
        if "hide-code" not in place and block["where"] != "compare":
            language = "bash" if block["where"] == "sh" else "python"
            cell += literal(block["code"], language, "cell-code")
        if text and "hide-output" not in place:
            cell += literal(text, "text", "cell-output")
        if block["figure"]:
            uri = "/" + (pictures / f"{i}-{block['figure']}").relative_to(app.srcdir).as_posix()
            cell += nodes.image("", uri=uri, alt=place["alt"], classes=["cell-figure"])
        for node in cell.findall():
            node.source, node.line = place.source, place.line
        place.replace_self(cell)


def run_page(blocks: list[dict[str, Any]], pictures: Path) -> list[str]:
    """Return what each block prints; its figure is moved to ``pictures``, with its number.

    Raises:
        ExecutionError: a block failed, with its page and line.
    """
    with tempfile.TemporaryDirectory(prefix="bertnli-docs-") as home:
        work, given, made = (
            Path(home, "page"),
            Path(home, "blocks.json"),
            Path(home, "outputs.json"),
        )
        work.mkdir()
        given.write_text(json.dumps(blocks))
        made.write_text("[]")
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "BERTNLI_CACHE": str(Path(home, "cache")),
            "COLUMNS": "92",
            "MPLBACKEND": "agg",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, page_runner.__file__, str(given), str(made)]
        try:
            done = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, timeout=LIMIT, text=True
            )
        except subprocess.TimeoutExpired:
            raise ExecutionError(f"{blocks[0]['page']}: took more than {LIMIT} seconds") from None
        outputs = json.loads(made.read_text())
        failed = bool(outputs) and outputs[-1]["error"]
        if failed or len(outputs) < len(blocks):
            block = blocks[len(outputs) - bool(failed)]
            why = f"the process died\n{done.stderr[-4000:]}"
            if failed:
                why = outputs[-1]["text"] + outputs[-1]["error"]
            raise ExecutionError(f"{block['page']}:{block['line']}: the block failed\n{why}")
        for i, block in enumerate(blocks):
            if block["figure"]:
                shutil.copyfile(work / block["figure"], pictures / f"{i}-{block['figure']}")
        # Paths of this machine are not shown.
        library = f"{Path(bertnli.__file__).parents[1]}/"
        return [
            cleaned(re.sub(rf"{work}/(alone-\d+/)?", "", output["text"]).replace(library, ""))
            for output in outputs
        ]


def check_declared(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of code that neither runs nor says that it does not."""
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
    app.add_node(executed_block)
    for name in ("run", "both", "alone", "compare", "sh", "not-run"):
        app.add_directive(name, Code)
    app.add_directive("cli-help", CliHelp)
    app.add_directive("beside", Beside)
    # Before Sphinx collects the pictures of a page.
    app.connect("doctree-read", check_declared, priority=100)
    app.connect("doctree-read", run_blocks, priority=200)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
