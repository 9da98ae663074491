"""BERT and the NLI classifier on Apache MXNet.

The layers, their names and their order are the book's, so that a ``.params`` file of the book
loads as it is. Shapes in comments: B pairs, T tokens, H num_hiddens, F ffn_num_hiddens, h heads,
d = H / h. In ``npx.reshape``, -2 keeps an axis, -5 merges two and -6 splits one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.interface import Classifier, PretrainedModel
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import devices_of, to_device
from bertnli.checkpoints import names
from bertnli.config import BERTConfig
from bertnli.data.batches import Batch
from bertnli.labels import LABELS
from bertnli.parameters import bert_shapes, check_shapes, classifier_shapes, initial_arrays
from bertnli.text.vocab import Vocab

nn: Any = mx.gluon.nn
use_np: Any = mx.util.use_np

#: An mx.np.ndarray, or its symbol while a hybridized block is traced; mxnet ships no types.
Tensor = Any


def attention_mask(F: Any, tokens: Tensor, valid_lens: Tensor | None) -> Tensor | None:
    """Return which keys a query may see, bool, (B, 1, 1 or T, T); None where there is no limit.

    Args:
        F: the operators, of arrays or of symbols.
        tokens: (B, T).
        valid_lens: (B,) for all queries of a pair, or (B, T) for each query; any number type.
    """
    if valid_lens is None:
        return None
    positions = F.npx.arange_like(tokens, axis=1).astype("float32")
    return positions < F.npx.reshape(valid_lens.astype("float32"), (-2, 1, -1, 1))


@use_np
class MultiHeadAttention(nn.HybridBlock):
    """Scaled dot-product self-attention of several heads (Vaswani et al., 2017)."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = 1 / math.sqrt(config.num_hiddens // config.num_heads)
        self.W_q = _dense(config.num_hiddens, config.num_hiddens)
        self.W_k = _dense(config.num_hiddens, config.num_hiddens)
        self.W_v = _dense(config.num_hiddens, config.num_hiddens)
        self.W_o = _dense(config.num_hiddens, config.num_hiddens)
        self.dropout = nn.Dropout(config.dropout)

    def hybrid_forward(self, F: Any, X: Tensor, mask: Tensor | None = None) -> Tensor:
        queries, keys, values = (self._split_heads(F, W(X)) for W in (self.W_q, self.W_k, self.W_v))
        scores = F.npx.batch_dot(queries, keys, transpose_b=True) * self.scale  # (B * h, T, T)
        if mask is not None:
            # The book replaces the scores, so that with no valid key all keys weigh the same.
            scores = F.npx.reshape(scores, (-6, -1, self.num_heads, -2, -2))  # (B, h, T, T)
            # An array, for where(mask, scores, scalar) of MXNet 1.9.1 has a wrong gradient: it
            # lets through what the mask excludes, and stops the rest.
            scores = F.np.where(mask, scores, F.np.full_like(scores, -1e6))
            scores = F.npx.reshape(scores, (-5, -2, -2))
        weights = self.dropout(F.npx.softmax(scores, axis=-1))  # (B * h, T, T)
        heads = F.npx.reshape(F.npx.batch_dot(weights, values), (-6, -1, self.num_heads, -2, -2))
        heads = F.np.transpose(heads, (0, 2, 1, 3))  # (B, T, h, d)
        return self.W_o(F.npx.reshape(heads, (-2, -2, -5)))  # (B, T, H)

    def _split_heads(self, F: Any, X: Tensor) -> Tensor:
        heads = F.npx.reshape(X, (-2, -2, -6, self.num_heads, -1))  # (B, T, h, d)
        return F.npx.reshape(F.np.transpose(heads, (0, 2, 1, 3)), (-5, -2, -2))  # (B * h, T, d)


@use_np
class PositionWiseFFN(nn.HybridBlock):
    """Two dense layers on each position, ReLU between them."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dense1 = _dense(config.ffn_num_hiddens, config.num_hiddens, activation="relu")
        self.dense2 = _dense(config.num_hiddens, config.ffn_num_hiddens)

    def hybrid_forward(self, F: Any, X: Tensor) -> Tensor:
        return self.dense2(self.dense1(X))  # (B, T, F) -> (B, T, H)


@use_np
class AddNorm(nn.HybridBlock):
    """Dropout on a sublayer's output, the residual sum, layer normalisation."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.ln = nn.LayerNorm(epsilon=1e-5, in_channels=config.num_hiddens)

    def hybrid_forward(self, F: Any, X: Tensor, Y: Tensor) -> Tensor:
        return self.ln(self.dropout(Y) + X)  # (B, T, H)


