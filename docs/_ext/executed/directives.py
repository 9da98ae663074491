"""The directives of code: each leaves a place that is filled when the page has been read.

Every block of code on a page is one of them: it is executed, or the page says that it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from sphinx_design.shared import create_component

from bertnli.cli import COMMANDS
from executed.blocks import (
    ALONE,
    BACKENDS,
    COMPARE,
    SHELL,
    TAB_NAMES,
    Block,
    ExecutionError,
    for_backend,
)

#: Where a tab is chosen, it is on all pages.
SYNC_GROUP = "backend"

#: What the directives write themselves, by the language of the page.
WORDS = {
    "en": {"not run": "Not run here", "colon": ": ", "beside": "Side by side"},
    "fr": {"not run": "Non exécuté ici", "colon": "\u00a0: ", "beside": "Côte à côte"},
}


class executed_block(nodes.General, nodes.Element):  # named as docutils names its nodes
    """A place for a block and its output; its ``block`` is a `Block`."""


def _backend(argument: str) -> str:
    return directives.choice(argument, BACKENDS)


class _CodeDirective(SphinxDirective):
    """What the directives of code have in common."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    #: The languages that the argument may name; an empty one is the first.
    languages: ClassVar[tuple[str, ...]] = ("python",)

    @property
    def words(self) -> dict[str, str]:
        return WORDS.get(self.env.docname.partition("/")[0], WORDS["en"])

    @property
    def first_line(self) -> int:
        """The line of the page where the code begins."""
        return self.lineno + self.content_offset + 1

    def code(self) -> str:
        language = self.arguments[0] if self.arguments else self.languages[0]
        at = f"{self.env.doc2path(self.env.docname)}:{self.lineno}"
        if language not in self.languages:
            raise ExecutionError(
                f"{at}: {{{self.name}}} is for {' or '.join(self.languages)}, not {language!r}"
            )
        if not self.content:
            raise ExecutionError(f"{at}: the block is empty")
        return "\n".join(self.content)

    def place(self, block: Block) -> executed_block:
        place = executed_block(
            block=block,
            hide_code="hide-code" in self.options,
            hide_output="hide-output" in self.options,
            alt=self.options.get("alt", ""),
        )
        if block.figure and not place["alt"]:
            raise ExecutionError(
                f"{self.env.doc2path(self.env.docname)}:{self.lineno}: say with :alt: what the "
                "figure shows"
            )
        self.set_source_info(place)
        return place

    def block(self, where: str, code: str, before: int = 0) -> Block:
        figure = self.options.get("figure", "").replace("{backend}", where)
        status = self.options.get("status", 0)
        return Block(where, code, self.first_line + before, figure, status)


_SHOWN: dict[str, Any] = {"hide-code": directives.flag, "hide-output": directives.flag}
_FIGURE: dict[str, Any] = {
    "figure": directives.unchanged_required,
    "alt": directives.unchanged_required,
}


class Run(_CodeDirective):
    """``{run} python``: Python in a backend's namespace, which lasts to the end of the page."""

    option_spec: ClassVar[dict[str, Any]] = {"backend": _backend, **_SHOWN, **_FIGURE}

    def run(self) -> list[nodes.Node]:
        where = self.options.get("backend", BACKENDS[0])
        return [self.place(self.block(where, self.code()))]


class Both(_CodeDirective):
    """``{both} python``: the same code in either backend's namespace, as two tabs."""

    option_spec: ClassVar[dict[str, Any]] = {**_SHOWN, **_FIGURE}

    def run(self) -> list[nodes.Node]:
        code = self.code()
        blocks = [self.block(name, *for_backend(code, name)) for name in BACKENDS]
        return [tab_set([(block.where, [self.place(block)]) for block in blocks])]


class Alone(_CodeDirective):
    """``{alone} python``: code that a reader can run by itself, and that is run so."""

    option_spec: ClassVar[dict[str, Any]] = {**_SHOWN, **_FIGURE}

    def run(self) -> list[nodes.Node]:
        return [self.place(self.block(ALONE, self.code()))]


