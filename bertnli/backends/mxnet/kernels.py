"""Fast CPU versions of the operations that take most of a training step.

Each agrees with MXNet's operation to rounding. They take and return `mx.np` arrays, and compute on
`mx.nd` arrays of the same memory, whose operators are faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd, new_array
from bertnli.backends.packed import attention_bias
from bertnli.data.packing import Chunk

nd: Any = mx.nd

#: An mx.np.ndarray, in private functions an mx.nd.NDArray; mxnet ships no types.
Tensor = Any

Function = TypeVar("Function", bound=Callable[..., Any])


def _on_nd(function: Function) -> Function:
    """Wrap a function of `mx.nd` arrays: it takes and returns `mx.np` arrays instead."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args = tuple(a.as_nd_ndarray() if isinstance(a, mx.np.ndarray) else a for a in args)
        return function(*args, **kwargs).as_np_ndarray()

    return wrapped  # type: ignore[return-value]


@_on_nd
def take(x: Tensor, rows: NDArray) -> Tensor:
    """Look up rows of x (N, ...) by their indices."""
    return x.take(as_nd(rows, x.ctx))


def lookup_sum(a: Tensor, b: Tensor, rows_a: NDArray, rows_b: NDArray) -> Tensor:
    """Compute ``a[rows_a] + b[rows_b]``, (N, C), from tables a (A, C) and b (B, C)."""
    return _on_nd(nd.elemwise_add)(take(a, rows_a), take(b, rows_b))


