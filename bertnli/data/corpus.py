"""A corpus of sentence pairs, and how one is put together row by row."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.data.parses import SentenceColumn
from bertnli.errors import ConfigError, DataError
from bertnli.labels import LABELS
from bertnli.text.tokenize import Tokens

#: Writes a value of a file into a message: the beginning of it, if it is long or deep.
shown = reprlib.Repr()
shown.maxstring = shown.maxother = 80
shown.maxlist = shown.maxdict = 12
#: Reasons to leave a row out.
NO_LABEL, MALFORMED = "no gold label", "malformed"


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
        skipped: reason to number of rows left out; rows in the source = rows here + rows skipped.
            Rows of a TSV or JSONL file are its lines, each up to a line feed, that are not empty
            (in JSONL: that are not white space alone); those of a CSV file are its records that are
            not empty lines. The header is none. Where quotation marks of a CSV file do not pair,
            the line where the record began is a row, and reading goes on with the next line.
        source: where they come from.
    """

    tokenized: bool
    label_names: tuple[str, ...]
    targets: NDArray[np.float32] | None
    skipped: dict[str, int]
    source: str

    def __new__(
        cls,
        premises: list[str],
        hypotheses: list[str],
        labels: list[int],
        *,
        tokenized: bool,
        label_names: Sequence[str] = LABELS,
        targets: NDArray[np.float32] | None = None,
        skipped: Mapping[str, int] | None = None,
        source: str = "",
    ) -> Corpus:
        corpus = super().__new__(cls, premises, hypotheses, labels)
        if not len(premises) == len(hypotheses) == len(labels):
            raise DataError(
                f"{len(premises)} premises, {len(hypotheses)} hypotheses and {len(labels)} labels; "
                "there must be as many of each"
            )
        corpus.tokenized = tokenized
        corpus.label_names = tuple(label_names)
        corpus.targets = targets
        corpus.skipped = dict(skipped or {})
        corpus.source = source
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


def is_sentence(found: Any) -> bool:
    """Return whether this is a sentence with something in it, or an empty one of a parse."""
    return isinstance(found, str) and (isinstance(found, Tokens) or bool(found.strip()))


def check_on_error(on_error: str) -> None:
    """Raise ConfigError for what is no way to treat malformed rows."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; it is 'raise' or 'skip'")


class BadRow(Exception):
    """What is wrong with a row."""


class CorpusBuilder:
    """Collects rows; a bad one is an error with its line, or counted, as the user asks."""

    def __init__(self, source: str, on_error: str, label_names: Sequence[str]) -> None:
        check_on_error(on_error)
        self.source, self.on_error = source, on_error
        self.label_names = tuple(label_names)
        self.ids = {name: i for i, name in enumerate(self.label_names)}
        self.rows: tuple[list[str], list[str], list[int]] = ([], [], [])
        self.targets: list[list[float]] = []
        self.skipped: Counter[str] = Counter()

    def add(
        self,
        premise: Any,
        hypothesis: Any,
        label: Any,
        *,
        official: bool = False,
        targets: list[float] | None = None,
    ) -> None:
        """Add a row; ``label`` None for an unlabelled corpus, ``targets`` None for one without.

        An empty sentence is a fault in a table; in an official file (SNLI's own, or one laid out
        as that is) it is kept, as the book does.
        """
        if label == "-":
            self.skipped[NO_LABEL] += 1
            return
        if label is not None and label not in self.ids:
            raise BadRow(
                f"label {shown.repr(label)} is none of {list(self.ids)}; say what the file writes "
                "for each class with label_map= (--label-map)"
            )
        for what, sentence in (("premise", premise), ("hypothesis", hypothesis)):
            if not isinstance(sentence, str) or not (official or sentence.strip()):
                raise BadRow(f"the {what} is {shown.repr(sentence)}; a sentence is expected")
            if not sentence.isascii():
                try:
                    sentence.encode()
                except UnicodeEncodeError as error:  # "\\ud800" in JSON
                    raise BadRow(f"the {what} has half a character: {error.reason}") from None
        self.rows[0].append(premise)
        self.rows[1].append(hypothesis)
        self.rows[2].append(-1 if label is None else self.ids[label])
        if targets is not None:
            self.targets.append(targets)

    def probabilities(self, found: Any) -> list[float]:
        """Return what a row says of each class, in the order of their ids.

        Args:
            found: name of a class to its probability.

        Raises:
            BadRow: it is something else.
        """
        if not isinstance(found, dict) or {*found} != {*self.ids}:
            raise BadRow(
                f"the probabilities are {shown.repr(found)}; an object with a number for each of "
                f"{list(self.ids)} is expected"
            )
        values = [found[name] for name in self.ids]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values) or not (
            all(v >= 0 for v in values) and abs(sum(values) - 1) < 1e-3
        ):
            raise BadRow(f"the probabilities {shown.repr(found)} are not, or do not sum to 1")
        return [float(v) for v in values]

    def bad(self, line: int, what: str) -> None:
        """Raise a DataError about a bad row, or count it."""
        if self.on_error == "raise":
            raise DataError(
                f"{self.source}, line {line}: {what}. Mend the line, or leave such rows out with "
                "on_error='skip' (--skip-bad-rows)"
            )
        self.skipped[MALFORMED] += 1

    def corpus(self, premise: SentenceColumn, hypothesis: SentenceColumn) -> Corpus:
        """Return the rows so far.

        Args:
            premise, hypothesis: where they were read from.

        Raises:
            DataError: there are rows, and all their sentences are empty.
        """
        if self.rows[0] and not any(s.strip() for column in self.rows[:2] for s in column):
            columns = ", ".join(map(repr, (*premise.names, *hypothesis.names)))
            raise DataError(
                f"{self.source}: no column with a sentence in it: of {columns} those that it has "
                f"are empty in all {len(self.rows[0])} rows. Name the columns to read, with "
                "premise= and hypothesis= (--premise-column, --hypothesis-column)"
            )
        return Corpus(
            *self.rows,
            tokenized=all(isinstance(s, Tokens) for column in self.rows[:2] for s in column if s),
            label_names=self.label_names,
            targets=np.array(self.targets, np.float32) if self.targets else None,
            skipped=self.skipped,
            source=self.source,
        )
