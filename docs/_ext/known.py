"""A Sphinx extension: tables of what the library knows, made of its own constants.

{known} layouts    the published layouts, `bertnli.data.layouts.LAYOUTS`
{known} spellings  what stands for each class, `bertnli.data.classes.SPELLINGS`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bertnli.data.classes import NO_LABELS, SPELLINGS
from bertnli.data.corpus import TABLE
from bertnli.data.layouts import LAYOUTS, WNLI, Layout
from bertnli.data.parses import SentenceColumn

#: A cell: texts, and names that are set as code.
Cell = Sequence[nodes.Node]


class Known(SphinxDirective):
    """``{known} WHAT``: a table of layouts or spellings."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        what = directives.choice(self.arguments[0], ("layouts", "spellings"))
        head, rows = _layouts() if what == "layouts" else _spellings()
        group = nodes.tgroup("", cols=len(head))
        group += [nodes.colspec("", colwidth=1) for _ in head]
        group += nodes.thead("", _row([[nodes.Text(text)] for text in head]))
        group += nodes.tbody("", *map(_row, rows))
        table = nodes.table("", group, classes=["colwidths-auto"])
        self.set_source_info(table)
        return [table]


def _layouts() -> tuple[list[str], list[list[Cell]]]:
    rows = [
        [
            [nodes.Text("the Hub, and others" if one.name == TABLE else one.name)],
            [*_sentence(one.premise), nodes.Text("; "), *_sentence(one.hypothesis)],
            [] if one.labels == Layout.labels else _names(one.labels, " or "),
            _names(one.marks),
            _names(one.groups),
        ]
        for one in _listed()
    ]
    return ["layout", "premise; hypothesis", "class", "known also by", "scored by"], rows


def _listed() -> list[Layout]:
    """Return the layouts in the order in which they are tried."""
    found = [one for one in LAYOUTS if one.name != TABLE]
    return [*found, WNLI, *(one for one in LAYOUTS if one.name == TABLE)]


def _spellings() -> tuple[list[str], list[list[Cell]]]:
    rows: list[list[Cell]] = [
        [_names([name]), _names(spellings)] for name, spellings in SPELLINGS.items()
    ]
    none = sorted(spelling for spelling in NO_LABELS if spelling)
    rows.append([[nodes.Text("no label")], [nodes.Text("nothing, "), *_names(none)]])
    return ["class", "written as"], rows


def _sentence(column: SentenceColumn) -> Cell:
    return _names([column.text] if column.parse is None else [column.parse, column.text], ", else ")


def _names(names: Sequence[str], between: str = ", ") -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for name in names:
        found += [nodes.Text(between if found else ""), nodes.literal(name, name)]
    return found


def _row(cells: Sequence[Cell]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive to Sphinx."""
    app.add_directive("known", Known)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
