"""The lengths of a corpus's pairs, and the cost of their padding, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.api.sets import describe, labelled_or_not, read_ids, read_tokens
from bertnli.data.dataset import PairDataset
from bertnli.data.packing import PaddingCost, padding_cost
from bertnli.errors import ConfigError
from bertnli.plots import plot_lengths


@dataclass(frozen=True)
class Lengths:
    """Tokens of a set's pairs. As text it is a table.

    Args:
        source: a line on the set.
        dataset: its pairs, cut to length.
        cost: the cost of their padding.

    Examples:
        >>> lengths = bertnli.lengths("sample", "dev")
        >>> len(lengths.dataset), lengths.to_dict()["cut"]
        (90, 0)
    """

    source: str
    dataset: PairDataset
    cost: PaddingCost

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
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
        """Return a figure; see `bertnli.plots.plot_lengths`."""
        return plot_lengths(self.dataset.lengths, self.cost)

    def __str__(self) -> str:
        values = self.to_dict()
        shares = ", ".join(f"{p}% have up to {n}" for p, n in values["percentiles"].items())
        rows = {
            "of the pairs": values["tokens"],
            "computed here": values["computed"],
            "each batch padded to its longest pair": values["to_longest"],
            f"all padded to {values['max_len']} tokens": values["to_max_len"],
        }
        width = max(map(len, rows))
        return "\n".join(
            [
                self.source,
                f"tokens of a pair: {values['mean']:.1f} on average; {shares}; {values['longest']} "
                "the longest",
                f"pairs of more than {values['max_len']} tokens, which are cut: "
                f"{values['cut']:,}, {values['cut'] / values['pairs']:.2%}",
                f"tokens of an epoch, in batches of {values['batch_size']}:",
                *(f"  {k:<{width}}  {n:>14,}  {n / values['tokens']:.2f}" for k, n in rows.items()),
            ]
        )


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
    """Count the tokens of a source's pairs, also where its labels are not known.

    Args:
        source, reading: see `bertnli.read`; its ``labels`` are the checkpoint's.
        split: of a source with several; None for dev.
        checkpoint: whose vocabulary to take.
        max_len, truncation: how pairs are cut; None for the checkpoint's way.
        batch_size: pairs of a step.

    Returns:
        The lengths and the cost of padding.

    Raises:
        ConfigError: the checkpoint has no vocabulary, or the source no pairs.
        BERTNLIError: of a source, as `bertnli.read`.

    Examples:
        >>> int(bertnli.lengths("sample", "dev", max_len=16).dataset.lengths.max())
        16
    """
    tokens = read_tokens(checkpoint, max_len, truncation)
    assert tokens.encoding is not None
    read = partial(read_ids, split=split, vocab=tokens.vocab, encoding=tokens.encoding)
    dataset = labelled_or_not(read, source, **{"labels": tokens.labels, **reading})
    if not len(dataset):
        raise ConfigError(f"{dataset.source} has no pairs to count")
    return Lengths(describe(dataset), dataset, padding_cost(dataset, batch_size))
