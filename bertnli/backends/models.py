"""What the models of both backends have in common: start values, weights by name, losses.

A backend's ``model`` combines these classes with its layers (``heads``) and with its `Net`. Shapes:
B pairs, T tokens, P predictions of a pair, R of a batch, H num_hiddens, V vocab_size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS, checked_labels
from bertnli.bert.parameters import (
    Shapes,
    bert_shapes,
    check_shapes,
    classifier_shapes,
    initial_arrays,
    layer_names,
)
from bertnli.data.batches import Batch
from bertnli.data.masking import PretrainingBatch
from bertnli.formats.head import content_names, content_of, output_layer
from bertnli.nets.classifier import Classifier
from bertnli.nets.trainable import HoldsArrays, PretrainedModel, PretrainingModel, check_bert
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

#: A tensor of the backend's framework.
Tensor = Any


class Net(HoldsArrays):
    """A net whose tensors are read and written under canonical names."""

    encoder: Any
    hidden: Any

    @abstractmethod
    def shapes(self) -> Shapes:
        """Return each tensor's name and shape."""

    @abstractmethod
    def named_tensors(self) -> dict[str, Any]:
        """Return the framework's parameters by canonical name."""

    @abstractmethod
    def give_values(self, arrays: Mapping[str, NDArray], beside: Any = None) -> None:
        """Give values to tensors that have none, on the CPU or where another net's are."""

    @abstractmethod
    def set_values(self, arrays: Mapping[str, NDArray]) -> None:
        """Change the values of tensors that have some."""

    @abstractmethod
    def read(self, tensor: Tensor) -> NDArray[np.float32]:
        """Return a tensor, or a parameter, as a new NumPy array, float32."""

    @abstractmethod
    def tensor(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        """Return values as a tensor on the device of another one."""

    @abstractmethod
    def move_to(self, devices: Sequence[Any]) -> None:
        """Move the net to a list of devices."""

    @abstractmethod
    def inputs(self, batch: Batch) -> list[Tensor]:
        """Return `Batch.inputs` on the net's first device."""

    @abstractmethod
    def inference(self) -> AbstractContextManager[Any]:
        """Return a context without dropout and without gradients."""

    @abstractmethod
    def cross_entropy(
        self, logits: Tensor, labels: NDArray, targets: NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return each row's loss, in nats, and whether it is predicted right, (N,).

        Args:
            logits: (N, C).
            labels: (N,) integers.
            targets: (N, C), the probability that each class should have; None for the label's.
        """

    def building(self) -> AbstractContextManager[Any]:
        """Return a context in which layers are made without values."""
        return nullcontext()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""
        return {name: self.read(tensor) for name, tensor in self.named_tensors().items()}

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Set all tensors from arrays with canonical names.

        Args:
            arrays: canonical name to array.
            source: where they come from, for the message of an error.

        Raises:
            CheckpointError: tensors are missing, unknown, of another shape or not finite.
        """
        check_shapes(arrays, self.shapes(), source)
        self.set_values(arrays)

    def _check_input(self, tokens: Tensor) -> None:
        self.check_weights()
        self.check_length(tokens.shape[1])


class BERTNet(PretrainedModel, Net):
    """BERT with its two pretraining heads, as the book has it.

    Args:
        vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len,
            activation, embedding_norm, norm_eps: see `BERTConfig`.
        seed: of the start values, which are the same on every backend.
        vocab: the vocabulary that the model carries along, if there is one.
        arrays: the values of the tensors by canonical name, as a checkpoint has them; None for
            start values. A tensor that they lack stays without values, and the model is only good
            for making a `BERTClassifier`.
    """

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
        sizes = (vocab_size, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len)
        config = BERTConfig(*sizes, activation, embedding_norm, norm_eps)
        with self.building():
            super().__init__(config)  # type: ignore[call-arg]
        self.config, self.vocab, self.seed = config, vocab, seed
        for name, shape in self.shapes().items():  # one by one, for they are large
            if arrays is None:
                self.give_values(initial_arrays({name: shape}, seed))
            elif name in arrays:
                self.give_values({name: arrays[name]})
        self._weights = tuple(self.named_tensors().values())

    def shapes(self) -> Shapes:
        return bert_shapes(self.config)

    def forward(self, tokens: Tensor, *inputs: Any, **named: Any) -> Any:
        """Return encoded (B, T, H), MLM logits (B, P, V) or None, NSP logits (B, 2).

        Args:
            tokens, segments: (B, T) integers.
            valid_lens: (B,) tokens that are not padding; None where nothing is.
            pred_positions: (B, P) positions whose tokens to predict; None for no MLM logits.
        """
        self._check_input(tokens)
        return super().forward(tokens, *inputs, **named)  # type: ignore[misc]


class PretrainingNet(PretrainingModel, Net):
    """A BERT with its pretraining heads, as a trainer trains them.

    Args:
        bert: the model (shared, not copied).
        next_sentence: whether to learn which sentence follows. Otherwise only masked words are
            learned, and the pooler and the head for sentences stay as they are.
    """

    def __init__(self, bert: Any, *, next_sentence: bool = True) -> None:
        check_bert(bert, self)
        super().__init__()
        self.config, self.vocab, self.next_sentence = bert.config, bert.vocab, next_sentence
        self.encoder, self.mlm = bert.encoder, bert.mlm
        if next_sentence:
            self.hidden, self.nsp = bert.hidden, bert.nsp
        self._all_arrays = bert.arrays
        self._weights = tuple(self.named_tensors().values())

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and of the tokens predicted right, each as it is weighted.

        Divided by the size of the whole batch, the sum is the mean loss of its masked tokens plus
        that of its sentences, as in the book.
        """
        (mlm_losses, mlm_hits), (nsp_losses, _) = self._losses(outputs, batch)
        weights = self.tensor(_predicted(batch, "pred_weights"), mlm_losses)
        loss_sum = (mlm_losses * weights).sum()
        if self.next_sentence:
            loss_sum = loss_sum + nsp_losses.sum()
        return loss_sum, (mlm_hits * weights).sum()

    def eval_outputs(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> NDArray[np.float32]:
        mlm, nsp = ([self.read(x) for x in pair] for pair in self._losses(outputs, batch))
        sums = np.zeros((len(batch), 3), np.float32)
        pairs = np.nonzero(cast(PretrainingBatch, batch).pred_positions >= 0)[0]
        np.add.at(sums, pairs, np.stack([*mlm, np.ones_like(mlm[0])], 1))
        return np.concatenate([sums, np.stack(nsp, 1)], 1)

    def _losses(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Return losses and hits of the tokens, (R,), and of the sentences, (B,)."""
        targets = _predicted(batch, "pred_ids"), batch.labels
        return [self.cross_entropy(*each) for each in zip(outputs, targets, strict=True)]


def _predicted(batch: Batch, name: str) -> NDArray:
    """Return a field of the batch's R tokens to predict, in their order, (R,)."""
    return getattr(batch, name)[cast(PretrainingBatch, batch).pred_positions >= 0]


class ClassifierNet(Classifier, Net):
    """A BERT encoder with one output layer on ``<cls>``.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: of a new output layer's start values, which also depend on the content of the model
            and are the same on every backend.
        new_head: begin with a new output layer, also where the model comes from a classifier of the
            same classes, whose layer is taken otherwise.
    """

    output: Any

    @hinted()
    def __init__(
        self, bert: Any, labels: Sequence[str] = LABELS, *, seed: int = 0, new_head: bool = False
    ) -> None:
        check_bert(bert, self)
        labels = checked_labels(labels)
        with self.building():
            super().__init__(bert, len(labels))  # type: ignore[call-arg]
        self.config, self.vocab, self.labels = bert.config, bert.vocab, labels
        output = {name: s for name, s in self.shapes().items() if name.startswith("output.")}
        tensors = bert.named_tensors()
        small = {name: bert.read(tensors[name]) for name in content_names(bert.config)}
        content = content_of(small, bert.seed)
        layer = output_layer(bert.head, labels, new_head, output, seed, content)
        self.output_origin = layer.origin
        self.encoding = layer.encoding or PairEncoding.default(bert.config.max_len)
        self.give_values(layer.arrays, bert)
        self._weights = tuple(self.named_tensors().values())

    def shapes(self) -> Shapes:
        return classifier_shapes(self.config, len(self.labels))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, hits = self.cross_entropy(outputs, batch.labels, batch.targets)
        return losses.sum(), hits.sum()

    def eval_outputs(self, outputs: Tensor, batch: Batch) -> NDArray[np.float32]:
        """Return the logits, (B, labels)."""
        return self.read(outputs)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        with self.inference():
            return self.read(self(self.inputs(batch)))  # type: ignore[operator]

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        self.check_weights()
        with self.inference():
            tokens, segments, valid_lens = self.inputs(batch)
            layers = [self.encoder.embed(self.encoder.token_embedding(tokens), segments)]
            for blk in self.encoder.blks:
                layers.append(blk(layers[-1], valid_lens))
            pooled = self.hidden(layers[-1][:, 0])
            arrays = [self.read(X) for X in (*layers, pooled, self.output(pooled))]
        return dict(zip(layer_names(self.config), arrays, strict=True))

    def probability_gradients(
        self, batch: Batch, embedded: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.check_weights()
        _, segments, valid_lens = self.inputs(batch)

        def logits(X: Tensor) -> Tensor:
            encoded = self.encoder.embed(X, segments)  # (B, T, H)
            for blk in self.encoder.blks:
                encoded = blk(encoded, valid_lens)
            return self.output(self.hidden(encoded[:, 0]))

        return self.softmax_gradient(logits, embedded, label)

    @abstractmethod
    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the softmax of ``logits(x)``, and the gradient of a label's column by x."""
