"""What padding would cost: the tokens of an epoch, padded this way or that."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bertnli.data.batches import Examples, epoch_order
from bertnli.data.packing import CHUNK_TOKENS, pack


@dataclass(frozen=True)
class PaddingCost:
    """Tokens that an epoch's batches have.

    Args:
        batch_size, max_len: of the batches; tokens of a pair, at most.
        tokens: of the pairs themselves.
        to_max_len: with each pair padded to ``max_len``.
        to_longest: with each batch padded to its own longest pair.
        computed: that are computed here, where batches are packed: the pairs' tokens, and the few
            rows that are spared to have round numbers.
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
    dataset: Examples, batch_size: int, *, seed: int = 0, max_tokens: int = CHUNK_TOKENS
) -> PaddingCost:
    """Return what the batches of a set's first epoch cost.

    Args:
        dataset: encoded pairs.
        batch_size: pairs in a batch, drawn at random as in training.
        seed: of the order.
        max_tokens: of a chunk that is computed together, see `bertnli.data.packing.pack`.
    """
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
