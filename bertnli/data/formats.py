"""How a file is written: its format, delimiter, quotation marks and header, told by its beginning.

What a name says is believed where the content does not say otherwise; what is left doubtful after
that becomes a note, with the option that decides it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertnli.data.classes import is_spelling
from bertnli.errors import ConfigError, DataError

FORMATS = ("tsv", "csv", "jsonl", "json", "parquet", "arrow")
#: What names of files end with, after the endings of packed ones.
SUFFIXES = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
#: How files in columns begin: of the last, a stream of Arrow's.
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
#: How begins what is no table at all, and what to do with it.
NO_TABLES = {
    b"PK\x03\x04": "a zip file, as archives and spreadsheets (.xlsx, .ods) are. Give an archive by "
    "its path, with .zip at its end. Save the sheet as CSV UTF-8 (Excel: File, Save as; pandas: "
    "read_excel(path).to_csv(...)), and give that file",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (.xls). Save the sheet as CSV UTF-8, and give that "
    "file",
    b"SQLite format 3\0": "a database of SQLite. Export the table as CSV, and give that file",
    b"%PDF": "a PDF. Give the table itself as CSV, TSV or JSON lines",
    b"\x80\x04\x95": "a pickle. Save the table as parquet or CSV, and give that file",
}
DELIMITERS = (",", "\t", ";", "|")
#: Characters, and records, by which delimiter and header are told.
MAX_SNIFFED, SAMPLE = 1 << 16, 50
#: Lines among which the names of columns are looked for.
MAX_ABOVE = 12
#: What a column may be called: some words, without a full stop at the end.
_NAME = re.compile(r"[^\W\d][\w.\- ()/#]{0,39}(?<![.!?])")
#: Excel's own line, which says what stands between fields.
_SEP = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)
#: Asks whether names are known as those of sentences.
Known = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Written:
    """How a file is written.

    Args:
        format: one of `FORMATS`.
        delimiter: what stands between fields.
        quoted: whether fields may stand in quotation marks.
        mark: which ones.
        header: whether the first record names the columns.
        skip: lines before it.
        spaced: whether a space after a delimiter is none of the field's.
        notes: what was guessed.
    """

    format: str
    delimiter: str = "\t"
    quoted: bool = False
    mark: str = '"'
    header: bool = True
    skip: int = 0
    spaced: bool = False
    notes: tuple[str, ...] = field(default=())


def suffix_format(path: str | Path) -> str | None:
    """Return the format that a file's name tells, or None."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    while suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def binary_format(head: bytes, source: str) -> str | None:
    """Return the format of a file in columns, or None for text.

    Raises:
        DataError: it is something else, which is no table.
    """
    for magic, what in NO_TABLES.items():
        if head.startswith(magic):
            raise DataError(f"{source}: it is {what}")
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def written(head: str, name: str, known: Known, given: Written, decided: dict) -> Written:
    """Return how a text is written.

    Args:
        head: its beginning; whole, or cut somewhere.
        name: of the file.
        known: whether names of columns are.
        given: what the user says, where ``decided`` has the field's name.
        decided: which fields the user has decided.

    Raises:
        ConfigError: an unknown format, or a delimiter of more than one character.
    """
    format = given.format if "format" in decided else suffix_format(name)
    if "format" in decided and format not in FORMATS:
        raise ConfigError(f"format is {format!r}; it is one of {list(FORMATS)} (--format)")
    if "delimiter" in decided and (len(given.delimiter) != 1 or given.delimiter in '\r\n"'):
        raise ConfigError(
            f"delimiter is {given.delimiter!r}; it is one character, such as ';' (--delimiter)"
        )
    told = "format" in decided or "delimiter" in decided
    if format in ("jsonl", "json") and "format" in decided:
        return Written(format)
    json_format = None if "delimiter" in decided else _json_format(head, format)
    if json_format and (format in ("json", "jsonl") or (not told and _is_object(head))):
        return Written(json_format)
    if format in ("jsonl", "json"):
        return Written("jsonl")
    return _delimited(head, format, known, given, decided)


def _is_object(head: str) -> bool:
    """Return whether the first line is an object of JSON, or a document seems to begin."""
    first = head.lstrip("\ufeff \r\n").partition("\n")[0]
    try:
        return isinstance(json.loads(first), dict | list)
    except (ValueError, RecursionError):
        return first.strip() in ("{", "[", "[{")


