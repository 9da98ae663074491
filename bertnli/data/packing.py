"""Packing: a padded batch is computed without its padding, by a plan of NumPy arrays.

Everything in BERT but attention works on single tokens, so the tokens of all pairs are laid end to
end as rows, and only attention sees pairs again. A batch is cut at three levels:

- A **micro-batch** bounds memory: pairs of similar length that are trained one micro-batch after
  the other, whose gradients are added (`split_by_length`).
- A **chunk** fits a processor's cache: its tokens go through all layers together (`pack`).
- A **bucket** bounds attention's padding: pairs of a chunk whose scores are one padded product.

Packing happens inside the model, from ``valid_lens``. So batches stay padded arrays, which can be
split over devices and made by a user's loop, and stay as the shuffle made them: any batch costs its
tokens and no more, and no sorting by length biases an epoch.

The algebra of the backends, for tokens x, positions p, and a block's projections W:

- First block: the input is x + p, p for segment and position. Unless it is normalised first,
  W (x + p) = W x + W p is computed once for each distinct token and position of the batch, of which
  there are far fewer than rows, and looked up.
- Last block: only the tokens asked for are computed, for a classifier ``<cls>``, after attention
  without keys and values. A score is q . (W_k x) = (W_k^T q) . x: the query is projected instead of
  the keys. A weighted mean of values is sum_i a_i W_v x_i = W_v (sum_i a_i x_i): the mean is
  projected instead of the values.
- Their biases: b_k adds the same to all scores of a query, which softmax does not see; b_v is
  added sum_i a_i times, which is 1 but for dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch

#: Tokens of a chunk. More are a little faster while they fit the cache, and need more memory.
CHUNK_TOKENS = 3072
#: A bucket's fixed cost, in attention scores of a head (n t^2 of n pairs of t tokens).
BUCKET_COST = 20_000


@dataclass(frozen=True)
class Bucket:
    """Pairs of a chunk whose attention is computed together.

    Args:
        pairs: (n,) places of the pairs in the batch.
        rows: (n, t) the chunk's rows of each pair's tokens; the chunk's last row where a pair is
            shorter than t.
        valid_lens: (n,) keys that a query may see; None if all t.
    """

    pairs: NDArray[np.int64]
    rows: NDArray[np.int64]
    valid_lens: NDArray[np.int64] | None


@dataclass(frozen=True)
class Chunk:
    """Tokens of some pairs, end to end, and padding rows at the end, so that few shapes occur.

    Args:
        tokens: (N,) places in the flattened batch (B * T,).
        used: the number of rows that are not padding.
        pairs: (n,) places of the pairs in the batch.
        firsts: (m,) row of each pair's first token; the last is repeated, so that few shapes occur.
        buckets: the pairs, in the same order.
    """

    tokens: NDArray[np.int64]
    used: int
    pairs: NDArray[np.int64]
    firsts: NDArray[np.int64]
    buckets: list[Bucket]


def pack(valid_lens: NDArray, width: int, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Return the chunks of a padded batch, the longest pairs first; each pair is in one of them.

    Numbers of rows are rounded up, since frameworks prepare, and keep, kernels for every new shape.

    Args:
        valid_lens: (B,) tokens of each pair that are not padding. A pair without any keeps its
            padding, all of which weighs the same in attention.
        width: T of the batch.
        max_tokens: of a chunk; a single pair may have more.
    """
    lengths = _computed_lengths(valid_lens, width)
    groups = _similar_lengths(lengths, max_tokens)
    return [_chunk(pairs, lengths[pairs], valid_lens[pairs], width) for pairs in groups]


def split_by_length(
    batch: Batch, max_tokens: int | None = CHUNK_TOKENS, max_pairs: int | None = None
) -> list[Batch]:
    """Return a batch's micro-batches, pairs of similar length cut to their longest.

    Args:
        batch: with one pair or more.
        max_tokens, max_pairs: of a micro-batch; a single pair may have more tokens. None for no
            limit; without either the batch is returned as it is.
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
    """Return how many tokens of each pair are computed, (B,): all T of a pair without any."""
    return np.where(valid_lens > 0, np.minimum(valid_lens, width), width).astype(np.int64)


def _similar_lengths(
    lengths: NDArray[np.int64], max_tokens: int, max_pairs: int | None = None
) -> list[NDArray[np.int64]]:
    """Return the places of the pairs, the longest first, in parts of about equally many tokens."""
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
    """Return the chunk of pairs, whose lengths never rise."""
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
        seen = np.minimum(valid_lens[low:high], lengths[low]).astype(np.int64)
        sees_all = bool((seen == lengths[low]).all())
        buckets.append(Bucket(pairs[low:high], rows, None if sees_all else seen))
    repeats = firsts[-1:].repeat(rounded_up(len(pairs)) - len(pairs))
    return Chunk(tokens, used, pairs, np.concatenate([firsts, repeats]), buckets)


def _bucket_bounds(lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut lengths, which never rise, where scores of padding and buckets together cost least.

    This dynamic programme takes a dozen comparisons; greedy cuts cost half as much again.
    """
    longest, starts = np.unique(-lengths, return_index=True)
    squares = longest**2  # of each distinct length, the longest first
    ends = np.append(starts[1:], len(lengths))
    # costs[j]: of the pairs before the j-th distinct length; cuts[j]: the last bucket's first one.
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
