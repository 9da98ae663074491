"""Reading corpora of labelled sentence pairs: SNLI's official files, and anybody's table."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bertnli.data.corpus import BadRow, Corpus, CorpusBuilder, shown
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.tables import csv_records, json_lines, long_fields, open_text, tab_separated
from bertnli.errors import ConfigError, DataError
from bertnli.files import open_regular
from bertnli.hints import did_you_mean, hinted, near_path
from bertnli.labels import LABELS, canonical_label

SPLITS = ("train", "dev", "test")
#: The column of the class in SNLI's files, and the default of others.
LABEL = "gold_label"


@hinted()
def read_snli(data_dir: str | Path, split: str | bool, *, on_error: str = "raise") -> Corpus:
    """Read one split of SNLI from its official files.

    The 14-column ``snli_1.0_SPLIT.txt`` is preferred, then ``snli_1.0_SPLIT.jsonl``. Either may be
    gzipped (``.gz``). A sentence is the words of its binary parse or, where that is empty or
    missing, the text of ``sentence1`` or ``sentence2``. Rows whose gold label is ``-`` are left out
    and counted.

    Args:
        data_dir: the folder of the files.
        split: ``"train"``, ``"dev"`` or ``"test"``; the book's True is train, False is test.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        DataError: there is no such file, a row is malformed (with file and line), or all sentences
            are empty.
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
        if path.exists():
            return path
    raise DataError(f"{data_dir} has no {split} split of SNLI: looked for {', '.join(names)}")


def read_snli_file(path: Path, on_error: str) -> Corpus:
    """Read one of SNLI's official files; see `read_snli`."""
    builder = CorpusBuilder(str(path), on_error, LABELS)
    format = "jsonl" if ".jsonl" in path.name else "tsv"
    columns = (PREMISE.names, HYPOTHESIS.names, (LABEL,))
    with open_text(path) as file:
        for line, row in rows_of(file, format, columns, builder):
            try:
                label = row.get(LABEL)
                if not isinstance(label, str):  # None would mean a corpus without labels
                    raise BadRow(f"label {shown.repr(label)} is none of {list(LABELS)}")
                builder.add(PREMISE.read(row), HYPOTHESIS.read(row), label, official=True)
            except BadRow as problem:
                builder.bad(line, str(problem))
    return builder.corpus(PREMISE, HYPOTHESIS)


def _check_header(header: Sequence[str], columns: Iterable[Sequence[str]], source: str) -> None:
    """Raise DataError if this is no header with these columns, once each.

    Args:
        columns: names, of which one at least must be there.
    """
    if not any(header):
        raise DataError(f"{source} is empty, or its first line is; a header is expected there")
    if any("\r" in name for name in header):
        raise DataError(
            f"{source}, line 1: it has a carriage return inside; lines must end with a line feed, "
            "or with both. Convert the file (dos2unix -c mac)"
        )
    for names in columns:
        twice = [name for name in names if header.count(name) > 1]
        if twice or not any(name in header for name in names):
            found = (
                f"two columns {twice[0]!r}"
                if twice
                else f"no column {' or '.join(map(repr, names))}"
            )
            raise DataError(
                f"{source}, line 1: {found}; the header has {shown.repr(list(header))}. "
                "Name the columns to read, with premise=, hypothesis= and label= "
                "(--premise-column, --hypothesis-column, --label-column)"
                f"{did_you_mean(names[0], header)}"
            )


