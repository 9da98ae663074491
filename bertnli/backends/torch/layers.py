"""The layers of `bert` on rows of tokens: the operations that `nets.packed` calls.

Shapes: N rows, U rows of a table, H num_hiddens, E embedding_size, F ffn_num_hiddens, V vocab_size,
h heads of d = H / h channels each.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertnli.backends.torch import kernels
from bertnli.backends.torch.bert import AddNorm, BERTEncoder, MultiHeadAttention, PositionWiseFFN
from bertnli.backends.torch.kernels import AttentionGroup, Dropout, Groups, lookup_sum
from bertnli.backends.torch.positions import Distances
from bertnli.data.packing import CHUNK_TOKENS, Chunk
from bertnli.nets.packed import attention_bias

__all__ = ["CHUNK_TOKENS", "lookup_sum"]

Ints = NDArray[np.int64]


def autocast(precision: str, like: Tensor) -> AbstractContextManager[Any]:
    """Context manager in which matrix products have a precision, ``"fp32"`` or ``"bf16"``."""
    if precision == "fp32":
        return nullcontext()  # a context of the user's stays on
    return torch.autocast(like.device.type, torch.bfloat16)


def in_float32(like: Tensor) -> AbstractContextManager[Any]:
    """Context manager in which nothing is computed in bfloat16."""
    return torch.autocast(like.device.type, enabled=False)


def is_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def to_numpy(tensor: Tensor) -> NDArray:
    return tensor.cpu().numpy()


def take(X: Tensor, rows: Ints) -> Tensor:
    return X[torch.from_numpy(rows).to(X.device)]


def concat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def summands(
    encoder: BERTEncoder, ids: Ints, segments: Ints, positions: Ints, table: None, like: Tensor
) -> list[Tensor]:
    """Look up token embeddings (U, E), and the sums of segment and position embeddings (S, E).

    The ids are (U,), segments and positions (S,). On MXNet ids may index ``table``, some rows of
    the token embedding. The result is on the device of ``like``.
    """
    arrays = ids, segments, positions + encoder.config.first_position
    tokens, sides, places = (torch.from_numpy(x).to(like.device) for x in arrays)
    rows = encoder.token_embedding(tokens)
    if encoder.pos_embedding is None:
        added = rows.new_zeros(len(places), rows.shape[1])
    else:
        added = encoder.pos_embedding[0, places]
    if encoder.segment_embedding is not None:
        added = encoder.segment_embedding(sides) + added
    return [rows, added]


def relative_bias(encoder: BERTEncoder, T: int, like: Tensor) -> Tensor | Distances | None:
    """Compute `BERTEncoder.relative_bias`, (h, T, T)."""
    return encoder.relative_bias(T)


def project_distances(layer: MultiHeadAttention, distances: Distances) -> Tensor:
    """Project the vectors of T tokens' distances to keys and to queries, (2, 2 T, H)."""
    vectors = Dropout(layer.distance_dropout)(distances.vectors)
    pairs = zip((layer.W_k, layer.W_q), distances.ranges, strict=True)
    return torch.stack([dense(W, vectors)[ranges] for W, ranges in pairs])


def dense(layer: nn.Linear, X: Tensor, biased: bool = True) -> Tensor:
    return kernels.linear(X, layer.weight, layer.bias if biased else None)


def norm(layer: nn.LayerNorm, X: Tensor) -> Tensor:
    return layer(X)


def add_norm(layer: AddNorm, X: Tensor, Y: Tensor) -> Tensor:
    return layer.ln(Dropout(layer.dropout).add(X, Y))


def ffn(layer: PositionWiseFFN, X: Tensor) -> Tensor:
    relu = isinstance(layer.activation, nn.ReLU)
    Y = kernels.linear(X, layer.dense1.weight, layer.dense1.bias, relu)  # (N, F)
    return dense(layer.dense2, Y if relu else layer.activation(Y))


