"""The operations that decide how fast a step is, where MXNet's own are slow on a CPU.

Each computes what the plain operation computes, to rounding. They take and give `mx.np` arrays, and
work on the same memory as MXNet's first arrays (`mx.nd`), whose operators are faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd, new_array

nd: Any = mx.nd

#: An mx.np.ndarray, in private functions an mx.nd.NDArray; mxnet ships no types.
Tensor = Any

Function = TypeVar("Function", bound=Callable[..., Any])


def _on_nd(function: Function) -> Function:
    """Let a function of `mx.nd` arrays take `mx.np` ones and return one."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        args = tuple(a.as_nd_ndarray() if isinstance(a, mx.np.ndarray) else a for a in args)
        return function(*args, **kwargs).as_np_ndarray()

    return wrapped  # type: ignore[return-value]


@_on_nd
def take(x: Tensor, rows: NDArray | Tensor) -> Tensor:
    """Return some rows of x (N, ...).

    Args:
        x: (N, ...).
        rows: (n,) integers, NumPy's or int32 on x's device.
    """
    return x.take(as_nd(rows, x.ctx) if isinstance(rows, np.ndarray) else rows)


def lookup_sum(a: Tensor, b: Tensor, rows_a: NDArray, rows_b: NDArray) -> Tensor:
    """Return ``a[rows_a] + b[rows_b]``, (N, C), of tables (A, C) and (B, C)."""
    found = nd.elemwise_add(take(a, rows_a).as_nd_ndarray(), take(b, rows_b).as_nd_ndarray())
    return found.as_np_ndarray()


def concat(parts: Sequence[Tensor]) -> Tensor:
    """Return arrays, one after the other along their first axis."""
    if len(parts) == 1:
        return parts[0]
    return nd.concat(*(part.as_nd_ndarray() for part in parts), dim=0).as_np_ndarray()


@_on_nd
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False) -> Tensor:
    """Return ``x weight^T + bias``, (N, out), perhaps with ReLU.

    Args:
        x: (N, in) float32.
        weight: (out, in).
        bias: (out,); None for nothing.
    """
    if bias is None:
        y = nd.FullyConnected(x, weight, num_hidden=len(weight), no_bias=True)
    else:
        y = nd.FullyConnected(x, weight, bias, num_hidden=len(weight))
    return nd.Activation(y, act_type="relu") if relu else y


@_on_nd
def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Return each row of x with mean 0 and variance 1, times gamma, plus beta, (N, H).

    Args:
        x: (N, H).
        gamma, beta: (H,).
        epsilon: added to the variance.
    """
    if not mx.autograd.is_recording() or x.ctx.device_type != "cpu":
        return nd.LayerNorm(x, gamma, beta, eps=epsilon)
    # The gradient of MXNet's LayerNorm is slow. Its BatchNorm, with rows as channels, gives the
    # same; and products with a column of ones sum the gradients of gamma and beta quickly.
    N, H = x.shape
    one, zero, mean, variance, column = _constants(N, x.ctx)
    rows = x.reshape((1, N, H, 1))
    normal = nd.BatchNorm(rows, one, zero, mean, variance, eps=epsilon, fix_gamma=True, axis=1)
    gammas, betas = (
        nd.FullyConnected(column, vector.reshape((H, 1)), num_hidden=H, no_bias=True)
        for vector in (gamma, beta)
    )
    return nd.elemwise_add(nd.elemwise_mul(normal.reshape((N, H)), gammas), betas)


@lru_cache(maxsize=64)
def _constants(N: int, device: Any) -> tuple[Tensor, ...]:
    """Return BatchNorm's gamma, beta, and running mean and variance, which nobody reads; ones."""
    with mx.autograd.pause():
        vectors = (nd.ones(N, device), *(nd.zeros(N, device) for _ in range(3)))
        return (*vectors, nd.ones((N, 1), device))


@dataclass(frozen=True)
class Bucket:
    """Rows that attend to each other.

    Args:
        queries: (n, q) rows of the queries.
        keys: (n, t) rows of keys and values.
        bias: (n, 1 or q, t) float32, added to the scores; None for nothing.
    """

    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    bias: NDArray[np.float32] | None


