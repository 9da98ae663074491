"""What is in a source, before anything is trained on it, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bertnli.api.sets import labelled_or_not, read_tokens
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.data.sources import SPLITS, default_split
from bertnli.data.summary import SetSummary
from bertnli.plots import plot_summary


@dataclass(frozen=True)
class Summary:
    """What is in some sets. As text it is a paragraph for each.

    Args:
        sets: a summary of each.
        shared: for each two sets with common premises, their names, and the number of different
            premises and pairs that are in both.

    Examples:
        >>> summary = bertnli.summarize("sample")
        >>> [part.pairs for part in summary.sets]
        [780, 90, 90]
    """

    sets: list[SetSummary]
    shared: list[dict[str, Any]]

    @classmethod
    def of(cls, corpora: Sequence[Corpus], datasets: Sequence[PairDataset | None]) -> Summary:
        """Return the summary of corpora; see `SetSummary.of`."""
        sets = [SetSummary.of(*pair) for pair in zip(corpora, datasets, strict=True)]
        shared = []
        for first, second in combinations(corpora, 2):
            premises = len({*first.premises} & {*second.premises})
            if premises:
                names = [first.name, second.name]
                pairs = len(first.pairs() & second.pairs())
                shared.append({"sets": names, "premises": premises, "pairs": pairs})
        return cls(sets, shared)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, but for each pair's length."""
        values = asdict(self)
        for summary in values["sets"]:
            del summary["lengths"]
        return values

    def plot(self) -> Any:
        """Return a figure; see `bertnli.plots.plot_summary`."""
        return plot_summary(self.sets)

    def __str__(self) -> str:
        lines = [line for summary in self.sets for line in summary.lines()]
        lines += [
            f"{' and '.join(common['sets'])} share {common['premises']:,} premises and "
            f"{common['pairs']:,} pairs"
            for common in self.shared
        ]
        return "\n".join(lines)


def summarize(
    *sources: Any,
    split: str | None = None,
    checkpoint: str | Path | None = None,
    max_len: int | None = None,
    **reading: Any,
) -> Summary:
    """Summarize sources: classes, lengths, repeated pairs, and pairs that splits share.

    A file whose labels nobody explains is summarized without them; a note says why.

    Args:
        sources, reading: see `bertnli.read`.
        split: of sources with several; None for train, dev and test, each as a set.
        checkpoint: a model, whose tokens are counted and whose classes are wanted; None for words.
        max_len: tokens of a pair; None for the checkpoint's.

    Returns:
        The summary.

    Raises:
        BERTNLIError: of a source, as `bertnli.read`; the checkpoint has no vocabulary.

    Examples:
        >>> bertnli.summarize("sample", split="dev").sets[0].pairs
        90
    """
    tokens = None if checkpoint is None else read_tokens(checkpoint, max_len)
    if tokens is not None:
        reading = {"labels": tokens.labels, **reading}
    corpora: list[Corpus] = []
    for source in sources:
        names = [name for name in SPLITS if split is None and default_split(source, name)]
        for name in (*names,) or (split,):
            corpora.append(labelled_or_not(read, source, split=name, **reading))
            if isinstance(source, Mapping) and names:
                corpora[-1].name = str(name)
    datasets: list[PairDataset | None] = [None] * len(corpora)
    if tokens is not None and tokens.encoding is not None:
        options: Any = {"max_len": tokens.encoding.max_len, "vocab": tokens.vocab, "verbose": False}
        options["truncation"] = tokens.encoding.truncation
        datasets = [PairDataset(corpus, **options) for corpus in corpora]
    return Summary.of(corpora, datasets)
