"""How long a corpus's pairs are, and what their padding would cost, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.api.sets import describe, read_ids, tokens_of, whatever_the_classes
from bertnli.data.dataset import PairDataset
from bertnli.data.padding import PaddingCost, padding_cost
from bertnli.errors import ConfigError
from bertnli.plots import plot_lengths

_SHARES = (50, 90, 99)


@dataclass(frozen=True)
class Lengths:
    """Tokens of a set's pairs.

    Args:
        source: a line on the set.
        dataset: its pairs, cut to length.
        cost: what their padding would cost.
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
            "percentiles": {str(p): int(np.percentile(lengths, p)) for p in _SHARES},
            "longest": int(lengths.max()),
            "cut": int(self.dataset.is_cut.sum()),
            **self.cost.to_dict(),
        }

    def plot(self) -> Any:
        """Return a figure; see `bertnli.plots.plot_lengths`."""
        return plot_lengths(self.dataset.lengths, self.cost)

    def __str__(self) -> str:
        found = self.to_dict()
        shares = ", ".join(f"{p}% have up to {n}" for p, n in found["percentiles"].items())
        rows = (
            ("of the pairs", "tokens"),
            ("computed here", "computed"),
            ("each batch padded to its longest pair", "to_longest"),
            (f"all padded to {found['max_len']} tokens", "to_max_len"),
        )
        width = max(len(what) for what, _ in rows)
        tokens = found["tokens"]
        return "\n".join(
            [
                self.source,
                f"tokens of a pair: {found['mean']:.1f} on average; {shares}; {found['longest']} "
                "the longest",
                f"pairs of more than {found['max_len']} tokens, which are cut: {found['cut']:,}, "
                f"{found['cut'] / found['pairs']:.2%}",
                f"tokens of an epoch, in batches of {found['batch_size']}:",
                *(
                    f"  {what:<{width}}  {found[key]:>14,}  {found[key] / tokens:.2f}"
                    for what, key in rows
                ),
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

    Raises:
        ConfigError: the checkpoint has no vocabulary, or the source no pairs.
        BERTNLIError: of a source, as `bertnli.read`.
    """
    labels, vocab, how = tokens_of(checkpoint, max_len, truncation)
    dataset = whatever_the_classes(
        lambda one, **options: read_ids(one, split, vocab, how, **options),
        source,
        **{"labels": labels, **reading},
    )
    if not len(dataset):
        raise ConfigError(f"{dataset.source} has no pairs to count")
    return Lengths(describe(dataset), dataset, padding_cost(dataset, batch_size))
