"""Unlabelled sentence pairs, line by line, from a file or a pipe."""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from bertnli.data.corpus import is_sentence
from bertnli.data.lines import BoundedLines, open_binary
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.errors import DataError
from bertnli.files import unique_keys
from bertnli.text.tokenize import Tokens

Pair = tuple[str, str]
Columns = tuple[SentenceColumn, SentenceColumn]
#: The columns that are understood without being told.
KNOWN_COLUMNS: tuple[Columns, ...] = (
    (PREMISE, HYPOTHESIS),
    (SentenceColumn("premise"), SentenceColumn("hypothesis")),
)
_SUFFIXES = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}


@contextmanager
def open_pairs(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file of pairs, unpacking it on the way if it ends in ``.gz``; see `open_binary`.

    What a shell has opened for a command, as with ``--file <(...)``, may also be a pipe.
    """
    if str(path) == "/dev/stdin" or str(path).startswith("/dev/fd/"):
        with open(path, "rb") as file:
            yield io.BufferedReader(BoundedLines(file, path))
    else:
        with open_binary(Path(path)) as file:
            yield file


def format_of(path: str | Path) -> str | None:
    """Return the format that a file's name tells, or None."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def pairs_of(
    lines: Iterable[bytes],
    source: str,
    format: str | None = None,
    columns: tuple[str | None, str | None] = (None, None),
) -> Iterator[Pair]:
    """Yield the pairs of UTF-8 lines, as they come; a sentence from a parse is `Tokens`.

    Args:
        lines: a TSV or CSV table of two columns, or with a header that names the two to take; or
            JSON objects.
        source: what to call the lines in an error.
        format: ``"tsv"``, ``"csv"`` or ``"jsonl"``; None for JSON if the first line begins with a
            brace, else TSV.
        columns: names of the two columns; both None for any of `KNOWN_COLUMNS`, one of them for
            that of the first.

    Raises:
        DataError: with the number of the line that is not a pair.
    """
    texts = _decoded(lines, source)
    first = next(texts, None)
    if first is None:
        return
    texts = chain([first], texts)
    named = columns != (None, None)
    known = (_columns_of(*columns),) if named else KNOWN_COLUMNS
    if format is None:
        format = "jsonl" if first.lstrip().startswith("{") else "tsv"
    if format == "jsonl":
        found = _json_pairs(texts, source, known)
    elif format == "csv":
        found = _table_pairs(_csv_rows(texts, source), source, known, named)
    else:
        rows = ((line, text.rstrip("\r\n").split("\t")) for line, text in enumerate(texts, start=1))
        found = _table_pairs(rows, source, known, named)
    for line, *pair in found:
        if pair == ["", ""] and all(isinstance(sentence, Tokens) for sentence in pair):
            raise _error(source, line, "both sentences are empty, and so are their parses")
        for what, sentence in zip(("premise", "hypothesis"), pair, strict=True):
            if not is_sentence(sentence):
                raise _error(source, line, f"the {what} is {sentence!r}; a sentence is expected")
        yield pair[0], pair[1]


def _columns_of(premise: str | None, hypothesis: str | None) -> Columns:
    return (
        PREMISE if premise is None else SentenceColumn(premise),
        HYPOTHESIS if hypothesis is None else SentenceColumn(hypothesis),
    )


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
    rows: Iterator[tuple[int, list[str]]], source: str, known: Sequence[Columns], named: bool
) -> Iterator[tuple[int, Any, Any]]:
    line, header = next(rows)
    columns = _columns_in(header, known)
    if columns is None and named:
        expected = [column.text for column in known[0]]
        raise _error(source, line, f"no columns {expected}; the header has {header[:12]}")
    if columns is None:
        rows = chain([(line, header)], rows)
    width = 2 if columns is None else len(header)
    for line, row in rows:
        if len(row) != width:
            what = "premise and hypothesis" if columns is None else "as in the header"
            hint = "; a file with a header is read with --premise-column and --hypothesis-column"
            hint = hint if columns is None else ""
            raise _error(source, line, f"columns: {len(row)}; expected: {width}, {what}{hint}")
        if columns is None:
            yield line, row[0], row[1]
        else:
            record = dict(zip(header, row, strict=True))
            yield line, columns[0].read(record), columns[1].read(record)


def _json_pairs(
    texts: Iterator[str], source: str, known: Sequence[Columns]
) -> Iterator[tuple[int, Any, Any]]:
    for line, text in enumerate(texts, start=1):
        try:
            record = json.loads(text, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise _error(source, line, f"not JSON: {error}") from error
        if not isinstance(record, Mapping):
            raise _error(source, line, f"a JSON object is expected, not {text.strip()[:80]}")
        columns = _columns_in(record, known)
        if columns is None:
            expected = " or ".join(str([column.text for column in pair]) for pair in known)
            raise _error(source, line, f"no {expected}; the object has {sorted(record)[:12]}")
        yield line, columns[0].read(record), columns[1].read(record)


def _columns_in(names: Container[str], known: Sequence[Columns]) -> Columns | None:
    """Return the first of the known columns that are there."""
    return next((pair for pair in known if all(c.is_in(names) for c in pair)), None)
