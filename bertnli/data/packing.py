"""Packing: plan the computation of a padded batch without its padding, in NumPy arrays.

All of BERT but attention works on single tokens, so the tokens of all pairs are concatenated as the
rows of one matrix; only attention needs the pairs. A batch is split at three levels:

- A **micro-batch** bounds memory: pairs of similar length, whose gradients are computed together
  and added to those of the other micro-batches (`split_by_length`).
- A **chunk** fits a processor's cache: its tokens pass through all layers together (`pack`).
- A **bucket** bounds the padding of attention: pairs of a chunk whose attention scores are computed
  by one padded matrix product.

Packing happens inside the model, from ``valid_lens``. So batches remain padded arrays, which can be
split over devices and made by a user's loop. Any batch costs no more than its tokens, so batches
can stay random: sorting by length would bias an epoch.

The algebra of the backends, for tokens x, positions p, and a block's projections W:

- First block: the input is x + p, where p is the sum of the segment and position embeddings. Unless
  the block normalizes its input, W (x + p) = W x + W p is computed once for each distinct token and
  each position of the batch, which are far fewer than the rows, and looked up.
- Last block: only the requested tokens are computed (for a classifier, ``<cls>``), by attention
  without keys and values. A score is q . (W_k x) = (W_k^T q) . x: the query is projected instead of
  the keys. A weighted mean of values is sum_i a_i W_v x_i = W_v (sum_i a_i x_i): the mean is
  projected instead of the values.
- Biases of the last block: b_k adds the same number to all scores of a query, so softmax cancels
  it; b_v is multiplied by sum_i a_i, which is 1 without dropout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch, ExampleSet, epoch_order

#: Tokens of a chunk. Larger chunks are a little faster if they fit the cache, and need more memory.
CHUNK_TOKENS = 3072
#: A bucket's fixed cost, in attention scores of a head; n pairs of t tokens have n t^2 scores.
BUCKET_COST = 20_000


@dataclass(frozen=True)
class Bucket:
    """Pairs of a chunk whose attention is computed together.

    Args:
        pairs: (n,) indices of the pairs in the batch.
        rows: (n, t) rows of each pair's tokens in the chunk; padding is the chunk's last row.
        valid_lens: (n,) number of tokens of each pair that are not padding; None if there is no
            padding.
    """

    pairs: NDArray[np.int64]
    rows: NDArray[np.int64]
    valid_lens: NDArray[np.int64] | None


@dataclass(frozen=True)
class Chunk:
    """Concatenated tokens of some pairs, padded at the end to one of a few sizes.

    Args:
        tokens: (N,) indices of the chunk's rows in the flattened batch (B * T,).
        used: the number of rows that are not padding.
        pairs: (n,) indices of the pairs in the batch.
        firsts: (m,) row of each pair's first token, padded by repeating the last one.
        buckets: the buckets of the pairs, in the same order.
    """

    tokens: NDArray[np.int64]
    used: int
    pairs: NDArray[np.int64]
    firsts: NDArray[np.int64]
    buckets: list[Bucket]


def pack(valid_lens: NDArray, width: int, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Divide the pairs of a padded batch into chunks, the longest pairs first.

    Numbers of rows are rounded up, since frameworks prepare and keep kernels for every new shape.

    Args:
        valid_lens: (B,) numbers of tokens that are not padding. A pair without tokens keeps its
            padding, to which attention gives equal weights.
        width: the length T of the padded pairs.
        max_tokens: the maximum number of tokens of a chunk, except for a chunk of one long pair.
    """
    lengths = _computed_lengths(valid_lens, width)
    groups = _similar_lengths(lengths, max_tokens)
    return [_chunk(pairs, lengths[pairs], valid_lens[pairs], width) for pairs in groups]


def split_by_length(
    batch: Batch, max_tokens: int | None = CHUNK_TOKENS, max_pairs: int | None = None
) -> list[Batch]:
    """Split a batch into micro-batches of similar length, padded to their longest pair.

    Args:
        batch: a batch of at least one pair.
        max_tokens, max_pairs: the limits of a micro-batch, or None; a single pair may have more
            tokens. Without limits, the batch itself is returned.
    """
    if max_tokens is None and (max_pairs is None or max_pairs >= len(batch)):
        return [batch]
    lengths = _computed_lengths(batch.valid_lens, batch.token_ids.shape[1])
    parts = []
    for pairs in _similar_lengths(lengths, max_tokens or int(lengths.sum()), max_pairs):
        width = int(lengths[pairs[0]])
        ids, segments = (
            np.ascontiguousarray(array[pairs, :width])
            for array in (batch.token_ids, batch.segments)
        )
        parts.append(replace(batch[pairs], token_ids=ids, segments=segments))
    return parts


