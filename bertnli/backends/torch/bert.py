"""The encoder of BERT as in the chapter, which also computes padded positions.

`heads` adds a classifier; `nets.packed` computes the same without padding. Shapes: B pairs, T
tokens, H num_hiddens, F ffn_num_hiddens, h num_heads of d = H / h channels each. A `BERTConfig`
also has vocab_size, num_blks blocks, max_len positions, dropout, activation, and norm_eps, the
epsilon of layer normalisation; its embedding_norm is False in the book, and True in Hugging
Face's models. Of its other settings, the book's model has none: embeddings of another width (E),
and what RoBERTa, DistilBERT, ELECTRA, MPNet and DeBERTa change (`positions`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bertnli.backends.torch.positions import Distances, DistanceTable, distance_products
from bertnli.bert.config import BERTConfig
from bertnli.bert.positions import relative_ranges


def activation_layer(name: str) -> nn.Module:
    """Make an activation: ReLU as in the book, GELU as in Hugging Face, its tanh variant, tanh."""
    if name in ("relu", "tanh"):
        return nn.ReLU() if name == "relu" else nn.Tanh()
    return nn.GELU(approximate="none" if name == "gelu" else "tanh")


def masked_softmax(scores: Tensor, valid_lens: Tensor | None) -> Tensor:
    """Compute the softmax over the keys; keys that are padding get a weight of 0.

    Args:
        scores: (B, h, T, T), queries by keys.
        valid_lens: the number of keys that are not padding, (B,), or (B, T) by query; None for all.
    """
    if valid_lens is not None:
        positions = torch.arange(scores.shape[-1], device=scores.device)
        padding = positions >= valid_lens.reshape(len(scores), 1, -1, 1)  # (B, 1, 1 or T, T)
        scores = scores - 1e30 * padding.to(scores.dtype)  # exp(-1e30) is 0
    return scores.softmax(dim=-1)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product self-attention of several heads (Vaswani et al., 2017)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.W_q = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_k = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_v = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.W_o = nn.Linear(config.num_hiddens, config.num_hiddens)
        self.dropout = nn.Dropout(config.attention_dropouts[0])
        self.score_terms = config.score_terms  # 1 in the book
        if config.position_buckets:
            self.distance_dropout = nn.Dropout(config.dropout)

    def forward(
        self, X: Tensor, valid_lens: Tensor | None = None, bias: Tensor | Distances | None = None
    ) -> Tensor:
        queries = self.split_heads(self.W_q(X))  # (B, h, T, d)
        keys = self.split_heads(self.W_k(X))  # (B, h, T, d)
        values = self.split_heads(self.W_v(X))  # (B, h, T, d)
        scores = queries @ keys.transpose(2, 3)  # (B, h, T, T)
        if isinstance(bias, Distances):  # as in DeBERTa
            scores, bias = scores + self.distance_scores(queries, keys, bias), None
        scores = scores / math.sqrt(self.score_terms * queries.shape[-1])
        scores = scores if bias is None else scores + bias
        weights = self.dropout(masked_softmax(scores, valid_lens))  # (B, h, T, T)
        heads = (weights @ values).transpose(1, 2)  # (B, T, h, d)
        return self.W_o(heads.reshape(X.shape))  # (B, T, H)

    def split_heads(self, X: Tensor) -> Tensor:
        """Split each token's channels into heads: (B, T, H) to (B, h, T, d)."""
        return X.reshape(*X.shape[:2], self.num_heads, -1).transpose(1, 2)

    def distance_scores(self, queries: Tensor, keys: Tensor, distances: Distances) -> Tensor:
        """Compute what distances add to scores (B, h, T, T), from queries and keys (B, h, T, d)."""
        vectors = self.distance_dropout(distances.vectors)
        K, Q = (
            W(vectors)[ranges].unflatten(1, (self.num_heads, -1))  # (2 T, h, d)
            for W, ranges in zip((self.W_k, self.W_q), distances.ranges, strict=True)
        )
        return distance_products(queries, K) + distance_products(keys, Q).transpose(2, 3)


