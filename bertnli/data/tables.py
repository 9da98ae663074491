"""The rows of TSV, CSV and JSON files: every one is given, a bad one as what is wrong with it.

Whoever reads them raises it or counts it, so that rows in are rows kept and rows counted, whatever
the format.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from bertnli.data.formats import Written
from bertnli.data.layouts import has_sentences
from bertnli.data.streams import MAX_LINE
from bertnli.data.table import BadRow, Row, Table, named_split, told_apart
from bertnli.errors import ConfigError, DataError

#: Rows of JSON lines by which their keys are known.
SAMPLE = 20
#: Values of a list that is a row, and columns of a table.
MAX_FIELDS, MAX_COLUMNS = 1000, 10_000


def delimited_table(file: io.TextIOBase, how: Written, source: str) -> Table:
    """Return a table of delimited text.

    Args:
        file: lines end at a line feed alone.
        how: it is written.
        source: for messages.

    Raises:
        DataError: there is no first line, or it has a carriage return inside.
    """
    for _ in range(how.skip):
        file.readline()
    rows = _csv(file, how) if how.quoted else _split(file, how.delimiter)
    number, first = next(rows, (1, [""]))
    if isinstance(first, BadRow):
        raise DataError(f"{source}, line {number + how.skip}: {first}")
    if not any(first):
        raise DataError(f"{source} is empty, or its first line is; a header is expected there")
    if len(first) > MAX_COLUMNS:
        raise DataError(
            f"{source}, line 1: it has {len(first):,} columns, and a table of pairs has a few; say "
            "what stands between them with delimiter= (--delimiter)"
        )
    if any("\r" in name for name in first):
        raise DataError(
            f"{source}, line 1: it has a carriage return inside; lines must end with a line feed, "
            "or with both. Convert the file (dos2unix -c mac)"
        )
    names = first if how.header else [str(i) for i in range(1, len(first) + 1)]
    columns, twice = told_apart(names)
    if not how.header:
        rows = chain([(number, first)], rows)
    named = _named(rows, columns, how)
    return Table(source, how.format, columns, named, notes=list(how.notes), twice=twice)


def _named(
    rows: Iterator[tuple[int, list[str] | BadRow]], columns: tuple[str, ...], how: Written
) -> Iterator[Row]:
    what = "the header" if how.header else "the first line"
    for number, fields in _without_end(rows, len(columns)):
        number += how.skip
        if isinstance(fields, BadRow):
            yield number, fields
        elif len(fields) != len(columns):
            yield number, BadRow(f"{len(fields)} columns, and {what} has {len(columns)}")
        else:
            yield number, dict(zip(columns, fields, strict=True))


def _without_end(rows: Iterator[tuple[int, Any]], width: int) -> Iterator[tuple[int, Any]]:
    """Yield rows but for those at the end that are empty fields, as spreadsheets write them."""
    empty: list[tuple[int, Any]] = []
    for row in rows:
        if isinstance(row[1], BadRow) or len(row[1]) != width or any(row[1]):
            yield from empty
            empty.clear()
            yield row
        else:
            empty.append(row)


def _split(file: io.TextIOBase, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield number and fields of each line that is not empty."""
    for number, line in enumerate(file, 1):
        if text := line.rstrip("\r\n"):
            yield number, text.split(delimiter)


class _Lines:
    """The lines of a file, of which those of a record can be given back."""

    def __init__(self, file: io.TextIOBase) -> None:
        self.file, self.returned, self.record = file, deque[str](), list[str]()
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else next(self.file)
        self.record.append(line)
        self.number += 1
        return line

    def start(self) -> int:
        """Begin a record; return the number of its first line."""
        self.record.clear()
        return self.number + 1

    def give_back(self) -> None:
        """Give back all lines of the record but the first."""
        self.number -= len(self.record) - 1
        self.returned.extendleft(reversed(self.record[1:]))


