"""Unlabelled sentence pairs, line by line, from a file or a pipe."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from bertnli.data.lines import open_binary
from bertnli.errors import DataError

Pair = tuple[str, str]
#: Names of the two columns that are understood without being told.
KNOWN_COLUMNS = (("sentence1", "sentence2"), ("premise", "hypothesis"))
_SUFFIXES = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}


def open_pairs(path: str | Path) -> AbstractContextManager[IO[bytes]]:
    """Open a file of pairs, unpacking it on the way if it ends in ``.gz``; see `open_binary`."""
    return open_binary(Path(path))


def format_of(path: str | Path) -> str | None:
    """Return the format that a file's name tells, or None."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def pairs_of(
    lines: Iterable[bytes],
    source: str,
    format: str | None = None,
    columns: Pair | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of UTF-8 lines, as they come.

    Args:
        lines: a TSV or CSV table of two columns, or with a header that names the two to take; or
            JSON objects.
        source: what to call the lines in an error.
        format: ``"tsv"``, ``"csv"`` or ``"jsonl"``; None for JSON if the first line begins with a
            brace, else TSV.
        columns: names of the two columns; None for either of `KNOWN_COLUMNS`.

    Raises:
        DataError: with the number of the line that is not a pair.
    """
    texts = _decoded(lines, source)
    first = next(texts, None)
    if first is None:
        return
    texts = chain([first], texts)
    known = KNOWN_COLUMNS if columns is None else (columns,)
    if format is None:
        format = "jsonl" if first.lstrip().startswith("{") else "tsv"
    if format == "jsonl":
        found = _json_pairs(texts, source, known)
    elif format == "csv":
        found = _table_pairs(_csv_rows(texts, source), source, known, columns is not None)
    else:
        rows = ((line, text.rstrip("\r\n").split("\t")) for line, text in enumerate(texts, start=1))
        found = _table_pairs(rows, source, known, columns is not None)
    for line, premise, hypothesis in found:
        for what, sentence in (("premise", premise), ("hypothesis", hypothesis)):
            if not isinstance(sentence, str) or not sentence.strip():
                raise _error(source, line, f"the {what} is {sentence!r}; a sentence is expected")
        yield premise, hypothesis


def _error(source: str, line: int, what: str) -> DataError:
    return DataError(f"{source}, line {line}: {what}")


def _decoded(lines: Iterable[bytes], source: str) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _error(source, number, f"not UTF-8 text: {error}. Convert it to UTF-8") from error
    except (EOFError, OSError, zlib.error) as error:
        raise _error(source, number + 1, f"damaged archive: {error}") from error


def _csv_rows(texts: Iterator[str], source: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(texts, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise _error(source, reader.line_num, f"not CSV: {error}") from error


def _table_pairs(
    rows: Iterator[tuple[int, list[str]]], source: str, known: Sequence[Pair], named: bool
) -> Iterator[tuple[int, Any, Any]]:
    line, header = next(rows)
    columns = next((names for names in known if set(names) <= set(header)), None)
    if columns is not None:
        width, first, second = len(header), header.index(columns[0]), header.index(columns[1])
    elif named:
        raise _error(source, line, f"no columns {list(known[0])}; the header has {header[:12]}")
    else:
        width, first, second = 2, 0, 1
        rows = chain([(line, header)], rows)
    for line, row in rows:
        if len(row) != width:
            what = "premise and hypothesis" if columns is None else "as in the header"
            hint = "; a file with a header is read with --premise-column and --hypothesis-column"
            hint = hint if columns is None else ""
            raise _error(source, line, f"columns: {len(row)}; expected: {width}, {what}{hint}")
        yield line, row[first], row[second]


def _json_pairs(
    texts: Iterator[str], source: str, known: Sequence[Pair]
) -> Iterator[tuple[int, Any, Any]]:
    for line, text in enumerate(texts, start=1):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _error(source, line, f"not JSON: {error}") from error
        if not isinstance(record, Mapping):
            raise _error(source, line, f"a JSON object is expected, not {text.strip()[:80]}")
        columns = next((names for names in known if set(names) <= set(record)), None)
        if columns is None:
            expected = " or ".join(str(list(names)) for names in known)
            raise _error(source, line, f"no {expected}; the object has {sorted(record)[:12]}")
        yield line, record[columns[0]], record[columns[1]]
