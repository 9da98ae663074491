"""The format, delimiter, quoting and header of a file, determined by its beginning and its name.

A doubtful guess becomes a note that names the option which decides it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bertnli.data.classes import is_spelling
from bertnli.data.layouts import has_sentences
from bertnli.errors import ConfigError, DataError

FORMATS = ("tsv", "csv", "jsonl", "json", "parquet", "arrow")
#: Endings of file names, without those of packed files.
SUFFIXES = dict.fromkeys((".tsv", ".txt", ".tab"), "tsv") | {".csv": "csv"}
SUFFIXES |= dict.fromkeys((".jsonl", ".ndjson"), "jsonl") | {".json": "json", ".parquet": "parquet"}
SUFFIXES |= dict.fromkeys((".arrow", ".feather"), "arrow")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
#: The first bytes of binary formats; the last are those of an Arrow stream.
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
#: The first bytes of files that are not read, and what to do with them.
NOT_TABLES = {
    b"PK\x03\x04": "a zip file, as archives and spreadsheets (.xlsx, .ods) are. Give an archive by "
    "its path, with .zip at its end. Save the sheet as CSV UTF-8 (Excel: File, Save as; pandas: "
    "read_excel(path).to_csv(...)), and give that file",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (.xls). Save the sheet as CSV UTF-8",
}
DELIMITERS = (",", "\t", ";", "|")
#: Characters, records and leading lines that are looked at.
MAX_SNIFFED, SAMPLE, MAX_ABOVE = 1 << 16, 50, 12
#: A plausible column name: some words, without a full stop at the end.
_NAME = re.compile(r"[^\W\d][\w.\- ()/#]{0,39}(?<![.!?])")
#: Excel's own line with the delimiter.
_SEP = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)
#: A field of a quoted TSV file, its end, and what follows.
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^"\t\n]*))(\t|\r?\n|\Z)')
#: A function that checks whether a record is a header with known columns of sentences.
IsHeader = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class TextFormat:
    """The syntax of a text file.

    Args:
        format: one of `FORMATS`.
        delimiter: the character between fields.
        quoted: whether fields may be in quotation marks.
        mark: the quotation mark.
        header: whether the first record names the columns.
        skip: the number of lines before the first record.
        spaced: whether a space after a delimiter is not part of the field.
        notes: the guesses that were made.
    """

    format: str
    delimiter: str = "\t"
    quoted: bool = False
    mark: str = '"'
    header: bool = True
    skip: int = 0
    spaced: bool = False
    notes: tuple[str, ...] = ()

    @property
    def csv_style(self) -> dict[str, Any]:
        """The arguments of `csv.reader` for this syntax."""
        style = {"delimiter": self.delimiter, "quotechar": self.mark}
        return style | {"skipinitialspace": self.spaced}


def bare(path: str | Path) -> Path:
    """Remove the endings of packed files, such as .gz, from a path."""
    path = Path(path)
    while path.suffix.lower() in PACKED_SUFFIXES:
        path = path.with_suffix("")
    return path


def suffix_format(path: str | Path) -> str | None:
    """Return the format that the ending of a file's name stands for, or None."""
    return SUFFIXES.get(bare(path).suffix.lower())


def binary_format(head: bytes, source: str) -> str | None:
    """Determine the format of a binary file by its first bytes; None for text."""
    for magic, what in NOT_TABLES.items():
        if head.startswith(magic):
            raise DataError(f"{source}: it is {what}")
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def text_format(head: str, name: str, given: Any) -> TextFormat:
    """Determine the syntax of a text file.

    Args:
        head: the beginning of the text.
        name: the name of the file.
        given: the `bertnli.data.reading.Reading` with the user's options.
    """
    format, delimiter = given.format, given.delimiter
    if format is not None and format not in FORMATS:
        raise ConfigError(f"format is {format!r}; it is one of {list(FORMATS)} (--format)")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise ConfigError(
            f"delimiter is {delimiter!r}; it is one character, such as ';' (--delimiter)"
        )
    if format in ("jsonl", "json"):
        return TextFormat(format)
    ending = format or suffix_format(name)
    if format is None and delimiter is None and (kind := _json_format(head, ending)):
        return TextFormat(kind)
    columns = (given.premise, given.hypothesis, given.label)
    named = {column.lower() for column in columns if isinstance(column, str)}

    def is_header(fields: Sequence[str]) -> bool:
        names = [field.strip().lower() for field in fields]
        return not named.isdisjoint(names) or has_sentences(names)

    return _delimited(head, ending, is_header, given)


def _lines(head: str, count: int) -> list[str]:
    return [line for line in head.lstrip("\ufeff").split("\n", count)[:count] if line.strip()]


