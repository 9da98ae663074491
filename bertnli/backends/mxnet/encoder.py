"""The encoder of BERT on Apache MXNet.

The layers, their names and their order are the book's, so that a ``.params`` file of the book
loads as it is. Shapes in comments: B pairs, T tokens, N rows, H num_hiddens, F ffn_num_hiddens, h
heads, d = H / h.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.chunks import PackedChunk, packed_chunks, padded_neighbours
from bertnli.backends.mxnet.devices import as_nd
from bertnli.backends.mxnet.kernels import (
    Dropout,
    FirstTokens,
    Neighbours,
    activate,
    attention,
    attention_of_firsts,
    concat,
    layer_norm,
    linear,
    lookup_sum,
    take,
)
from bertnli.config import BERTConfig
from bertnli.data.packing import rounded_up

nd: Any = mx.nd
nn: Any = mx.gluon.nn
use_np: Any = mx.util.use_np

#: An mx.np.ndarray; mxnet ships no types.
Tensor = Any


@use_np
class MultiHeadAttention(nn.Block):
    """Scaled dot-product self-attention of several heads (Vaswani et al., 2017)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.W_q = dense_layer(config.num_hiddens, config.num_hiddens)
        self.W_k = dense_layer(config.num_hiddens, config.num_hiddens)
        self.W_v = dense_layer(config.num_hiddens, config.num_hiddens)
        self.W_o = dense_layer(config.num_hiddens, config.num_hiddens)
        self.dropout = Dropout(config.dropout)

    def forward(self, X: Tensor, neighbours: Neighbours) -> Tensor:
        return self.output(self.heads(self.gathered(X, neighbours), neighbours))

    def gathered(self, X: Tensor, neighbours: Neighbours) -> list[list[Tensor]]:
        return neighbours.gather(self.queries(X), *self.keys_values(X))

    def queries(self, X: Tensor, biased: bool = True) -> Tensor:
        return projected(X, self.W_q, biased=biased)  # (N, H)

    def keys_values(self, X: Tensor, biased: bool = True) -> tuple[Tensor, Tensor]:
        return projected(X, self.W_k, biased=biased), projected(
            X, self.W_v, biased=biased
        )  # (N, H)

    def heads(self, gathered: list[list[Tensor]], neighbours: Neighbours) -> Tensor:
        return attention(gathered, neighbours, self.dropout)  # (Q, H)

    def output(self, heads: Tensor) -> Tensor:
        return projected(heads, self.W_o)  # (N, H)

    def of_firsts(self, firsts: Tensor, X: Tensor, seen: FirstTokens) -> Tensor:
        """Return what `forward` gives for one query of each pair, (m, H); of X (N, H) no key or
        value is computed."""
        key_layer, value_layer = (
            (layer.weight.data(X.ctx), layer.bias.data(X.ctx)) for layer in (self.W_k, self.W_v)
        )
        queries = self.queries(firsts)
        heads = attention_of_firsts(
            queries, X, key_layer, value_layer, seen, self.num_heads, self.dropout
        )
        return self.output(heads)


@use_np
class PositionWiseFFN(nn.Block):
    """Two dense layers on each position, an activation between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense1 = dense_layer(config.ffn_num_hiddens, config.num_hiddens)
        self.dense2 = dense_layer(config.num_hiddens, config.ffn_num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        return projected(
            activate(projected(X, self.dense1), self.activation), self.dense2
        )  # (N, H)


@use_np
class AddNorm(nn.Block):
    """Dropout on a sublayer's output, the residual sum, layer normalisation."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.ln = norm_layer(config)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return normalised(self.dropout.add(X, Y), self.ln)  # (N, H)


@use_np
class EncoderBlock(nn.Block):
    """A Transformer encoder block, normalised after each sublayer."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def forward(self, X: Tensor, neighbours: Neighbours) -> Tensor:
        return self.after(X, self.attention(X, neighbours))

    def after(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return what the block makes of its input X and the attention's output Y, (N, H)."""
        Y = self.addnorm1(X, Y)
        return self.addnorm2(Y, self.ffn(Y))


