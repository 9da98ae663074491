"""The heads on BERT's encoder: the two pretraining heads, and the chapter's classifier.

Unlike in Hugging Face's BERT, the MLM head has a weight of its own, not the token embedding's.
The book's classifier has no dropout, but Hugging Face's have. Shapes: B pairs, T tokens, P
predictions of a pair, H num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bertnli.backends.torch.bert import BERTEncoder, activation_layer
from bertnli.bert.config import BERTConfig


class MaskLM(nn.Module):
    """The masked language model head, which predicts the tokens at given positions."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(config.num_hiddens, config.num_hiddens),
            activation_layer(config.activation),
            nn.LayerNorm(config.num_hiddens, config.norm_eps),
            nn.Linear(config.num_hiddens, config.vocab_size),
        )

    def forward(self, X: Tensor, pred_positions: Tensor) -> Tensor:
        pairs = torch.arange(len(X), device=X.device).unsqueeze(1)  # (B, 1)
        return self.mlp(X[pairs, pred_positions.long()])  # (B, P, V)


class NextSentencePred(nn.Module):
    """The next sentence head, which predicts whether the second sentence follows the first."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.output = nn.Linear(config.num_hiddens, 2)

    def forward(self, X: Tensor) -> Tensor:
        return self.output(X)  # (B, 2)


class BERTModel(nn.Module):
    """BERT with its two pretraining heads."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.encoder = BERTEncoder(config)
        self.hidden = nn.Sequential(
            nn.Linear(config.num_hiddens, config.num_hiddens),
            activation_layer(config.pooler_activation),
        )
        self.mlm = MaskLM(config)
        self.nsp = NextSentencePred(config)

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pred_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Compute encoded tokens (B, T, H), MLM logits (B, P, V) or None, NSP logits (B, 2).

        Args:
            tokens, segments: (B, T) integers; segments are 0, or 1 after the first ``<sep>``.
            valid_lens: (B,) numbers of tokens that are not padding; None without padding.
            pred_positions: (B, P) positions whose tokens to predict; None for no MLM logits.
        """
        encoded = self.encoder(tokens, segments, valid_lens)  # (B, T, H)
        mlm_logits = None if pred_positions is None else self.mlm(encoded, pred_positions)
        nsp_logits = self.nsp(self.hidden(encoded[:, 0]))  # position 0 is <cls>
        return encoded, mlm_logits, nsp_logits


class BERTClassifier(nn.Module):
    """A classifier: encoder and pooler (``hidden``) of ``bert``, shared, and an output layer."""

    def __init__(self, bert: BERTModel, num_classes: int) -> None:
        super().__init__()
        config = bert.encoder.config
        self.encoder = bert.encoder
        self.pooler_dropout = nn.Dropout(config.pooler_dropout)
        self.hidden = bert.hidden
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.output = nn.Linear(config.num_hiddens, num_classes)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute logits (B, classes) from token_ids (B, T), segments (B, T), valid_lens (B,)."""
        tokens, segments, valid_lens = inputs
        encoded = self.encoder(tokens, segments, valid_lens)  # (B, T, H)
        pooled = self.hidden(self.pooler_dropout(encoded[:, 0]))  # (B, H)
        return self.output(self.dropout(pooled))
