"""The encoder of BERT as in the chapter, which also computes padded positions.

`heads` adds a classifier; `nets.packed` computes the same without padding. Shapes: B pairs, T
tokens, H num_hiddens, F ffn_num_hiddens, h num_heads of d = H / h channels each. A `BERTConfig`
also has vocab_size, num_blks blocks, max_len positions, dropout, activation, and norm_eps, the
epsilon of layer normalisation; its embedding_norm is False in the book, and True in Hugging
Face's models.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bertnli.bert.config import BERTConfig


def activation_layer(config: BERTConfig) -> nn.Module:
    """Make the activation: ReLU as in the book, GELU as in Hugging Face, or its tanh variant."""
    if config.activation == "relu":
        return nn.ReLU()
    return nn.GELU(approximate="none" if config.activation == "gelu" else "tanh")


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
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, X: Tensor, valid_lens: Tensor | None = None) -> Tensor:
        queries = self.split_heads(self.W_q(X))  # (B, h, T, d)
        keys = self.split_heads(self.W_k(X))  # (B, h, T, d)
        values = self.split_heads(self.W_v(X))  # (B, h, T, d)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])  # (B, h, T, T)
        weights = self.dropout(masked_softmax(scores, valid_lens))  # (B, h, T, T)
        heads = (weights @ values).transpose(1, 2)  # (B, T, h, d)
        return self.W_o(heads.reshape(X.shape))  # (B, T, H)

    def split_heads(self, X: Tensor) -> Tensor:
        """Split each token's channels into heads: (B, T, H) to (B, h, T, d)."""
        return X.reshape(*X.shape[:2], self.num_heads, -1).transpose(1, 2)


class PositionWiseFFN(nn.Module):
    """Two dense layers on each position with an activation between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dense1 = nn.Linear(config.num_hiddens, config.ffn_num_hiddens)
        self.activation = activation_layer(config)
        self.dense2 = nn.Linear(config.ffn_num_hiddens, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        Y = self.activation(self.dense1(X))  # (B, T, F)
        return self.dense2(Y)  # (B, T, H)


class AddNorm(nn.Module):
    """Layer normalisation of the sum of a sublayer's input X and, after dropout, its output Y."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return self.ln(self.dropout(Y) + X)  # (B, T, H)


class EncoderBlock(nn.Module):
    """A block of the Transformer's encoder: self-attention and the FFN, each with an `AddNorm`."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def forward(self, X: Tensor, valid_lens: Tensor | None = None) -> Tensor:
        Y = self.addnorm1(X, self.attention(X, valid_lens))  # (B, T, H)
        return self.addnorm2(Y, self.ffn(Y))  # (B, T, H)


class BERTEncoder(nn.Module):
    """BERT's encoder: the sum of token, segment and position embeddings, then encoder blocks."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = nn.Embedding(2, config.num_hiddens)
        self.pos_embedding = nn.Parameter(torch.randn(1, config.max_len, config.num_hiddens))
        self.ln = None
        if config.embedding_norm:  # as in Devlin et al. (2019), but not in the book
            self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)
            self.dropout = nn.Dropout(config.dropout)
        self.blks = nn.Sequential(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def forward(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None = None) -> Tensor:
        """Encode token ids (B, T) in segments (B, T), of which valid_lens (B,) are not padding."""
        X = self.embed(self.token_embedding(tokens), segments)  # (B, T, H)
        for blk in self.blks:
            X = blk(X, valid_lens)  # (B, T, H)
        return X

    def embed(self, X: Tensor, segments: Tensor) -> Tensor:
        """Add segment and position embeddings to token embeddings X, (B, T, H)."""
        X = X + self.segment_embedding(segments) + self.pos_embedding[:, : X.shape[1]]
        return X if self.ln is None else self.dropout(self.ln(X))
