"""A corpus: sentence pairs, their labels, and what is known of their source."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import LABELS
from bertnli.errors import DataError
from bertnli.text.tokenize import Tokens

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlist = _REPR.maxdict = 12
#: Shortens a value of a file for a message.
short_repr = _REPR.repr
#: Reasons to leave a row out.
NO_LABEL, MALFORMED = "no gold label", "malformed"
#: The layout of a table with the user's own columns.
TABLE = "table"
#: Advice where pairs are given in another form.
ONE_LIST = "Give one list of pairs: predict([(premise, hypothesis)])"


class _Columns(NamedTuple):
    premises: list[str]
    hypotheses: list[str]
    labels: list[int]


class Corpus(_Columns):
    """Sentence pairs and their labels; a tuple of three lists, as the book's ``read_snli`` returns.

    Attributes:
        premises, hypotheses: sentences.
        labels: class ids, indices into ``label_names``; -1 without a label.
        label_names: the names of the classes.
        tokenized: whether all sentences are tokens with spaces between them (SNLI's parse columns).
            Where False, single sentences may still be `Tokens`.
        targets: (N, classes) float32, a teacher's probabilities; None for labels alone.
        annotations: (N, classes) int32, the number of annotators who chose each class; None where
            the source does not have them.
        groups: column to its value for each pair, such as ``{"genre": ["fiction", ...]}``.
        rows: (N,) int64, the line (of CSV and JSON documents: the record's first line) or the
            number of the row in its file, from 1; see `where`.
        parts: name of each file or table to its number of pairs, in the order of the pairs.
        skipped: reason to number of rows left out; rows in the source = pairs + rows skipped. A
            header and empty lines are not rows. Where the quotation marks of a CSV file do not
            pair, the line where the record begins is a bad row, and the next line a new record.
        source: the files or tables.
        name: a name for reports.
        layout: the published layout of the columns, or ``"table"``.
        notes: guesses about the source, with the options that decide them.

    Examples:
        >>> corpus = bertnli.Corpus.from_pairs([("A man sleeps.", "A man rests.")])
        >>> corpus.premises, corpus.labels
        (['A man sleeps.'], [-1])
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
                "the three lists must have the same length"
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
            DataError: naming the first item that is not a pair of non-empty strings.
        """
        if not isinstance(pairs, Iterable) or isinstance(pairs, str | Mapping):
            raise DataError(f"a list of pairs is expected, not {short_repr(pairs)}. {ONE_LIST}")
        listed = list(pairs)
        if listed and all(isinstance(item, str) for item in listed):
            advice = f"For this pair: predict([{short_repr(tuple(listed))}])"
            raise DataError(
                "a list of pairs is expected, not a list of sentences. "
                + (advice if len(listed) == 2 else ONE_LIST)
            )
        for i, pair in enumerate(listed):
            is_list = isinstance(pair, Sequence) and not isinstance(pair, str)
            if not (is_list and len(pair) == 2 and all(map(is_sentence, pair))):
                raise DataError(
                    f"pair {i} is {short_repr(pair)}; two non-empty sentences are expected"
                )
        columns = [pair[0] for pair in listed], [pair[1] for pair in listed]
        return cls(*columns, [-1] * len(listed), tokenized=False)

    def where(self, index: int) -> str:
        """Return the file and the line, or row, of a pair."""
        end = 0
        for part, count in self.parts.items():
            end += count
            if index < end:
                return f"{part}, line {self.rows[index]}"
        raise IndexError(f"pair {index} of {len(self.labels)}")

    def subset(self, indices: NDArray[np.int64], name: str = "") -> Corpus:
        """Return the pairs at ``indices``, in that order; ``skipped`` and ``notes`` are empty."""
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
        """Return the distinct pairs of sentences, without their labels."""
        return set(zip(self.premises, self.hypotheses, strict=True))

    def digest(self) -> str:
        """Return the SHA-256 of the set of pairs in hexadecimal; their order does not matter."""
        digest = hashlib.sha256()
        for pair in sorted(self.pairs()):
            digest.update(repr(pair).encode())
        return digest.hexdigest()


def is_sentence(value: Any) -> bool:
    """Return whether this is a non-blank string, or the `Tokens` of a parse, which may be empty."""
    return isinstance(value, str) and (isinstance(value, Tokens) or bool(value.strip()))
