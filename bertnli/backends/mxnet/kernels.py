"""Attention and dropout of rows of tokens, faster on a CPU than MXNet's own operations.

They agree with MXNet's operations to rounding. They take and return `mx.np` arrays, but compute on
`mx.nd` arrays of the same memory, whose operators are faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd, new_array
from bertnli.data.packing import Chunk
from bertnli.nets.packed import attention_bias

nd: Any = mx.nd

#: An mx.np.ndarray, in private functions an mx.nd.NDArray; mxnet ships no types.
Tensor = Any


class AttentionGroups:
    """The indices and biases for attention in a chunk of N rows, bucket by bucket.

    ``relative`` is what the encoder adds to the scores of T queries and keys, (h, T, T), or None.
    """

    def __init__(self, chunk: Chunk, num_heads: int, device: Any, relative: Tensor | None) -> None:
        self.num_heads, self.device = num_heads, device
        self.relative = None if relative is None else relative.as_nd_ndarray()
        self.rows = [bucket.rows for bucket in chunk.buckets]  # (n, t) of each bucket
        self.masks = [attention_bias(bucket) for bucket in chunk.buckets]  # (n, 1, t) or None
        self.biases: list[Tensor | None] = []  # (n h, t, t) or None
        places = np.zeros((len(chunk.tokens), num_heads), np.int32)
        done = 0
        for rows, mask in zip(self.rows, self.masks, strict=True):
            n, t = rows.shape
            if mask is not None:  # repeated, for the gradient of a broadcast sum is slow
                mask = np.broadcast_to(mask[:, None], (n, num_heads, t, t)).reshape(-1, t, t)
            bias = None if mask is None else as_nd(mask, device)
            if self.relative is not None:
                near = self.relative.slice((0, 0, 0), (num_heads, t, t)).tile((n, 1, 1))
                bias = near if bias is None else nd.elemwise_add(bias, near)
            self.biases.append(bias)
            size = n * num_heads * t
            results = done + np.arange(size, dtype=np.int32).reshape(n, num_heads, t)
            places[rows] = results.transpose(0, 2, 1)
            done += size
        #: The place of each row's heads in the concatenated results of all buckets, (N h,).
        self.places = as_nd(places.ravel(), device)

    def gather(
        self, queries: Tensor, keys: Tensor, values: Tensor, rows: NDArray | None = None
    ) -> list[list[Tensor]]:
        """Copy queries, keys and values, (N, H) each, into arrays (n * h, t, d), per bucket.

        A bucket has n pairs of t tokens; there are h heads of d channels. Queries are divided by
        sqrt(d). With ``rows``, the three are tables (U, H), in which each of N rows looks up one.

        Returns:
            For each bucket, the list of its three arrays.
        """
        d = queries.shape[1] // self.num_heads
        Q, K, V = (x.as_nd_ndarray().reshape((-1, d)) for x in (queries, keys, values))  # (N h, d)
        Q = Q * d**-0.5
        places = self._chunk_heads if rows is None else self._heads(rows[b] for b in self.rows)
        return [[x.take(heads) for x in (Q, K, V)] for heads in places]

    @cached_property
    def _chunk_heads(self) -> list[Tensor]:
        return self._heads(self.rows)

    def _heads(self, buckets: Iterable[NDArray]) -> list[Tensor]:
        """Convert each bucket's row numbers (n, t) to those of single heads, (n * h, t)."""
        heads = np.arange(self.num_heads)[:, None]
        places = (bucket[:, None] * self.num_heads + heads for bucket in buckets)  # (n, h, t)
        return [as_nd(each.reshape(-1, each.shape[2]), self.device) for each in places]


def add(first: list[list[Tensor]], second: list[list[Tensor]]) -> list[list[Tensor]]:
    """Add two results of `AttentionGroups.gather` element by element."""
    return [
        [nd.elemwise_add(*parts) for parts in zip(*both, strict=True)]
        for both in zip(first, second, strict=True)
    ]


