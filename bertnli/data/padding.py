"""The cost of padding: the tokens of an epoch, padded in several ways."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bertnli.data.batches import ExampleSet, epoch_order
from bertnli.data.packing import CHUNK_TOKENS, pack


@dataclass(frozen=True)
class PaddingCost:
    """Tokens in the batches of an epoch.

    Args:
        batch_size, max_len: of the batches; the latter, the most tokens of a pair.
        tokens: of the pairs themselves.
        to_max_len: with each pair padded to ``max_len``.
        to_longest: with each batch padded to its longest pair.
        computed: that packed batches compute: the pairs', and a few to have round sizes.
    """

    batch_size: int
    max_len: int
    tokens: int
    to_max_len: int
    to_longest: int
    computed: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)


def padding_cost(
    dataset: ExampleSet, batch_size: int, *, seed: int = 0, max_tokens: int = CHUNK_TOKENS
) -> PaddingCost:
    """Return the tokens of a set's first epoch, in batches drawn at random as in training."""
    lengths = dataset.lengths[epoch_order(len(dataset), seed, 0)]
    to_longest = computed = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        longest = int(batch.max())
        to_longest += longest * len(batch)
        computed += sum(len(chunk.tokens) for chunk in pack(batch, longest, max_tokens))
    return PaddingCost(
        batch_size=batch_size,
        max_len=dataset.max_len,
        tokens=int(lengths.sum(dtype=np.int64)),
        to_max_len=len(lengths) * dataset.max_len,
        to_longest=to_longest,
        computed=computed,
    )
