"""Packing: which rows of a padded batch are worth computing, and which of them attend to which.

A batch of pairs of different lengths is half padding. Everything in BERT but attention works on
single tokens, so the tokens of all pairs are laid end to end, and only attention sees pairs again,
in buckets of similar length. Plain NumPy: the backends compute what is planned here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Tokens computed together: their activations stay in a processor's cache from one layer to the
#: next.
CHUNK_TOKENS = 4096
#: Padded tokens, in attention, that cost as much as one bucket more.
BUCKET_COST = 256


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
    """Tokens of some pairs, end to end, and rows to spare at the end that nothing depends on.

    Args:
        tokens: (N,) places in the flattened batch (B * T,).
        positions: (N,) of each token in its pair.
        pairs: (n,) places of the pairs in the batch.
        firsts: (n,) row of each pair's first token.
        buckets: the pairs, in the same order.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    pairs: NDArray[np.int64]
    firsts: NDArray[np.int64]
    buckets: list[Bucket]


def pack(valid_lens: NDArray, width: int, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Return the chunks of a padded batch; together they hold each pair once.

    Pairs are sorted by length. The numbers of rows are rounded up to few different ones, for
    libraries prepare themselves for each shape that they have not seen.

    Args:
        valid_lens: (B,) tokens of each pair that are not padding. A pair without any keeps its
            padding, for all of that weighs the same in attention.
        width: T of the batch.
        max_tokens: of a chunk; one pair may have more.
    """
    lengths = np.where(valid_lens > 0, np.minimum(valid_lens, width), width).astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    chunks = []
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + max_tokens, side="left")))
        chunks.append(_chunk(order[start:stop], lengths, valid_lens, width))
        start = stop
    return chunks


def _chunk(
    pairs: NDArray[np.int64], lengths: NDArray[np.int64], valid_lens: NDArray, width: int
) -> Chunk:
    own = lengths[pairs]
    firsts = np.concatenate([[0], np.cumsum(own)[:-1]])
    used = int(own.sum())
    size = rounded_up(used + 1)  # the last row is never a token's
    positions = np.zeros(size, np.int64)
    positions[:used] = np.arange(used) - np.repeat(firsts, own)
    tokens = np.zeros(size, np.int64)
    tokens[:used] = np.repeat(pairs * width, own) + positions[:used]
    buckets = []
    for low, high in _bucket_bounds(own.tolist()):
        columns = np.arange(own[low])
        rows = firsts[low:high, None] + columns
        seen = np.minimum(valid_lens[pairs[low:high]], own[low]).astype(np.int64)
        rows[columns >= own[low:high, None]] = size - 1
        everything = bool((seen == own[low]).all())
        buckets.append(Bucket(pairs[low:high], rows, None if everything else seen))
    return Chunk(tokens, positions, pairs, firsts, buckets)


def _bucket_bounds(lengths: list[int]) -> list[tuple[int, int]]:
    """Cut lengths, which never rise, where padding to the longest would cost too much."""
    bounds = []
    start = padding = 0
    for i, length in enumerate(lengths):
        padding += lengths[start] - length
        if padding > BUCKET_COST:
            bounds.append((start, i))
            start, padding = i, 0
    bounds.append((start, len(lengths)))
    return bounds


def rounded_up(count: int) -> int:
    """Return the next number that has at most five binary digits that count: at most 1/16 more."""
    step = 1 << max(count.bit_length() - 5, 0)
    return -(-count // step) * step
