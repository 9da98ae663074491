"""Reading corpora of labelled sentence pairs: SNLI's official files, and anybody's table."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from bertnli.data.corpus import BadRow, Corpus, CorpusBuilder, shown
from bertnli.errors import ConfigError, DataError
from bertnli.labels import LABELS

SPLITS = ("train", "dev", "test")
#: The columns of SNLI's 14 that are read: the label, and each sentence's binary parse.
COLUMNS = ("gold_label", "sentence1_binary_parse", "sentence2_binary_parse")


def read_snli(data_dir: str | Path, split: str | bool, *, on_error: str = "raise") -> Corpus:
    """Read one split of SNLI from its official files.

    The 14-column ``snli_1.0_SPLIT.txt`` is preferred, with the sentences of its binary parses; then
    ``snli_1.0_SPLIT.jsonl``. Either may be gzipped (``.gz``). Rows whose gold label is ``-`` are
    left out and counted.

    Args:
        data_dir: the folder of the files.
        split: ``"train"``, ``"dev"`` or ``"test"``; the book's True is train, False is test.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        DataError: there is no such file, or a row is malformed (with file and line).
    """
    return read_snli_file(find_split(data_dir, split), on_error)


def find_split(data_dir: str | Path, split: str | bool) -> Path:
    """Return the file of a split of SNLI, the first there is of those that `read_snli` reads.

    Raises:
        DataError: there is none.
    """
    if isinstance(split, bool):
        split = "train" if split else "test"
    if split not in SPLITS:
        raise ConfigError(
            f"split is {split!r}; it is one of {list(SPLITS)}, or the book's booleans"
        )
    names = [f"snli_1.0_{split}{suffix}" for suffix in (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")]
    for name in names:
        path = Path(data_dir, name)
        if path.is_file():
            return path
    raise DataError(f"{data_dir} has no {split} split of SNLI: looked for {', '.join(names)}")


def read_snli_file(path: Path, on_error: str) -> Corpus:
    """Read one of SNLI's official files; see `read_snli`."""
    read = _read_snli_jsonl if ".jsonl" in path.name else _read_snli_txt
    return read(path, on_error)


def _read_snli_txt(path: Path, on_error: str) -> Corpus:
    builder = CorpusBuilder(str(path), on_error, LABELS)
    with _open_text(path) as file:
        header = file.readline().rstrip("\r\n").split("\t")
        places = _places(header, COLUMNS, str(path))
        for line, fields in _tab_separated(file, start=2):
            if len(fields) != len(header):
                builder.bad(line, f"{len(fields)} columns, and the header has {len(header)}")
                continue
            label, premise, hypothesis = (fields[place] for place in places)
            try:
                sentences = words_of_parse(premise), words_of_parse(hypothesis)
                builder.add(*sentences, label, official=True)
            except BadRow as problem:
                builder.bad(line, str(problem))
    return builder.corpus(tokenized=True)


def _places(header: Sequence[str], columns: Sequence[str], source: str) -> list[int]:
    """Return where the columns stand in a header.

    Raises:
        DataError: one of them is not there, or twice; or this is no header.
    """
    if any("\r" in name for name in header):
        raise DataError(
            f"{source}, line 1: it has a carriage return inside; lines must end with a line feed, "
            "or with both. Convert the file (dos2unix -c mac)"
        )
    for column in columns:
        if header.count(column) != 1:
            found = "two columns" if column in header else "no column"
            raise DataError(
                f"{source}, line 1: {found} {column!r}; the header has {shown.repr(list(header))}. "
                "Name the columns to read, with premise=, hypothesis= and label= "
                "(--premise-column, --hypothesis-column, --label-column)"
            )
    return [header.index(column) for column in columns]


def words_of_parse(parse: str) -> str:
    """Return the words of a binary parse, cleaned as the book does it."""
    words = parse.replace("(", "").replace(")", "")
    return re.sub(r"\s{2,}", " ", words).strip()


def _read_snli_jsonl(path: Path, on_error: str) -> Corpus:
    builder = CorpusBuilder(str(path), on_error, LABELS)
    tokenized: bool | None = None
    with _open_text(path) as file:
        for line, record in _json_lines(file, builder):
            parses = record.get("sentence1_binary_parse"), record.get("sentence2_binary_parse")
            has_parses = all(isinstance(parse, str) for parse in parses)
            if tokenized is None:
                tokenized = has_parses
            try:
                if tokenized and not has_parses:
                    raise BadRow("no binary parses, which the first row has")
                sentences: tuple[Any, Any] = (record.get("sentence1"), record.get("sentence2"))
                if tokenized:
                    sentences = words_of_parse(str(parses[0])), words_of_parse(str(parses[1]))
                label = record.get("gold_label")
                if not isinstance(label, str):  # None would mean a corpus without labels
                    raise BadRow(f"label {shown.repr(label)} is none of {list(LABELS)}")
                builder.add(*sentences, label, official=True)
            except BadRow as problem:
                builder.bad(line, str(problem))
    return builder.corpus(tokenized=bool(tokenized))


