"""The layers of `bert` and `heads` computed without padding: the same weights and numbers, faster.

Tokens of all pairs lie end to end as rows; see `bertnli.data.packing` for which, and for the
algebra that saves the rest. Shapes: B pairs, T tokens, N rows, n pairs of a chunk, m of them with
spare ones, R tokens asked for, H num_hiddens, V vocab_size, h heads of d = H / h channels each.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet.bert import (
    AddNorm,
    BERTEncoder,
    EncoderBlock,
    MultiHeadAttention,
    PositionWiseFFN,
    Tensor,
    activate,
)
from bertnli.backends.mxnet.chunks import PackedChunk, packed_chunks
from bertnli.backends.mxnet.heads import MaskLM
from bertnli.backends.mxnet.kernels import (
    AttentionGroups,
    ClsGroups,
    Dropout,
    add,
    attention,
    cls_attention,
    concat,
    layer_norm,
    linear,
    lookup_sum,
    take,
)
from bertnli.data.packing import rounded_up


def first_tokens(
    encoder: BERTEncoder,
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    table: Tensor | None = None,
) -> Tensor:
    """Return the encoded first token of each pair, (B, H).

    Padding is not computed, and of the last block only what the first tokens need.

    Args:
        encoder: with one block or more.
        tokens, segments: (B, T) integers.
        valid_lens: (B,) tokens that are not padding.
        table: (U, H), rows of the token embedding that the tokens count; None for all of it.
    """
    *blks, last = encoder.blks
    pairs, encoded = [], []
    for chunk, X in _before_last(encoder, blks, tokens, segments, valid_lens, table):
        firsts = take(X, chunk.firsts)  # (m, H)
        attended = _cls_attention(last.attention, firsts, X, chunk.cls_groups)
        encoded.append(_after(last, firsts, attended))  # (m, H)
        pairs.append(chunk.pairs)
    return take(concat(encoded), np.argsort(np.concatenate(pairs))[: len(tokens)])


def tokens_at(
    encoder: BERTEncoder,
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    places: NDArray[np.int64],
    table: Tensor | None = None,
) -> Tensor:
    """Return some encoded tokens, (R, H).

    Padding is not computed, and after the last block's attention only the tokens asked for.

    Args:
        encoder, tokens, segments, valid_lens, table: see `first_tokens`.
        places: (R,) in the flattened batch (B * T,), none of them padding; also repeated.
    """
    *blks, last = encoder.blks
    is_wanted = np.zeros(tokens.size, bool)
    is_wanted[places] = True
    row_of = np.zeros(tokens.size, np.int64)
    encoded, done = [], 0
    for chunk, X in _before_last(encoder, blks, tokens, segments, valid_lens, table):
        rows = np.flatnonzero(is_wanted[chunk.tokens[: chunk.used]])
        row_of[chunk.tokens[rows]] = np.arange(done, done + len(rows))
        done += len(rows)
        heads = _heads(last.attention, X, chunk.groups)  # (N, H)
        encoded.append(_after(last, take(X, rows), _dense(last.attention.W_o, take(heads, rows))))
    return take(concat(encoded), row_of[places])


def mlm_logits(mlm: MaskLM, X: Tensor) -> Tensor:
    """Return the logits (R, V) of encoded tokens (R, H)."""
    dense, norm, decoder = mlm.mlp
    return _dense(decoder, _norm(norm, activate(_dense(dense, X), mlm.config)))


def _before_last(
    encoder: BERTEncoder,
    blks: list[EncoderBlock],
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
    table: Tensor | None,
) -> Iterator[tuple[PackedChunk, Tensor]]:
    """Yield the chunks of a batch, and what all blocks but the last make of each, (N, H)."""
    device, T, num_heads = tokens.ctx, tokens.shape[1], encoder.config.num_heads
    if table is None:
        table = encoder.token_embedding.weight.data(device)
    inputs = _Inputs(encoder, tokens.asnumpy(), segments.asnumpy(), table)
    for chunk in packed_chunks(valid_lens.asnumpy(), T, num_heads, device):
        X = inputs.embedded(chunk)  # (N, H)
        for i, blk in enumerate(blks):
            if i == 0 and encoder.ln is None:
                heads = inputs.heads(blk.attention, chunk)
            else:
                heads = _heads(blk.attention, X, chunk.groups)
            X = _after(blk, X, _dense(blk.attention.W_o, heads))  # (N, H)
        yield chunk, X


class _Inputs:
    """What the first block gets of a padded batch: looked up, for each distinct token and place."""

    def __init__(
        self, encoder: BERTEncoder, tokens: NDArray, segments: NDArray, table: Tensor
    ) -> None:
        self.encoder = encoder
        T = tokens.shape[1]
        places = segments.astype(np.int64) * T + np.arange(T)
        ids, self.token_rows = _distinct(tokens.astype(np.int64))
        places, self.place_rows = _distinct(places)
        self.by_token = take(table, ids)  # (distinct tokens, H)
        segment_table = encoder.segment_embedding.weight.data(table.ctx)
        position_table = encoder.pos_embedding.data(table.ctx)[0]
        self.by_place = take(segment_table, places // T) + take(position_table, places % T)

    def embedded(self, chunk: PackedChunk) -> Tensor:
        """Return the embeddings of a chunk's tokens, (N, H)."""
        X, encoder = lookup_sum(self.by_token, self.by_place, *self._rows(chunk)), self.encoder
        return X if encoder.ln is None else Dropout(encoder.dropout)(_norm(encoder.ln, X))

    def heads(self, layer: MultiHeadAttention, chunk: PackedChunk) -> Tensor:
        """Return what `_heads` makes of embeddings that are not normalised, (N, H)."""
        by_token, by_place = (
            chunk.groups.gather(*projections, rows=rows)
            for projections, rows in zip(self._projections, self._rows(chunk), strict=True)
        )
        return attention(add(by_token, by_place), chunk.groups, Dropout(layer.dropout))

    @cached_property
    def _projections(self) -> list[tuple[Tensor, ...]]:
        """Queries, keys and values of the distinct tokens, and of the places."""
        layer = self.encoder.blks[0].attention
        return [
            _queries_keys_values(layer, self.by_token),
            _queries_keys_values(layer, self.by_place, biased=False),
        ]

    def _rows(self, chunk: PackedChunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.token_rows[chunk.tokens], self.place_rows[chunk.tokens]


def _distinct(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct ones of (B, T) integers, the last repeated to make a round number (U,) of
    them, and where in them each value is, (B T,)."""
    found, rows = np.unique(values, return_inverse=True)
    repeats = rounded_up(len(found)) - len(found)
    return np.concatenate((found, found[-1:].repeat(repeats))), rows.ravel()


def _heads(layer: MultiHeadAttention, X: Tensor, groups: AttentionGroups) -> Tensor:
    """Return what all heads make of rows, side by side, (N, H); `W_o` comes after."""
    gathered = groups.gather(*_queries_keys_values(layer, X))
    return attention(gathered, groups, Dropout(layer.dropout))


def _queries_keys_values(
    layer: MultiHeadAttention, X: Tensor, biased: bool = True
) -> tuple[Tensor, ...]:
    return tuple(_dense(W, X, biased) for W in (layer.W_q, layer.W_k, layer.W_v))  # (N, H) each


def _cls_attention(layer: MultiHeadAttention, firsts: Tensor, X: Tensor, seen: ClsGroups) -> Tensor:
    """Return what attention makes of one query of each pair, (m, H), without keys and values.

    Args:
        layer: of the last block.
        firsts: (m, H), the tokens that ask.
        X: (N, H).
        seen: the rows of each pair.
    """
    key_layer, value_layer = (
        (W.weight.data(X.ctx), W.bias.data(X.ctx)) for W in (layer.W_k, layer.W_v)
    )
    heads = cls_attention(
        _dense(layer.W_q, firsts),
        X,
        key_layer,
        value_layer,
        seen,
        layer.num_heads,
        Dropout(layer.dropout),
    )
    return _dense(layer.W_o, heads)


def _after(blk: EncoderBlock, X: Tensor, Y: Tensor) -> Tensor:
    """Return what a block makes of its input X and its attention's output Y, (N, H)."""
    Y = _add_norm(blk.addnorm1, X, Y)
    return _add_norm(blk.addnorm2, Y, _ffn(blk.ffn, Y))


def _ffn(layer: PositionWiseFFN, X: Tensor) -> Tensor:
    Y = activate(_dense(layer.dense1, X), layer.config)  # (N, F)
    return _dense(layer.dense2, Y)


def _add_norm(layer: AddNorm, X: Tensor, Y: Tensor) -> Tensor:
    return _norm(layer.ln, Dropout(layer.dropout).add(X, Y))


def _dense(layer: Any, X: Tensor, biased: bool = True) -> Tensor:
    return linear(X, layer.weight.data(X.ctx), layer.bias.data(X.ctx) if biased else None)


def _norm(layer: Any, X: Tensor) -> Tensor:
    return layer_norm(X, layer.gamma.data(X.ctx), layer.beta.data(X.ctx), layer._epsilon)
