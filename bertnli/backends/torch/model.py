"""BERT and the NLI classifier on PyTorch.

The layers, their names and their order are the book's, so that a state dict of the book
loads as it is. Shapes in comments: B pairs, T tokens, H num_hiddens, F ffn_num_hiddens, h heads,
d = H / h.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertnli.backends.interface import Classifier, PretrainedModel
from bertnli.backends.torch.devices import cpu, device_of, to_device
from bertnli.checkpoints import names
from bertnli.config import BERTConfig
from bertnli.data.batches import Batch
from bertnli.labels import LABELS
from bertnli.parameters import bert_shapes, check_shapes, classifier_shapes, initial_arrays
from bertnli.text.vocab import Vocab


def attention_mask(tokens: Tensor, valid_lens: Tensor | None) -> Tensor | None:
    """Return which keys a query may see, bool, (B, 1, 1 or T, T); None where there is no limit.

    Args:
        tokens: (B, T).
        valid_lens: (B,) for all queries of a pair, or (B, T) for each query; any number type.
    """
    if valid_lens is None:
        return None
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    return positions < valid_lens.reshape(len(tokens), 1, -1, 1)


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

    def forward(self, X: Tensor, mask: Tensor | None) -> Tensor:
        queries, keys, values = (self._split_heads(W(X)) for W in (self.W_q, self.W_k, self.W_v))
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # (B, h, T, T)
        if mask is not None:
            # The book replaces the scores, so that with no valid key all keys weigh the same.
            scores = scores.masked_fill(~mask, -1e6)
        weights = self.dropout(scores.softmax(dim=3))  # (B, h, T, T)
        heads = (weights @ values).transpose(1, 2)  # (B, T, h, d)
        return self.W_o(heads.flatten(2))  # (B, T, H)

    def _split_heads(self, X: Tensor) -> Tensor:
        return X.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, h, T, d)


class PositionWiseFFN(nn.Module):
    """Two dense layers on each position, ReLU between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dense1 = nn.Linear(config.num_hiddens, config.ffn_num_hiddens)
        self.dense2 = nn.Linear(config.ffn_num_hiddens, config.num_hiddens)

    def forward(self, X: Tensor) -> Tensor:
        return self.dense2(self.dense1(X).relu())  # (B, T, F) -> (B, T, H)


class AddNorm(nn.Module):
    """Dropout on a sublayer's output, the residual sum, layer normalisation."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.ln = nn.LayerNorm(config.num_hiddens, eps=1e-5)

    def forward(self, X: Tensor, Y: Tensor) -> Tensor:
        return self.ln(self.dropout(Y) + X)  # (B, T, H)


class EncoderBlock(nn.Module):
    """A Transformer encoder block, normalised after each sublayer."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def forward(self, X: Tensor, mask: Tensor | None) -> Tensor:
        Y = self.addnorm1(X, self.attention(X, mask))
        return self.addnorm2(Y, self.ffn(Y))  # (B, T, H)


class BERTEncoder(nn.Module):
    """Token, segment and position embeddings, summed, through the encoder blocks."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = nn.Embedding(2, config.num_hiddens)
        self.pos_embedding = nn.Parameter(torch.empty(1, config.max_len, config.num_hiddens))
        self.blks = nn.Sequential(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def forward(self, tokens: Tensor, segments: Tensor, valid_lens: Tensor | None) -> Tensor:
        X = self.token_embedding(tokens) + self.segment_embedding(segments)  # (B, T, H)
        X = X + self.pos_embedding[:, : tokens.shape[1]]
        mask = attention_mask(tokens, valid_lens)
        for blk in self.blks:
            X = blk(X, mask)
        return X


class MaskLM(nn.Module):
    """The masked language model head: predicts the tokens at given positions."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(config.num_hiddens, config.num_hiddens),
            nn.ReLU(),
            nn.LayerNorm(config.num_hiddens, eps=1e-5),
            nn.Linear(config.num_hiddens, config.vocab_size),
        )

    def forward(self, X: Tensor, pred_positions: Tensor) -> Tensor:
        index = pred_positions.long().unsqueeze(2).expand(-1, -1, X.shape[2])  # (B, P, H)
        return self.mlp(X.gather(1, index))  # (B, P, V)


