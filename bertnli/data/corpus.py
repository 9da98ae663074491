"""A corpus: sentence pairs, their labels, and facts about their source."""

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
#: Represents a value of a file in a message, in few characters.
short_repr = _REPR.repr
#: Reasons to skip a row.
NO_LABEL, MALFORMED = "no gold label", "malformed"
#: The layout of a table that has none of the published layouts.
TABLE = "table"
#: Advice if pairs are given in a wrong form.
ONE_LIST = "Give one list of pairs: predict([(premise, hypothesis)])"


class _Columns(NamedTuple):
    premises: list[str]
    hypotheses: list[str]
    labels: list[int]


class Corpus(_Columns):
    """Sentence pairs and their labels: a tuple of three lists, as from the book's ``read_snli``.

    Attributes:
        premises, hypotheses: lists of the sentences.
        labels: list of class ids, indices into ``label_names``; -1 for a pair without a label.
        label_names: the names of the classes.
        tokenized: whether the tokens of all sentences are separated by spaces, as in SNLI's parse
            columns. If False, single sentences may still be `Tokens`.
        targets: (N, classes) float32 probabilities of a teacher, or None.
        annotations: (N, classes) int32 numbers of annotators who chose each class, or None.
        groups: dictionary of a column to its values, such as ``{"genre": ["fiction", ...]}``.
        rows: (N,) int64 numbers of the rows or lines in their files, counted from 1; for a record
            of several lines, its first line. See `where`.
        parts: dictionary of each file or table to its number of pairs, in the order of the pairs.
        skipped: dictionary of a reason to the number of rows skipped for it. Headers and empty
            lines are
            not rows. If the quotation marks of a CSV record do not pair, its first line is a bad
            row, and the next line starts a new record.
        source: the names of the files or tables.
        name: a name for reports.
        layout: the name of the published layout of the columns, or ``"table"``.
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
        corpus.tokenized, corpus.label_names = tokenized, tuple(label_names)
        corpus.targets, corpus.annotations = targets, annotations
        corpus.rows = np.arange(1, len(labels) + 1) if rows is None else rows
        corpus.parts = dict(parts or {source: len(labels)})
        corpus.groups, corpus.skipped = dict(groups or {}), dict(skipped or {})
        corpus.source, corpus.name, corpus.layout = source, name or source, layout
        corpus.notes = tuple(notes)
        return corpus

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Corpus:
        """Make a corpus of unlabelled pairs of raw sentences or `Tokens`.

        Raises:
            DataError: an item is not a pair of non-empty strings; the message shows it.
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
        """Return the file and the line, or the number of the row, of a pair as text."""
        end = 0
        for part, count in self.parts.items():
            end += count
            if index < end:
                return f"{part}, line {self.rows[index]}"
        raise IndexError(f"pair {index} of {len(self.labels)}")

    def subset(self, indices: NDArray[np.int64], name: str = "") -> Corpus:
        """Make a corpus of the pairs at ``indices``; an empty ``name`` keeps the corpus's name."""
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
        """Return the set of distinct (premise, hypothesis) pairs."""
        return set(zip(self.premises, self.hypotheses, strict=True))

    def digest(self) -> str:
        """Return a SHA-256 in hexadecimal of the distinct pairs, independent of their order."""
        digest = hashlib.sha256()
        for pair in sorted(self.pairs()):
            digest.update(repr(pair).encode())
        return digest.hexdigest()


def is_sentence(value: Any) -> bool:
    """Return whether a value is a non-blank string, or `Tokens`, which may be empty."""
    return isinstance(value, str) and (isinstance(value, Tokens) or bool(value.strip()))
