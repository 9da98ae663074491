"""How a source is read: which of a table's columns, and its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bertnli._util.hints import did_you_mean
from bertnli.bert.labels import checked_labels
from bertnli.data.arrow import file_table, narrowed
from bertnli.data.class_names import names_beside
from bertnli.data.corpus import check_on_error, shown
from bertnli.data.formats import Written, binary_format, written
from bertnli.data.layouts import has_sentences
from bertnli.data.parses import SentenceColumn
from bertnli.data.plan import Plan, plan_of
from bertnli.data.sources import Part
from bertnli.data.streams import as_text, encoding_of, open_bytes
from bertnli.data.table import BadRow, Row, Table, named_split, value_of
from bertnli.data.tables import delimited_table, json_table, long_fields
from bertnli.errors import ConfigError, DataError

#: Rows by which the columns of a table are told.
SAMPLE = 50
#: What files are read as where a user does not say.
_PLAIN = Written("tsv")


@dataclass(frozen=True)
class Reading:
    """How a source is read; see `read`, whose arguments these are."""

    format: str | None = None
    delimiter: str | None = None
    quoted: bool | None = None
    header: bool | None = None
    encoding: str | None = None
    premise: str | int | None = None
    hypothesis: str | int | None = None
    label: str | int | None = None
    labelled: bool = True
    labels: Sequence[str] | None = None
    label_map: Mapping[Any, str] | None = None
    probabilities: str | None = None
    on_error: str = "raise"

    def __post_init__(self) -> None:
        check_on_error(self.on_error)
        told = self.label_map or {}
        if not (isinstance(told, Mapping) and all(isinstance(to, str) for to in told.values())):
            raise ConfigError(
                f"label_map is {self.label_map!r}; it is a dictionary from what is written to a "
                "class, such as {'0': 'entailment'} (--label-map 0=entailment)"
            )
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self.labels))

    @contextmanager
    def opened(self, part: Part, sample: int = SAMPLE) -> Iterator[tuple[Table, Plan]]:
        """Open a table, and tell which of its columns are read.

        Args:
            part: of a source.
            sample: rows by which that is told; of a pipe one, which comes before the second.
        """
        with ExitStack() as stack:
            table = part.table
            if table is None:
                stack.enter_context(long_fields())
                table = self._table(part, stack)
            first = list(islice(table.rows, sample))
            table.rows = chain(first, table.rows)
            good = [row for _, row in first if isinstance(row, Mapping)]
            if not table.columns and first and not good:  # nothing tells: each row is bad
                table.columns = ("premise", "hypothesis", "label")
            plan = plan_of(
                table,
                good,
                premise=self.premise,
                hypothesis=self.hypothesis,
                label=self.label,
                labelled=self.labelled,
                probabilities=self.probabilities,
            )
            table.notes += plan.notes
            if plan.part is not None and part.split is None:
                table.notes.append(
                    f"all its rows are read; {plan.part!r} says which split each is of, and "
                    f"{table.source}:train takes those of one (--split)"
                )
            read = [c for c in plan.columns(self.probabilities) if c in table.columns]
            yield narrowed(table, read), plan

    def _table(self, part: Part, stack: ExitStack) -> Table:
        stream = stack.enter_context(open_bytes(str(part.path)))
        source = str(stream.name)
        binary = self.format if self.format in ("parquet", "arrow") else None
        binary = binary or binary_format(stream.head, source)
        path = None if stream.name == "standard input" else Path(str(part.path))
        if binary:
            stream.bounded = False
            file: Any = stream.source if path is not None and stream.packed is None else stream
            if file is not stream:
                file.seek(0)
            return file_table(file, source, binary, path)
        how = self.written(stream.head, source)
        stream.bounded = how.format != "json"
        file = stack.enter_context(as_text(stream, self.encoding))
        if how.format in ("json", "jsonl"):
            table = json_table(file, how.format, source, part.split, SAMPLE if path else 1)
        else:
            table = delimited_table(file, how, source)
        if path is not None:
            table.class_names = names_beside(path)
        return table

    def written(self, head: bytes, source: str) -> Written:
        """Return how a text that begins so is written."""
        encoding, mark = encoding_of(head, self.encoding)
        given = {
            name: value
            for name in ("format", "delimiter", "quoted", "header")
            if (value := getattr(self, name)) is not None
        }
        text = head[mark:].decode(encoding, errors="replace")
        return written(text, source, self._known, replace(_PLAIN, **given), given)

    def _known(self, columns: Sequence[str]) -> bool:
        """Return whether a first line is one of names: those that the user gives, or a layout's."""
        names = [column.strip().lower() for column in columns]
        given = [c for c in (self.premise, self.hypothesis, self.label) if isinstance(c, str)]
        if any(column.lower() in names for column in given):
            return True
        return has_sentences(names)


def bad_row(source: str, number: int, what: object) -> DataError:
    """Return the error of a row that is not left out."""
    return DataError(
        f"{source}, line {number}: {what}. Mend the line, or leave such rows out with "
        "on_error='skip' (--skip-bad-rows)"
    )


def rows_of_part(table: Table, plan: Plan, split: str | None) -> Iterator[Row]:
    """Yield the rows of a table, or those of one of its parts."""
    if split is None or table.is_part:
        yield from table.rows
        return
    if plan.part is None:
        raise ConfigError(
            f"{table.source} is one table without splits, so there is no {split}; leave split= "
            "(--split) out"
        )
    others, is_there = set[str](), False
    for number, row in table.rows:
        name = split if isinstance(row, BadRow) else named_split(str(value_of(row, plan.part)))
        if name == split:
            is_there = True
            yield number, row
        elif len(others) < 12:
            others.add(name)
    if others and not is_there:
        raise DataError(
            f"{table.source} has no split {split!r}: {plan.part!r} is {sorted(others)}"
            f"{did_you_mean(split, others)}"
        )


def sentence(column: SentenceColumn, row: Mapping[str, Any], what: str, may_be_empty: bool) -> str:
    """Return a sentence of a row.

    Raises:
        BadRow: there is none.
    """
    found = column.read(row)
    if found is None:
        found = column.read({name: value_of(row, name) for name in column.names})
        if found is None and not any(name in row for name in column.names):
            expected = " or ".join(map(repr, column.names))
            raise BadRow(f"no {expected}; the row has {shown.repr(sorted(map(str, row)))}")
    if not isinstance(found, str) or not (may_be_empty or found.strip()):
        raise BadRow(f"the {what} is {shown.repr(found)}; a sentence is expected")
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError as error:  # "\\ud800" in JSON
            raise BadRow(f"the {what} has half a character: {error.reason}") from None
    return found
