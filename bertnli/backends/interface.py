"""What every backend provides, and what is the same on all of them.

A backend subclasses `PretrainedModel`, `Classifier` (here), `PairDataset` (`bertnli.data.dataset`)
and `BaseTrainer` (`bertnli.training.trainer`), adding the few methods that touch tensors, and
gathers them in a `Backend`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertnli.checkpoints.native import save_native
from bertnli.config import BERTConfig
from bertnli.data.batches import Batch, sorted_batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import ConfigError
from bertnli.text.vocab import Vocab

if TYPE_CHECKING:
    from bertnli.hub import HubView
    from bertnli.training.workers import Workers


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one pair.

    Args:
        label: name of the most probable class.
        probabilities: class name to probability, in the classifier's order; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]


class HoldsArrays(ABC):
    """A model whose tensors can be read and set as NumPy arrays with canonical names."""

    config: BERTConfig
    vocab: Vocab | None

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor under its canonical name, float32."""

    @abstractmethod
    def load_arrays(self, arrays: Mapping[str, NDArray], source: str) -> None:
        """Take the values of all tensors from arrays with canonical names."""

    def check_length(self, length: int) -> None:
        """Raise ConfigError if a sequence is longer than the model has positions."""
        if length > self.config.max_len:
            raise ConfigError(
                f"a sequence has {length} tokens, and the model has {self.config.max_len} "
                f"positions; encode the data with max_len={self.config.max_len} or less"
            )


class PretrainedModel(HoldsArrays):
    """A BERT with its pretraining heads."""


class Classifier(HoldsArrays):
    """An NLI classifier: what it does with pairs and files, on any backend."""

    labels: tuple[str, ...]
    #: What its matrix products are computed in, ``"fp32"`` or ``"bf16"``; weights are float32.
    precision: str = "fp32"

    @abstractmethod
    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""

    @abstractmethod
    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Return what each layer makes of a batch, without dropout and with padding computed.

        Returns:
            The names of `layer_names` to (B, T, H) of the embeddings and of each block, (B, H) of
            the pooler, (B, labels) of the output layer; float32.
        """

    def predict(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        batch_size: int = 64,
        max_len: int = 128,
        truncation: str = "book",
    ) -> list[Prediction]:
        """Return the class of each pair of raw sentences, in the order given.

        Args:
            pairs: (premise, hypothesis), text as people write it.
            batch_size: pairs computed at a time; pairs of similar length go together.
            max_len: tokens of a pair, special ones included; longer pairs are cut.
            truncation: how they are cut, ``"book"`` or ``"ratio"``.

        Raises:
            ConfigError: the model carries no vocabulary.
            DataError: something that is not a pair of sentences.
        """
        corpus = Corpus.from_pairs(pairs)
        dataset = PairDataset(
            corpus,
            min(max_len, self.config.max_len),
            self.required_vocab(),
            truncation=truncation,
            verbose=False,
        )
        predictions: list[Prediction | None] = [None] * len(dataset)
        for indices, batch in sorted_batches(dataset, batch_size):
            for index, row in zip(indices, softmax(self.logits(batch)), strict=True):
                by_name = dict(zip(self.labels, map(float, row), strict=True))
                predictions[index] = Prediction(self.labels[int(row.argmax())], by_name)
        return [prediction for prediction in predictions if prediction is not None]

    def required_vocab(self) -> Vocab:
        """Return the vocabulary, or raise ConfigError if the model carries none."""
        if self.vocab is None:
            raise ConfigError(
                "the model carries no vocabulary, so text cannot be encoded; set net.vocab, or "
                "take the model of load_pretrained_model, whose model brings its vocabulary along"
            )
        return self.vocab

    def save(self, folder: str | Path) -> None:
        """Write weights, sizes, labels and vocabulary to one folder that any backend opens."""
        save_native(folder, self.arrays(), self.config, self.labels, self.required_vocab())


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Return probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Backend:
    """One framework's side of bertnli; what `bertnli.get_backend` returns.

    ``load_pretrained_model``, ``load``, the three classes and the device functions take the same
    arguments on every backend.
    """

    name: str
    BERTModel: type
    BERTClassifier: type
    SNLIBERTDataset: type
    Trainer: type
    load_pretrained_model: Callable[..., tuple[Any, Vocab]]
    load: Callable[..., Any]
    cpu: Callable[[], Any]
    try_gpu: Callable[..., Any]
    try_all_gpus: Callable[[], list]
    as_devices: Callable[..., list]
    as_precision: Callable[[str, Any], tuple[str, str]]
    find_workers: Callable[[], Workers]
    DATA_HUB: HubView
