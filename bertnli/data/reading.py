"""The options of `bertnli.read`, and how tables are opened and their rows read with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from bertnli._util.hints import did_you_mean
from bertnli.bert.labels import checked_labels
from bertnli.data.arrow import file_table, narrow
from bertnli.data.class_names import names_beside
from bertnli.data.corpus import short_repr
from bertnli.data.formats import TextFormat, binary_format, text_format
from bertnli.data.parses import SentenceColumn
from bertnli.data.plan import Plan, plan_of
from bertnli.data.sources import COLUMNS, Part
from bertnli.data.streams import STDIN, as_text, encoding_of, open_bytes
from bertnli.data.table import BadRow, Row, Table, named_split, value_of
from bertnli.data.tables import delimited_table, json_table, long_fields
from bertnli.errors import ConfigError, DataError

#: Rows by which the columns of a table are determined.
SAMPLE = 50
Result = TypeVar("Result")


@dataclass(frozen=True)
class Reading:
    """The options of `bertnli.read`, which documents them."""

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
        if self.on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {self.on_error!r}; it is 'raise' or 'skip'")
        given = {} if self.label_map is None else self.label_map
        if not isinstance(given, Mapping) or not all(isinstance(to, str) for to in given.values()):
            raise ConfigError(
                f"label_map is {self.label_map!r}; it is a dictionary of labels and classes, such "
                "as {'0': 'entailment'} (--label-map 0=entailment)"
            )
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self.labels))

    @contextmanager
    def opened(self, part: Part, sample: int = SAMPLE) -> Iterator[tuple[Table, Plan]]:
        """Context manager that opens a table and chooses its columns by the first ``sample`` rows.

        The table has only the rows of the part's split.

        The rows of the table are then those of the part's split.
        """
        with ExitStack() as stack:
            table = part.table or stack.enter_context(self._file_table(part, sample))
            first = list(islice(table.rows, sample))
            table.rows = chain(first, table.rows)
            good = [row for _, row in first if isinstance(row, Mapping)]
            if not table.columns and first and not good:  # every row of the sample is bad
                table.columns = COLUMNS
            plan = plan_of(table, good, self)
            if plan.part is not None and part.split is None:
                table.notes.append(
                    f"all its rows are read; {plan.part!r} is the split of each, and "
                    f"{table.source}:train reads one of them (--split)"
                )
            narrow(table, [c for c in plan.columns(self.probabilities) if c in table.columns])
            if part.split is not None and not table.is_part:
                table.rows = _in_split(table.rows, table.source, plan.part, part.split)
            yield table, plan

    @contextmanager
    def _file_table(self, part: Part, sample: int) -> Iterator[Table]:
        with open_bytes(str(part.path)) as stream, long_fields():
            source = stream.name
            path = None if str(part.path) == STDIN else Path(source)
            binary = self.format if self.format in ("parquet", "arrow") else None
            binary = binary or binary_format(stream.head, source)
            if binary:
                yield file_table(stream.file, source, binary, path)
                return
            how = self.text_format(stream.head, source)
            with as_text(stream, self.encoding) as file:
                if how.format in ("jsonl", "json"):
                    table = json_table(file, how.format, source, part.split, sample)
                else:
                    table = delimited_table(file, how, source)
                names = {} if path is None else names_beside(path)
                table.class_names = {c: names[c] for c in table.columns if c in names}
                yield table

    def text_format(self, head: bytes, source: str) -> TextFormat:
        """Determine the format of a text file by its first bytes and its name."""
        encoding, mark = encoding_of(head, self.encoding)
        return text_format(head[mark:].decode(encoding, errors="replace"), source, self)

    def rows(
        self, table: Table, convert: Callable[[int, Mapping[str, Any]], Result]
    ) -> Iterator[tuple[int, Result | BadRow]]:
        """Convert the rows of a table.

        Args:
            table: an opened table.
            convert: a function of a row's number and fields, which may raise `BadRow`.

        Yields:
            The number of each row, and what ``convert`` returned for it; for a bad row the error,
            which is raised as a `DataError` instead unless ``on_error`` is ``"skip"``.
        """
        for number, row in table.rows:
            try:
                if isinstance(row, BadRow):
                    raise row
                yield number, convert(number, row)
            except BadRow as problem:
                if self.on_error == "raise":
                    raise bad_row(table.source, number, problem) from None
                yield number, problem


def bad_row(source: str, number: int, what: object) -> DataError:
    """Return the DataError for a malformed row; ``what`` describes the problem."""
    return DataError(
        f"{source}, line {number}: {what}. Mend the line, or leave such rows out with "
        "on_error='skip' (--skip-bad-rows)"
    )


def _in_split(rows: Iterable[Row], source: str, column: str | None, split: str) -> Iterator[Row]:
    """Yield the rows whose ``column`` has the value ``split``; DataError if there are none."""
    if column is None:
        raise ConfigError(
            f"{source} is one table without splits, so there is no {split}; leave split= "
            "(--split) out"
        )
    others, exists = set[str](), False
    for number, row in rows:
        name = split if isinstance(row, BadRow) else named_split(str(value_of(row, column)))
        if name == split:
            exists = True
            yield number, row
        elif len(others) < 12:
            others.add(name)
    if others and not exists:
        raise DataError(
            f"{source} has no split {split!r}: {column!r} is {sorted(others)}"
            f"{did_you_mean(split, others)}"
        )


def sentences_of(row: Mapping[str, Any], plan: Plan) -> tuple[str, str]:
    """Return the premise and the hypothesis of a row; BadRow if one is missing or malformed."""
    return (
        _sentence(plan.premise, row, "premise", plan.may_be_empty),
        _sentence(plan.hypothesis, row, "hypothesis", plan.may_be_empty),
    )


def _sentence(column: SentenceColumn, row: Mapping[str, Any], what: str, may_be_empty: bool) -> str:
    text = column.read(row)
    if text is None:
        check_column(row, column.names)
    if not isinstance(text, str) or not (may_be_empty or text.strip()):
        raise BadRow(f"the {what} is {short_repr(text)}; a sentence is expected")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\\ud800" in JSON
            raise BadRow(f"the {what} has half a character: {error.reason}") from None
    return text


def check_column(row: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise BadRow if a row has none of the named columns; names with a dot are not checked."""
    if not any(name in row or "." in name for name in names):
        expected = " or ".join(map(repr, names))
        raise BadRow(f"no {expected}; the row has {short_repr(sorted(map(str, row)))}")