@use_np
class EncoderBlock(nn.HybridBlock):
    """A Transformer encoder block, normalised after each sublayer."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.addnorm1 = AddNorm(config)
        self.ffn = PositionWiseFFN(config)
        self.addnorm2 = AddNorm(config)

    def hybrid_forward(self, F: Any, X: Tensor, mask: Tensor | None = None) -> Tensor:
        Y = self.addnorm1(X, self.attention(X, mask))
        return self.addnorm2(Y, self.ffn(Y))  # (B, T, H)


@use_np
class BERTEncoder(nn.HybridBlock):
    """Token, segment and position embeddings, summed, through the encoder blocks."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.num_hiddens)
        self.segment_embedding = nn.Embedding(2, config.num_hiddens)
        self.pos_embedding = self.params.get(
            "pos_embedding", shape=(1, config.max_len, config.num_hiddens)
        )
        self.blks = nn.HybridSequential()
        self.blks.add(*(EncoderBlock(config) for _ in range(config.num_blks)))

    def hybrid_forward(
        self,
        F: Any,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pos_embedding: Tensor = None,
    ) -> Tensor:
        X = self.token_embedding(tokens) + self.segment_embedding(segments)  # (B, T, H)
        # A slice would need T while the block is traced, when it is not known yet.
        X = X + F.np.take(pos_embedding, F.npx.arange_like(tokens, axis=1), axis=1)
        mask = attention_mask(F, tokens, valid_lens)
        for blk in self.blks:
            X = blk(X, mask) if mask is not None else blk(X)
        return X


@use_np
class MaskLM(nn.HybridBlock):
    """The masked language model head: predicts the tokens at given positions."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.mlp = nn.HybridSequential()
        self.mlp.add(
            _dense(config.num_hiddens, config.num_hiddens, activation="relu"),
            nn.LayerNorm(epsilon=1e-5, in_channels=config.num_hiddens),
            _dense(config.vocab_size, config.num_hiddens),
        )

    def hybrid_forward(self, F: Any, X: Tensor, pred_positions: Tensor) -> Tensor:
        positions = pred_positions.astype("float32")  # (B, P)
        pairs = F.npx.reshape(F.npx.arange_like(positions, axis=0), (-1, 1))
        index = F.np.stack([pairs + F.np.zeros_like(positions), positions])  # (2, B, P)
        return self.mlp(F.npx.gather_nd(X, index))  # (B, P, V)


@use_np
class NextSentencePred(nn.HybridBlock):
    """The next sentence prediction head, on the pooled vector."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.output = _dense(2, config.num_hiddens)

    def hybrid_forward(self, F: Any, X: Tensor) -> Tensor:
        return self.output(X)  # (B, 2)


@use_np
class BERTModel(PretrainedModel, nn.Block):
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
        self.encoder = BERTEncoder(config)
        self.hidden = _dense(num_hiddens, num_hiddens, activation="tanh")
        self.mlm = MaskLM(config)
        self.nsp = NextSentencePred(config)
        self.initialize(mx.init.Zero(), ctx=mx.cpu())
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
        limits = () if valid_lens is None else (valid_lens,)
        encoded = self.encoder(tokens, segments, *limits)
        mlm_logits = None if pred_positions is None else self.mlm(encoded, pred_positions)
        return encoded, mlm_logits, self.nsp(self.hidden(encoded[:, 0]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, bert_shapes(self.config), source)
        _load_arrays(self, arrays)


@use_np
class BERTClassifier(Classifier, nn.Block):
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
        self.output = _dense(len(self.labels), bert.config.num_hiddens)
        self.output.initialize(mx.init.Zero(), ctx=devices_of(bert))
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
        with mx.autograd.pause(train_mode=False):
            return self(to_device(batch, devices_of(self)[0])).asnumpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, classifier_shapes(self.config, len(self.labels)), source)
        _load_arrays(self, arrays)


def _dense(units: int, in_units: int, activation: str | None = None) -> Any:
    return nn.Dense(units, activation=activation, flatten=False, in_units=in_units)


def _arrays(model: Any) -> dict[str, NDArray[np.float32]]:
    return {
        names.from_mxnet(own_name): parameter.data(parameter.list_ctx()[0]).asnumpy()
        for own_name, parameter in model._collect_params_with_prefix().items()
    }


@use_np
def _load_arrays(model: Any, arrays: Mapping[str, NDArray]) -> None:
    parameters = model._collect_params_with_prefix()
    for name, array in arrays.items():
        values = mx.np.array(np.ascontiguousarray(array, np.float32), dtype="float32")
        parameters[names.to_mxnet(name)].set_data(values)
