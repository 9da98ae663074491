"""A Sphinx extension: tables made from data, so that no figure is typed into a page.

{bench-table} FILE  measured numbers, of a file under docs/results
{known} layouts     the published layouts, `bertnli.data.layouts.LAYOUTS`
{known} spellings   the spellings of each class, `bertnli.data.classes.SPELLINGS`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bertnli.data.classes import NO_LABELS, SPELLINGS
from bertnli.data.corpus import TABLE
from bertnli.data.layouts import LAYOUTS, WNLI, Layout
from bertnli.data.parses import SentenceColumn


def formatted(value: Any, spec: str, medians: bool = False) -> str:
    """Return a value as text: a text, a number, None, or [median, lowest, highest]."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        middle, low, high = (format(number, spec) for number in value)
        return middle if medians else f"{middle} ({low}–{high})"
    return format(value, spec)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """Return a table in Markdown; the columns ``numbers`` are set to the right."""
    rule = ["--:" if i in set(numbers) else ":--" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


class BenchTable(SphinxDirective):
    """``{bench-table} FILE``: ``columns`` and ``rows`` of a JSON file, and where they come from."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "columns": directives.unchanged_required,  # names, between commas; default: all
        "rows": directives.unchanged_required,  # first values, between semicolons; default: all
        "medians": directives.flag,  # without lowest and highest
        "best": directives.unchanged_required,  # first values of the rows to set in bold
    }

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, "results", self.arguments[0])
        self.env.note_dependency(str(path))
        try:
            text = self.markdown(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise self.error(f"no table can be made of {path}: {error!r}") from error
        return [nodes.container("", *self.parse_text_to_nodes(text), classes=["bench-table"])]

    def markdown(self, results: dict[str, Any]) -> str:
        """Return the table, and a line that says where its numbers come from."""
        columns, by_name = results["columns"], {}
        first = next(iter(columns))
        names = self.listed("columns", ",") or [*columns]
        for row in results["rows"]:
            cells = [
                formatted(row.get(name), columns[name].get("format", ""), "medians" in self.options)
                for name in names
            ]
            if row[first] in self.listed("best", ";"):
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            by_name[row[first]] = cells
        wanted = self.listed("rows", ";") or [*by_name]
        numbers = [i for i, name in enumerate(names) if "format" in columns[name]]
        head = [columns[name]["label"] for name in names]
        parts = (results.get(name) for name in ("script", "machine", "software", "date"))
        note = " · ".join(part for part in parts if part)
        return f"{table(head, [by_name[name] for name in wanted], numbers)}\n\n{note}\n"

    def listed(self, option: str, separator: str) -> list[str]:
        """Return the parts of an option."""
        return [part.strip() for part in self.options.get(option, "").split(separator) if part]


class Known(SphinxDirective):
    """``{known} layouts`` or ``{known} spellings``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = layouts() if self.arguments[0] == "layouts" else spellings()
        return self.parse_text_to_nodes(text)


def code(names: Iterable[str], between: str = ", ") -> str:
    """Return names set as code."""
    return between.join(f"`{name}`" for name in names)


def layouts() -> str:
    """Return the table of layouts, in the order in which they are tried."""

    def sentence(column: SentenceColumn) -> str:
        names = [column.text] if column.parse is None else [column.parse, column.text]
        return code(names, ", else ")

    general = [layout for layout in LAYOUTS if layout.name == TABLE]
    rows = [
        [
            "the Hub, and others" if layout.name == TABLE else layout.name,
            f"{sentence(layout.premise)}; {sentence(layout.hypothesis)}",
            "" if layout.labels == Layout.labels else code(layout.labels, " or "),
            code(layout.marks),
            code(layout.groups),
        ]
        for layout in [*(one for one in LAYOUTS if one not in general), WNLI, *general]
    ]
    return table(["layout", "premise; hypothesis", "class", "known also by", "scored by"], rows)


def spellings() -> str:
    """Return the table of the spellings of each class."""
    rows = [[code([name]), code(names)] for name, names in SPELLINGS.items()]
    rows.append(["no label", f"nothing, {code(sorted(filter(None, NO_LABELS)))}"])
    return table(["class", "written as"], rows)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives to Sphinx."""
    app.add_directive("bench-table", BenchTable)
    app.add_directive("known", Known)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
