"""The rows of TSV, CSV and JSONL files: every one is given, or told to the builder as a bad one."""

from __future__ import annotations

import codecs
import csv
import io
import json
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertnli.data.corpus import CorpusBuilder
from bertnli.data.lines import MAX_LINE, open_binary
from bertnli.errors import DataError
from bertnli.files import unique_keys


def tab_separated(file: io.TextIOBase, start: int) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each line that is not empty."""
    for number, line in enumerate(file, start):
        if text := line.rstrip("\r\n"):
            yield number, text.split("\t")


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


def csv_records(file: io.TextIOBase, builder: CorpusBuilder) -> Iterator[tuple[int, list[str]]]:
    """Yield fields and first line of each record that is not an empty line.

    A quotation mark that is never closed would take all lines after it into one record; what went
    wrong is therefore its first line alone, and the next line begins another record.
    """
    lines = _Lines(file)
    reader, no_header = csv.reader(lines, strict=True), True
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
            if no_header:  # there is none to leave out
                raise DataError(f"{builder.source}, line {start}: {what}") from error
            lines.give_back()
            builder.bad(start, what)
            reader = csv.reader(lines, strict=True)
            continue
        if row is None:
            return
        if row:  # the csv module gives an empty line as a row of no fields
            no_header = False
            yield start, row


@contextmanager
def long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters for a field to `MAX_LINE`, for a while."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def json_lines(
    file: io.TextIOBase, builder: CorpusBuilder
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield number and object of each line that is not white space alone."""
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text, object_pairs_hook=unique_keys)
        # RecursionError: brackets in brackets, some thousand times.
        except (ValueError, RecursionError) as error:
            builder.bad(line, f"not JSON: {error}")
            continue
        if isinstance(record, dict):
            yield line, record
        else:
            builder.bad(line, f"a JSON object is expected, not {type(record).__name__}")


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOBase]:
    """Open a file as UTF-8, with or without a byte order mark, lines ending at a line feed alone.

    Other characters that Unicode takes for line ends may stand inside a sentence.

    Raises:
        DataError: the file is not UTF-8, or is not what its ending says, or cannot be read.
    """
    try:
        with open_binary(path) as raw:
            # "utf-8-sig" loses a file that is half of a mark.
            if raw.peek(3)[:3] == codecs.BOM_UTF8:
                raw.read(3)
            yield io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}. Convert it to UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
