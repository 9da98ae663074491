"""The heads on BERT's encoder: the two pretraining heads, and the chapter's classifier.

Unlike in Hugging Face's BERT, the MLM head has a weight of its own, not the token embedding's.
The book's classifier has no dropout, but Hugging Face's have. Shapes: B pairs, T tokens, P
predictions of a pair, H num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence

from bertnli.backends.mxnet._framework import device_of
from bertnli.backends.mxnet.bert import BERTEncoder, Tensor, activate, dense_layer, nn, np, use_np
from bertnli.bert.config import BERTConfig


@use_np
class MaskLM(nn.Block):
    """The masked language model head, which predicts the tokens at given positions."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.mlp = nn.Sequential()
        self.mlp.add(
            dense_layer(config.num_hiddens, config.num_hiddens),
            nn.LayerNorm(epsilon=config.norm_eps, in_channels=config.num_hiddens),
            dense_layer(config.vocab_size, config.num_hiddens),
        )

    def forward(self, X: Tensor, pred_positions: Tensor) -> Tensor:
        pairs = np.arange(len(X), ctx=device_of(X)).reshape((-1, 1))  # (B, 1)
        pairs = pairs.repeat(pred_positions.shape[1], axis=1)  # (B, P)
        dense, norm, decoder = self.mlp
        Y = X[pairs.astype("int32"), pred_positions.astype("int32")]  # (B, P, H)
        return decoder(norm(activate(dense(Y), self.activation)))  # (B, P, V)


@use_np
class NextSentencePred(nn.Block):
    """The next sentence head, which predicts whether the second sentence follows the first."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.output = dense_layer(2, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        return self.output(X)  # (B, 2)


@use_np
class Pooler(nn.Dense):
    """A dense layer with an activation, tanh in the book, on the encoded ``<cls>`` tokens."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__(config.num_hiddens, flatten=False, in_units=config.num_hiddens)
        self.activation = config.pooler_activation

    def forward(self, X: Tensor) -> Tensor:
        return activate(super().forward(X), self.activation)  # (B, H)


@use_np
class BERTModel(nn.Block):
    """BERT with its two pretraining heads."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.encoder = BERTEncoder(config)
        self.hidden = Pooler(config)
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


@use_np
class BERTClassifier(nn.Block):
    """A classifier: encoder and pooler (``hidden``) of ``bert``, shared, and an output layer."""

    def __init__(self, bert: BERTModel, num_classes: int) -> None:
        super().__init__()
        config = bert.encoder.config
        self.encoder = bert.encoder
        self.pooler_dropout = nn.Dropout(config.pooler_dropout)
        self.hidden = bert.hidden
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.output = dense_layer(num_classes, config.num_hiddens)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute logits (B, classes) from token_ids (B, T), segments (B, T), valid_lens (B,)."""
        tokens, segments, valid_lens = inputs
        encoded = self.encoder(tokens, segments, valid_lens)  # (B, T, H)
        pooled = self.hidden(self.pooler_dropout(encoded[:, 0]))  # (B, H)
        return self.output(self.dropout(pooled))
