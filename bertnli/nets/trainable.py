"""What a trainer trains, on any backend: nets that know their loss and their score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import SENTENCE_HEADS, Shapes, bert_shapes
from bertnli.data.batches import Batch, ExampleSet
from bertnli.data.corpus import short_repr
from bertnli.data.pretraining import PretrainingSet
from bertnli.errors import ConfigError, DataError
from bertnli.formats.head import Head
from bertnli.formats.native import save_native
from bertnli.nets.metrics import PretrainingMetrics, Score
from bertnli.text.vocab import Vocab


class HoldsArrays(ABC):
    """A model whose tensors can be read and set as NumPy arrays with canonical names."""

    config: BERTConfig
    vocab: Vocab | None
    #: The name of its backend.
    backend: str = ""
    #: The framework's parameters, of this net and of all its parts.
    _weights: tuple[Any, ...] = ()

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""

    @abstractmethod
    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names."""

    def check_weights(self) -> None:
        """Raise ConfigError if the user's code cast the net: its kernels are float32's."""
        for weight in self._weights:
            if "float32" not in str(weight.dtype):
                dtype = getattr(weight.dtype, "__name__", str(weight.dtype).rpartition(".")[2])
                raise ConfigError(
                    f"the net's weights are {dtype}, and it computes with float32 weights alone; "
                    "cast it back, with net.float() on PyTorch or net.cast('float32') on MXNet. "
                    "net.precision = 'bf16' has its matrix products in bfloat16"
                )

    def check_length(self, length: int) -> None:
        """Raise ConfigError if a sequence is longer than the model has positions."""
        if length > self.config.max_len:
            raise ConfigError(
                f"a sequence has {length} tokens, and the model has {self.config.max_len} "
                f"positions; encode the data with max_len={self.config.max_len} or less"
            )

    def required_vocab(self) -> Vocab:
        """Return the vocabulary, or raise ConfigError if the model carries none."""
        if self.vocab is None:
            raise ConfigError(
                "the model carries no vocabulary, so text cannot be encoded; set net.vocab, or "
                "take the model of load_pretrained_model, whose model brings its vocabulary along"
            )
        return self.vocab


class PretrainedModel(HoldsArrays):
    """A BERT with its pretraining heads.

    Attributes:
        seed: of its start values.
        head: the output layer of the classifier that it was loaded from, if there was one.
    """

    seed: int
    head: Head | None = None


def check_bert(bert: Any, net: Trainable) -> None:
    """Raise ConfigError unless a net's argument is a BERT of its backend."""
    what = f"{type(net).__name__}() takes a BERT"
    if isinstance(bert, tuple | list) and any(isinstance(item, PretrainedModel) for item in bert):
        raise ConfigError(
            f"{what} alone, and this is a {type(bert).__name__} of {len(bert)}; unpack it: "
            "bert, vocab = load_pretrained_model(...)"
        )
    if not isinstance(bert, PretrainedModel):
        raise ConfigError(
            f"{what}, and not {in_words(bert)}; make one with bert, vocab = "
            "load_pretrained_model('bert.mini')"
        )
    check_backend(bert, net.backend, what)


def in_words(value: Any) -> str:
    """Return a value's repr for an error message; for a net, whose repr is long, its class."""
    return f"a {type(value).__name__}" if isinstance(value, HoldsArrays) else short_repr(value)


def check_backend(model: HoldsArrays, backend: str, what: str) -> None:
    """Raise ConfigError if a model is of another backend; ``what`` begins the message."""
    if model.backend != backend:
        raise ConfigError(
            f"{what} of {backend}, and this is one of {model.backend}; make both with "
            f"get_backend({model.backend!r}), or both with get_backend({backend!r})"
        )


class Trainable(HoldsArrays):
    """A net that knows its loss, its score, and which sets it can learn from.

    Attributes:
        labels: the names of the classes, in the order of the logits; empty without classes.
        precision: of its matrix products, ``"fp32"`` or ``"bf16"``; weights are float32.
    """

    labels: tuple[str, ...] = ()
    precision: str = "fp32"

    @property
    @abstractmethod
    def num_eval_outputs(self) -> int:
        """Number of values that `eval_outputs` returns for an example."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """Return the sum of a batch's losses, in nats, and the number predicted right.

        Both are the framework's scalars, from the outputs of a forward pass.
        """

    @abstractmethod
    def eval_outputs(self, outputs: Any, batch: Batch) -> NDArray[np.float32]:
        """Return per-example values that `score` aggregates, (B, num_eval_outputs)."""

    @abstractmethod
    def score(self, eval_outputs: NDArray[np.float32], labels: NDArray[np.int32]) -> Score:
        """Score a set, from its outputs (N, num_eval_outputs) and labels (N,)."""

    @abstractmethod
    def check_set(self, data: ExampleSet, what: str) -> None:
        """Raise DataError if the net cannot learn from a set, or be scored on it."""

    def with_net_labels(self, batch: Batch, data: ExampleSet) -> Batch:
        """Map a batch's label ids from those of the data set to those of the net, by class name."""
        return batch

    def learns_from(self, data: Any) -> None:
        """Take over settings of a training set that later inputs must share; see `Classifier`."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights, sizes and vocabulary to one folder that any backend opens."""


class PretrainingModel(Trainable):
    """A BERT with its pretraining heads, as a trainer trains them.

    Attributes:
        next_sentence: whether the head for sentences is trained.
    """

    next_sentence: bool
    num_eval_outputs = PretrainingMetrics.NUM_EVAL_OUTPUTS
    #: Returns all tensors of the BERT, the untrained ones included, for `save`.
    _all_arrays: Callable[[], Mapping[str, NDArray]]

    def shapes(self) -> Shapes:
        """Return name and shape of each tensor that is trained."""
        untrained = () if self.next_sentence else SENTENCE_HEADS
        shapes = bert_shapes(self.config)
        return {name: shapes[name] for name in shapes if not name.startswith(untrained)}

    def score(
        self, eval_outputs: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> PretrainingMetrics:
        return PretrainingMetrics.from_eval_outputs(eval_outputs, self.next_sentence)

    def check_set(self, data: ExampleSet, what: str) -> None:
        if not isinstance(data, PretrainingSet):
            raise DataError(
                f"the {what} set has labelled pairs; pretraining takes a PretrainingSet"
            )
        if data.next_sentence != self.next_sentence:
            raise DataError(
                f"the {what} set has next_sentence={data.next_sentence}, and the net "
                f"next_sentence={self.next_sentence}; give both the same"
            )

    def save(self, folder: str | Path) -> None:
        """Write weights, sizes and vocabulary to one folder that any backend opens."""
        arrays = self._all_arrays()
        ordered = {name: arrays[name] for name in bert_shapes(self.config)}
        save_native(folder, ordered, self.config, None, self.required_vocab())
