"""The encoder of BERT on PyTorch.

The layers, their names and their order are the book's, so that a state dict of the book
loads as it is. Shapes in comments: B pairs, T tokens, Q queries (T of them, or 1), H num_hiddens,
F ffn_num_hiddens, h heads, d = H / h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertnli.backends.torch.chunks import PackedChunk, packed_chunks, padded_neighbours
from bertnli.backends.torch.kernels import (
    Dropout,
    Neighbours,
    attention,
    attention_to_rows,
    linear,
    lookup_sum,
)
from bertnli.config import BERTConfig
from bertnli.data.packing import rounded_up

#: PyTorch's names for the two ways to compute GELU.
GELU = {"gelu": "none", "gelu_tanh": "tanh"}


class MultiHeadAttention(nn.Module):
    """Scaled dot-product self-attention of several heads (Vaswani et al., 2017)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.W_q = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_k = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_v = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_o = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.dropout = Dropout(config.dropout)

    def forward(self, X: Tensor, neighbours: Sequence[Neighbours]) -> Tensor:
        heads = self.heads(self.queries(X), self.keys_values(X), neighbours)
        return self.output(heads)

    def queries(self, X: Tensor, biased: bool = True) -> Tensor:
        return linear(X, self.W_q.weight, self.W_q.bias if biased else None)  # (N, H)

    def keys_values(self, X: Tensor, biased: bool = True) -> Tensor:
        weight = torch.cat((self.W_k.weight, self.W_v.weight))
        bias = torch.cat((self.W_k.bias, self.W_v.bias)) if biased else None
        return linear(X, weight, bias)  # (N, 2 H)

    def heads(
        self, queries: Tensor, keys_values: Tensor, neighbours: Sequence[Neighbours]
    ) -> Tensor:
        return attention(queries, keys_values, neighbours, self.num_heads, self.dropout)

    def output(self, heads: Tensor) -> Tensor:
        return linear(heads, self.W_o.weight, self.W_o.bias)  # (N, H)

    def of_firsts(self, firsts: Tensor, X: Tensor, neighbours: Sequence[Neighbours]) -> Tensor:
        """Return what `forward` gives for one query of each pair, (m, H), without keys and values.

        A query's product with a key, ``q (W_k x)^T``, is that of ``q W_k`` with x itself; and the
        weighted mean of the values is the value of the mean. Queries that are so few are cheaper
        to project than all of X.

        Args:
            firsts: (m, H), the tokens that ask.
            X: (N, H).
            neighbours: of m h queries, those of the heads of a token one after the other.
        """
        (m, H), h = firsts.shape, self.num_heads
        d = H // h
        q = self.queries(firsts).view(m, h, d).transpose(0, 1)
        asked = torch.bmm(q, self.W_k.weight.view(h, d, H))  # (h, m, H)
        asked = asked.transpose(0, 1).reshape(m * h, H)
        means, sums = attention_to_rows(asked, X, neighbours, d**-0.5, self.dropout)
        means = means.view(m, h, H).transpose(0, 1)
        values = torch.bmm(means, self.W_v.weight.view(h, d, H).transpose(1, 2))  # (h, m, d)
        # The keys' bias adds the same to all scores of a query, which softmax does not see.
        # Its gradient is zero: not none, and not noise.
        bias = (self.W_v.bias + 0 * self.W_k.bias).view(h, d)
        heads = values.transpose(0, 1) + sums.view(m, h, 1) * bias  # (m, h, d)
        return self.output(heads.reshape(m, H))


class PositionWiseFFN(nn.Module):
    """Two dense layers on each position, an activation between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense1 = nn.Linear(config.num_hiddens, config.ffn_num_hiddens)
        self.dense2 = nn.Linear(config.ffn_num_hiddens, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        Y = linear(X, self.dense1.weight, self.dense1.bias, self.activation == "relu")  # (N, F)
        if self.activation != "relu":
            Y = functional.gelu(Y, approximate=GELU[self.activation])
        return linear(Y, self.dense2.weight, self.dense2.bias)  # (N, H)


class AddNorm(nn.Module):
    """Dropout on a sublayer's output, the residual sum, layer normalisation."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return self.ln(self.dropout.add(X, Y))  # (B, Q, H)


class EncoderBlock(nn.Module):
    """A Transformer encoder block, normalised after each sublayer."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def forward(self, X: Tensor, neighbours: Sequence[Neighbours]) -> Tensor:
        return self.after(X, self.attention(X, neighbours))

    def after(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return what the block makes of its input X and the attention's output Y, (N, H)."""
        Y = self.addnorm1(X, Y)
        return self.addnorm2(Y, self.ffn(Y))


