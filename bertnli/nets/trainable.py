"""Nets on any backend: their arrays by name; and, to train them, a loss and a score.

A backend's module ``model`` combines the classes of `bertnli.nets` with its layers (``heads``), and
implements the functions on tensors that `Net` declares. Shapes: B pairs, T tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import Shapes, check_shapes
from bertnli.data.batches import Batch, ExampleSet
from bertnli.data.corpus import short_repr
from bertnli.errors import ConfigError
from bertnli.nets.metrics import Score
from bertnli.text.vocab import Vocab

#: A tensor of the backend's framework.
Tensor = Any


class Net(ABC):
    """A net whose tensors have the same names on every backend; see `bertnli.bert.parameters`.

    Attributes:
        config: the sizes of the net's BERT.
        vocab: the vocabulary; None if the net carries none.
        backend: the name of the net's backend.
        ops: the backend's module ``layers``; see `bertnli.nets.packed`.
    """

    config: BERTConfig
    vocab: Vocab | None
    backend: str = ""
    ops: Any
    encoder: Any
    hidden: Any
    #: The framework's parameters.
    _weights: tuple[Any, ...] = ()

    @abstractmethod
    def shapes(self) -> Shapes:
        """Return the shape of each tensor by name."""

    @abstractmethod
    def named_tensors(self) -> dict[str, Any]:
        """Return the framework's parameters by name."""

    @abstractmethod
    def give_values(self, arrays: Mapping[str, NDArray], beside: Any = None) -> None:
        """Initialise tensors by name, on the CPU or on the devices of the net ``beside``."""

    @abstractmethod
    def set_values(self, arrays: Mapping[str, NDArray]) -> None:
        """Overwrite the values of initialised tensors by name."""

    @abstractmethod
    def read(self, tensor: Tensor) -> NDArray[np.float32]:
        """Copy a tensor or parameter to a NumPy array, float32."""

    @abstractmethod
    def tensor(self, values: NDArray[np.float32], like: Tensor) -> Tensor:
        """Copy an array to a tensor on the device of the tensor ``like``."""

    @abstractmethod
    def move_to(self, devices: Sequence[Any]) -> None:
        """Move the net to a list of devices."""

    @abstractmethod
    def inputs(self, batch: Batch) -> list[Tensor]:
        """Copy `Batch.inputs` to the net's first device."""

    @abstractmethod
    def inference(self) -> AbstractContextManager[Any]:
        """Context manager that turns off dropout and gradients."""

    @abstractmethod
    def cross_entropy(
        self, logits: Tensor, labels: NDArray, targets: NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute for each row the loss, in nats, and whether it is predicted right, (N,) each.

        Args:
            logits: (N, C).
            labels: (N,) integers.
            targets: (N, C), the target probability of each class; None for 1 at the label.
        """

    def building(self) -> AbstractContextManager[Any]:
        """Context manager in which layers are made without values."""
        return nullcontext()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor by name as a NumPy array, float32."""
        return {name: self.read(tensor) for name, tensor in self.named_tensors().items()}

    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Set the values of all tensors.

        Args:
            arrays: the value of each tensor by name.
            source: the arrays' origin, for error messages.

        Raises:
            CheckpointError: tensors are missing, unknown, of another shape or not finite.
        """
        check_shapes(arrays, self.shapes(), source)
        self.set_values(arrays)

    def check_weights(self) -> None:
        """Raise ConfigError if the user has cast the net: it computes with float32 weights."""
        for weight in self._weights:
            if "float32" not in str(weight.dtype):
                dtype = getattr(weight.dtype, "__name__", str(weight.dtype).rpartition(".")[2])
                raise ConfigError(
                    f"the net's weights are {dtype}, and it computes with float32 weights alone; "
                    "cast it back, with net.float() on PyTorch or net.cast('float32') on MXNet. "
                    "net.precision = 'bf16' has its matrix products in bfloat16"
                )

    def check_input(self, tokens: Tensor) -> None:
        """Raise ConfigError if the model has no position for a token of (B, T), or was cast."""
        self.check_weights()
        length = tokens.shape[1]
        if length > self.config.max_len:
            raise ConfigError(
                f"a sequence has {length} tokens, and the model has {self.config.max_len} "
                f"positions; encode the data with max_len={self.config.max_len} or less"
            )

    def required_vocab(self) -> Vocab:
        """Return the vocabulary; raise ConfigError if the model carries none."""
        if self.vocab is None:
            raise ConfigError(
                "the model carries no vocabulary, so text cannot be encoded; set net.vocab, or "
                "take the model of load_pretrained_model, whose model brings its vocabulary along"
            )
        return self.vocab


class Trainable(Net):
    """A net with a loss and a score, and checks of the data sets it can learn from.

    Attributes:
        labels: the class names in the order of the logits; empty without classes.
        precision: the precision of matrix products, ``"fp32"`` or ``"bf16"``; weights are float32.
    """

    labels: tuple[str, ...] = ()
    precision: str = "fp32"

    @property
    @abstractmethod
    def num_eval_outputs(self) -> int:
        """Number of values per example that `eval_outputs` returns."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """Compute the sum of a batch's losses, in nats, and the number of correct predictions.

        Both are scalars of the framework; ``outputs`` are those of a forward pass.
        """

    @abstractmethod
    def eval_outputs(self, outputs: Any, batch: Batch) -> NDArray[np.float32]:
        """Compute the per-example values that `score` aggregates, (B, num_eval_outputs)."""

    @abstractmethod
    def score(self, eval_outputs: NDArray[np.float32], labels: NDArray[np.int32]) -> Score:
        """Score a data set by its evaluation outputs (N, num_eval_outputs) and labels (N,)."""

    @abstractmethod
    def check_set(self, data: ExampleSet, what: str) -> None:
        """Raise DataError if the net cannot learn from a set, which messages call ``what``."""

    def with_net_labels(self, batch: Batch, data: ExampleSet) -> Batch:
        """Map a batch's label ids from those of the data set to those of the net, by class name."""
        return batch

    def learns_from(self, data: Any) -> None:
        """Adopt the training set's settings for later inputs, as `Classifier.encoding`."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights, sizes and vocabulary to one folder that any backend opens."""


def in_words(value: Any) -> str:
    """Return a value's repr, or a net's class name, for an error message."""
    return f"a {type(value).__name__}" if isinstance(value, Net) else short_repr(value)


def check_backend(model: Net, backend: str, what: str) -> None:
    """Raise ConfigError if a model is of another backend; ``what`` begins the message."""
    if model.backend != backend:
        raise ConfigError(
            f"{what} of {backend}, and this is one of {model.backend}; make both with "
            f"get_backend({model.backend!r}), or both with get_backend({backend!r})"
        )
