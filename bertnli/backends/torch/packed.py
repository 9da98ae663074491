"""The layers of `bert` and `heads` computed without padding: the same weights and numbers, faster.

Tokens of all pairs lie end to end as rows; see `bertnli.data.packing` for which, and for the
algebra that saves the rest. Shapes: B pairs, T tokens, N rows, n pairs of a chunk, m of them with
spare ones, R tokens asked for, H num_hiddens, V vocab_size, h heads of d = H / h channels each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from bertnli.backends.torch.bert import (
    AddNorm,
    BERTEncoder,
    EncoderBlock,
    MultiHeadAttention,
    PositionWiseFFN,
)
from bertnli.backends.torch.chunks import PackedChunk, packed_chunks
from bertnli.backends.torch.heads import MaskLM
from bertnli.backends.torch.kernels import (
    AttentionGroup,
    Dropout,
    attention,
    attention_to_rows,
    linear,
    lookup_sum,
)
from bertnli.data.packing import rounded_up


def first_tokens(
    encoder: BERTEncoder, tokens: Tensor, segments: Tensor, valid_lens: Tensor
) -> Tensor:
    """Return the encoded first token of each pair, (B, H).

    Padding is not computed, and of the last block only what the first tokens need.

    Args:
        encoder: with one block or more.
        tokens, segments: (B, T) integers.
        valid_lens: (B,) tokens that are not padding.
    """
    *blks, last = _blocks(encoder)
    pairs, encoded = [], []
    for chunk, X in _before_last(encoder, blks, tokens, segments, valid_lens):
        firsts = X[chunk.firsts]  # (m, H)
        # The last block in float32: it is cheap for so few rows, and bf16 changes predictions.
        with torch.autocast(X.device.type, enabled=False):
            attended = _cls_attention(last.attention, firsts, X, chunk.cls_groups)
            encoded.append(_after(last, firsts, attended))  # (m, H)
        pairs.append(chunk.pairs)
    return torch.cat(encoded)[torch.cat(pairs).argsort()[: len(tokens)]]


def tokens_at(
    encoder: BERTEncoder, tokens: Tensor, segments: Tensor, valid_lens: Tensor, places: Tensor
) -> Tensor:
    """Return some encoded tokens, (R, H).

    Padding is not computed, and after the last block's attention only the tokens asked for.

    Args:
        encoder, tokens, segments, valid_lens: see `first_tokens`.
        places: (R,) in the flattened batch (B * T,), none of them padding; also repeated.
    """
    *blks, last = _blocks(encoder)
    is_wanted = torch.zeros(tokens.numel(), dtype=torch.bool, device=tokens.device)
    is_wanted[places] = True
    row_of = torch.zeros(tokens.numel(), dtype=torch.int64, device=tokens.device)
    encoded, done = [], 0
    for chunk, X in _before_last(encoder, blks, tokens, segments, valid_lens):
        rows = is_wanted[chunk.tokens[: chunk.used]].nonzero().flatten()
        row_of[chunk.tokens[rows]] = torch.arange(done, done + len(rows), device=tokens.device)
        done += len(rows)
        heads = _heads(last.attention, X, chunk.groups)  # (N, H)
        encoded.append(_after(last, X[rows], _dense(last.attention.W_o, heads[rows])))
    return torch.cat(encoded)[row_of[places]]


def mlm_logits(mlm: MaskLM, X: Tensor) -> Tensor:
    """Return the logits (R, V) of encoded tokens (R, H)."""
    dense, activation, norm, decoder = cast(list[nn.Linear], mlm.mlp)
    return _dense(decoder, norm(activation(_dense(dense, X)).float()))


def _blocks(encoder: BERTEncoder) -> list[EncoderBlock]:
    return cast(list[EncoderBlock], list(encoder.blks))


def _before_last(
    encoder: BERTEncoder,
    blks: list[EncoderBlock],
    tokens: Tensor,
    segments: Tensor,
    valid_lens: Tensor,
) -> Iterator[tuple[PackedChunk, Tensor]]:
    """Yield the chunks of a batch, and what all blocks but the last make of each, (N, H)."""
    inputs = _Inputs(encoder, tokens, segments)
    for chunk in packed_chunks(valid_lens, tokens.shape[1], encoder.config.num_heads):
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

    def __init__(self, encoder: BERTEncoder, tokens: Tensor, segments: Tensor) -> None:
        self.encoder = encoder
        T = tokens.shape[1]
        places = segments * T + torch.arange(T, device=tokens.device)
        ids, self.token_rows = _distinct(tokens)
        places, self.place_rows = _distinct(places)
        self.by_token = encoder.token_embedding(ids)  # (distinct tokens, H)
        self.by_place = (  # (distinct places, H)
            encoder.segment_embedding(places // T) + encoder.pos_embedding[0, places % T]
        )

    def embedded(self, chunk: PackedChunk) -> Tensor:
        """Return the embeddings of a chunk's tokens, (N, H)."""
        X, encoder = self._looked_up(chunk, self.by_token, self.by_place), self.encoder
        return X if encoder.ln is None else Dropout(encoder.dropout)(encoder.ln(X))

    def heads(self, layer: MultiHeadAttention, chunk: PackedChunk) -> Tensor:
        """Return what `_heads` makes of embeddings that are not normalised, (N, H)."""
        queries = self._looked_up(chunk, *self._queries)
        keys_values = self._looked_up(chunk, *self._keys_values)
        return attention(
            queries, keys_values, chunk.groups, layer.num_heads, Dropout(layer.dropout)
        )

    @cached_property
    def _queries(self) -> tuple[Tensor, Tensor]:
        return self._projected(_queries)

    @cached_property
    def _keys_values(self) -> tuple[Tensor, Tensor]:
        return self._projected(_keys_values)

    def _projected(self, project: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        layer = _blocks(self.encoder)[0].attention
        # In float32: it is cheap for so few rows, and a sum of two roundings is less exact.
        with torch.autocast(self.by_token.device.type, enabled=False):
            return project(layer, self.by_token), project(layer, self.by_place, biased=False)

    def _looked_up(self, chunk: PackedChunk, by_token: Tensor, by_place: Tensor) -> Tensor:
        tokens = chunk.tokens
        return lookup_sum(by_token, by_place, self.token_rows[tokens], self.place_rows[tokens])


def _distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct ones of (B, T) integers, the last repeated to make a round number (U,) of
    them, and where in them each value is, (B T,)."""
    found, rows = values.flatten().unique(return_inverse=True)
    repeats = rounded_up(len(found)) - len(found)
    return torch.cat((found, found[-1:].expand(repeats))), rows


def _heads(layer: MultiHeadAttention, X: Tensor, groups: list[AttentionGroup]) -> Tensor:
    """Return what all heads make of rows, side by side, (N, H); `W_o` comes after."""
    dropout = Dropout(layer.dropout)
    return attention(_queries(layer, X), _keys_values(layer, X), groups, layer.num_heads, dropout)


def _queries(layer: MultiHeadAttention, X: Tensor, biased: bool = True) -> Tensor:
    return linear(X, layer.W_q.weight, layer.W_q.bias if biased else None)  # (N, H)


def _keys_values(layer: MultiHeadAttention, X: Tensor, biased: bool = True) -> Tensor:
    weight = torch.cat((layer.W_k.weight, layer.W_v.weight))
    bias = torch.cat((layer.W_k.bias, layer.W_v.bias)) if biased else None
    return linear(X, weight, bias)  # (N, 2 H)


def _cls_attention(
    layer: MultiHeadAttention, firsts: Tensor, X: Tensor, groups: list[AttentionGroup]
) -> Tensor:
    """Return what attention makes of one query of each pair, (m, H), without keys and values.

    Args:
        layer: of the last block.
        firsts: (m, H), the tokens that ask.
        X: (N, H).
        groups: of m h queries, those of the heads of a token one after the other.
    """
    (m, H), h = firsts.shape, layer.num_heads
    d = H // h
    q = _queries(layer, firsts).view(m, h, d).transpose(0, 1)
    asked = torch.bmm(q, layer.W_k.weight.view(h, d, H))  # (h, m, H)
    asked = asked.transpose(0, 1).reshape(m * h, H)
    means, sums = attention_to_rows(asked, X, groups, d**-0.5, Dropout(layer.dropout))
    means = means.view(m, h, H).transpose(0, 1)
    values = torch.bmm(means, layer.W_v.weight.view(h, d, H).transpose(1, 2))  # (h, m, d)
    # A zero-valued term gives W_k.bias an exact zero gradient.
    bias = (layer.W_v.bias + 0 * layer.W_k.bias).view(h, d)
    heads = values.transpose(0, 1) + sums.view(m, h, 1) * bias  # (m, h, d)
    return _dense(layer.W_o, heads.reshape(m, H))


def _after(blk: EncoderBlock, X: Tensor, Y: Tensor) -> Tensor:
    """Return what a block makes of its input X and its attention's output Y, (N, H)."""
    Y = _add_norm(blk.addnorm1, X, Y)
    return _add_norm(blk.addnorm2, Y, _ffn(blk.ffn, Y))


def _ffn(layer: PositionWiseFFN, X: Tensor) -> Tensor:
    relu = isinstance(layer.activation, nn.ReLU)
    Y = linear(X, layer.dense1.weight, layer.dense1.bias, relu)  # (N, F)
    return _dense(layer.dense2, Y if relu else layer.activation(Y))


def _add_norm(layer: AddNorm, X: Tensor, Y: Tensor) -> Tensor:
    return layer.ln(Dropout(layer.dropout).add(X, Y))


def _dense(layer: nn.Linear, X: Tensor) -> Tensor:
    return linear(X, layer.weight, layer.bias)