class BERTEncoder(nn.Module):
    """Token, segment and position embeddings, summed, through the encoder blocks.

    Everything but attention works on rows: tokens laid end to end, (N, H).
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = _embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = _embedding(2, config.num_hiddens)
        self.pos_embedding = nn.Parameter(torch.empty(1, config.max_len, config.num_hiddens))
        self.ln = None
        if config.embedding_norm:
            self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)
            self.dropout = Dropout(config.dropout)
        self.blks = nn.Sequential(*(EncoderBlock(config) for _ in range(config.num_blks)))

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
        X = embedded + self.pos_embedding[:, :T]
        # A product with one-hot rows: the gradient of a lookup in so small a table is slow.
        X = X + functional.one_hot(segments.long(), 2).to(X.dtype) @ self.segment_embedding.weight
        X = self.normalised(X.flatten(0, 1))  # (B T, H)
        yield X.view(B, T, -1)
        neighbours = padded_neighbours(segments, valid_lens)
        for blk in self.blks:
            X = blk(X, neighbours)
            yield X.view(B, T, -1)

    def normalised(self, X: Tensor) -> Tensor:
        """Return what the first block gets of summed embeddings X, (N, H)."""
        return X if self.ln is None else self.dropout(self.ln(X))

    def first_tokens(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor) -> Tensor:
        """Return the encoded first token of each pair, (B, H): the same numbers, with less work.

        Padding is not computed, and of the last block only what the first tokens need.
        """
        last = cast(EncoderBlock, self.blks[-1])
        pairs, encoded = [], []
        for chunk, X in self._before_last(tokens, segments, valid_lens):
            firsts = X[chunk.firsts]  # (m, H)
            # So few rows are quick in float32 too, and the classes are decided by them.
            with torch.autocast(X.device.type, enabled=False):
                attended = last.attention.of_firsts(firsts, X, chunk.first_queries)
                encoded.append(last.after(firsts, attended))
            pairs.append(chunk.pairs)
        return torch.cat(encoded)[torch.cat(pairs).argsort()[: len(tokens)]]

    def tokens_at(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor, places: Tensor
    ) -> Tensor:
        """Return some encoded tokens, (R, H): the same numbers as `forward`'s, with less work.

        Padding is not computed, and of the last block's output only the tokens asked for.

        Args:
            places: (R,) in the flattened batch (B * T,), none of them padding; also repeated.
        """
        last = cast(EncoderBlock, self.blks[-1])
        is_wanted = torch.zeros(tokens.numel(), dtype=torch.bool, device=tokens.device)
        is_wanted[places] = True
        row_of = torch.zeros(tokens.numel(), dtype=torch.int64, device=tokens.device)
        encoded, done = [], 0
        for chunk, X in self._before_last(tokens, segments, valid_lens):
            rows = is_wanted[chunk.tokens[: chunk.used]].nonzero().flatten()
            row_of[chunk.tokens[rows]] = torch.arange(done, done + len(rows), device=tokens.device)
            done += len(rows)
            attention = last.attention
            heads = attention.heads(
                attention.queries(X), attention.keys_values(X), chunk.all_queries
            )
            encoded.append(last.after(X[rows], attention.output(heads[rows])))
        return torch.cat(encoded)[row_of[places]]

    def _before_last(
        self, tokens: Tensor, segments: Tensor, valid_lens: Tensor
    ) -> Iterator[tuple[PackedChunk, Tensor]]:
        """Yield the chunks of a batch, and what the last block gets of each, (N, H)."""
        blks = cast(list[EncoderBlock], list(self.blks))[:-1]
        inputs = EncoderInputs(self, tokens, segments)
        for chunk in packed_chunks(valid_lens, tokens.shape[1], self.config.num_heads):
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
        tokens, segments: (B, T).
    """

    def __init__(self, encoder: BERTEncoder, tokens: Tensor, segments: Tensor) -> None:
        self.encoder = encoder
        T = tokens.shape[1]
        places = segments * T + torch.arange(T, device=tokens.device)
        ids, self.token_rows = distinct(tokens)
        places, self.place_rows = distinct(places)
        self.attention = cast(EncoderBlock, encoder.blks[0]).attention
        self.by_token = encoder.token_embedding(ids)  # (distinct tokens, H)
        self.by_place = (
            encoder.segment_embedding(places // T) + encoder.pos_embedding[0, places % T]
        )

    def embedded(self, chunk: PackedChunk) -> Tensor:
        """Return the embeddings of a chunk's tokens, (N, H)."""
        return self.encoder.normalised(self._looked_up(chunk, self.by_token, self.by_place))

    def attended(self, chunk: PackedChunk) -> Tensor:
        """Return what the first block's attention makes of them, (N, H)."""
        queries, keys_values = (
            self._looked_up(chunk, *tables) for tables in (self._queries, self._keys_values)
        )
        heads = self.attention.heads(queries, keys_values, chunk.all_queries)
        return self.attention.output(heads)

    @cached_property
    def _queries(self) -> tuple[Tensor, Tensor]:
        return self._projected(self.attention.queries)

    @cached_property
    def _keys_values(self) -> tuple[Tensor, Tensor]:
        return self._projected(self.attention.keys_values)

    def _projected(self, project: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        # So few rows are quick in float32 too, and a sum of two roundings would be less exact.
        with torch.autocast(self.by_token.device.type, enabled=False):
            return project(self.by_token), project(self.by_place, biased=False)

    def _looked_up(self, chunk: PackedChunk, by_token: Tensor, by_place: Tensor) -> Tensor:
        tokens = chunk.tokens
        return lookup_sum(by_token, by_place, self.token_rows[tokens], self.place_rows[tokens])


def distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct ones of (B, T) integers, the last repeated to make a round number (U,) of
    them, and where in them each value is, (B T,)."""
    found, rows = values.flatten().unique(return_inverse=True)
    repeats = rounded_up(len(found)) - len(found)
    return torch.cat((found, found[-1:].expand(repeats))), rows


def _embedding(rows: int, columns: int) -> nn.Embedding:
    """Return an embedding without start values.

    Drawing them on no device would import PyTorch's compiler, which takes a second.
    """
    return nn.Embedding.from_pretrained(torch.empty(rows, columns), freeze=False)
