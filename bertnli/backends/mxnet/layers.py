"""The layers of `bert` on rows of tokens: the operations that `backends.packed` takes.

The functions are those of `bertnli.backends.torch.layers`, where their docstrings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet import kernels
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.bert import Tensor, activate
from bertnli.backends.mxnet.kernels import AttentionGroups, Dropout, concat, lookup_sum, take
from bertnli.data.packing import Chunk

__all__ = ["concat", "lookup_sum", "take"]

Ints = NDArray[np.int64]
#: Tokens computed together; more than PyTorch's, for each operation costs more Python time here.
CHUNK_TOKENS = 4096


def autocast(precision: str, like: Tensor) -> AbstractContextManager[Any]:
    return nullcontext()  # MXNet has no bfloat16


def in_float32(like: Tensor) -> AbstractContextManager[Any]:
    return nullcontext()


def is_on_cpu(tensor: Tensor) -> bool:
    return tensor.ctx.device_type == "cpu"


def to_numpy(tensor: Tensor) -> NDArray:
    return tensor.asnumpy()


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return mx.np.zeros(shape, ctx=like.ctx)


def summands(
    encoder: Any, ids: Ints, segments: Ints, positions: Ints, table: Tensor | None, like: Tensor
) -> list[Tensor]:
    if table is None:
        table = encoder.token_embedding.weight.data(like.ctx)
    segment_table = encoder.segment_embedding.weight.data(like.ctx)
    position_table = encoder.pos_embedding.data(like.ctx)[0]
    return [take(table, ids), take(segment_table, segments) + take(position_table, positions)]


def dense(layer: Any, X: Tensor, biased: bool = True) -> Tensor:
    bias = layer.bias.data(X.ctx) if biased else None
    return kernels.linear(X, layer.weight.data(X.ctx), bias)


def norm(layer: Any, X: Tensor) -> Tensor:
    gamma, beta = layer.gamma.data(X.ctx), layer.beta.data(X.ctx)
    return kernels.layer_norm(X, gamma, beta, layer._epsilon)


def add_norm(layer: Any, X: Tensor, Y: Tensor) -> Tensor:
    return norm(layer.ln, Dropout(layer.dropout).add(X, Y))


def ffn(layer: Any, X: Tensor) -> Tensor:
    Y = activate(dense(layer.dense1, X), layer.config)  # (N, F)
    return dense(layer.dense2, Y)


def mlm_logits(mlm: Any, X: Tensor) -> Tensor:
    hidden, ln, decoder = mlm.mlp
    return dense(decoder, norm(ln, activate(dense(hidden, X), mlm.config)))


def project(layer: Any, X: Tensor, biased: bool = True) -> tuple[Tensor, ...]:
    return tuple(dense(W, X, biased) for W in (layer.W_q, layer.W_k, layer.W_v))


def groups(chunk: Chunk, num_heads: int, like: Tensor) -> AttentionGroups:
    return AttentionGroups(chunk, num_heads, like.ctx)


def attention(
    layer: Any, summands: Sequence[Any], rows: Sequence[Ints] | None, groups: AttentionGroups
) -> Tensor:
    if rows is None:
        gathered = groups.gather(*summands[0])
    else:
        tables = zip(summands, rows, strict=True)
        gathered = kernels.add(*(groups.gather(*table, rows=where) for table, where in tables))
    return kernels.attention(gathered, groups, Dropout(layer.dropout))


def cls_attention(layer: Any, firsts: Tensor, X: Tensor, groups: AttentionGroups) -> Tensor:
    keys, values = ((W.weight.data(X.ctx), W.bias.data(X.ctx)) for W in (layer.W_k, layer.W_v))
    queries = dense(layer.W_q, firsts)
    heads = kernels.cls_attention(queries, X, keys, values, groups, Dropout(layer.dropout))
    return dense(layer.W_o, heads)