def read_pairs(
    path: str | Path,
    *,
    format: str | None = None,
    premise: str = "sentence1",
    hypothesis: str = "sentence2",
    label: str | None = "gold_label",
    labels: Sequence[str] = LABELS,
    label_map: Mapping[str, str] | None = None,
    on_error: str = "raise",
) -> Corpus:
    """Read raw sentence pairs from a table with named columns.

    Args:
        path: a TSV (also ``.txt``), CSV or JSONL file, perhaps gzipped (``.gz``), in UTF-8.
        format: ``"tsv"``, ``"csv"`` or ``"jsonl"``; None to go by the file's name.
        premise, hypothesis, label: names of the columns; label None for a file without labels.
        labels: names of the classes, in the order of their ids.
        label_map: what the file writes to what it means, such as ``{"0": "entailment"}``. Without
            it the file must write the names themselves (upper or lower case).
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        DataError: no such file or column, or a malformed row (with file and line).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    format = format or _format_of(path)
    if format not in ("tsv", "csv", "jsonl"):
        raise ConfigError(f"format is {format!r}; it is 'tsv', 'csv' or 'jsonl'")
    builder = CorpusBuilder(str(path), on_error, labels)
    meaning = {name.lower(): name for name in labels} | {"-": "-"}
    meaning |= {str(key).lower(): value for key, value in (label_map or {}).items()}
    columns = [premise, hypothesis] + ([] if label is None else [label])
    with _open_text(path) as file, _long_fields():
        for line, row in _rows(file, format, columns, builder):
            try:
                for column in columns:
                    if column not in row:
                        raise BadRow(f"no {column!r}; the row has {shown.repr(sorted(row))}")
                name = None
                if label is not None:
                    if isinstance(row[label], list | dict):
                        raise BadRow(f"label {shown.repr(row[label])} is none of {list(labels)}")
                    written = "" if row[label] is None else str(row[label]).strip()
                    name = meaning.get(written.lower(), written)
                builder.add(row[premise], row[hypothesis], name)
            except BadRow as problem:
                builder.bad(line, str(problem))
    return builder.corpus(tokenized=False)


def read_sample(split: str) -> Corpus:
    """Read a split of the small corpus that comes with bertnli.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; it is one of {list(SPLITS)}")
    with resources.as_file(resources.files("bertnli") / "data" / "sample" / f"{split}.tsv") as path:
        return read_pairs(path)


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    formats = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
    if suffix not in formats:
        raise ConfigError(
            f"{path}: its name does not tell its format; give format='tsv', 'csv' or 'jsonl' "
            "(--format)"
        )
    return formats[suffix]


def _rows(
    file: io.TextIOBase, format: str, columns: Sequence[str], builder: CorpusBuilder
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if format == "jsonl":
        yield from _json_lines(file, builder)
        return
    # In a TSV a quotation mark is a character like others: SNLI's sentences have single ones.
    table = _csv_records(file, builder) if format == "csv" else _tab_separated(file, start=1)
    _, header = next(table, (1, [""]))
    _places(header, columns, builder.source)
    for line, fields in table:
        if len(fields) != len(header):
            builder.bad(line, f"{len(fields)} columns, and the header has {len(header)}")
        else:
            yield line, dict(zip(header, fields, strict=True))


def _tab_separated(file: io.TextIOBase, start: int) -> Iterator[tuple[int, list[str]]]:
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


def _csv_records(file: io.TextIOBase, builder: CorpusBuilder) -> Iterator[tuple[int, list[str]]]:
    """Yield fields and first line of each record that is not an empty line.

    A quotation mark that is never closed would take all lines after it into one record; what went
    wrong is therefore its first line alone, and the next line begins another record.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    while True:
        start = lines.start()
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = f"not CSV: {error}"
            if len(lines.record) > 1:
                what += (
                    f". A quotation mark opens here and is not closed before line {lines.number}"
                )
            if start == 1:
                raise DataError(f"{builder.source}, line 1: {what}") from error
            lines.give_back()
            builder.bad(start, what)
            reader = csv.reader(lines, strict=True)
            continue
        if row is None:
            return
        if row:  # the csv module gives an empty line as a row of no fields
            yield start, row


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters for a field."""
    before = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(
    file: io.TextIOBase, builder: CorpusBuilder
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text, object_pairs_hook=_object)
        # RecursionError: brackets in brackets, some thousand times.
        except (ValueError, RecursionError) as error:
            builder.bad(line, f"not JSON: {error}")
            continue
        if isinstance(record, dict):
            yield line, record
        else:
            builder.bad(line, f"a JSON object is expected, not {type(record).__name__}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"two values of one key, among {shown.repr([key for key, _ in pairs])}")
    return found


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOBase]:
    """Open a file as UTF-8, with or without a byte order mark, lines ending at a line feed alone.

    Other characters that Unicode takes for line ends may stand inside a sentence.

    Raises:
        DataError: the file is not UTF-8, or is not what its ending says, or cannot be read.
    """
    try:
        with open_binary(path) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}. Convert it to UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def open_binary(path: Path) -> Any:
    """Open a file to read bytes: what was compressed, where its name says that it is gzipped."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")
