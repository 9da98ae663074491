"""The layers of `bert` on rows of tokens: the operations that `nets.packed` calls.

The functions are those of `bertnli.backends.torch.layers`, where their docstrings are. They compute
on `mx.nd` arrays of the same memory as the `mx.np` arrays they take, whose operators are faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet import kernels
from bertnli.backends.mxnet._framework import device_of, mx
from bertnli.backends.mxnet.bert import Tensor, activate
from bertnli.backends.mxnet.devices import as_nd
from bertnli.backends.mxnet.kernels import AttentionGroups, Dropout
from bertnli.backends.mxnet.positions import Distances
from bertnli.data.packing import Chunk

nd: Any = mx.nd
Ints = NDArray[np.int64]
#: Tokens computed together; more than PyTorch's, for each operation costs more Python time here.
CHUNK_TOKENS = 4096


def autocast(precision: str, like: Tensor) -> AbstractContextManager[Any]:
    return nullcontext()  # MXNet has no bfloat16


def in_float32(like: Tensor) -> AbstractContextManager[Any]:
    return nullcontext()


def is_on_cpu(tensor: Tensor) -> bool:
    return device_of(tensor).device_type == "cpu"


def to_numpy(tensor: Tensor) -> NDArray:
    return tensor.asnumpy()


def take(X: Tensor, rows: Ints) -> Tensor:
    return X.as_nd_ndarray().take(as_nd(rows, device_of(X))).as_np_ndarray()


def concat(parts: Sequence[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return nd.concat(*(part.as_nd_ndarray() for part in parts), dim=0).as_np_ndarray()


def lookup_sum(a: Tensor, b: Tensor, rows_a: Ints, rows_b: Ints) -> Tensor:
    tables = ((a, rows_a), (b, rows_b))
    parts = (x.as_nd_ndarray().take(as_nd(rows, device_of(x))) for x, rows in tables)
    return nd.elemwise_add(*parts).as_np_ndarray()


def summands(
    encoder: Any, ids: Ints, segments: Ints, positions: Ints, table: Tensor | None, like: Tensor
) -> list[Tensor]:
    if table is None:
        table = encoder.token_embedding.weight.data(device_of(like))
    if encoder.pos_embedding is None:
        added = nd.zeros((len(positions), table.shape[1]), device_of(like)).as_np_ndarray()
    else:
        position_table = encoder.pos_embedding.data(device_of(like))[0]
        added = take(position_table, positions + encoder.config.first_position)
    if encoder.segment_embedding is not None:
        added = take(encoder.segment_embedding.weight.data(device_of(like)), segments) + added
    return [take(table, ids), added]


def relative_bias(encoder: Any, T: int, like: Tensor) -> Tensor | Distances | None:
    return encoder.relative_bias(T, device_of(like))


def project_distances(layer: Any, distances: Distances) -> tuple[Tensor, Tensor]:
    vectors = Dropout(layer.distance_dropout)(distances.vectors)
    of_key, of_query = (ranges.as_nd_ndarray() for ranges in distances.ranges)
    K, Q = (dense(W, vectors).as_nd_ndarray() for W in (layer.W_k, layer.W_q))
    return K.take(of_key), Q.take(of_query)


def dense(layer: Any, X: Tensor, biased: bool = True) -> Tensor:
    parameters = (layer.weight, layer.bias) if biased else (layer.weight,)
    arrays = [X.as_nd_ndarray(), *(p.data(device_of(X)).as_nd_ndarray() for p in parameters)]
    Y = nd.FullyConnected(*arrays, num_hidden=len(arrays[1]), no_bias=not biased)
    return Y.as_np_ndarray()


def norm(layer: Any, X: Tensor) -> Tensor:
    x, epsilon = X.as_nd_ndarray(), layer._epsilon
    gamma, beta = (p.data(device_of(X)).as_nd_ndarray() for p in (layer.gamma, layer.beta))
    in_training = mx.autograd.is_recording() and mx.autograd.is_training()
    if not in_training or device_of(x).device_type != "cpu":
        return nd.LayerNorm(x, gamma, beta, eps=epsilon).as_np_ndarray()
    # The gradient of MXNet's LayerNorm is slow. Its BatchNorm, with rows as channels, gives the
    # same in training, where it computes mean and variance itself; and products with a column of
    # ones sum the gradients of gamma and beta quickly.
    N, H = x.shape
    ones, zeros, mean, variance, column = _constants(N, device_of(x))
    rows = x.reshape((1, N, H, 1))
    normal = nd.BatchNorm(rows, ones, zeros, mean, variance, eps=epsilon, fix_gamma=True, axis=1)
    gammas, betas = (
        nd.FullyConnected(column, vector.reshape((H, 1)), num_hidden=H, no_bias=True)
        for vector in (gamma, beta)
    )
    return nd.elemwise_add(nd.elemwise_mul(normal.reshape((N, H)), gammas), betas).as_np_ndarray()


@lru_cache(maxsize=64)
def _constants(N: int, device: Any) -> tuple[Tensor, ...]:
    """Make the constant arrays for BatchNorm on N rows.

    These are gamma, beta, and the unused running mean and variance, (N,) each; and ones (N, 1).
    """
    with mx.autograd.pause():
        vectors = (nd.ones(N, device), *(nd.zeros(N, device) for _ in range(3)))
        return (*vectors, nd.ones((N, 1), device))


def add_norm(layer: Any, X: Tensor, Y: Tensor) -> Tensor:
    return norm(layer.ln, Dropout(layer.dropout).add(X, Y))


def ffn(layer: Any, X: Tensor) -> Tensor:
    Y = activate(dense(layer.dense1, X), layer.activation)  # (N, F)
    return dense(layer.dense2, Y)


def mlm_logits(mlm: Any, X: Tensor) -> Tensor:
    hidden, ln, decoder = mlm.mlp
    return dense(decoder, norm(ln, activate(dense(hidden, X), mlm.activation)))


def project(layer: Any, X: Tensor, biased: bool = True) -> tuple[Tensor, ...]:
    return tuple(dense(W, X, biased) for W in (layer.W_q, layer.W_k, layer.W_v))


def groups(chunk: Chunk, num_heads: int, like: Tensor, relative: Tensor | None) -> AttentionGroups:
    return AttentionGroups(chunk, num_heads, device_of(like), relative)


def attention(
    layer: Any,
    summands: Sequence[Any],
    rows: Sequence[Ints] | None,
    groups: AttentionGroups,
    distances: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    if rows is None:
        gathered = groups.gather(*summands[0])
    else:
        tables = zip(summands, rows, strict=True)
        gathered = kernels.add(*(groups.gather(*table, rows=where) for table, where in tables))
    return kernels.attention(gathered, groups, Dropout(layer.dropout), distances)


def cls_attention(layer: Any, firsts: Tensor, X: Tensor, groups: AttentionGroups) -> Tensor:
    (m, H), h = firsts.shape, layer.num_heads
    d = H // h
    weights = [W.weight.data(device_of(X)).as_nd_ndarray() for W in (layer.W_k, layer.W_v)]
    W_k, W_v = (weight.reshape((h, d, H)) for weight in weights)
    biases = [W.bias.data(device_of(X)).as_nd_ndarray() for W in (layer.W_k, layer.W_v)]
    b_k, b_v = (bias.reshape((h, 1, d)) for bias in biases)
    q = dense(layer.W_q, firsts).as_nd_ndarray() * d**-0.5
    q = q.reshape((m, h, d)).transpose((1, 0, 2))
    queries = nd.batch_dot(q, W_k).transpose((1, 0, 2))  # (m, h, H)
    dropout = Dropout(layer.dropout)
    means, sums = kernels.attention_to_rows(queries, X.as_nd_ndarray(), groups, dropout)
    # A zero-valued term gives the keys' bias an exact zero gradient, which is not a stale one.
    bias = b_v + 0 * b_k
    heads = nd.batch_dot(means, W_v, transpose_b=True) + nd.batch_dot(sums, bias)  # (h, m, d)
    return dense(layer.W_o, heads.transpose((1, 0, 2)).reshape((m, H)))