@use_np
class BERTEncoder(nn.Block):
    """Token, segment and position embeddings, summed, through the encoder blocks.

    Everything but attention works on rows: tokens laid end to end, (N, H).
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = nn.Embedding(2, config.num_hiddens)
        self.pos_embedding = self.params.get(
            "pos_embedding", shape=(1, config.max_len, config.num_hiddens)
        )
        self.ln = None
        if config.embedding_norm:
            self.ln = norm_layer(config)
            self.dropout = Dropout(config.dropout)
        self.blks = nn.Sequential()
        self.blks.add(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def forward(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None) -> Tensor:
        """Return all encoded tokens, padding included, (B, T, H)."""
        for X in self.layers(tokens, segments, valid_lens):
            encoded = X
        return encoded

    def layers(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None
    ) -> Iterator[Tensor]:
        """Yield what the first block gets, and what each block makes of it, (B, T, H)."""
        return self.layers_of(self.token_embedding(tokens), segments, valid_lens)

    def layers_of(
        self, embedded: Tensor, segments: Tensor, valid_lens: Tensor | None
    ) -> Iterator[Tensor]:
        """Yield the layers of tokens that are embedded already, (B, T, H)."""
        B, T = segments.shape
        device = segments.ctx
        X = embedded + self.pos_embedding.data(device)[:, :T]
        # A product with one-hot rows: the gradient of a lookup in so small a table is slow.
        one_hot = as_nd(np.eye(2)[segments.asnumpy().astype(np.int64)], device).as_np_ndarray()
        X = X + mx.np.dot(one_hot, self.segment_embedding.weight.data(device))
        X = self.normalised(X.reshape((B * T, -1)))
        yield X.reshape((B, T, -1))
        lens = None if valid_lens is None else valid_lens.asnumpy()
        neighbours = Neighbours(padded_neighbours(B, T, lens), B * T, self.config.num_heads, device)
        for blk in self.blks:
            X = blk(X, neighbours)
            yield X.reshape((B, T, -1))

    def normalised(self, X: Tensor) -> Tensor:
        """Return what the first block gets of summed embeddings X, (N, H)."""
        return X if self.ln is None else self.dropout(normalised(X, self.ln))

    def first_tokens(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor, table: Tensor | None
    ) -> Tensor:
        """Return the encoded first token of each pair, (B, H): the same numbers, with less work.

        Padding is not computed, and of the last block only what the first tokens need.
        """
        last = self.blks[-1]
        pairs, encoded = [], []
        for chunk, X in self._before_last(tokens, segments, valid_lens, table):
            firsts = take(X, chunk.firsts)  # (m, H)
            attended = last.attention.of_firsts(firsts, X, chunk.first_queries)
            pairs.append(chunk.pairs)
            encoded.append(last.after(firsts, attended))
        return take(concat(encoded), np.argsort(np.concatenate(pairs))[: len(tokens)])

    def tokens_at(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor,
        places: NDArray[np.int64],
        table: Tensor | None,
    ) -> Tensor:
        """Return some encoded tokens, (R, H): the same numbers as `forward`'s, with less work.

        Padding is not computed, and of the last block's output only the tokens asked for.

        Args:
            places: (R,) in the flattened batch (B * T,), none of them padding; also repeated.
        """
        last = self.blks[-1]
        is_wanted = np.zeros(tokens.size, bool)
        is_wanted[places] = True
        row_of = np.zeros(tokens.size, np.int64)
        encoded, done = [], 0
        for chunk, X in self._before_last(tokens, segments, valid_lens, table):
            rows = np.flatnonzero(is_wanted[chunk.tokens[: chunk.used]])
            row_of[chunk.tokens[rows]] = np.arange(done, done + len(rows))
            done += len(rows)
            attention, near = last.attention, chunk.all_queries
            heads = attention.heads(attention.gathered(X, near), near)
            encoded.append(last.after(take(X, rows), attention.output(take(heads, rows))))
        return take(concat(encoded), row_of[places])

    def _before_last(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor, table: Tensor | None
    ) -> Iterator[tuple[PackedChunk, Tensor]]:
        """Yield the chunks of a batch, and what the last block gets of each, (N, H)."""
        blks = [*self.blks][:-1]
        device, width = tokens.ctx, tokens.shape[1]
        if table is None:
            table = self.token_embedding.weight.data(device)
        inputs = EncoderInputs(self, tokens.asnumpy(), segments.asnumpy(), table)
        for chunk in packed_chunks(valid_lens.asnumpy(), width, self.config.num_heads, device):
            X = inputs.embedded(chunk)  # (N, H)
            for i, blk in enumerate(blks):
                if i == 0 and not self.config.embedding_norm:
                    X = blk.after(X, inputs.attended(chunk))
                else:
                    X = blk(X, chunk.all_queries)
            yield chunk, X


class EncoderInputs:
    """What the blocks of an encoder get of a padded batch.

    A token's embedding is a sum of two: its own, and its place's (segment and position). So are
    its projections in the first block, which are linear, unless the sum is normalised first. Both
    are computed once for each distinct token and place, of which a batch has far fewer than tokens,
    and looked up.

    Args:
        encoder: with at least one block.
        tokens, segments: (B, T) NumPy.
        table: (U, H), the token embedding's, or rows of it that the tokens count.
    """

    def __init__(
        self, encoder: BERTEncoder, tokens: NDArray, segments: NDArray, table: Tensor
    ) -> None:
        self.encoder = encoder
        T = tokens.shape[1]
        ids, self.token_rows = distinct(tokens.astype(np.int64))
        places = segments.astype(np.int64) * T + np.arange(T)
        places, self.place_rows = distinct(places)
        self.attention = encoder.blks[0].attention
        self.by_token = take(table, ids)  # (distinct tokens, H)
        segment_table = encoder.segment_embedding.weight.data(table.ctx)
        position_table = encoder.pos_embedding.data(table.ctx)[0]
        self.by_place = take(segment_table, places // T) + take(position_table, places % T)

    def embedded(self, chunk: PackedChunk) -> Tensor:
        """Return the embeddings of a chunk's tokens, (N, H)."""
        X = lookup_sum(self.by_token, self.by_place, *self._rows(chunk))
        return self.encoder.normalised(X)

    def attended(self, chunk: PackedChunk) -> Tensor:
        """Return what the first block's attention makes of them, (N, H)."""
        near = chunk.all_queries
        by_token, by_place = (
            near.gather(*projections, rows=rows)
            for projections, rows in zip(self._projections, self._rows(chunk), strict=True)
        )
        gathered = [
            [nd.elemwise_add(*parts) for parts in zip(*pair, strict=True)]
            for pair in zip(by_token, by_place, strict=True)
        ]
        return self.attention.output(self.attention.heads(gathered, near))

    @cached_property
    def _projections(self) -> list[tuple[Tensor, ...]]:
        """Queries, keys and values of the distinct tokens, and of the places."""
        return [
            (self.attention.queries(X, biased), *self.attention.keys_values(X, biased))
            for X, biased in ((self.by_token, True), (self.by_place, False))
        ]

    def _rows(self, chunk: PackedChunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.token_rows[chunk.tokens], self.place_rows[chunk.tokens]


def distinct(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct ones of (B, T) integers, the last repeated to make a round number (U,) of
    them, and where in them each value is, (B T,)."""
    found, rows = np.unique(values, return_inverse=True)
    repeats = rounded_up(len(found)) - len(found)
    return np.concatenate((found, found[-1:].repeat(repeats))), rows.ravel()


def projected(X: Tensor, layer: Any, biased: bool = True) -> Tensor:
    """Return what a dense layer makes of rows X, perhaps without its bias."""
    return linear(X, layer.weight.data(X.ctx), layer.bias.data(X.ctx) if biased else None)


def normalised(X: Tensor, layer: Any) -> Tensor:
    """Return what a layer of normalisation makes of rows X."""
    return layer_norm(X, layer.gamma.data(X.ctx), layer.beta.data(X.ctx), layer._epsilon)


def norm_layer(config: BERTConfig) -> Any:
    """Return gluon's layer normalisation."""
    return nn.LayerNorm(epsilon=config.norm_eps, in_channels=config.num_hiddens)


def dense_layer(units: int, in_units: int, activation: str | None = None) -> Any:
    """Return gluon's dense layer on the last axis."""
    return nn.Dense(units, activation=activation, flatten=False, in_units=in_units)