def attention(
    gathered: list[list[Tensor]],
    groups: AttentionGroups,
    dropout: Dropout,
    distances: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Compute ``dropout(softmax(q k^T / sqrt(d) + bias)) v`` for all heads, (N, H).

    ``gathered`` is a result of `AttentionGroups.gather`. ``distances`` are the keys and the queries
    of the distances -T to T - 1, (2 T, H) each; see `positions`.
    """
    heads = []
    for (Q, K, V), bias in zip(gathered, groups.biases, strict=True):
        if distances is not None:
            Q = Q * 3**-0.5  # a score is a sum of three products
            added = _distance_scores(Q, K, distances, groups.num_heads)
            bias = added if bias is None else nd.elemwise_add(added, bias)
        weights = _weights(Q, K, bias, dropout)  # (n h, q, t)
        heads.append(nd.batch_dot(weights, V).reshape((-1, V.shape[2])))
    results = heads[0] if len(heads) == 1 else nd.concat(*heads, dim=0)
    H = groups.num_heads * results.shape[1]
    return results.take(groups.places).reshape((-1, H)).as_np_ndarray()


def attention_to_rows(
    queries: Tensor, x: Tensor, groups: AttentionGroups, dropout: Dropout
) -> tuple[Tensor, Tensor]:
    """For each query compute a weighted mean of rows, (h, m, H), and the sum of weights, (h, m, 1).

    The weights are ``dropout(softmax(q x^T + bias))``, of queries (m, h, H), h for each pair, and
    the rows x (N, H) of the pair; their sum is 1 without dropout. All arrays are `mx.nd`.
    """
    means, sums, start = [], [], 0
    m, h, H = queries.shape
    for rows, mask in zip(groups.rows, groups.masks, strict=True):
        end = start + len(rows)
        X = x.take(as_nd(rows, x.ctx))  # (n, t, H)
        Q = queries if len(rows) == m else queries.slice_axis(0, start, end)
        bias = None if mask is None else as_nd(mask.repeat(h, 1), x.ctx)
        if groups.relative is not None:  # of the first query, (1, h, t)
            first = groups.relative.slice((0, 0, 0), (h, 1, rows.shape[1])).transpose((1, 0, 2))
            near = first.tile((len(Q), 1, 1))
            bias = near if bias is None else nd.elemwise_add(bias, near)
        weights = _weights(Q, X, bias, dropout)  # (n, h, t)
        means.append(nd.batch_dot(weights, X))
        sums.append(weights.sum(2, keepdims=True))
        start = end
    if start < m:
        means.append(nd.zeros((m - start, h, H), x.ctx))
        sums.append(nd.zeros((m - start, h, 1), x.ctx))
    mean, total = (nd.concat(*parts, dim=0).transpose((1, 0, 2)) for parts in (means, sums))
    return mean, total


def _distance_scores(
    Q: Tensor, K: Tensor, distances: tuple[Tensor, Tensor], num_heads: int
) -> Tensor:
    """Compute what distances add to the scores of queries Q and keys K, (n h, t, d) each."""
    (_, t, d), n = Q.shape, len(Q) // num_heads
    T = len(distances[0]) // 2
    products = []
    for X, vectors in zip((Q, K), distances, strict=True):
        near = vectors.slice_axis(0, T - t, T + t).reshape((-1, num_heads, d))
        near = near.transpose((1, 0, 2)).tile((n, 1, 1))  # (n h, 2 t, d)
        product = nd.batch_dot(X, near, transpose_b=True).reshape((-1, 2 * t * t))
        rows = product.slice_axis(1, t, 2 * t * t).reshape((-1, t, 2 * t - 1))
        products.append(rows.slice_axis(2, 0, t))  # as `positions.distance_products`
    return products[0] + products[1].transpose((0, 2, 1)) * (3 * d) ** -0.5


def _weights(Q: Tensor, K: Tensor, bias: Tensor | None, dropout: Dropout) -> Tensor:
    scores = nd.batch_dot(Q, K, transpose_b=True)
    return dropout.drop(nd.softmax(scores if bias is None else nd.elemwise_add(scores, bias)))


#: The generator of dropout masks during a trainer's step; None outside of one.
_bits: ContextVar[Any] = ContextVar("_bits", default=None)


@contextmanager
def dropout_seed(seed: int, devices: Sequence[Any]) -> Iterator[None]:
    """Context manager that seeds the dropout masks; MXNet's own CPU generator is not used."""
    for i, device in enumerate(devices):
        if device.device_type != "cpu":
            mx.random.seed(seed + i, ctx=device)
    token = _bits.set(np.random.SFC64(seed))
    try:
        yield
    finally:
        _bits.reset(token)


class Dropout:
    """Applies a dropout layer, with masks that are drawn faster on a CPU.

    A mask takes 16 random bits per element: p is rounded to a multiple of 1 / 65536. Its generator
    is that of `dropout_seed`; outside of it, one is seeded by MXNet's, so `mx.random.seed` makes
    masks repeat.
    """

    def __init__(self, layer: Any) -> None:
        self.p = layer._rate
        self.active = self.p > 0 and mx.autograd.is_training()

    def __call__(self, x: Tensor) -> Tensor:
        return self.drop(x.as_nd_ndarray()).as_np_ndarray() if self.active else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return nd.elemwise_add(x.as_nd_ndarray(), self.drop(y.as_nd_ndarray())).as_np_ndarray()

    def drop(self, x: Tensor) -> Tensor:
        """Apply dropout to an `mx.nd` array."""
        if not self.active:
            return x
        if x.ctx.device_type != "cpu":
            return nd.Dropout(x, p=self.p)
        return nd.elemwise_mul(x, self.mask(x))

    def mask(self, like: Tensor) -> Tensor:
        """Draw a float32 mask of an array's shape: 0 to drop an element, 1 / (1 - p) to keep it."""
        bits = _bits.get()
        if bits is None:
            bits = np.random.SFC64(int(nd.random.randint(0, 2**31 - 1, shape=1).asscalar()))
        shape, threshold = like.shape, min(round(self.p * 65536), 65535)
        size = math.prod(shape)
        raw = bits.random_raw(-(-size // 4)).view(np.uint16)[:size].reshape(shape)
        mask, memory = new_array(shape, np.float32, like.ctx)
        np.multiply(raw >= threshold, np.float32(65536 / (65536 - threshold)), out=memory)
        return mask