def _json_format(head: str, ending: str | None) -> str | None:
    """Return ``"jsonl"``, ``"json"``, or None for other text, judged by the first line of ``head``.

    ``ending`` is the format for which the file's name speaks; see `suffix_format`.
    """
    lines, first = _lines(head, SAMPLE), None
    try:
        first = json.loads(lines[0])
    except (IndexError, ValueError, RecursionError):
        if lines and lines[0].strip() in ("[", "[{", "{"):
            return "json"
    if not isinstance(first, list | dict):
        if ending != "json" or not lines or lines[0].lstrip()[0] not in "[{":
            return "jsonl" if ending in ("json", "jsonl") else None
        return "jsonl" if len(lines) > 1 and all(line[0] == "{" for line in lines[:3]) else "json"
    if len(lines) > 1:
        return "jsonl"
    values = first if isinstance(first, list) else list(first.values())
    if values and all(isinstance(value, list | dict) for value in values):
        return "json"
    rows = [value for value in values if isinstance(value, list) and value]
    return "json" if any(isinstance(value[0], dict) for value in rows) else "jsonl"


def _delimited(head: str, ending: str | None, is_header: IsHeader, given: Any) -> TextFormat:
    """Determine the syntax of delimited text; ``given`` as for `text_format`."""
    notes: list[str] = []
    delimiter, quoted, header, skip = given.delimiter, given.quoted, given.header, 0
    if (sep := _SEP.match(head)) and ending != "tsv":
        head, skip, delimiter = head[sep.end() :], 1, delimiter or sep[1]
    candidates = DELIMITERS if delimiter is None else (delimiter,)
    if header is not False and (above := _lines_above(head, candidates, is_header)):
        head, skip = head.split("\n", above)[above], skip + above
        notes.append(f"line {skip + 1} is taken for the header, and the lines above it for a title")
    lines = _lines(head[:MAX_SNIFFED].replace("\r\n", "\n"), 20 * SAMPLE)
    default = "," if ending == "csv" else "\t"
    if delimiter is None and given.format == "tsv":
        delimiter = default
    elif delimiter is None:
        delimiter = max(DELIMITERS, key=lambda d: _score(lines, d, is_header, d == default))
        if delimiter != default and ending is not None:
            notes.append(f"its delimiter is taken to be {delimiter!r} (--delimiter)")
    if quoted is None:
        quoted = delimiter != "\t" or ending == "csv" or _is_quoted(head)
        if quoted and delimiter == "\t" and ending != "csv":
            notes.append(
                "quotation marks around its fields are taken for quotes, as pandas and csv.writer "
                "write them (--no-quoted takes them for text)"
            )
    mark = "'" if quoted and _is_marked(lines[:SAMPLE], delimiter) else '"'
    if mark == "'":
        notes.append(f"its fields are in single quotation marks, {mark}")
    spaced = quoted and all(f"{delimiter} " in line for line in lines[:SAMPLE])
    spaced &= bool(lines) and lines[0].count(f"{delimiter} ") == lines[0].count(delimiter)
    kind = "tsv" if delimiter == "\t" and not quoted else "csv"
    how = TextFormat(kind, delimiter, quoted, mark, True, skip, spaced)
    if header is None:
        records = _records(lines, how)
        header, is_doubtful = _has_header(records, is_header)
        if is_doubtful:
            guess = (
                "a header; header=False (--no-header) takes it for a pair"
                if header
                else "a pair; header=True (--header) takes it for a header"
            )
            notes.append(f"its first line, {', '.join(records[0])[:80]!r}, is taken for {guess}")
    return replace(how, header=header, notes=tuple(notes))


