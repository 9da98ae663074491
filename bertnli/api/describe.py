"""`bertnli.summarize` and `bertnli.lengths`: describe sources of pairs before training on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.api.loading import describe, labelled_or_not, read_ids, read_tokens
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.packing import PaddingCost, padding_cost
from bertnli.data.read import read
from bertnli.data.sources import SPLITS, default_split
from bertnli.data.summary import SetSummary
from bertnli.errors import ConfigError
from bertnli.plots import plot_lengths, plot_summary


@dataclass(frozen=True)
class Summary:
    """A summary of several sets; ``str`` gives a paragraph for each.

    Args:
        sets: the summary of each set.
        shared: for each two sets with common premises, a dictionary of their names (``sets``) and
            the numbers of distinct ``premises`` and ``pairs`` that both have.

    Examples:
        >>> summary = bertnli.summarize("sample")
        >>> [part.pairs for part in summary.sets]
        [780, 90, 90]
    """

    sets: list[SetSummary]
    shared: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON, without the length of each pair."""
        values = asdict(self)
        for summary in values["sets"]:
            del summary["lengths"]
        return values

    def plot(self) -> Any:
        """Draw the classes and lengths of the sets; return a matplotlib figure."""
        return plot_summary(self.sets)

    def __str__(self) -> str:
        lines = [line for summary in self.sets for line in summary.lines()]
        for common in self.shared:
            names = " and ".join(common["sets"])
            lines.append(
                f"{names} share {common['premises']:,} premises and {common['pairs']:,} pairs"
            )
        return "\n".join(lines)


def summarize(
    *sources: Any,
    split: str | None = None,
    checkpoint: str | Path | None = None,
    max_len: int | None = None,
    **reading: Any,
) -> Summary:
    """Summarize sources: classes, lengths, repeated pairs, and pairs that sets share.

    A source whose classes are unknown is read without labels; a note says why.

    Args:
        sources, reading: the arguments of `bertnli.read`.
        split: the split to read; None for train, dev and test, each as a set.
        checkpoint: a model to count tokens and name classes with; None to count words.
        max_len: the number of tokens at which pairs are cut; None for the checkpoint's.

    Raises:
        BERTNLIError: a source cannot be read, or the checkpoint has no vocabulary.

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
    sets, shared = [], []
    for corpus in corpora:
        dataset = None
        if tokens is not None and tokens.encoding is not None:
            how = tokens.encoding.to_dict()
            dataset = PairDataset(corpus, vocab=tokens.vocab, verbose=False, **how)
        sets.append(SetSummary.of(corpus, dataset))
    for first, second in combinations(corpora, 2):
        premises = len({*first.premises} & {*second.premises})
        if premises:
            names, pairs = [first.name, second.name], len(first.pairs() & second.pairs())
            shared.append({"sets": names, "premises": premises, "pairs": pairs})
    return Summary(sets, shared)


@dataclass(frozen=True)
class Lengths:
    """The lengths of a set's pairs in tokens; ``str`` gives a table.

    Args:
        source: a line that describes the set.
        dataset: the pairs as token ids, cut to length.
        cost: the number of tokens that padding adds.

    Examples:
        >>> lengths = bertnli.lengths("sample", "dev")
        >>> len(lengths.dataset), lengths.to_dict()["cut"]
        (90, 0)
    """

    source: str
    dataset: PairDataset
    cost: PaddingCost

    def to_dict(self) -> dict[str, Any]:
        """Return statistics of the lengths and the cost of padding as a dictionary for JSON."""
        lengths = self.dataset.lengths
        return {
            "pairs": len(lengths),
            "mean": float(lengths.mean()),
            "percentiles": {str(p): int(np.percentile(lengths, p)) for p in (50, 90, 99)},
            "longest": int(lengths.max()),
            "cut": int(self.dataset.is_cut.sum()),
            **self.cost.to_dict(),
        }

    def plot(self) -> Any:
        """Draw a histogram of the lengths and the cost of padding; return a matplotlib figure."""
        return plot_lengths(self.dataset.lengths, self.cost)

    def __str__(self) -> str:
        values = self.to_dict()
        pairs, cut, tokens, max_len = (values[k] for k in ("pairs", "cut", "tokens", "max_len"))
        shares = ", ".join(f"{p}% have up to {n}" for p, n in values["percentiles"].items())
        mean, longest = values["mean"], values["longest"]
        lines = [
            self.source,
            f"tokens of a pair: {mean:.1f} on average; {shares}; {longest} the longest",
            f"pairs of more than {max_len} tokens, which are cut: {cut:,}, {cut / pairs:.2%}",
            f"tokens of an epoch, in batches of {values['batch_size']}:",
        ]
        rows = {
            "of the pairs": tokens,
            "computed here": values["computed"],
            "each batch padded to its longest pair": values["to_longest"],
            f"all padded to {max_len} tokens": values["to_max_len"],
        }
        width = max(map(len, rows))
        lines += [f"  {name:<{width}}  {n:>14,}  {n / tokens:.2f}" for name, n in rows.items()]
        return "\n".join(lines)


def lengths(
    source: Any,
    split: str | None = None,
    *,
    checkpoint: str | Path = "bert.mini",
    max_len: int | None = None,
    truncation: str | None = None,
    batch_size: int = 512,
    **reading: Any,
) -> Lengths:
    """Count the tokens of a source's pairs, and the tokens that padding would add, as `Lengths`.

    Args:
        source, reading: the arguments of `bertnli.read`; labels are not needed.
        split: the split to read from a source with several; None for dev.
        checkpoint: a model whose vocabulary and classes are used.
        max_len, truncation: how pairs are cut to length; None for the checkpoint's own.
        batch_size: the number of pairs in a training step.

    Raises:
        BERTNLIError: the source cannot be read or is empty, or the checkpoint has no vocabulary.

    Examples:
        >>> int(bertnli.lengths("sample", "dev", max_len=16).dataset.lengths.max())
        16
    """
    tokens = read_tokens(checkpoint, max_len, truncation)
    assert tokens.encoding is not None
    read_split = partial(read_ids, split=split, vocab=tokens.vocab, encoding=tokens.encoding)
    dataset = labelled_or_not(read_split, source, **{"labels": tokens.labels, **reading})
    if not len(dataset):
        raise ConfigError(f"{dataset.source} has no pairs to count")
    return Lengths(describe(dataset), dataset, padding_cost(dataset, batch_size))
