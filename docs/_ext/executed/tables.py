"""Tables of results, from the JSON that the benchmarks gave: no figure is typed into a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from executed.blocks import ExecutionError

#: Where the files are, under the source folder.
FOLDER = "results"


def formatted(value: Any, spec: str, medians: bool = False) -> str:
    """Return a value of a table as text.

    Args:
        value: a text, a number, None for nothing, or [median, lowest, highest].
        spec: Python's format of a number, such as ``",.0f"``.
        medians: leave lowest and highest out.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        middle, low, high = (format(number, spec) for number in value)
        return middle if medians else f"{middle} ({low}–{high})"
    return format(value, spec)


class BenchTable(SphinxDirective):
    """``{bench-table} FILE``: a table of a file of `FOLDER`.

    The file has ``columns``, of a name and a ``label`` (and a ``format``), and ``rows``, of a value
    for each name; and where its numbers come from.
    """

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {
        "columns": directives.unchanged_required,  # names, with commas between; all without it
        "rows": directives.unchanged_required,  # first values, with semicolons; all without it
        "medians": directives.flag,
        "best": directives.unchanged_required,  # first values of the rows to set in bold
        "no-source": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, FOLDER, self.arguments[0])
        self.env.note_dependency(str(path))
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return self._nodes(found)
        except (OSError, ValueError, KeyError) as error:
            at = f"{self.env.doc2path(self.env.docname)}:{self.lineno}"
            raise ExecutionError(f"{at}: no table can be made of {path}: {error!r}") from error

    def _nodes(self, found: dict[str, Any]) -> list[nodes.Node]:
        names = _listed(self.options.get("columns"), ",") or list(found["columns"])
        rows, first = found["rows"], next(iter(found["columns"]))
        wanted = _listed(self.options.get("rows"), ";")
        if wanted:
            by_name = {row[first]: row for row in rows}
            rows = [by_name[name] for name in wanted]
        bold = _listed(self.options.get("best"), ";")
        columns = [found["columns"][name] for name in names]
        group = nodes.tgroup("", cols=len(columns))
        for column in columns:
            group += nodes.colspec("", colwidth=len(column["label"]) + 1)
        group += nodes.thead("", self._row([column["label"] for column in columns], names, found))
        body = nodes.tbody()
        for row in rows:
            cells = [
                formatted(row.get(name), column.get("format", ""), "medians" in self.options)
                for name, column in zip(names, columns, strict=True)
            ]
            made = self._row(cells, names, found)
            if row[first] in bold:
                made["classes"].append("best")
            body += made
        group += body
        table = nodes.table("", group, classes=["bench", "colwidths-auto"])
        self.set_source_info(table)
        if "no-source" in self.options:
            return [table]
        note = nodes.paragraph("", _origin(found), classes=["bench-note"])
        return [nodes.container("", table, note, classes=["bench-table"])]

    def _row(self, cells: list[str], names: list[str], found: dict[str, Any]) -> nodes.row:
        row = nodes.row()
        for name, cell in zip(names, cells, strict=True):
            entry = nodes.entry("", nodes.paragraph("", cell))
            if "format" in found["columns"][name]:
                entry["classes"].append("number")
            row += entry
        return row


def _listed(text: str | None, separator: str) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(separator)]


def _origin(found: dict[str, Any]) -> str:
    """Return where the numbers come from, as a line under the table."""
    parts = [found.get(name) for name in ("script", "machine", "software", "date")]
    return " · ".join(part for part in parts if part)