class PositionWiseFFN(nn.Module):
    """Two dense layers on each position with an activation between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dense1 = nn.Linear(config.num_hiddens, config.ffn_num_hiddens)
        self.activation = activation_layer(config.activation)
        self.dense2 = nn.Linear(config.ffn_num_hiddens, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        Y = self.activation(self.dense1(X))  # (B, T, F)
        return self.dense2(Y)  # (B, T, H)


class AddNorm(nn.Module):
    """Layer normalisation of the sum of a sublayer's input X and, after dropout, its output Y."""

    def __init__(self, config: BERTConfig, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return self.ln(self.dropout(Y) + X)  # (B, T, H)


class EncoderBlock(nn.Module):
    """A block of the Transformer's encoder: self-attention and the FFN, each with an `AddNorm`."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config, config.attention_dropouts[1])
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config, config.dropout)

    def forward(
        self,
        X: Tensor,
        valid_lens: Tensor | None = None,
        bias: Tensor | Distances | None = None,
    ) -> Tensor:
        Y = self.addnorm1(X, self.attention(X, valid_lens, bias))  # (B, T, H)
        return self.addnorm2(Y, self.ffn(Y))  # (B, T, H)


class BERTEncoder(nn.Module):
    """BERT's encoder: the sum of token, segment and position embeddings, then encoder blocks."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embedding_width  # E, which is H in the book
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.segment_embedding = self.relative_embedding = self.ln = self.projection = None
        self.distances = None
        if config.num_segments:
            self.segment_embedding = nn.Embedding(config.num_segments, width)
        if config.position_buckets:
            self.pos_embedding, self.distances = None, DistanceTable(config)
        else:
            num_positions = config.first_position + config.max_len
            self.pos_embedding = nn.Parameter(torch.randn(1, num_positions, width))
        if config.relative_buckets:
            self.relative_embedding = nn.Embedding(config.relative_buckets, config.num_heads)
        if config.embedding_norm:  # as in Devlin et al. (2019), but not in the book
            self.ln = nn.LayerNorm(width, config.norm_eps)
            self.dropout = nn.Dropout(config.dropout)
        if width != config.num_hiddens:
            self.projection = nn.Linear(width, config.num_hiddens)
        self.blks = nn.Sequential(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def forward(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None = None) -> Tensor:
        """Encode token ids (B, T) in segments (B, T), of which valid_lens (B,) are not padding."""
        X = self.embed(self.token_embedding(tokens), segments)  # (B, T, H)
        bias = self.relative_bias(tokens.shape[1])
        for blk in self.blks:
            X = blk(X, valid_lens, bias)  # (B, T, H)
        return X

    def embed(self, X: Tensor, segments: Tensor) -> Tensor:
        """Add segment and position embeddings to token embeddings X, (B, T, E); (B, T, H)."""
        first = self.config.first_position
        if self.segment_embedding is not None:
            segments = segments if self.config.pair_segments else torch.zeros_like(segments)
            X = X + self.segment_embedding(segments)
        if self.pos_embedding is not None:
            X = X + self.pos_embedding[:, first : first + X.shape[1]]
        X = X if self.ln is None else self.dropout(self.ln(X))
        return X if self.projection is None else self.projection(X)

    def relative_bias(self, T: int) -> Tensor | Distances | None:
        """Return what is added to the scores of T queries and keys, (h, T, T); None for nothing.

        In DeBERTa, where it depends on queries and keys, return the vectors of distances.
        """
        if self.relative_embedding is None:
            return None if self.distances is None else self.distances(T)
        ranges = torch.from_numpy(relative_ranges(self.config.relative_buckets, T))
        biases = self.relative_embedding(ranges.to(self.relative_embedding.weight.device))
        return biases.permute(2, 0, 1)  # (T, T, h) to (h, T, T)