class Neighbours:
    """Which rows attend to which, made ready for `attention` on a device.

    Args:
        buckets: each query is in one of them.
        num_queries: rows of queries; those in no bucket get some other query's result.
        num_heads: attention heads.
        device: where the rows are.
    """

    def __init__(
        self, buckets: Sequence[Bucket], num_queries: int, num_heads: int, device: Any
    ) -> None:
        def tensor(rows: NDArray) -> Tensor:
            return as_nd(rows, device)

        self.buckets: list[tuple[Any, ...]] = []
        places = np.zeros((num_queries, num_heads), np.int32)
        done = 0
        for bucket in buckets:
            (n, q), t = bucket.queries.shape, bucket.keys.shape[1]
            head = np.arange(num_heads)[:, None]
            queries = bucket.queries[:, None] * num_heads + head  # (n, h, q)
            keys = bucket.keys[:, None] * num_heads + head  # (n, h, t)
            bias = bucket.bias
            if bias is not None:  # repeated, for the gradient of a broadcast sum is slow
                bias = np.broadcast_to(bias[:, None], (n, num_heads, q, t)).reshape(-1, q, t)
                bias = as_nd(bias, device)
            rows = tensor(queries.reshape(-1, q)), tensor(keys.reshape(-1, t))  # (n h, q or t)
            self.buckets.append((*rows, bias))
            results = done + np.arange(queries.size, dtype=np.int32).reshape(queries.shape)
            places[bucket.queries] = results.transpose(0, 2, 1)
            done += queries.size
        self.places = tensor(
            places.ravel()
        )  # of each query's heads among the results of all buckets


@_on_nd
def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    neighbours: Neighbours,
    num_heads: int,
    dropout: Dropout,
) -> Tensor:
    """Return each query's mean of the values, weighted by attention of several heads, (Q, H).

    ``dropout(softmax(q k^T / sqrt(d) + bias)) v`` for each head of d = H / num_heads channels.

    Args:
        queries: (Q, H).
        keys, values: (N, H).
        neighbours: which queries see which keys.
        num_heads: heads.
        dropout: on the weights.
    """
    H = queries.shape[1]
    d = H // num_heads
    queries = queries.reshape((-1, d)) * d**-0.5  # (Q h, d)
    keys, values = keys.reshape((-1, d)), values.reshape((-1, d))  # (N h, d)
    heads = []
    for query_rows, key_rows, bias in neighbours.buckets:
        Q = queries.take(query_rows)  # (n h, q, d)
        K, V = keys.take(key_rows), values.take(key_rows)  # (n h, t, d)
        scores = nd.batch_dot(Q, K, transpose_b=True)  # (n h, q, t)
        if bias is not None:
            scores = nd.elemwise_add(scores, bias)
        weights = dropout.drop(nd.softmax(scores))
        heads.append(nd.batch_dot(weights, V).reshape((-1, d)))
    return nd.concat(*heads, dim=0).take(neighbours.places).reshape((-1, H))


#: Where dropout's random bits come from while a trainer's step is under way.
_bits: ContextVar[Any] = ContextVar("_bits", default=None)


@contextmanager
def dropout_seed(seed: int, devices: Sequence[Any]) -> Iterator[None]:
    """Draw dropout masks from a seed, and leave the CPU's random state alone."""
    for i, device in enumerate(devices):
        if device.device_type != "cpu":
            mx.random.seed(seed + i, ctx=device)
    token = _bits.set(np.random.SFC64(seed))
    try:
        yield
    finally:
        _bits.reset(token)


class Dropout(mx.gluon.nn.Block):
    """Dropout of single elements with probability p, while training.

    On a CPU the masks are made of 16 random bits per element, so that p is met to within 1 / 131072
    and the scale is that of the p which is met. They come from `dropout_seed`, or from a generator
    that is seeded by MXNet's own: `mx.random.seed` repeats them.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = min(round(p * 65536), 65535)

    @property
    def active(self) -> bool:
        """Whether anything is dropped."""
        return self.p > 0 and mx.autograd.is_training()

    def forward(self, x: Tensor) -> Tensor:
        return _on_nd(self.drop)(x) if self.active else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``x + dropout(y)``."""
        x, y = x.as_nd_ndarray(), y.as_nd_ndarray()
        return nd.elemwise_add(x, self.drop(y)).as_np_ndarray()

    def drop(self, x: Tensor) -> Tensor:
        """Return x as `forward` does, both `mx.nd` arrays."""
        if not self.active:
            return x
        if x.ctx.device_type != "cpu":
            return nd.Dropout(x, p=self.p)
        return nd.elemwise_mul(x, self.mask(x))

    def mask(self, like: Tensor) -> Tensor:
        """Return a mask of zeros and of the scale of what is kept, float32."""
        bits = _bits.get()
        if bits is None:
            bits = np.random.SFC64(int(nd.random.randint(0, 2**31 - 1, shape=1).asscalar()))
        shape = like.shape
        size = math.prod(shape)
        raw = bits.random_raw(-(-size // 4)).view(np.uint16)[:size].reshape(shape)
        mask, memory = new_array(shape, np.float32, like.ctx)
        np.multiply(raw >= self.threshold, np.float32(65536 / (65536 - self.threshold)), out=memory)
        return mask

    def __repr__(self) -> str:
        return f"Dropout(p={self.p})"