def _is_marked(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether all fields of the lines are in single quotation marks."""
    between = f"'{delimiter}'"
    return len(lines) > 1 and all(
        line[:1] == line[-1:] == "'" and line.count(between) == lines[0].count(between) > 0
        for line in lines
    )


def _lines_above(head: str, delimiters: Sequence[str], is_header: IsHeader) -> int:
    """Count the lines (a title, comments) above the header of a text."""
    lines = head[:MAX_SNIFFED].split("\n")
    for number, line in enumerate(lines[:MAX_ABOVE]):
        records = [fields for d in delimiters for fields in _records([line], _style(d))]
        if any(map(is_header, records)):
            return number
        if any(sum(map(bool, fields)) > 1 for fields in records) and not line.startswith("#"):
            break  # a title is in one field
    else:
        return 0
    # A header of unknown names: all rows from there on have the same columns, three or more.
    below = [line for line in lines[number:] if line.strip()]
    for d in delimiters if number and len(below) > 3 else ():
        widths = {len(record) for record in _records(below, _style(d))[:-1]}
        if len(widths) == 1 and widths.pop() > 2:
            return number
    return 0


def _style(delimiter: str) -> TextFormat:
    return TextFormat("csv", delimiter, delimiter != "\t")


def _records(lines: Sequence[str], how: TextFormat) -> list[list[str]]:
    """Split lines into at most `SAMPLE` records; the last one may be incomplete."""
    if not how.quoted:
        return [line.rstrip("\r").split(how.delimiter) for line in lines[:SAMPLE]]
    records: list[list[str]] = []
    with suppress(csv.Error):
        records += islice(csv.reader((f"{line}\n" for line in lines), **how.csv_style), SAMPLE)
    return records


def _score(
    lines: Sequence[str], delimiter: str, is_header: IsHeader, is_default: bool
) -> tuple[float, ...]:
    """Rate how well a delimiter fits the lines; the largest tuple is the best."""
    records = _records(lines, _style(delimiter))
    if not records or len(records[0]) < 2:
        return (False, 0.0)
    width = len(records[0])
    same = sum(len(record) == width for record in records) / len(records)
    columns = zip(*(r for r in records[1:] or records if len(r) == width), strict=True)
    has_classes = any(all(map(is_spelling, column)) and any(column) for column in columns)
    # Sentences have commas, and hardly ever a tab or a bar.
    scores = is_header(records[0]), same if same > 0.5 else 0.0, has_classes
    return (*scores, delimiter in "\t|", is_default, width)


def _is_quoted(head: str) -> bool:
    """Check whether a TSV text has quoted fields, with inner quotation marks doubled.

    Evidence for it is a field that needs its quotes (it has a doubled mark, a tab or a line end
    inside), a first line of quoted names or, as Excel writes text, quotes around every field with a
    comma and around no other. A field with an undoubled mark, as in the sentences of SNLI, GLUE and
    KorNLI, is evidence against it: a writer that quotes would have doubled the mark.
    """
    if '"' not in head:
        return False
    end = head.rfind("\n") + 1 or len(head)
    widths, width, place, is_proven = list[int](), 0, 0, False
    commas, is_excel, first_quoted = 0, True, True
    while place < end:
        match = _FIELD.match(head, place)
        if match is None:
            return False
        inner = match[1]
        if inner and "\t" in inner and "\n" in inner:
            return False  # from a mark of one sentence to that of another
        place, width = match.end(), width + 1
        first_quoted &= bool(widths) or inner is not None
        is_proven |= inner is not None and any(char in inner for char in '"\t\n')
        commas += inner is not None and "," in inner
        is_excel &= (inner is not None) == ("," in match[0])
        if match[3] != "\t":
            widths.append(width)
            width = 0
    odd = sum(n for size, n in Counter(widths).items() if size not in (widths[0], 1))
    is_proven |= first_quoted or (commas > 1 and is_excel)
    return is_proven and 5 * odd <= len(widths) + 5


def _has_header(records: Sequence[Sequence[str]], is_header: IsHeader) -> tuple[bool, bool]:
    """Guess whether the first record is a header; also return whether the guess is doubtful."""
    if not records or is_header(records[0]) or len(records[0]) < 2:
        return True, False
    names = [text.strip() for text in records[0]]
    rest = [record for record in records[1:] if len(record) == len(names)]
    has_index = not names[0] and bool(rest)  # pandas leaves the name of the index empty
    named = names[has_index:]
    are_plausible = (_NAME.fullmatch(name) and len(name.split()) <= 3 for name in named)
    are_names = len({*named}) == len(named) and all(are_plausible)
    if has_index and are_names:
        return True, False
    numbers = [str(i) for i in range(len(names))]  # as pandas writes columns without names
    if names == numbers and not all(text.isdecimal() for record in rest for text in record):
        return bool(rest), True
    is_class = is_doubtful = False
    for column, text in enumerate(names):
        below = [record[column] for record in rest]
        if below and all(map(is_spelling, below)):
            if not is_spelling(text):
                return True, False
            is_class, is_doubtful = True, not text.isdecimal()
        elif is_spelling(text) and text:
            is_class = True
    if (is_class and not is_doubtful) or not are_names:
        return False, is_class and are_names
    if not rest:
        return not any(" " in name for name in names), True
    # Short names above longer sentences.
    longer = sum(
        (max(map(len, record)) > 2 * max(map(len, names)) and " " in max(record, key=len))
        or any(text.rstrip()[-1] in ".!?" for text in record if text.strip())
        for record in rest
    )
    return 2 * longer > len(rest), True