def mlm_logits(mlm: Any, X: Tensor) -> Tensor:
    """Compute the masked language model's logits (N, V) from encoded tokens X (N, H)."""
    hidden, activation, ln, decoder = mlm.mlp
    return dense(decoder, ln(activation(dense(hidden, X)).float())).float()


def project(layer: MultiHeadAttention, X: Tensor, biased: bool = True) -> tuple[Tensor, ...]:
    """Project rows X to queries (N, H), and to keys and values side by side (N, 2 H)."""
    weight = torch.cat((layer.W_k.weight, layer.W_v.weight))
    bias = torch.cat((layer.W_k.bias, layer.W_v.bias)) if biased else None
    return dense(layer.W_q, X, biased), kernels.linear(X, weight, bias)


def groups(chunk: Chunk, num_heads: int, like: Tensor, relative: Tensor | None) -> Groups:
    """Make the attention group of each bucket of a chunk, on the device of the tensor ``like``.

    ``relative`` is the result of `relative_bias`.
    """
    buckets = []
    for bucket in chunk.buckets:
        rows = torch.from_numpy(bucket.rows).to(like.device)
        mask = attention_bias(bucket)
        bias = None if mask is None else torch.from_numpy(mask).to(like.device)
        buckets.append(AttentionGroup(rows, rows, bias))
    return Groups(buckets, relative)


def attention(
    layer: MultiHeadAttention,
    summands: Sequence[Any],
    rows: Sequence[Ints] | None,
    groups: Groups,
    distances: Tensor | None = None,
) -> Tensor:
    """Compute attention without its output layer `W_o`: all heads side by side, (N, H).

    Without ``rows``, the only summand is the result of `project` for all N rows. With ``rows``,
    each summand is the result for a table; its (N,) rows are looked up, and all summands are added.
    Scores also depend on ``distances``, the result of `project_distances`, unless it is None.
    """
    queries, keys_values = summands[0]
    if rows is not None:
        queries, keys_values = (lookup_sum(*x, *rows) for x in zip(*summands, strict=True))
    dropout = Dropout(layer.dropout)
    if distances is not None:
        settings = groups.buckets, distances, layer.num_heads, dropout
        with in_float32(queries):  # a score is a sum of three products
            return kernels.disentangled_attention(queries, keys_values, *settings)
    return kernels.attention(queries, keys_values, groups, layer.num_heads, dropout)


def cls_attention(layer: MultiHeadAttention, firsts: Tensor, X: Tensor, groups: Groups) -> Tensor:
    """Compute the attention of the pairs' first tokens (m, H) to all tokens X (N, H), (m, H).

    Keys and values are not computed; see `bertnli.data.packing`.
    """
    (m, H), h = firsts.shape, layer.num_heads
    d = H // h
    q = dense(layer.W_q, firsts).view(m, h, d).transpose(0, 1)
    projected = torch.bmm(q, layer.W_k.weight.view(h, d, H))  # (h, m, H)
    queries = projected.transpose(0, 1).reshape(m * h, H)  # a token's heads side by side
    cls_groups, start = [], 0
    for group in groups.buckets:
        end = start + len(group.keys) * h
        places = torch.arange(start, end, device=X.device).view(-1, h)  # (n, h)
        cls_groups.append(AttentionGroup(places, group.keys, group.bias))
        start = end
    relative = None if groups.relative is None else groups.relative[None, :, 0]  # (1, h, T)
    seen = Groups(cls_groups, relative)
    means, sums = kernels.attention_to_rows(queries, X, seen, d**-0.5, Dropout(layer.dropout))
    means = means.view(m, h, H).transpose(0, 1)
    values = torch.bmm(means, layer.W_v.weight.view(h, d, H).transpose(1, 2))  # (h, m, d)
    # A zero-valued term gives W_k.bias an exact zero gradient.
    bias = (layer.W_v.bias + 0 * layer.W_k.bias).view(h, d)
    heads = values.transpose(0, 1) + sums.view(m, h, 1) * bias  # (m, h, d)
    return dense(layer.W_o, heads.reshape(m, H))
