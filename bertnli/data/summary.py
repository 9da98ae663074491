"""Summarize a corpus: classes, lengths, repeated pairs, and the first pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus, short_repr
from bertnli.data.dataset import PairDataset
from bertnli.text.tokenize import lower_tokens

#: The number of pairs that are shown, and the percentiles of lengths.
FIRST, PERCENTILES = 3, (50, 90, 99)


@dataclass(frozen=True)
class SetSummary:
    """The summary of a corpus.

    Args:
        name, source, layout: the attributes of the corpus; see `Corpus`.
        rows: the number of rows of the source, including skipped rows.
        pairs: the number of pairs.
        classes: dictionary of each class, or ``"-"`` for no label, to its number of pairs.
        skipped: dictionary of a reason to the number of rows skipped for it.
        duplicates: the number of pairs that repeat an earlier pair with the same label.
        contradictory: the number of distinct pairs that have several labels.
        premises: the number of distinct premises.
        unit: the unit of lengths, ``"words"``, or ``"tokens"`` of a model.
        mean, percentiles, longest: statistics of the lengths of the pairs.
        cut: the number of pairs above the model's maximum length; None without a model.
        unknown_share: the share of ``<unk>`` among all tokens; None without a model.
        first: the first pairs (premise, hypothesis, label).
        notes: guesses about the source.
        lengths: (N,) lengths of the pairs.
    """

    name: str
    source: str
    layout: str
    rows: int
    pairs: int
    classes: dict[str, int]
    skipped: dict[str, int]
    duplicates: int
    contradictory: int
    premises: int
    unit: str
    mean: float
    percentiles: dict[str, int]
    longest: int
    cut: int | None
    unknown_share: float | None
    first: list[tuple[str, str, str]]
    notes: list[str]
    lengths: NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, corpus: Corpus, dataset: PairDataset | None = None) -> SetSummary:
        """Summarize a corpus.

        Args:
            corpus: the pairs.
            dataset: the pairs encoded for a model, to count its tokens; None to count words.
        """
        names = [*corpus.label_names, "-"]
        distinct = Counter(zip(*corpus, strict=True))
        num_labels = Counter(pair[:2] for pair in distinct)
        counts = Counter(names[label] for label in corpus.labels)
        cut = unknown = None
        if dataset is None:
            words = (lower_tokens(column, corpus.tokenized) for column in corpus[:2])
            lengths = np.array([len(a) + len(b) for a, b in zip(*words, strict=True)], np.int64)
        else:
            lengths, cut = dataset.lengths.astype(np.int64), int(dataset.is_cut.sum())
            if len(dataset):
                unknown = float((dataset.token_ids == dataset.vocab.unk).mean())
        sample = lengths if len(lengths) else np.zeros(1, np.int64)
        return cls(
            name=corpus.name,
            source=corpus.source,
            layout=corpus.layout,
            rows=len(corpus.labels) + sum(corpus.skipped.values()),
            pairs=len(corpus.labels),
            classes={name: counts[name] for name in names if name != "-" or counts[name]},
            skipped=corpus.skipped,
            duplicates=len(corpus.labels) - len(distinct),
            contradictory=sum(n > 1 for n in num_labels.values()),
            premises=len({*corpus.premises}),
            unit="words" if dataset is None else "tokens",
            mean=float(sample.mean()),
            percentiles={str(p): int(np.percentile(sample, p)) for p in PERCENTILES},
            longest=int(sample.max()),
            cut=cut,
            unknown_share=unknown,
            first=[(p, h, names[i]) for p, h, i in islice(zip(*corpus, strict=True), FIRST)],
            notes=list(corpus.notes),
            lengths=lengths,
        )

    def lines(self) -> Iterator[str]:
        """Yield the summary as lines of text."""
        yield f"{self.name}: {self.pairs:,} pairs of {self.rows:,} rows, layout {self.layout}"
        if self.skipped:
            reasons = (f"{n:,} ({reason})" for reason, n in self.skipped.items())
            yield f"  left out: {', '.join(reasons)}"
        shares = (f"{k} {n:,} ({n / max(self.pairs, 1):.1%})" for k, n in self.classes.items())
        yield f"  classes: {', '.join(shares)}"
        percentiles = ", ".join(f"{p}% have up to {n}" for p, n in self.percentiles.items())
        yield (
            f"  {self.unit} of a pair: {self.mean:.1f} on average; {percentiles}; {self.longest} "
            "the longest"
        )
        if self.cut is not None:
            yield f"  longer than the model reads: {self.cut:,}"
        if self.unknown_share is not None:
            yield f"  tokens that the model does not know: {self.unknown_share:.1%}"
        yield f"  different premises: {self.premises:,}; repeated pairs: {self.duplicates:,}"
        yield f"  pairs with several labels: {self.contradictory:,}"
        for premise, hypothesis, label in self.first:
            yield f"  {label}: {short_repr(premise)} / {short_repr(hypothesis)}"
