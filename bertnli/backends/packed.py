"""An encoder computed without padding: the weights and numbers of `bert` and `heads`, faster.

The tokens of all pairs lie end to end as rows; `bertnli.data.packing` says which, and explains the
algebra that saves the rest. ``ops`` is a backend's module ``layers``: what it makes of rows.

Shapes: B pairs, T tokens, N rows of a chunk, n pairs of a chunk, m with padding rows, R tokens
asked for, H num_hiddens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertnli.data.packing import Bucket, Chunk, pack, rounded_up

#: A tensor of the backend's framework.
Tensor: TypeAlias = Any


def first_tokens(
    ops: Any,
    encoder: Any,
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    table: Tensor | None = None,
) -> Tensor:
    """Return the encoded first token of each pair, (B, H).

    Padding is not computed, and of the last block only what the first tokens need.

    Args:
        ops: the backend's operations.
        encoder: with one block or more.
        tokens, segments: (B, T) integers.
        valid_lens: (B,) tokens that are not padding.
        table: (U, H), rows of the token embedding that the tokens index; None for all of it.
    """
    last, pairs, encoded = encoder.blks[-1], [], []
    for chunk, groups, X in _before_last(ops, encoder, tokens, segments, valid_lens, table):
        firsts = ops.take(X, chunk.firsts)  # (m, H)
        with ops.in_float32(X):  # cheap for so few rows, and bf16 changes predictions
            attended = ops.cls_attention(last.attention, firsts, X, groups)  # (m, H)
            encoded.append(_after(ops, last, firsts, attended))  # (m, H)
        padding = (0, len(chunk.firsts) - len(chunk.pairs))
        pairs.append(np.pad(chunk.pairs, padding, constant_values=len(tokens)))
    order = np.argsort(np.concatenate(pairs))[: len(tokens)]
    return ops.take(ops.concat(encoded), order)


def tokens_at(
    ops: Any,
    encoder: Any,
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    places: NDArray[np.int64],
    table: Tensor | None = None,
) -> Tensor:
    """Return some encoded tokens, (R, H).

    Padding is not computed, and after the last block's attention only the tokens asked for.

    Args:
        ops, encoder, tokens, segments, valid_lens, table: see `first_tokens`.
        places: (R,) in the flattened batch (B * T,), none of them padding; also repeated.
    """
    last, size = encoder.blks[-1], tokens.shape[0] * tokens.shape[1]
    is_wanted, row_of = np.zeros(size, bool), np.zeros(size, np.int64)
    is_wanted[places] = True
    encoded, done = [], 0
    for chunk, groups, X in _before_last(ops, encoder, tokens, segments, valid_lens, table):
        rows = np.flatnonzero(is_wanted[chunk.tokens[: chunk.used]])
        row_of[chunk.tokens[rows]] = np.arange(done, done + len(rows))
        done += len(rows)
        heads = ops.attention(last.attention, [ops.project(last.attention, X)], None, groups)
        attended = ops.dense(last.attention.W_o, ops.take(heads, rows))
        encoded.append(_after(ops, last, ops.take(X, rows), attended))
    return ops.take(ops.concat(encoded), row_of[places])


def _before_last(
    ops: Any,
    encoder: Any,
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    table: Tensor | None,
) -> Iterator[tuple[Chunk, Any, Tensor]]:
    """Yield each chunk, its attention groups, and the last block's input, (N, H)."""
    ids, sides, lens = (ops.to_numpy(x) for x in (tokens, segments, valid_lens))
    T, blks = ids.shape[1], list(encoder.blks)[:-1]
    distinct_ids, id_rows = _distinct(ids)
    places, place_rows = _distinct(sides.astype(np.int64) * T + np.arange(T))
    summands = ops.summands(encoder, distinct_ids, places // T, places % T, table, tokens)
    by_summand = encoder.ln is None and len(blks) > 0
    if by_summand:
        layer = blks[0].attention
        with ops.in_float32(summands[0]):  # a sum of two roundings is less exact
            projections = [ops.project(layer, x, i == 0) for i, x in enumerate(summands)]
    max_tokens = ops.CHUNK_TOKENS if ops.is_on_cpu(tokens) else lens.size * T
    for chunk in pack(lens, T, max_tokens):
        groups = ops.groups(chunk, encoder.config.num_heads, tokens)
        rows = id_rows[chunk.tokens], place_rows[chunk.tokens]
        X = ops.lookup_sum(*summands, *rows)  # (N, H)
        if encoder.ln is not None:
            X = ops.dropout(encoder.dropout, ops.norm(encoder.ln, X))
        for i, blk in enumerate(blks):
            if i == 0 and by_summand:
                heads = ops.attention(blk.attention, projections, rows, groups)
            else:
                projected = ops.project(blk.attention, X)
                heads = ops.attention(blk.attention, [projected], None, groups)
            X = _after(ops, blk, X, ops.dense(blk.attention.W_o, heads))  # (N, H)
        yield chunk, groups, X


def _after(ops: Any, blk: Any, X: Tensor, Y: Tensor) -> Tensor:
    """Return a block's output, (N, H), from its input X and its attention's output Y."""
    Y = ops.add_norm(blk.addnorm1, X, Y)
    return ops.add_norm(blk.addnorm2, Y, ops.ffn(blk.ffn, Y))


def attention_bias(bucket: Bucket) -> NDArray[np.float32] | None:
    """Return the mask that is added to scores to hide padding, (n, 1, t); None without padding.

    The scores of padding become -1e30 exactly, since float32 has no digits left for them: its
    weights are 0, and where no key is valid all keys weigh the same, as in the book.
    """
    if bucket.valid_lens is None:
        return None
    padding = np.arange(bucket.rows.shape[1]) >= bucket.valid_lens[:, None, None]
    return np.where(padding, np.float32(-1e30), np.float32(0))


def _distinct(values: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct ones of (B, T) integers (U,), and where among them each value is, (B T,).

    The last is repeated, so that few sizes occur.
    """
    distinct, rows = np.unique(values.astype(np.int64), return_inverse=True)
    repeats = rounded_up(len(distinct)) - len(distinct)
    return np.concatenate((distinct, distinct[-1:].repeat(repeats))), rows.ravel()
