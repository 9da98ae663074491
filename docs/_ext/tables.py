"""A Sphinx extension: tables made from data, so that no number is typed into a page.

{bench-table} FILE  measured numbers, from a JSON file in docs/results
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


def formatted(value: Any, spec: str, medians: bool = False) -> str:
    """Format a value: a text, a number, None, or a list of median, lowest and highest number."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        middle, low, high = (format(number, spec) for number in value)
        return middle if medians else f"{middle} ({low}–{high})"
    return format(value, spec)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Format a table in Markdown; the columns with the indices ``numbers`` are right-aligned."""
    rule = ["--:" if i in numbers else ":--" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


class BenchTable(SphinxDirective):
    """The directive ``{bench-table} FILE``: a table of the file's numbers, and their origin."""

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
        """Format the rows and columns that the options select, and a line of their origin."""
        columns, medians = results["columns"], "medians" in self.options
        key, names = next(iter(columns)), self.listed("columns", ",") or [*columns]
        rows = {row[key]: row for row in results["rows"]}
        lines = []
        for row in map(rows.__getitem__, self.listed("rows", ";") or rows):
            cells = [formatted(row.get(n), columns[n].get("format", ""), medians) for n in names]
            if row[key] in self.listed("best", ";"):
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(cells)
        numbers = [i for i, name in enumerate(names) if "format" in columns[name]]
        text = table([columns[name]["label"] for name in names], lines, numbers)
        origin = (results.get(name) for name in ("script", "machine", "software", "date"))
        return f"{text}\n\n{' · '.join(filter(None, origin))}\n"

    def listed(self, option: str, separator: str) -> list[str]:
        """Split the value of an option."""
        return [part.strip() for part in self.options.get(option, "").split(separator) if part]


class Known(SphinxDirective):
    """The directives ``{known} layouts`` and ``{known} spellings``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = layouts() if self.arguments[0] == "layouts" else spellings()
        return self.parse_text_to_nodes(text)


def code(names: Iterable[str], between: str = ", ") -> str:
    """Format names as code."""
    return between.join(f"`{name}`" for name in names)


def layouts() -> str:
    """Format the table of layouts in the order in which they are tried."""
    rows = [
        [
            "the Hub, and others" if layout.name == TABLE else layout.name,
            "; ".join(
                code(side.names[::-1], ", else ") for side in (layout.premise, layout.hypothesis)
            ),
            "" if layout.labels == Layout.labels else code(layout.labels, " or "),
            code(layout.marks),
            code(layout.groups),
        ]
        for layout in sorted((*LAYOUTS, WNLI), key=lambda layout: layout.name == TABLE)
    ]
    return table(["layout", "premise; hypothesis", "class", "known also by", "scored by"], rows)


def spellings() -> str:
    """Format the table of the spellings of each class."""
    rows = [[code([name]), code(names)] for name, names in SPELLINGS.items()]
    rows.append(["no label", f"nothing, {code(sorted(filter(None, NO_LABELS)))}"])
    return table(["class", "written as"], rows)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("bench-table", BenchTable)
    app.add_directive("known", Known)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