def _computed_lengths(valid_lens: NDArray, width: int) -> NDArray[np.int64]:
    """Return the numbers of tokens to compute (B,); ``width`` for a pair without valid tokens."""
    return np.where(valid_lens > 0, np.minimum(valid_lens, width), width).astype(np.int64)


def _similar_lengths(
    lengths: NDArray[np.int64], max_tokens: int, max_pairs: int | None = None
) -> list[NDArray[np.int64]]:
    """Divide pairs into groups of about equal total length; return the indices of each group.

    The longest pairs come first. ``max_tokens`` and ``max_pairs`` limit a group of several pairs.
    """
    order = np.argsort(-lengths, kind="stable")
    if max_pairs is not None and max_pairs < len(order):
        groups = np.split(order, np.arange(max_pairs, len(order), max_pairs))
        return [g[part] for g in groups for part in _similar_lengths(lengths[g], max_tokens)]
    ends = np.cumsum(lengths[order])
    total, longest = int(ends[-1]), int(lengths[order[0]])
    count = 1 if total <= max_tokens else -(-total // max(max_tokens - longest, 1))
    cuts = np.searchsorted(ends, total * np.arange(1, count) / count, side="right")
    return [pairs for pairs in np.split(order, cuts) if len(pairs)]


def _chunk(
    pairs: NDArray[np.int64], lengths: NDArray[np.int64], valid_lens: NDArray, width: int
) -> Chunk:
    """Make the chunk of the pairs with the indices ``pairs``, sorted by falling ``lengths``."""
    firsts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    used = int(lengths.sum())
    size = rounded_up(used + 1)  # the last row is always padding
    tokens = np.zeros(size, np.int64)
    tokens[:used] = np.arange(used) + np.repeat(pairs * width - firsts, lengths)
    buckets = []
    for low, high in _bucket_bounds(lengths):
        columns = np.arange(lengths[low])
        rows = columns + firsts[low:high, None]
        rows[columns >= lengths[low:high, None]] = size - 1
        num_keys = np.minimum(valid_lens[low:high], lengths[low]).astype(np.int64)
        sees_all = bool((num_keys == lengths[low]).all())
        buckets.append(Bucket(pairs[low:high], rows, None if sees_all else num_keys))
    repeats = firsts[-1:].repeat(rounded_up(len(pairs)) - len(pairs))
    return Chunk(tokens, used, pairs, np.concatenate([firsts, repeats]), buckets)


def _bucket_bounds(lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Divide pairs, sorted by falling length, into buckets (first, end) of the least total cost.

    The dynamic programme takes a dozen comparisons; a greedy division costs half as much again.
    """
    longest, starts = np.unique(-lengths, return_index=True)
    squares = longest**2  # of the distinct lengths, the longest first
    ends = np.append(starts[1:], len(lengths))
    # costs[j]: the least cost of the j longest lengths; cuts[j]: the first one in the last bucket.
    costs, cuts = np.zeros(len(starts) + 1), [0]
    for j, end in enumerate(ends, 1):
        candidates = costs[:j] + squares[:j] * (end - starts[:j])
        cuts.append(int(candidates.argmin()))
        costs[j] = candidates[cuts[j]] + BUCKET_COST
    bounds, j = [], len(starts)
    while j:
        bounds.append((int(starts[cuts[j]]), int(ends[j - 1])))
        j = cuts[j]
    return bounds[::-1]


def rounded_up(count: int) -> int:
    """Round up to 5 significant bits, which adds at most 1/16."""
    step = 1 << max(count.bit_length() - 5, 0)
    return -(-count // step) * step


@dataclass(frozen=True)
class PaddingCost:
    """The number of tokens in the batches of an epoch, for several ways of padding.

    Args:
        batch_size: the number of pairs of a batch.
        max_len: the maximum number of tokens of a pair.
        tokens: the number of tokens without padding.
        to_max_len: the number of tokens if each pair is padded to ``max_len``.
        to_longest: the number of tokens if each batch is padded to its longest pair.
        computed: the number of rows that packed batches compute, a little more than ``tokens``.
    """

    batch_size: int
    max_len: int
    tokens: int
    to_max_len: int
    to_longest: int
    computed: int

    def to_dict(self) -> dict[str, Any]:
        """Convert the fields to a dictionary of JSON values."""
        return asdict(self)


def padding_cost(dataset: ExampleSet, batch_size: int) -> PaddingCost:
    """Count the tokens of a set's first epoch in shuffled batches, padded in several ways."""
    lengths = dataset.lengths[epoch_order(len(dataset), 0, 0)]
    to_longest = computed = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        longest = int(batch.max())
        to_longest += longest * len(batch)
        computed += sum(len(chunk.tokens) for chunk in pack(batch, longest))
    tokens, to_max_len = int(lengths.sum(dtype=np.int64)), len(lengths) * dataset.max_len
    return PaddingCost(batch_size, dataset.max_len, tokens, to_max_len, to_longest, computed)