def _json_format(head: str, format: str | None) -> str | None:
    """Return whether a text is JSON lines or a document of JSON; None if it looks like neither."""
    lines = [line for line in head.lstrip("\ufeff").split("\n", 50) if line.strip()]
    if not lines or lines[0].lstrip()[0] not in "[{":
        return "jsonl" if lines and format == "jsonl" else None
    try:
        first = json.loads(lines[0])
    except (ValueError, RecursionError):
        if lines[0].strip() in ("[", "[{", "{"):
            return "json"
        # Lines each of which begins an object, of which the first is bad; else a document.
        many = len(lines) > 1 and all(line[0] == "{" for line in lines[:3])
        return "jsonl" if many or format == "jsonl" else "json"
    if len(lines) > 1:
        return "jsonl"
    if isinstance(first, dict) and not any(isinstance(v, list | dict) for v in first.values()):
        return "jsonl"
    if isinstance(first, list):
        return "json" if first and all(isinstance(row, list | dict) for row in first) else "jsonl"
    # An object with rows: a list of objects, or columns that are lists or objects.
    lists = [v for v in first.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    columns = all(isinstance(v, list | dict) for v in first.values())
    return "json" if lists or columns else "jsonl"


def _delimited(
    head: str, format: str | None, known: Known, given: Written, decided: dict
) -> Written:
    notes: list[str] = []
    skip = 0
    sep = _SEP.match(head)
    if sep and format != "tsv":
        head, skip = head[sep.end() :], 1
        given = given if "delimiter" in decided else replace(given, delimiter=sep[1])
        decided = {**decided, "delimiter": True}
    signs = (given.delimiter,) if "delimiter" in decided else DELIMITERS
    above = 0 if decided.get("header") is False else _lines_above(head, signs, known)
    if above:
        head, skip = head.split("\n", above)[above], skip + above
        notes.append(f"what stands above line {skip + 1}, which names the columns, is no pair")
    lines = [line for line in head[:MAX_SNIFFED].split("\n")[: 20 * SAMPLE] if line.strip("\r")]
    default = "," if format == "csv" else "\t"
    delimiter = given.delimiter
    if "delimiter" not in decided:
        delimiter = default
        if not ("format" in decided and format == "tsv"):
            delimiter = max(DELIMITERS, key=lambda d: _score(lines, d, known, d == default))
        if delimiter != default and format is not None:
            notes.append(f"its fields are taken to stand between {delimiter!r} (--delimiter)")
    quoted = delimiter != "\t"
    if "quoted" in decided:
        quoted = given.quoted
    elif delimiter == "\t" and format != "csv":
        quoted = _is_quoted(head, delimiter)
        if quoted:
            notes.append(
                "quotation marks around its fields are taken for quotes, as pandas and csv.writer "
                "write them (--no-quoted takes them for text)"
            )
    elif delimiter == "\t":
        quoted = True
    mark = '"'
    if quoted and _is_marked(lines[:SAMPLE], delimiter):
        mark = "'"
        notes.append(f"its fields stand in single quotation marks, {mark}")
    spaced = quoted and all(f"{delimiter} " in line for line in lines[:SAMPLE])
    spaced = spaced and all(
        text.startswith(" ")
        for record in _records(lines[:1], delimiter, False)
        for text in record[1:]
    )
    records = _records(lines, delimiter, quoted, spaced, mark)
    header = given.header
    if "header" not in decided:
        header, doubt = _has_header(records, known)
        if doubt:
            notes.append(
                f"its first line, {', '.join(records[0])[:80]!r}, is taken for "
                + (
                    "names of columns; header=False (--no-header) takes it for a pair"
                    if header
                    else "a pair; header=True (--header) takes it for names of columns"
                )
            )
    kind = "tsv" if delimiter == "\t" and not quoted else "csv"
    return Written(kind, delimiter, quoted, mark, header, skip, spaced, tuple(notes))


def _is_marked(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether all fields stand in single quotation marks."""
    texts = [line.rstrip("\r") for line in lines]
    between = f"'{delimiter}'"
    return len(texts) > 1 and all(
        text[:1] == text[-1:] == "'" and text.count(between) == texts[0].count(between) > 0
        for text in texts
    )


def _lines_above(head: str, delimiters: Sequence[str], known: Known) -> int:
    """Return how many lines stand above the names of columns: a title, or comments."""
    lines = head[:MAX_SNIFFED].split("\n")[:MAX_ABOVE]
    for number, line in enumerate(lines):
        records = [one for d in delimiters for one in _records([line], d, d != "\t")]
        if any(map(known, records)):
            return number
        if any(sum(map(bool, one)) > 1 for one in records) and not line.startswith("#"):
            break  # a title is in one field
    else:
        return 0
    if not number:
        return 0
    # Under a title stands a table, each of whose rows has all columns.
    below = [line for line in lines[number:] if line.strip()]
    for d in delimiters:
        widths = {len(record) for record in _records(below, d, d != "\t")[:-1]}
        if len(below) > 3 and len(widths) == 1 and widths.pop() > 2:
            return number
    return 0


def _records(
    lines: Sequence[str], delimiter: str, quoted: bool, spaced: bool = False, mark: str = '"'
) -> list[list[str]]:
    """Return the first records; the last may be cut."""
    if not quoted:
        return [line.rstrip("\r").split(delimiter) for line in lines[:SAMPLE]]
    found: list[list[str]] = []
    try:
        style: Any = {"delimiter": delimiter, "skipinitialspace": spaced, "quotechar": mark}
        for record in csv.reader(io.StringIO("\n".join(lines)), **style):
            found.append(record)
            if len(found) == SAMPLE:
                break
    except csv.Error:
        pass
    return found


def _score(lines: Sequence[str], delimiter: str, known: Known, is_default: bool) -> tuple:
    """Return how well a delimiter fits, to be compared with others'."""
    records = _records(lines, delimiter, delimiter != "\t")
    if not records or len(records[0]) < 2:
        return (False, 0.0)
    width = len(records[0])
    same = sum(len(record) == width for record in records) / len(records)
    whole = (record for record in records[1:] or records if len(record) == width)
    columns = zip(*whole, strict=True)
    is_class = any(all(map(is_spelling, column)) and any(column) for column in columns)
    # Sentences have commas, and next to never a tab or a bar.
    sure = (is_class, delimiter in "\t|", is_default, width)
    return (known(records[0]), same if same > 0.5 else 0.0, *sure)


def _is_quoted(head: str, delimiter: str) -> bool:
    """Return whether fields stand in quotation marks, and inner ones are doubled.

    A writer that quotes does so with every field that has such a mark in it, so one field that has
    an undoubled one, or does not begin and end with one, is evidence against: SNLI's, GLUE's and
    KorNLI's sentences. Evidence for it is a field that only a quoted one can be, with a doubled
    mark, a delimiter or a line end in it, a first line of quoted names alone, or, as Excel writes
    text, marks around each field with a comma and around no other.
    """
    if '"' not in head:
        return False
    proof, width, lines, odd = False, 0, 0, 0
    commas, others = 0, 0
    place, end = 0, head.rfind("\n") + 1 or len(head)
    field = re.compile(rf'"((?:[^"]|"")*)"(?={delimiter}|\r?\n|$)|([^{delimiter}\n]*)')
    while place < end:  # a line
        fields, bare = 0, False
        while True:
            match = field.match(head, place)
            if match is None or '"' in (match[2] or ""):
                return False
            place, fields = match.end(), fields + 1
            bare |= match[1] is None
            inner = match[1]
            if inner is not None and delimiter in inner and "\n" in inner:
                return False  # from a mark of one sentence to that of another
            proof |= inner is not None and any(c in inner for c in '"\t\n')
            commas += inner is not None and "," in inner
            others += (inner is None) == ("," in match[0])  # not as Excel writes it
            if head[place : place + 1] != delimiter:
                break
            place += 1
        place = head.find("\n", place) + 1 or end
        proof |= not width and not bare
        width = width or fields
        lines, odd = lines + 1, odd + (fields not in (width, 1))
    return (proof or (commas > 1 and not others)) and 5 * odd <= lines + 5


def _has_header(records: Sequence[Sequence[str]], known: Known) -> tuple[bool, bool]:
    """Return whether the first record names the columns, and whether that is in doubt."""
    if not records or known(records[0]) or len(records[0]) < 2:
        return True, False
    first, rest = records[0], [record for record in records[1:] if len(record) == len(records[0])]
    names = [text.strip() for text in first]
    # pandas leaves the name of the index empty.
    named = names[1:] if not names[0] and rest else names
    are_names = len({*named}) == len(named) and all(
        _NAME.fullmatch(name) and len(name.split()) <= 3 for name in named
    )
    if named is not names and are_names:
        return True, False
    counted = [str(i) for i in range(len(names))]
    if names == counted and not all(text.isdecimal() for record in rest for text in record):
        return bool(rest), True  # as pandas writes columns without names
    is_class, doubt = False, False
    for place, text in enumerate(names):
        below = [record[place] for record in rest]
        if below and all(map(is_spelling, below)):  # a column of classes
            if not is_spelling(text):
                return True, False
            is_class, doubt = True, not text.isdecimal()
        elif is_spelling(text) and text:
            is_class = True
    if (is_class and not doubt) or not are_names:
        return False, is_class and are_names
    if not rest:  # of a pipe
        return not any(" " in name for name in names), True
    # Short names above longer sentences.
    longer = sum(
        (max(map(len, record)) > 2 * max(map(len, names)) and " " in max(record, key=len))
        or any(text.rstrip()[-1] in ".!?" for text in record if text.strip())
        for record in rest
    )
    return 2 * longer > len(rest), True