class Compare(_CodeDirective):
    """``{compare} python``: sees the values of both, in ``torch_ns`` and ``mxnet_ns``.

    The output alone is shown, for no reader has these two.
    """

    option_spec: ClassVar[dict[str, Any]] = {**_FIGURE}

    def run(self) -> list[nodes.Node]:
        place = self.place(self.block(COMPARE, self.code()))
        place["hide_code"] = True
        return [place]


class Shell(_CodeDirective):
    """``{sh}``: commands, run by bash in the page's temporary folder."""

    languages = ("bash", "")
    option_spec: ClassVar[dict[str, Any]] = {
        "status": directives.nonnegative_int,
        **_SHOWN,
        **_FIGURE,
    }

    def run(self) -> list[nodes.Node]:
        return [self.place(self.block(SHELL, self.code()))]


class NotRun(_CodeDirective):
    """``{not-run} LANGUAGE``: code that is shown, and that the page says is not run.

    With ``:both:`` it is shown once for each backend.
    """

    languages = (
        "python",
        "bash",
        "console",
        "json",
        "ini",
        "nginx",
        "html",
        "yaml",
        "make",
        "dockerfile",
    )
    option_spec: ClassVar[dict[str, Any]] = {
        "why": directives.unchanged_required,
        "both": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        code = self.code()
        if "both" not in self.options:
            return [self._shown(code)]
        variants = [(name, for_backend(code, name)[0]) for name in BACKENDS]
        return [tab_set([(name, [self._shown(variant)]) for name, variant in variants])]

    def _shown(self, code: str) -> nodes.Element:
        why = self.options.get("why", "")
        note = self.words["not run"] + (self.words["colon"] + why if why else "")
        block = literal(code, self.arguments[0] if self.arguments else "python", "cell-code")
        self.set_source_info(block)
        paragraph = nodes.paragraph("", note, classes=["not-run-note"])
        return nodes.container("", block, paragraph, classes=["cell", "not-run"])


class CliHelp(_CodeDirective):
    """``{cli-help} COMMAND``: what ``bertnli COMMAND --help`` prints.

    Without a command: a section for each that there is.
    """

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        if self.arguments:
            return [self._help(self.arguments[0])]
        found: list[nodes.Node] = []
        for command in COMMANDS:
            section = nodes.section("", nodes.title("", "", nodes.literal("", command)))
            section["names"].append(command)
            self.state.document.note_implicit_target(section, section)
            section += self._help(command)
            found.append(section)
        return found

    def _help(self, command: str) -> executed_block:
        return self.place(Block(SHELL, f"bertnli {command} --help", self.lineno))


class Beside(SphinxDirective):
    """``{beside}``: a box that holds both backends' results against each other.

    Notebooks, which are each of one backend, do without it.
    """

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        words = WORDS.get(self.env.docname.partition("/")[0], WORDS["en"])
        box = nodes.admonition("", nodes.title("", words["beside"]), classes=["beside"])
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]


def literal(text: str, language: str, *classes: str) -> nodes.literal_block:
    """Return a block of code or output that is declared to be what it is."""
    return nodes.literal_block(text, text, language=language, classes=[*classes], declared=True)


def tab_set(tabs: Sequence[tuple[str, list[nodes.Node]]]) -> nodes.Element:
    """Return tabs, of a backend's name and what is in it, that change together on all pages."""
    items = []
    for backend, children in tabs:
        label = nodes.rubric("", TAB_NAMES[backend], classes=["sd-tab-label"])
        label["sync_group"], label["sync_id"] = SYNC_GROUP, backend
        content = create_component("tab-content", classes=["sd-tab-content"], children=children)
        item = create_component(
            "tab-item", classes=["sd-tab-item"], children=[label, content], selected=False
        )
        items.append(item)
    return create_component("tab-set", classes=["sd-tab-set"], children=items)