def _csv(file: io.TextIOBase, how: Written) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield first line and fields of each record that is not an empty line.

    A quotation mark that is never closed would take all lines after it into one record; what went
    wrong is therefore its first line alone, and the next line begins another record.
    """
    lines = _Lines(file)
    style: Any = {
        "delimiter": how.delimiter,
        "skipinitialspace": how.spaced,
        "quotechar": how.mark,
        "strict": True,
    }
    reader = csv.reader(lines, **style)
    while True:
        start = lines.start()
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = f"not CSV: {error}"
            if "\r" in lines.record[-1].rstrip("\r\n"):
                what += "; there is a carriage return inside the line"
            if len(lines.record) > 1:
                what += f"; a quotation mark that opens here takes all up to line {lines.number}"
            yield start, BadRow(what)
            lines.give_back()
            reader = csv.reader(lines, **style)
            continue
        if row is None:
            return
        if row:  # the csv module gives an empty line as a row of no fields
            yield start, row


@contextmanager
def long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters for a field to `MAX_LINE`, for a while."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def json_table(
    file: io.TextIOBase, format: str, source: str, split: str | None, sample: int = SAMPLE
) -> Table:
    """Return a table of JSON lines, or of a document: a list of objects, or one object.

    Args:
        file: the text.
        format: ``"jsonl"`` or ``"json"``.
        source: for messages.
        split: which of several lists of an object to take.
        sample: rows by which the keys are known.

    Raises:
        DataError: a document is damaged, or has no rows.
        ConfigError: an object has several lists, and none is of the split's name.
    """
    if format == "jsonl":
        return table_of(_json_lines(file), format, source, sample)
    text = file.read().lstrip("\ufeff")
    if text.lstrip()[:1] == "[":
        return table_of(_elements(text, source), format, source, sample)
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON: {error}") from error
    splits = {named_split(key): v for key, v in found.items()} if isinstance(found, dict) else {}
    own = None if split is None else splits.get(split)
    rows = map(_as_row, own) if isinstance(own, list) else _rows_in(found, source)
    table = table_of(enumerate(rows, 1), format, source, sample)
    table.is_part = isinstance(own, list)
    return table


def table_of(rows: Iterator[Row], format: str, source: str, sample: int = SAMPLE) -> Table:
    """Return a table of objects, whose columns are the keys of the first."""
    rows = iter(rows)
    first = list(islice(rows, sample))
    columns: dict[str, None] = {}
    for _, row in first:
        if isinstance(row, Mapping):
            columns |= dict.fromkeys(_keys(row))
    return Table(source, format, tuple(columns), chain(first, rows))


def _keys(row: Mapping[str, Any], deep: int = 3) -> Iterator[str]:
    for key, value in row.items():
        yield str(key)
        if deep and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in _keys(value, deep - 1))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        return BadRow(f"not JSON: {next(k for k in keys if keys.count(k) > 1)!r:.80} stands twice")
    return found


def _as_row(value: Any) -> Mapping[str, Any] | BadRow:
    if isinstance(value, list | tuple):
        if len(value) > MAX_FIELDS:
            return BadRow(f"a list of {len(value):,} values, and a row has a few")
        return {str(i): field for i, field in enumerate(value, 1)}
    if isinstance(value, Mapping | BadRow):
        return value
    return BadRow(f"a JSON object is expected, not {type(value).__name__}")


def _json_lines(file: io.TextIOBase) -> Iterator[Row]:
    """Yield number and object of each line that is not white space alone."""
    for number, text in enumerate(file, start=1):
        if number == 1:
            text = text.lstrip("\ufeff")
        if not text.strip():
            continue
        try:
            yield number, _as_row(json.loads(text, object_pairs_hook=_object))
        # RecursionError: brackets in brackets, some thousand times.
        except (ValueError, RecursionError) as error:
            yield number, BadRow(f"not JSON: {error}")


def _elements(text: str, source: str) -> Iterator[Row]:
    """Yield line and object of each element of a list."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    space = json.decoder.WHITESPACE  # type: ignore[attr-defined]
    place = space.match(text, text.index("[") + 1).end()
    counted, line = 0, 1
    while text[place : place + 1] != "]":
        line += text.count("\n", counted, place)
        counted = place
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source}, line {line}: not JSON: {error}") from error
        yield line, _as_row(value)
        place = space.match(text, place).end()
        if text[place : place + 1] == ",":
            place = space.match(text, place + 1).end()
        elif text[place : place + 1] != "]":
            raise DataError(
                f"{source}, line {line}: not JSON: after the element that begins there neither a "
                "comma nor the end of the list"
            )


def _rows_in(found: Any, source: str) -> Iterator[Any]:
    """Yield the rows of a document that is one object."""
    if not isinstance(found, dict):
        raise DataError(
            f"{source}: a list of objects is expected, or an object with one, not {found!r:.80}"
        )
    if set(found) >= {"columns", "data"}:  # pandas' orient="split"
        names = list(map(str, found["columns"]))
        return (_as_row(dict(zip(names, row, strict=False))) for row in found["data"])
    lists = {key: value for key, value in found.items() if isinstance(value, list)}
    objects = {k: v for k, v in lists.items() if v and all(isinstance(r, dict) for r in v)}
    if len(objects) > 1:
        raise ConfigError(
            f"{source} has several lists, {', '.join(map(repr, objects))}; name one of them as the "
            f"split, such as {source}:{next(iter(objects))}"
        )
    if objects:
        return map(_as_row, next(iter(objects.values())))
    if lists and len(lists) == len(found) and len({len(v) for v in lists.values()}) == 1:
        return (dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True))
    columns = [value for value in found.values() if isinstance(value, dict)]
    inner = [v for v in columns if any(isinstance(one, list) for one in v.values())]
    if len(inner) == 1 and not lists and not has_sentences(list(found)):
        return _rows_in(inner[0], source)  # an object around it
    if columns and len(columns) == len(found) and len({tuple(v) for v in columns}) == 1:
        if has_sentences(list(columns[0])) or all(key.isdecimal() for key in found):
            return iter(columns)  # pandas' orient="index": rows by their ids
        return ({k: v[row] for k, v in found.items()} for row in columns[0])  # pandas' default
    return iter([found])
