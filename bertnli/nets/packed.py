"""BERT's encoder computed without padding: the results of the backends' module ``bert``, faster.

The tokens of all pairs are joined to rows; `bertnli.data.packing` plans this, and explains the
algebra that saves the rest. A net's ``ops`` is its backend's module ``layers``, which computes on
rows.

Shapes: B pairs, T tokens, N rows of a chunk, n pairs of a chunk, m = n rounded up, R requested
tokens, U rows of a table, H num_hiddens, E embedding_size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertnli.data.packing import Bucket, Chunk, pack, rounded_up

#: A tensor of the backend's framework.
Tensor: TypeAlias = Any


def first_tokens(net: Any, inputs: Sequence[Tensor], table: Tensor | None = None) -> Tensor:
    """Compute the encoder's output for the first token of each pair, (B, H).

    Of the last block only these tokens are computed.

    Args:
        net: the net whose encoder is used.
        inputs: token_ids (B, T), segments (B, T), valid_lens (B,), as in `Batch.inputs`.
        table: (U, E), the rows of the token embedding that token_ids index; None for all rows.
    """
    ops, last, pairs, encoded = net.ops, net.encoder.blks[-1], [], []
    with ops.autocast(net.precision, inputs[0]):
        for chunk, groups, X, distances in _before_last(net, inputs, table):
            firsts = ops.take(X, chunk.firsts)  # (m, H)
            heads = None
            if distances is not None:  # a key's score depends on its distance, too
                heads = ops.attention(
                    last.attention, [ops.project(last.attention, X)], None, groups, distances
                )
            with ops.in_float32(X):  # cheap for so few rows, and bf16 changes predictions
                if heads is None:
                    attended = ops.cls_attention(last.attention, firsts, X, groups)  # (m, H)
                else:
                    attended = ops.dense(last.attention.W_o, ops.take(heads, chunk.firsts))
                encoded.append(_after(ops, last, firsts, attended))  # (m, H)
            padding = (0, len(chunk.firsts) - len(chunk.pairs))
            pairs.append(np.pad(chunk.pairs, padding, constant_values=len(inputs[0])))
        order = np.argsort(np.concatenate(pairs))[: len(inputs[0])]
        return ops.take(ops.concat(encoded), order)


def tokens_at(net: Any, inputs: Sequence[Tensor], places: NDArray, table: Any = None) -> Tensor:
    """Compute the encoder's output for some tokens, (R, H).

    After the last block's attention only these tokens are computed.

    Args:
        net, inputs, table: see `first_tokens`.
        places: (R,) positions in the flattened batch (B * T,), perhaps repeated, without padding.
    """
    ops, last = net.ops, net.encoder.blks[-1]
    size = inputs[0].shape[0] * inputs[0].shape[1]
    is_wanted, row_of = np.zeros(size, bool), np.zeros(size, np.int64)
    is_wanted[places] = True
    encoded, done = [], 0
    with ops.autocast(net.precision, inputs[0]):
        for chunk, groups, X, distances in _before_last(net, inputs, table):
            rows = np.flatnonzero(is_wanted[chunk.tokens[: chunk.used]])
            row_of[chunk.tokens[rows]] = np.arange(done, done + len(rows))
            done += len(rows)
            projected = [ops.project(last.attention, X)]
            heads = ops.attention(last.attention, projected, None, groups, distances)
            attended = ops.dense(last.attention.W_o, ops.take(heads, rows))
            encoded.append(_after(ops, last, ops.take(X, rows), attended))
        return ops.take(ops.concat(encoded), row_of[places])


def _before_last(
    net: Any, inputs: Sequence[Tensor], table: Tensor | None
) -> Iterator[tuple[Chunk, Any, Tensor, Tensor | None]]:
    """Yield each chunk of a batch, its attention groups, and the last block's input, (N, H).

    The fourth item is what the last block's attention needs of distances; None for nothing.
    """
    ops, encoder, tokens = net.ops, net.encoder, inputs[0]
    ids, sides, lens = (ops.to_numpy(x) for x in inputs)
    T, blks = ids.shape[1], list(encoder.blks)[:-1]
    if not encoder.config.pair_segments:
        sides = np.zeros_like(sides)
    distinct_ids, id_rows = _distinct(ids)
    places, place_rows = _distinct(sides.astype(np.int64) * T + np.arange(T))
    summands = ops.summands(encoder, distinct_ids, places // T, places % T, table, tokens)
    relative = ops.relative_bias(encoder, T, tokens)
    distances = [None] * (len(blks) + 1)
    if encoder.distances is not None:
        distances = [ops.project_distances(blk.attention, relative) for blk in encoder.blks]
        relative = None
    by_summand = encoder.ln is None and encoder.projection is None and len(blks) > 0
    if by_summand:
        layer = blks[0].attention
        with ops.in_float32(summands[0]):  # a sum of two roundings is less exact
            projections = [ops.project(layer, x, i == 0) for i, x in enumerate(summands)]
    max_tokens = ops.CHUNK_TOKENS if ops.is_on_cpu(tokens) else lens.size * T
    for chunk in pack(lens, T, max_tokens):
        groups = ops.groups(chunk, encoder.config.num_heads, tokens, relative)
        rows = id_rows[chunk.tokens], place_rows[chunk.tokens]
        X = ops.lookup_sum(*summands, *rows)  # (N, E)
        if encoder.ln is not None:
            X = ops.Dropout(encoder.dropout)(ops.norm(encoder.ln, X))
        if encoder.projection is not None:
            with ops.in_float32(X):  # its result is added to, block by block
                X = ops.dense(encoder.projection, X)
        for i, blk in enumerate(blks):
            if i == 0 and by_summand:
                heads = ops.attention(blk.attention, projections, rows, groups, distances[i])
            else:
                projected = [ops.project(blk.attention, X)]
                heads = ops.attention(blk.attention, projected, None, groups, distances[i])
            X = _after(ops, blk, X, ops.dense(blk.attention.W_o, heads))  # (N, H)
        yield chunk, groups, X, distances[-1]


def _after(ops: Any, blk: Any, X: Tensor, Y: Tensor) -> Tensor:
    """Compute a block's output, (N, H), from its input X and its attention's output Y."""
    Y = ops.add_norm(blk.addnorm1, X, Y)
    return ops.add_norm(blk.addnorm2, Y, ops.ffn(blk.ffn, Y))


def attention_bias(bucket: Bucket) -> NDArray[np.float32] | None:
    """Return the bias that hides padding, (n, 1, t), to be added to scores; None without padding.

    Scores of padding become -1e30 exactly, since float32 has no digits left for them: their
    weights are 0, and where no key is valid all keys weigh the same, as in the book.
    """
    if bucket.valid_lens is None:
        return None
    padding = np.arange(bucket.rows.shape[1]) >= bucket.valid_lens[:, None, None]
    return np.where(padding, np.float32(-1e30), np.float32(0))


def _distinct(values: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a (B, T) array's distinct values (U,), and each element's index, (B * T,).

    The last distinct value is repeated, so that few different U occur.
    """
    distinct, rows = np.unique(values.astype(np.int64), return_inverse=True)
    repeats = rounded_up(len(distinct)) - len(distinct)
    return np.concatenate((distinct, distinct[-1:].repeat(repeats))), rows.ravel()