def concat(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return nd.concat(*(part.as_nd_ndarray() for part in parts), dim=0).as_np_ndarray()


@_on_nd
def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``x weight^T + bias``, (N, out), from x (N, in), weight (out, in), bias (out,)."""
    if bias is None:
        return nd.FullyConnected(x, weight, num_hidden=len(weight), no_bias=True)
    return nd.FullyConnected(x, weight, bias, num_hidden=len(weight))


@_on_nd
def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Apply layer normalisation to x (N, H), with scale gamma (H,) and shift beta (H,)."""
    in_training = mx.autograd.is_recording() and mx.autograd.is_training()
    if not in_training or x.ctx.device_type != "cpu":
        return nd.LayerNorm(x, gamma, beta, eps=epsilon)
    # The gradient of MXNet's LayerNorm is slow. Its BatchNorm, with rows as channels, gives the
    # same in training, where it computes mean and variance itself; and products with a column of
    # ones sum the gradients of gamma and beta quickly.
    N, H = x.shape
    ones, zeros, mean, variance, column = _constants(N, x.ctx)
    rows = x.reshape((1, N, H, 1))
    normal = nd.BatchNorm(rows, ones, zeros, mean, variance, eps=epsilon, fix_gamma=True, axis=1)
    gammas, betas = (
        nd.FullyConnected(column, vector.reshape((H, 1)), num_hidden=H, no_bias=True)
        for vector in (gamma, beta)
    )
    return nd.elemwise_add(nd.elemwise_mul(normal.reshape((N, H)), gammas), betas)


@lru_cache(maxsize=64)
def _constants(N: int, device: Any) -> tuple[Tensor, ...]:
    """Make BatchNorm's gamma, beta, and unused running mean and variance, (N,); and ones (N, 1)."""
    with mx.autograd.pause():
        vectors = (nd.ones(N, device), *(nd.zeros(N, device) for _ in range(3)))
        return (*vectors, nd.ones((N, 1), device))


class AttentionGroups:
    """Indices and masks that say which of a chunk's N rows attend to which; h is num_heads."""

    def __init__(self, chunk: Chunk, num_heads: int, device: Any) -> None:
        self.num_heads, self.device = num_heads, device
        self.rows = [bucket.rows for bucket in chunk.buckets]  # (n, t) of each bucket
        self.masks = [attention_bias(bucket) for bucket in chunk.buckets]  # (n, 1, t) or None
        self.biases: list[Tensor | None] = []  # (n h, t, t) or None
        places = np.zeros((len(chunk.tokens), num_heads), np.int32)
        done = 0
        for rows, mask in zip(self.rows, self.masks, strict=True):
            n, t = rows.shape
            if mask is not None:  # repeated, for the gradient of a broadcast sum is slow
                mask = np.broadcast_to(mask[:, None], (n, num_heads, t, t)).reshape(-1, t, t)
            self.biases.append(None if mask is None else as_nd(mask, device))
            size = n * num_heads * t
            results = done + np.arange(size, dtype=np.int32).reshape(n, num_heads, t)
            places[rows] = results.transpose(0, 2, 1)
            done += size
        #: The place of each row's heads in the concatenated results of all buckets, (N h,).
        self.places = as_nd(places.ravel(), device)

    def gather(
        self, queries: Tensor, keys: Tensor, values: Tensor, rows: NDArray | None = None
    ) -> list[list[Tensor]]:
        """Copy queries, divided by sqrt(d), keys and values, (N, H), to (n h, t, d) of each bucket.

        With ``rows``, the three are tables (U, H), of which each of the N rows looks up one.
        """
        d = queries.shape[1] // self.num_heads
        Q, K, V = (x.as_nd_ndarray().reshape((-1, d)) for x in (queries, keys, values))  # (N h, d)
        Q = Q * d**-0.5
        places = self._own_heads if rows is None else self._heads(rows[b] for b in self.rows)
        return [[x.take(heads) for x in (Q, K, V)] for heads in places]

    @cached_property
    def _own_heads(self) -> list[Tensor]:
        return self._heads(self.rows)

    def _heads(self, buckets: Iterable[NDArray]) -> list[Tensor]:
        """Convert each bucket's rows (n, t) to rows of single heads, (n h, t)."""
        heads = np.arange(self.num_heads)[:, None]
        places = (bucket[:, None] * self.num_heads + heads for bucket in buckets)  # (n, h, t)
        return [as_nd(each.reshape(-1, each.shape[2]), self.device) for each in places]


def add(first: list[list[Tensor]], second: list[list[Tensor]]) -> list[list[Tensor]]:
    """Add two results of `AttentionGroups.gather` element by element."""
    return [
        [nd.elemwise_add(*parts) for parts in zip(*both, strict=True)]
        for both in zip(first, second, strict=True)
    ]


def attention(gathered: list[list[Tensor]], groups: AttentionGroups, dropout: Dropout) -> Tensor:
    """Compute ``dropout(softmax(q k^T / sqrt(d) + bias)) v`` for all heads, (N, H).

    ``gathered`` is a result of `AttentionGroups.gather`.
    """
    heads = []
    for (Q, K, V), bias in zip(gathered, groups.biases, strict=True):
        weights = _weights(Q, K, bias, dropout)  # (n h, q, t)
        heads.append(nd.batch_dot(weights, V).reshape((-1, V.shape[2])))
    results = heads[0] if len(heads) == 1 else nd.concat(*heads, dim=0)
    H = groups.num_heads * results.shape[1]
    return results.take(groups.places).reshape((-1, H)).as_np_ndarray()


def _weights(Q: Tensor, K: Tensor, bias: Tensor | None, dropout: Dropout) -> Tensor:
    scores = nd.batch_dot(Q, K, transpose_b=True)
    return dropout.drop(nd.softmax(scores if bias is None else nd.elemwise_add(scores, bias)))


@_on_nd
def cls_attention(
    queries: Tensor, x: Tensor, key_layer: Any, value_layer: Any, groups: Any, dropout: Dropout
) -> Tensor:
    """Compute the attention of one query of each pair (m, H) to all tokens x (N, H), (m, H).

    Keys and values are not computed; see `bertnli.data.packing`. ``key_layer`` and ``value_layer``
    are the weight (H, H) and bias (H,) of their projections.
    """
    (m, H), h = queries.shape, groups.num_heads
    d = H // h
    (W_k, b_k), (W_v, b_v) = (
        (weight.as_nd_ndarray().reshape((h, d, H)), bias.as_nd_ndarray().reshape((h, 1, d)))
        for weight, bias in (key_layer, value_layer)
    )
    queries = (queries * d**-0.5).reshape((m, h, d)).transpose((1, 0, 2))
    projected = nd.batch_dot(queries, W_k).transpose((1, 0, 2))  # (m, h, H)
    means, sums, start = [], [], 0
    for rows, mask in zip(groups.rows, groups.masks, strict=True):
        end = start + len(rows)
        X = x.take(as_nd(rows, x.ctx))  # (n, t, H)
        Q = projected if len(rows) == m else projected.slice_axis(0, start, end)
        bias = None if mask is None else as_nd(mask.repeat(h, 1), x.ctx)
        weights = _weights(Q, X, bias, dropout)  # (n, h, t)
        means.append(nd.batch_dot(weights, X))
        sums.append(weights.sum(2, keepdims=True))
        start = end
    if start < m:
        means.append(nd.zeros((m - start, h, H), x.ctx))
        sums.append(nd.zeros((m - start, h, 1), x.ctx))
    means, sums = (  # (h, m, H) and (h, m, 1)
        nd.concat(*parts, dim=0).transpose((1, 0, 2)) for parts in (means, sums)
    )
    # A zero-valued term gives the keys' bias an exact zero gradient, which is not a stale one.
    bias = b_v + 0 * b_k
    heads = nd.batch_dot(means, W_v, transpose_b=True) + nd.batch_dot(sums, bias)  # (h, m, d)
    return heads.transpose((1, 0, 2)).reshape((m, H))


#: The generator of dropout masks during a trainer's step; None outside of one.
_bits: ContextVar[Any] = ContextVar("_bits", default=None)


@contextmanager
def dropout_seed(seed: int, devices: Sequence[Any]) -> Iterator[None]:
    """Draw dropout masks from a seed within a ``with`` block; MXNet's CPU generator is not used."""
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
        return _on_nd(self.drop)(x) if self.active else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = x.as_nd_ndarray(), y.as_nd_ndarray()
        return nd.elemwise_add(x, self.drop(y)).as_np_ndarray()

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