@hinted()
def read_pairs(
    path: str | Path,
    *,
    format: str | None = None,
    premise: str | None = None,
    hypothesis: str | None = None,
    label: str | None = LABEL,
    labels: Sequence[str] = LABELS,
    label_map: Mapping[str, str] | None = None,
    probabilities: str | None = None,
    on_error: str = "raise",
) -> Corpus:
    """Read raw sentence pairs from a table with named columns.

    Args:
        path: a TSV (also ``.txt``), CSV or JSONL file, perhaps gzipped (``.gz``), in UTF-8.
        format: ``"tsv"``, ``"csv"`` or ``"jsonl"``; None to go by the file's name.
        premise, hypothesis: names of the columns; None for ``sentence1`` and ``sentence2``, in
            whose place the words of ``sentence1_binary_parse`` and ``sentence2_binary_parse`` are
            taken where a row has them, as in SNLI's and MultiNLI's files.
        label: name of the column; None for a file without labels.
        labels: names of the classes, in the order of their ids.
        label_map: what the file writes to what it means, such as ``{"0": "entailment"}``. Without
            it the file must write the names themselves (upper or lower case; non-entailment in any
            of its spellings). ``"-"`` means none.
        probabilities: the key, in a JSONL file, of an object with each class's probability, to be
            trained on in place of the label: what `bertnli predict --json` writes. None for none.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        ConfigError: an unknown format, one that holds no probabilities, or an unknown class in
            ``label_map``.
        DataError: no such file or column, a malformed row (with file and line), or a file whose
            sentences are all empty.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file{near_path(path)}")
    format = format or format_of(path)
    if format not in ("tsv", "csv", "jsonl"):
        raise ConfigError(f"format is {format!r}; it is 'tsv', 'csv' or 'jsonl'")
    if probabilities is not None and format != "jsonl":
        raise ConfigError(f"{path} is {format}; probabilities are read of JSONL")
    names = {canonical_label(name): name for name in labels} | {"-": "-"}
    meaning = {str(key).lower(): name for key, name in (label_map or {}).items()}
    unknown = [name for name in meaning.values() if name not in (*labels, "-")]
    if unknown:
        raise ConfigError(
            f"label_map (--label-map) maps to {unknown[0]!r}, which is none of {list(labels)}; "
            "'-' stands for no label"
        )
    builder = CorpusBuilder(str(path), on_error, labels)
    first = PREMISE if premise is None else SentenceColumn(premise)
    second = HYPOTHESIS if hypothesis is None else SentenceColumn(hypothesis)
    others = [(name,) for name in (label, probabilities) if name is not None]
    columns = [first.names, second.names, *others]
    with open_text(path) as file, long_fields():
        for line, row in rows_of(file, format, columns, builder):
            try:
                for alternatives in columns:
                    if not any(column in row for column in alternatives):
                        expected = " or ".join(map(repr, alternatives))
                        raise BadRow(f"no {expected}; the row has {shown.repr(sorted(row))}")
                name = None
                if label is not None:
                    if isinstance(row[label], list | dict):
                        raise BadRow(f"label {shown.repr(row[label])} is none of {list(labels)}")
                    written = "" if row[label] is None else str(row[label]).strip()
                    called = names.get(canonical_label(written))
                    if called is None and meaning and written.lower() not in meaning:
                        raise BadRow(
                            f"label {shown.repr(written)} is neither in label_map (--label-map), "
                            f"{shown.repr(list(meaning))}, nor a class, {list(labels)}"
                        )
                    name = meaning.get(written.lower(), called or written)
                targets = None
                if probabilities is not None:
                    targets = builder.probabilities(row[probabilities])
                official = first.is_parsed_in(row) or second.is_parsed_in(row)
                sentences = first.read(row), second.read(row)
                builder.add(*sentences, name, official=official, targets=targets)
            except BadRow as problem:
                builder.bad(line, str(problem))
    return builder.corpus(first, second)


def read_sample(split: str) -> Corpus:
    """Read a split of the small corpus that comes with bertnli.

    Args:
        split: ``"train"``, ``"dev"`` or ``"test"``.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; it is one of {list(SPLITS)}")
    with resources.as_file(resources.files("bertnli") / "data" / "sample" / f"{split}.tsv") as path:
        return read_pairs(path)


def format_of(path: Path) -> str:
    """Return the format that a file's name tells: ``"tsv"``, ``"csv"`` or ``"jsonl"``.

    Raises:
        ConfigError: it tells none.
        DataError: nor is it a file.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    formats = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}
    if suffix not in formats:
        open_regular(path, DataError).close()  # what is no file has no format either
        raise ConfigError(
            f"{path}: its name does not tell its format; give format='tsv', 'csv' or 'jsonl' "
            "(--format)"
        )
    return formats[suffix]


def rows_of(
    file: io.TextIOBase, format: str, columns: Iterable[Sequence[str]], builder: CorpusBuilder
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line and fields of each row; of a table, those of the right number of columns.

    Args:
        file: opened by `open_text`.
        format: ``"tsv"``, ``"csv"`` or ``"jsonl"``.
        columns: names, of which a table's header must have one at least, and none twice.
        builder: is told of bad rows.

    Raises:
        DataError: a column is not there, or twice.
    """
    if format == "jsonl":
        yield from json_lines(file, builder)
        return
    # In a TSV a quotation mark is a character like others: SNLI's sentences have single ones.
    table = csv_records(file, builder) if format == "csv" else tab_separated(file, start=1)
    _, header = next(table, (1, [""]))
    _check_header(header, columns, builder.source)
    for line, fields in table:
        if len(fields) != len(header):
            builder.bad(line, f"{len(fields)} columns, and the header has {len(header)}")
        else:
            yield line, dict(zip(header, fields, strict=True))
