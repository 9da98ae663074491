"""Tables of TSV, CSV and JSON; every row is yielded, a malformed one as a `BadRow`.

Readers raise or count these, so that rows in are rows kept plus rows counted in every format.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from bertnli.data.formats import TextFormat
from bertnli.data.layouts import has_sentences
from bertnli.data.streams import MAX_LINE, lines_of
from bertnli.data.table import BadRow, Row, Table, distinct_names, keys_of, named_split
from bertnli.errors import ConfigError, DataError

#: Rows by which the keys of JSON lines are known.
SAMPLE = 20
#: Values of a list that is a row, and columns of a table.
MAX_FIELDS, MAX_COLUMNS = 1000, 10_000
_SPACE = re.compile(r"\s*")
#: The line where a record begins, and its fields or what is wrong with it.
Record = tuple[int, list[str] | BadRow]


def delimited_table(file: io.TextIOBase, how: TextFormat, source: str) -> Table:
    """Read delimited text as a table; ``source`` is its name in messages."""
    lines = lines_of(file, source)
    for _ in islice(lines, how.skip):
        pass
    records = _csv(lines, how) if how.quoted else _split(lines, how)
    number, first = next(records, (1, [""]))
    if isinstance(first, BadRow):
        raise DataError(f"{source}, line {number}: {first}")
    if not any(first):
        raise DataError(f"{source} is empty, or its first line is; a header is expected there")
    if len(first) > MAX_COLUMNS:
        raise DataError(
            f"{source}, line 1: it has {len(first):,} columns, and a table of pairs has a few; "
            "give the delimiter with delimiter= (--delimiter)"
        )
    if any("\r" in name for name in first):
        raise DataError(
            f"{source}, line 1: it has a carriage return inside; lines must end with a line feed, "
            "or with both. Convert the file (dos2unix -c mac)"
        )
    names = first if how.header else [str(i) for i in range(1, len(first) + 1)]
    columns, repeated = distinct_names(names)
    if not how.header:
        records = chain([(number, first)], records)
    rows = _named(records, columns, "the header" if how.header else "the first line")
    return Table(source, how.format, columns, rows, notes=list(how.notes), repeated=repeated)


def _named(records: Iterable[Record], columns: tuple[str, ...], what: str) -> Iterator[Row]:
    """Convert records to rows with the fields ``columns``, which ``what`` defined."""
    empty: list[int] = []  # spreadsheets write rows of empty fields at the end, which are dropped
    for number, fields in records:
        if isinstance(fields, list) and len(fields) == len(columns) and not any(fields):
            empty.append(number)
            continue
        if empty:
            yield from ((i, dict.fromkeys(columns, "")) for i in empty)
            empty = []
        if isinstance(fields, BadRow):
            yield number, fields
        elif len(fields) != len(columns):
            yield number, BadRow(f"{len(fields)} columns, and {what} has {len(columns)}")
        else:
            yield number, dict(zip(columns, fields, strict=True))


def _split(lines: Iterable[str], how: TextFormat) -> Iterator[Record]:
    """Split text without quotation marks into records, one per non-empty line."""
    for number, line in enumerate(lines, how.skip + 1):
        if text := line.rstrip("\r\n"):
            yield number, text.split(how.delimiter)


def _csv(lines: Iterator[str], how: TextFormat) -> Iterator[Record]:
    """Split text with quotation marks into records.

    An unclosed quotation mark would take all lines after it into one record; the bad row is
    therefore the record's first line alone, and the next line begins another record.
    """
    again, record, start = deque[str](), list[str](), how.skip + 1

    def next_lines() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, ""):
            record.append(line)
            yield line

    reader = csv.reader(next_lines(), strict=True, **how.csv_style)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            what = f"not CSV: {error}"
            if "\r" in record[-1].rstrip("\r\n"):
                what += "; there is a carriage return inside the line"
            if len(record) > 1:
                end = start + len(record) - 1
                what += f"; a quotation mark that opens here takes all up to line {end}"
            yield start, BadRow(what)
            again.extendleft(reversed(record[1:]))
            del record[1:]
            reader = csv.reader(next_lines(), strict=True, **how.csv_style)
        else:
            if fields is None:
                return
            if fields:  # the csv module returns an empty line as no fields
                yield start, fields
        start += len(record)
        record.clear()


@contextmanager
def long_fields() -> Iterator[None]:
    """Context manager that raises the csv module's limit for a field to `MAX_LINE` characters."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def json_table(
    file: io.TextIOBase, format: str, source: str, split: str | None, sample: int = SAMPLE
) -> Table:
    """Read JSON as a table.

    Args:
        file: the text.
        format: ``"jsonl"`` for JSON lines, ``"json"`` for a document: a list, or one object.
        source: the table's name in messages.
        split: the key of a document's list to read, if it has that key; None for any.
        sample: the number of JSON lines whose keys are the columns.
    """
    if format == "jsonl":
        return object_rows(_json_lines(lines_of(file, source)), format, source, sample)
    text = file.read().lstrip("\ufeff")
    if text.lstrip()[:1] == "[":
        return object_rows(_elements(text, source), format, source)
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON: {error}") from error
    is_split = split is not None and isinstance(document, dict)
    splits = {named_split(key): value for key, value in document.items()} if is_split else {}
    part: Any = splits.get(split or "")
    is_part = isinstance(part, list)
    rows: Iterable[Any] = part if is_part else _rows_in(document, source)
    table = object_rows(enumerate(map(_as_row, rows), 1), format, source)
    table.is_part = is_part
    return table