class NextSentencePred(nn.Module):
    """The next sentence prediction head, on the pooled vector."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.output = nn.Linear(config.num_hiddens, 2)

    def forward(self, X: Tensor) -> Tensor:
        return self.output(X)  # (B, 2)


class BERTModel(PretrainedModel, nn.Module):
    """BERT with its two pretraining heads, as the book has it.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len: see
            `BERTConfig`.
        seed: where the start values come from; the same on every backend.
        vocab: the vocabulary that the model carries along, if there is one.
    """

    def __init__(
        self,
        vocab_size: int,
        num_hiddens: int,
        ffn_num_hiddens: int,
        num_heads: int,
        num_blks: int,
        dropout: float,
        max_len: int = 1000,
        *,
        seed: int = 0,
        vocab: Vocab | None = None,
    ) -> None:
        config = BERTConfig(
            vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len
        )
        super().__init__()
        self.config = config
        self.vocab = vocab
        # On no device first: PyTorch's own start values cost time, and the user's random state.
        with torch.device("meta"):
            self.encoder = BERTEncoder(config)
            self.hidden = nn.Sequential(nn.Linear(num_hiddens, num_hiddens), nn.Tanh())
            self.mlm = MaskLM(config)
            self.nsp = NextSentencePred(config)
        self.to_empty(device=cpu())
        self.load_arrays(initial_arrays(bert_shapes(config), seed), "start values")

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pred_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return encoded (B, T, H), MLM logits (B, P, V) or None, NSP logits (B, 2).

        Args:
            tokens, segments: (B, T) integers.
            valid_lens: (B,) tokens that are not padding; None where nothing is.
            pred_positions: (B, P) positions whose tokens to predict.
        """
        self.check_length(tokens.shape[1])
        encoded = self.encoder(tokens, segments, valid_lens)
        mlm_logits = None if pred_positions is None else self.mlm(encoded, pred_positions)
        return encoded, mlm_logits, self.nsp(self.hidden(encoded[:, 0]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, bert_shapes(self.config), source)
        _load_arrays(self, arrays)


class BERTClassifier(Classifier, nn.Module):
    """A BERT encoder with one output layer on ``<cls>``.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: where the output layer's start values come from; the same on every backend.
    """

    def __init__(self, bert: BERTModel, labels: Sequence[str] = LABELS, *, seed: int = 0) -> None:
        super().__init__()
        self.config = bert.config
        self.vocab = bert.vocab
        self.labels = tuple(labels)
        self.encoder = bert.encoder
        self.hidden = bert.hidden
        self.output = nn.Linear(bert.config.num_hiddens, len(self.labels), device="meta")
        self.output.to_empty(device=device_of(bert))
        shapes = classifier_shapes(self.config, len(self.labels))
        output = {name: shape for name, shape in shapes.items() if name.startswith("output.")}
        _load_arrays(self, initial_arrays(output, seed))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the class logits, (B, labels).

        Args:
            inputs: token_ids (B, T), segments (B, T), valid_lens (B,), as the dataset gives them.
        """
        tokens, segments, valid_lens = inputs
        self.check_length(tokens.shape[1])
        encoded = self.encoder(tokens, segments, valid_lens)
        return self.output(self.hidden(encoded[:, 0]))

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self(to_device(batch, device_of(self))).float().cpu().numpy()
        finally:
            self.train(training)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, classifier_shapes(self.config, len(self.labels)), source)
        _load_arrays(self, arrays)


def _arrays(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {
        names.from_torch(own_name): tensor.float().cpu().numpy().copy()
        for own_name, tensor in model.state_dict().items()
    }


def _load_arrays(model: nn.Module, arrays: Mapping[str, NDArray]) -> None:
    tensors = model.state_dict()
    with torch.no_grad():
        for name, array in arrays.items():
            tensors[names.to_torch(name)].copy_(torch.from_numpy(np.ascontiguousarray(array)))
