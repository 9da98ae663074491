"""What is in a source, before anything is trained on it, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bertnli.api.sets import tokens_of, whatever_the_classes
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.data.sources import SPLITS, default_split
from bertnli.data.summary import SetSummary
from bertnli.plots import plot_summary


@dataclass(frozen=True)
class Summary:
    """What is in some sets.

    Args:
        sets: of each a summary.
        shared: of each two sets that share any, their names, and the different premises and pairs
            that are in both.
    """

    sets: list[SetSummary]
    shared: list[dict[str, Any]]

    @classmethod
    def of(cls, corpora: Sequence[Corpus], datasets: Sequence[PairDataset | None]) -> Summary:
        """Return the summary of corpora; see `SetSummary.of`."""
        sets = [SetSummary.of(*both) for both in zip(corpora, datasets, strict=True)]
        shared = []
        for one, other in combinations(corpora, 2):
            premises = len({*one.premises} & {*other.premises})
            if premises:
                pairs = len(one.pairs() & other.pairs())
                both = [one.name, other.name]
                shared.append({"sets": both, "premises": premises, "pairs": pairs})
        return cls(sets, shared)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, but for each pair's length."""
        found = asdict(self)
        for one in found["sets"]:
            del one["lengths"]
        return found

    def plot(self) -> Any:
        """Return a figure; see `bertnli.plots.plot_summary`."""
        return plot_summary(self.sets)

    def __str__(self) -> str:
        lines = [line for one in self.sets for line in one.lines()]
        for one in self.shared:
            lines.append(
                f"{' and '.join(one['sets'])} share {one['premises']:,} premises and "
                f"{one['pairs']:,} pairs"
            )
        return "\n".join(lines)


def summarize(
    *sources: Any,
    split: str | None = None,
    checkpoint: str | Path | None = None,
    max_len: int | None = None,
    **reading: Any,
) -> Summary:
    """Return what is in some sources: classes, lengths, repeated pairs, what splits share.

    A file whose labels nobody explains is summarized without them; a note says why.

    Args:
        sources, reading: see `bertnli.read`.
        split: of sources with several; None for train, dev and test, each as a set.
        checkpoint: a model, whose tokens are counted and whose classes are wanted; None for words.
        max_len: tokens of a pair; None for the checkpoint's.

    Raises:
        BERTNLIError: of a source, as `bertnli.read`; the checkpoint has no vocabulary.
    """
    tokens = None if checkpoint is None else tokens_of(checkpoint, max_len)
    if tokens is not None:
        reading = {"labels": tokens.labels, **reading}
    corpora: list[Corpus] = []
    for source in sources:
        splits: list[str | None] = [
            one for one in SPLITS if split is None and default_split(source, one)
        ]
        for name in splits or [None]:
            corpora.append(whatever_the_classes(read, source, split=name or split, **reading))
            if isinstance(source, Mapping) and name is not None:
                corpora[-1].name = name
    datasets: list[PairDataset | None] = [None] * len(corpora)
    if tokens is not None:
        vocab, how = tokens.vocab, tokens.encoding
        datasets = [
            PairDataset(one, how.max_len, vocab, truncation=how.truncation, verbose=False)
            for one in corpora
        ]
    return Summary.of(corpora, datasets)
