"""A corpus of sentence pairs, and how one is put together row by row."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import LABELS
from bertnli.errors import ConfigError, DataError
from bertnli.text.tokenize import Tokens

#: Writes a value of a file into a message: the beginning of it, if it is long or deep.
shown = reprlib.Repr()
shown.maxstring = shown.maxother = 80
shown.maxlist = shown.maxdict = 12
#: Reasons to leave a row out.
NO_LABEL, MALFORMED = "no gold label", "malformed"
#: The layout of a file of somebody's own.
TABLE = "table"
#: What is said where pairs are given in another form.
ONE_LIST = "Give one list of pairs: predict([(premise, hypothesis)])"


class _Columns(NamedTuple):
    premises: list[str]
    hypotheses: list[str]
    labels: list[int]


class Corpus(_Columns):
    """Sentence pairs and their labels; a tuple of three lists, as the book's ``read_snli`` gives.

    Attributes:
        premises, hypotheses: sentences.
        labels: class ids, places in ``label_names``; -1 where the source has no labels.
        label_names: the names of the classes.
        tokenized: whether the sentences are tokens with spaces between them (SNLI's parse columns),
            and not text as people write it. Where False, those of type `Tokens` are all the same:
            a file may have parses of some sentences only.
        targets: (N, label_names) float32, what a teacher says of each pair; None for labels alone.
        annotations: (N, label_names) int32, how many annotators chose each class; None where the
            source does not tell.
        groups: column to each pair's value of it, such as ``{"genre": ["fiction", ...]}``.
        rows: (N,) int64, where each pair stands in its file: the line (of CSV and JSON documents:
            that where the record begins), or the row's number, from 1; see `where`.
        parts: name of each file (or table) to how many of the pairs are from it, in their order.
        skipped: reason to number of rows left out; rows in the source = rows here + rows skipped.
            Rows of a TSV or JSONL file are its lines, each up to a line feed, that are not empty
            (in JSONL: that are not white space alone); those of a CSV file are its records that are
            not empty lines. The header is none. Where quotation marks of a CSV file do not pair,
            the line where the record began is a row, and reading goes on with the next line.
        source: where they come from.
        name: what to call it in a report.
        layout: the published layout that the columns are those of, or ``"table"``.
        notes: what was guessed of the source, and which option decides it.
    """

    tokenized: bool
    label_names: tuple[str, ...]
    targets: NDArray[np.float32] | None
    annotations: NDArray[np.int32] | None
    groups: dict[str, list[str]]
    rows: NDArray[np.int64]
    parts: dict[str, int]
    skipped: dict[str, int]
    source: str
    name: str
    layout: str
    notes: tuple[str, ...]

    def __new__(
        cls,
        premises: list[str],
        hypotheses: list[str],
        labels: list[int],
        *,
        tokenized: bool,
        label_names: Sequence[str] = LABELS,
        targets: NDArray[np.float32] | None = None,
        annotations: NDArray[np.int32] | None = None,
        groups: Mapping[str, list[str]] | None = None,
        rows: NDArray[np.int64] | None = None,
        parts: Mapping[str, int] | None = None,
        skipped: Mapping[str, int] | None = None,
        source: str = "",
        name: str = "",
        layout: str = TABLE,
        notes: Iterable[str] = (),
    ) -> Corpus:
        corpus = super().__new__(cls, premises, hypotheses, labels)
        if not len(premises) == len(hypotheses) == len(labels):
            raise DataError(
                f"{len(premises)} premises, {len(hypotheses)} hypotheses and {len(labels)} labels; "
                "there must be as many of each"
            )
        corpus.tokenized = tokenized
        corpus.label_names = tuple(label_names)
        corpus.targets, corpus.annotations = targets, annotations
        corpus.groups = dict(groups or {})
        corpus.rows = np.arange(1, len(labels) + 1) if rows is None else rows
        corpus.parts = dict(parts or {source: len(labels)})
        corpus.skipped = dict(skipped or {})
        corpus.source, corpus.name, corpus.layout = source, name or source, layout
        corpus.notes = tuple(notes)
        return corpus

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Corpus:
        """Return unlabelled pairs of raw sentences, or of `Tokens`, as a corpus.

        Raises:
            DataError: naming the first item that is not a pair of strings with something in them.
        """
        premises, hypotheses = [], []
        if not isinstance(pairs, Iterable) or isinstance(pairs, str | Mapping):
            raise DataError(f"a list of pairs is expected, not {shown.repr(pairs)}. {ONE_LIST}")
        if isinstance(pairs, Sequence) and pairs and all(isinstance(one, str) for one in pairs):
            line = ONE_LIST
            if len(pairs) == 2:
                line = f"For this pair: predict([{shown.repr(tuple(pairs))}])"
            raise DataError(f"a list of pairs is expected, not one of sentences. {line}")
        for i, pair in enumerate(pairs):
            if (
                isinstance(pair, str)
                or not isinstance(pair, Sequence)
                or len(pair) != 2
                or not all(map(is_sentence, pair))
            ):
                raise DataError(
                    f"pair {i} is {shown.repr(pair)}; two sentences are expected, none empty"
                )
            premises.append(pair[0])
            hypotheses.append(pair[1])
        return cls(premises, hypotheses, [-1] * len(premises), tokenized=False)

    def where(self, index: int) -> str:
        """Return the file and the line, or row, of a pair."""
        before = 0
        for part, count in self.parts.items():
            before += count
            if index < before:
                return f"{part}, line {self.rows[index]}"
        raise IndexError(f"pair {index} of {len(self.labels)}")

    def subset(self, indices: NDArray[np.int64], name: str = "") -> Corpus:
        """Return some of the pairs, in the order of ``indices``; what was left out stays here."""
        order = indices.tolist()
        return Corpus(
            *([column[i] for i in order] for column in self),
            tokenized=self.tokenized,
            label_names=self.label_names,
            targets=None if self.targets is None else self.targets[indices],
            annotations=None if self.annotations is None else self.annotations[indices],
            groups={key: [values[i] for i in order] for key, values in self.groups.items()},
            rows=self.rows[indices],
            source=self.source,
            name=name or self.name,
            layout=self.layout,
        )

    def pairs(self) -> set[tuple[str, str]]:
        """Return the different pairs of sentences, without their labels."""
        return set(zip(self.premises, self.hypotheses, strict=True))

    def digest(self) -> str:
        """Return the SHA-256 of the set of pairs: the same whatever their order, in hexadecimal."""
        found = hashlib.sha256()
        for pair in sorted(self.pairs()):
            found.update(repr(pair).encode())
        return found.hexdigest()


def is_sentence(found: Any) -> bool:
    """Return whether this is a sentence with something in it, or an empty one of a parse."""
    return isinstance(found, str) and (isinstance(found, Tokens) or bool(found.strip()))


def check_on_error(on_error: str) -> None:
    """Raise ConfigError for what is no way to treat malformed rows."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; it is 'raise' or 'skip'")