def object_rows(rows: Iterable[Row], format: str, source: str, sample: int = SAMPLE) -> Table:
    """Make a table of mappings, whose columns are the keys of the first ``sample`` rows."""
    rows = iter(rows)
    first = list(islice(rows, sample))
    keys = (key for _, row in first if isinstance(row, Mapping) for key in keys_of(row))
    return Table(source, format, tuple(dict.fromkeys(keys)), chain(first, rows))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        return BadRow(f"not JSON: {repeated!r:.80} stands twice")
    return fields


def _as_row(value: Any) -> Mapping[str, Any] | BadRow:
    """Convert a JSON object, or a list of fields, to a row; other values become a `BadRow`."""
    if isinstance(value, list | tuple):
        if len(value) > MAX_FIELDS:
            return BadRow(f"a list of {len(value):,} values, and a row has a few")
        return {str(i): field for i, field in enumerate(value, 1)}
    if isinstance(value, Mapping | BadRow):
        return value
    return BadRow(f"a JSON object is expected, not {type(value).__name__}")


def _json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Parse JSON lines; blank ones are left out."""
    for number, text in enumerate(lines, start=1):
        text = text.lstrip("\ufeff") if number == 1 else text
        if text.strip():
            try:
                yield number, _as_row(json.loads(text, object_pairs_hook=_object))
            except (ValueError, RecursionError) as error:
                yield number, BadRow(f"not JSON: {error}")


def _elements(text: str, source: str) -> Iterator[Row]:
    """Yield the elements of a JSON list as rows, numbered by the line where each begins."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    place, line = text.index("[") + 1, 1
    while True:
        begin = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[begin : begin + 1] == "]":
            return
        line += text.count("\n", place, begin)
        try:
            value, place = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source}, line {line}: not JSON: {error}") from error
        yield line, _as_row(value)
        end = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[end : end + 1] not in (",", "]"):
            raise DataError(f"{source}, line {line}: not JSON: no comma after the element there")
        line += text.count("\n", begin, end)
        place = end + (text[end] == ",")


def _rows_in(document: Any, source: str) -> Iterable[Any]:
    """Return the rows in a JSON object.

    It has one list of objects, perhaps in another object, or is written by ``DataFrame.to_json``.
    """
    if not isinstance(document, dict):
        raise DataError(
            f"{source}: a list of objects is expected, or an object with one, not {document!r:.80}"
        )
    names, data = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(data, list):  # pandas' orient="split"
        return [dict(zip(map(str, names), row, strict=False)) for row in data]
    values = list(document.values())
    lists = [
        key
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    ]
    if len(lists) > 1:
        raise ConfigError(
            f"{source} has several lists, {', '.join(map(repr, lists))}; name one of them as the "
            f"split, such as {source}:{lists[0]}"
        )
    if lists:
        return document[lists[0]]
    if all(isinstance(value, list) for value in values) and len({*map(len, values)}) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    objects = [value for value in values if isinstance(value, dict)]
    inner = [value for value in objects if any(isinstance(v, list) for v in value.values())]
    if len(inner) == 1 and not has_sentences([*document]):
        return _rows_in(inner[0], source)  # an object around it
    if values and len(objects) == len(values):  # by rows or by columns
        if has_sentences([*values[0]]) or all(key.isdecimal() for key in document):
            return values
        if len({*map(tuple, values)}) == 1:
            return [{key: document[key][row] for key in document} for row in values[0]]
    return [document]
