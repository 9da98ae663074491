"""Packing: which rows of a padded batch are worth computing, and which of them attend to which.

A batch of pairs of different lengths is half padding. Everything in BERT but attention works on
single tokens, so the tokens of all pairs are laid end to end, and only attention sees pairs again,
in buckets of similar length. Plain NumPy: the backends compute what is planned here.

Any batch, also a random one, costs its tokens and no more, so that batches stay what the shuffle
made them, and no sorting by length biases an epoch. Packing happens inside the model, from
``valid_lens``: batches stay padded arrays, which can be split over devices and which a user's own
loop can make.

Three more savings need no plan, and every backend's ``packed`` module has them:

- A token's embedding is a sum of two, its own and its place's (segment and position). So are its
  projections in the first block, which are linear, unless the sum is normalised first. Both are
  computed once for each distinct token and place, of which a batch has far fewer than tokens, and
  looked up.
- Of the last block only the tokens asked for are computed; for a classifier these are the first
  ones.
- For so few queries no key and no value is computed. A query's product with a key, q (W_k x)^T, is
  that of q W_k with x itself, and the weighted mean of the values, W_v x, is W_v of the mean.
  With the biases: that of the keys adds the same to all scores of a query, which softmax does not
  see; that of the values counts as often as the weights sum to, which is once but for dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch

#: Tokens computed together: their activations stay in a processor's cache from one layer to the
#: next. More of them are a little faster, and need more memory.
CHUNK_TOKENS = 3072
#: A bucket's fixed cost, in attention scores of a head (n t^2 of n pairs).
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
        used: how many of them are the pairs' tokens; what follows is to spare.
        pairs: (n,) places of the pairs in the batch.
        firsts: (m,) row of each pair's first token, and then, to make m round, of the last pair's.
        buckets: the pairs, in the same order.
    """

    tokens: NDArray[np.int64]
    used: int
    pairs: NDArray[np.int64]
    firsts: NDArray[np.int64]
    buckets: list[Bucket]


def pack(valid_lens: NDArray, width: int, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Return the chunks of a padded batch; together they hold each pair once.

    Pairs are sorted by length. The numbers of rows are rounded up to few different ones, for
    libraries prepare themselves for each shape that they have not seen, and keep what they made.

    Args:
        valid_lens: (B,) tokens of each pair that are not padding. A pair without any keeps its
            padding, for all of that weighs the same in attention.
        width: T of the batch.
        max_tokens: of a chunk; one pair may have more.
    """
    lengths = computed_lengths(valid_lens, width)
    groups = similar_lengths(lengths, max_tokens)
    return [_chunk(pairs, lengths, valid_lens, width) for pairs in groups]


def split_by_length(
    batch: Batch, max_tokens: int | None = CHUNK_TOKENS, max_pairs: int | None = None
) -> list[Batch]:
    """Return a batch's pairs in parts of similar length, each one chunk to `pack` if max_tokens is.

    Trained one after the other, they need the memory of one; each is cut to its longest pair.

    Args:
        batch: with one pair or more.
        max_tokens, max_pairs: of a part; one pair may have more tokens. None for no limit; where
            there is none at all, the batch comes back as it is.
    """
    if max_tokens is None and (max_pairs is None or max_pairs >= len(batch)):
        return [batch]
    lengths = computed_lengths(batch.valid_lens, batch.token_ids.shape[1])
    parts = []
    for pairs in similar_lengths(lengths, max_tokens or int(lengths.sum()), max_pairs):
        width = int(lengths[pairs[0]])
        ids, segments = (
            np.ascontiguousarray(array[pairs, :width])
            for array in (batch.token_ids, batch.segments)
        )
        parts.append(replace(batch[pairs], token_ids=ids, segments=segments))
    return parts


def computed_lengths(valid_lens: NDArray, width: int) -> NDArray[np.int64]:
    """Return how many tokens of each pair are computed, (B,): all T of one without any."""
    return np.where(valid_lens > 0, np.minimum(valid_lens, width), width).astype(np.int64)


def similar_lengths(
    lengths: NDArray[np.int64], max_tokens: int, max_pairs: int | None = None
) -> list[NDArray[np.int64]]:
    """Return the places of the pairs, the longest first, in parts of about equally many tokens.

    Args:
        lengths: (B,) tokens of each pair.
        max_tokens: of a part; one pair may have more.
        max_pairs: of a part; None for no limit.
    """
    order = np.argsort(-lengths, kind="stable")
    if max_pairs is not None and max_pairs < len(order):
        groups = np.split(order, np.arange(max_pairs, len(order), max_pairs))
        return [g[part] for g in groups for part in similar_lengths(lengths[g], max_tokens)]
    ends = np.cumsum(lengths[order])
    total, longest = int(ends[-1]), int(lengths[order[0]])
    count = 1 if total <= max_tokens else -(-total // max(max_tokens - longest, 1))
    cuts = np.searchsorted(ends, total * np.arange(1, count) / count, side="right")
    return [pairs for pairs in np.split(order, cuts) if len(pairs)]


def _chunk(
    pairs: NDArray[np.int64],
    lengths: NDArray[np.int64],
    valid_lens: NDArray,
    width: int,
) -> Chunk:
    own = lengths[pairs]
    firsts = np.concatenate([[0], np.cumsum(own)[:-1]])
    used = int(own.sum())
    size = rounded_up(used + 1)  # the last row is never a token's
    tokens = np.zeros(size, np.int64)
    tokens[:used] = np.arange(used) + np.repeat(pairs * width - firsts, own)
    buckets = []
    for low, high in _bucket_bounds(own):
        columns = np.arange(own[low])
        rows = firsts[low:high, None] + columns
        seen = np.minimum(valid_lens[pairs[low:high]], own[low]).astype(np.int64)
        rows[columns >= own[low:high, None]] = size - 1
        everything = bool((seen == own[low]).all())
        buckets.append(Bucket(pairs[low:high], rows, None if everything else seen))
    spare = rounded_up(len(pairs)) - len(pairs)
    return Chunk(tokens, used, pairs, np.concatenate([firsts, firsts[-1:].repeat(spare)]), buckets)


def _bucket_bounds(lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut lengths, which never rise, where scores of padding and buckets together cost least.

    Finding the best cut takes a dozen comparisons; the first that is good enough would cost half as
    much again.
    """
    longest, starts = np.unique(-lengths, return_index=True)
    squares = longest**2  # of each distinct length, the longest first
    ends = np.append(starts[1:], len(lengths))
    # costs[j]: of the pairs before the j-th distinct length; cuts[j]: the last bucket's first one.
    costs, cuts = np.zeros(len(starts) + 1), [0]
    for j, end in enumerate(ends, 1):
        found = costs[:j] + squares[:j] * (end - starts[:j])
        cuts.append(int(found.argmin()))
        costs[j] = found[cuts[j]] + BUCKET_COST
    bounds, j = [], len(starts)
    while j:
        bounds.append((int(starts[cuts[j]]), int(ends[j - 1])))
        j = cuts[j]
    return bounds[::-1]


def rounded_up(count: int) -> int:
    """Round up to 5 significant bits, which adds at most 1/16."""
    step = 1 << max(count.bit_length() - 5, 0)
    return -(-count // step) * step
