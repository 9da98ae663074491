"""BERT, its pretraining and the NLI classifier on Apache MXNet, as the rest of bertnli uses them.

They are the models of `heads` with start values that are every backend's, arrays by canonical
names, and a classifier's own things; and they compute with `packed` what has padding. Shapes: B
pairs, T tokens, P predictions of a pair, R of a batch, H num_hiddens, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.backends.mxnet import heads, packed
from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd, devices_of, to_device
from bertnli.backends.mxnet.kernels import cross_entropy
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS, checked_labels
from bertnli.bert.parameters import (
    bert_shapes,
    check_shapes,
    classifier_shapes,
    initial_arrays,
    layer_names,
)
from bertnli.data.batches import Batch
from bertnli.data.masking import PretrainingBatch
from bertnli.formats import names
from bertnli.formats.head import content_names, content_of, output_layer
from bertnli.nets.classifier import Classifier
from bertnli.nets.trainable import PretrainedModel, PretrainingModel, check_bert
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

nn: Any = mx.gluon.nn
use_np: Any = mx.util.use_np

#: An mx.np.ndarray; mxnet ships no types.
Tensor = Any


@use_np
class BERTModel(PretrainedModel, heads.BERTModel):
    """BERT with its two pretraining heads, as the book has it.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks: see `BERTConfig`.
        dropout, max_len, activation, embedding_norm, norm_eps: see `BERTConfig`.
        seed: where the start values come from; the same on every backend.
        vocab: the vocabulary that the model carries along, if there is one.
        arrays: the values of the tensors under their canonical names, as a checkpoint has them;
            None for start values. A tensor that they lack stays without values, and the model is
            good for a `BERTClassifier` alone.
    """

    backend = "mxnet"

    @hinted()
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
        activation: str = "relu",
        embedding_norm: bool = False,
        norm_eps: float = 1e-5,
        seed: int = 0,
        vocab: Vocab | None = None,
        arrays: Mapping[str, NDArray] | None = None,
    ) -> None:
        config = BERTConfig(
            vocab_size,
            num_hiddens,
            ffn_num_hiddens,
            num_heads,
            num_blks,
            dropout,
            max_len,
            activation,
            embedding_norm,
            norm_eps,
        )
        super().__init__(config)
        self.config = config
        self.vocab = vocab
        self.seed = seed
        for name, shape in bert_shapes(config).items():  # one by one, for they are large
            if arrays is None:
                _give_values(self, initial_arrays({name: shape}, seed))
            elif name in arrays:
                _give_values(self, {name: arrays[name]})
        self._weights = tuple(self._collect_params_with_prefix().values())

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor,
        valid_lens: Tensor | None = None,
        pred_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """See `heads.BERTModel.forward`."""
        self.check_weights()
        self.check_length(tokens.shape[1])
        return super().forward(tokens, segments, valid_lens, pred_positions)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, bert_shapes(self.config), source)
        _load_arrays(self, arrays)


@use_np
class BERTForPretraining(PretrainingModel, nn.Block):
    """A BERT with its pretraining heads, as a trainer trains them.

    Args:
        bert: the model (shared, not copied).
        next_sentence: whether to learn which sentence follows; otherwise masked words alone, and
            the pooler and the head for sentences stay as they are.
    """

    backend = "mxnet"

    def __init__(self, bert: BERTModel, *, next_sentence: bool = True) -> None:
        check_bert(bert, self)
        super().__init__()
        self.config, self.vocab, self.next_sentence = bert.config, bert.vocab, next_sentence
        self.encoder = bert.encoder
        self.mlm = bert.mlm
        if next_sentence:
            self.hidden = bert.hidden
            self.nsp = bert.nsp
        self._keep_whole(bert)
        self._weights = tuple(self._collect_params_with_prefix().values())

    def forward(
        self, inputs: Sequence[Tensor], table: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of the tokens to predict, (R, V), and of the next sentence, (B, 2).

        Args:
            inputs: token_ids, segments (B, T), valid_lens (B,), pred_positions (B, P), -1 for
                none; the R others are predicted in their order.
            table: (U, H), rows of the token embedding that the token_ids count; None
                for all of it.
        """
        tokens, segments, valid_lens, pred_positions = inputs
        self.check_weights()
        self.check_length(tokens.shape[1])
        starts = np.arange(len(tokens)) * tokens.shape[1]
        positions = pred_positions.asnumpy()
        places = (starts[:, None] + positions)[positions >= 0]  # (R,)
        R = len(places)
        asked = np.concatenate((places, starts)) if self.next_sentence else places
        encoded = packed.tokens_at(self.encoder, tokens, segments, valid_lens, asked, table)
        mlm_logits = packed.mlm_logits(self.mlm, encoded[:R])
        if not self.next_sentence:
            return mlm_logits, mx.np.zeros((len(tokens), 2), ctx=tokens.ctx)
        return mlm_logits, self.nsp(self.hidden(encoded[R:]))

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and of the tokens predicted right, each as it is weighted.

        Over the size of the whole batch it is the mean loss of its masked tokens, and that of its
        sentences, as in the book.
        """
        (mlm_losses, mlm_hits), (nsp_losses, _) = self._judged(outputs, batch)
        weights = as_nd(_predicted(batch, "pred_weights"), mlm_losses.ctx).as_np_ndarray()
        loss_sum = (mlm_losses * weights).sum()
        if self.next_sentence:
            loss_sum = loss_sum + nsp_losses.sum()
        return loss_sum, (mlm_hits * weights).sum()

    def eval_outputs(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> NDArray[np.float32]:
        """See `Trainable.eval_outputs`."""
        mlm, nsp = ([part.asnumpy() for part in judged] for judged in self._judged(outputs, batch))
        found = np.zeros((len(batch), 3), np.float32)
        there = np.nonzero(cast(PretrainingBatch, batch).pred_positions >= 0)[0]
        np.add.at(found, there, np.stack([*mlm, np.ones_like(mlm[0])], 1))
        return np.concatenate([found, np.stack(nsp, 1)], 1)

    def _judged(
        self, outputs: tuple[Tensor, Tensor], batch: Batch
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return losses and hits of the tokens, (R,), and of the sentences, (B,)."""
        mlm, nsp = (
            cross_entropy(logits, targets)
            for logits, targets in zip(
                outputs, (_predicted(batch, "pred_ids"), batch.labels), strict=True
            )
        )
        return mlm, nsp

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor that is trained under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all trained tensors from arrays; see `check_shapes`."""
        check_shapes(arrays, self.shapes(), source)
        _load_arrays(self, arrays)


@use_np
class BERTClassifier(Classifier, heads.BERTClassifier):
    """A BERT encoder with one output layer on ``<cls>``.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: where a new output layer's start values come from, with the content of the model; the
            same on every backend.
        new_head: begin with a new output layer, also where the model comes from a classifier of the
            same classes, whose layer is taken otherwise.
    """

    backend = "mxnet"

    @hinted()
    def __init__(
        self,
        bert: BERTModel,
        labels: Sequence[str] = LABELS,
        *,
        seed: int = 0,
        new_head: bool = False,
    ) -> None:
        check_bert(bert, self)
        names = checked_labels(labels)
        super().__init__(bert, len(names))
        self.config = bert.config
        self.vocab = bert.vocab
        self.labels = names
        shapes = classifier_shapes(self.config, len(self.labels))
        output = {name: shape for name, shape in shapes.items() if name.startswith("output.")}
        content = content_of(_arrays(bert, content_names(self.config)), bert.seed)
        layer = output_layer(bert.head, self.labels, new_head, output, seed, content)
        self.output_origin = layer.origin
        self.encoding = layer.encoding or PairEncoding.default(bert.config.max_len)
        _give_values(self, layer.arrays, devices_of(bert))
        self._weights = tuple(self._collect_params_with_prefix().values())

    def forward(self, inputs: Sequence[Tensor], table: Tensor | None = None) -> Tensor:
        """See `heads.BERTClassifier.forward`, whose numbers these are.

        Args:
            inputs: token_ids, segments, valid_lens.
            table: (U, H), rows of the token embedding that the token_ids count; None for all of it.
        """
        tokens, segments, valid_lens = inputs
        self.check_weights()
        self.check_length(tokens.shape[1])
        encoded = packed.first_tokens(self.encoder, tokens, segments, valid_lens, table)  # (B, H)
        return self.output(self.hidden(encoded))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Trainable.loss`."""
        losses, hits = cross_entropy(outputs, batch.labels, batch.targets)
        return losses.sum(), hits.sum()

    def eval_outputs(self, outputs: Tensor, batch: Batch) -> NDArray[np.float32]:
        """Return the logits, (B, labels)."""
        logits: NDArray[np.float32] = outputs.asnumpy()
        return logits

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""
        with mx.autograd.pause(train_mode=False):
            return self(to_device(batch, devices_of(self)[0])).asnumpy()

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """See `Classifier.activations`."""
        self.check_weights()
        with mx.autograd.pause(train_mode=False):
            tokens, segments, valid_lens = to_device(batch, devices_of(self)[0])
            layers = [self.encoder.embed(self.encoder.token_embedding(tokens), segments)]
            for blk in self.encoder.blks:
                layers.append(blk(layers[-1], valid_lens))
            pooled = self.hidden(layers[-1][:, 0])
            found = [X.asnumpy() for X in (*layers, pooled, self.output(pooled))]
        return dict(zip(layer_names(self.config), found, strict=True))

    @use_np
    def probability_gradients(
        self, batch: Batch, embedded: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Classifier.probability_gradients`."""
        self.check_weights()
        device = devices_of(self)[0]
        _, segments, valid_lens = to_device(batch, device)
        X = as_nd(embedded, device).as_np_ndarray()
        X.attach_grad()
        with mx.autograd.record(train_mode=False):
            encoded = self.encoder.embed(X, segments)
            for blk in self.encoder.blks:
                encoded = blk(encoded, valid_lens)
            probabilities = mx.npx.softmax(self.output(self.hidden(encoded[:, 0])), axis=1)
            (gradients,) = mx.autograd.grad([probabilities[:, label].sum()], [X], train_mode=False)
        return probabilities.asnumpy(), gradients.asnumpy()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return _arrays(self)

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names; see `check_shapes`."""
        check_shapes(arrays, classifier_shapes(self.config, len(self.labels)), source)
        _load_arrays(self, arrays)


def _predicted(batch: Batch, name: str) -> NDArray:
    """Return a field of the batch's R tokens to predict, in their order, (R,)."""
    batch = cast(PretrainingBatch, batch)
    found: NDArray = getattr(batch, name)[batch.pred_positions >= 0]
    return found


def _array(tensor: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.asnumpy().astype(np.float32, copy=False)
    return found


def _arrays(model: Any, only: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
    return {
        name: _array(parameter.data(parameter.list_ctx()[0]))
        for own_name, parameter in model._collect_params_with_prefix().items()
        if (name := names.from_mxnet(own_name)) and (only is None or name in only)
    }


@use_np
def _give_values(model: Any, arrays: Mapping[str, NDArray], devices: Any = None) -> None:
    """Put values in tensors that have none."""
    parameters = model._collect_params_with_prefix()
    for name in arrays:
        parameters[names.to_mxnet(name)].initialize(mx.init.Zero(), ctx=devices or mx.cpu())
    _load_arrays(model, arrays)


@use_np
def _load_arrays(model: Any, arrays: Mapping[str, NDArray]) -> None:
    parameters = model._collect_params_with_prefix()
    for name, array in arrays.items():
        values = mx.np.array(np.ascontiguousarray(array, np.float32), dtype="float32")
        parameters[names.to_mxnet(name)].set_data(values)
