"""What every backend provides, and what is the same on all of them.

A backend subclasses `PretrainedModel`, `PretrainingModel` and `Classifier` (here), `PairDataset`
(`bertnli.data.dataset`) and `BaseTrainer` (`bertnli.training.trainer`), adding the few methods that
touch tensors, and gathers them in a `Backend`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted, no_attribute
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import label_permutation
from bertnli.bert.parameters import SENTENCE_HEADS, Shapes, bert_shapes
from bertnli.checkpoints.head import Head
from bertnli.checkpoints.native import save_native
from bertnli.data.batches import Batch, ExampleSet, sorted_batches
from bertnli.data.corpus import ONE_LIST, Corpus, shown
from bertnli.data.dataset import PairDataset
from bertnli.data.pretraining import PretrainingSet
from bertnli.errors import ConfigError, DataError
from bertnli.explain import Explanation, explain
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab
from bertnli.training.metrics import Metrics, PretrainingMetrics, Score

if TYPE_CHECKING:
    from bertnli.hub.catalogue import HubView
    from bertnli.training.workers import Workers


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one pair.

    Args:
        label: name of the most probable class.
        probabilities: class name to probability, in the classifier's order; they sum to 1.
        unknown_share: share of the pair's tokens that the model does not know (``<unk>``), special
            ones left out; of a pair that consists of them the answer means nothing.
        is_cut: whether the pair was longer than ``max_len``, and lost tokens.
        premise, hypothesis: the pair.
    """

    label: str
    probabilities: dict[str, float]
    unknown_share: float = 0.0
    is_cut: bool = False
    premise: str = field(default="", repr=False)
    hypothesis: str = field(default="", repr=False)


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
        """Raise ConfigError if a weight is not float32, since the user's code cast the net."""
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


class PretrainedModel(HoldsArrays):
    """A BERT with its pretraining heads.

    Attributes:
        seed: of its start values.
        head: the output layer of the classifier that it was loaded from, if that was one.
    """

    seed: int
    head: Head | None = None


def check_bert(bert: Any, net: Trainable) -> None:
    """Raise ConfigError if a net is to be made of something else than a BERT of its backend."""
    what = f"{type(net).__name__}() takes a BERT"
    if isinstance(bert, tuple | list) and any(isinstance(one, PretrainedModel) for one in bert):
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


def in_words(given: Any) -> str:
    """Return what was given, for a message; of a net, whose own words are many lines, its class."""
    return f"a {type(given).__name__}" if isinstance(given, HoldsArrays) else shown.repr(given)


def check_backend(model: HoldsArrays, backend: str, what: str) -> None:
    """Raise ConfigError if a model is of another backend; ``what`` begins the message."""
    if model.backend != backend:
        raise ConfigError(
            f"{what} of {backend}, and this is one of {model.backend}; make both with "
            f"get_backend({model.backend!r}), or both with get_backend({backend!r})"
        )


class Trainable(HoldsArrays):
    """What a trainer trains: a net that knows its loss, its score, and what it can learn from.

    Attributes:
        labels: the names of the classes, in the order of the logits; none if it has no classes.
        precision: what its matrix products are computed in, ``"fp32"`` or ``"bf16"``; weights are
            float32.
    """

    labels: tuple[str, ...] = ()
    precision: str = "fp32"

    @property
    @abstractmethod
    def num_outcomes(self) -> int:
        """How many numbers `outcomes` gives for an example."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """Return the sum of a batch's losses, in nats, and the number predicted right.

        Args:
            outputs: what the net's forward pass gave for the batch.
            batch: with labels.

        Returns:
            Two of the framework's scalars; the first has a gradient.
        """

    @abstractmethod
    def outcomes(self, outputs: Any, batch: Batch) -> NDArray[np.float32]:
        """Return per-example values that `score` aggregates, (B, num_outcomes).

        Args:
            outputs: of the forward pass.
            batch: that it was computed for.
        """

    @abstractmethod
    def score(self, outcomes: NDArray[np.float32], labels: NDArray[np.int32]) -> Score:
        """Return the score of a set, from its outcomes (N, num_outcomes) and labels (N,)."""

    @abstractmethod
    def check_set(self, data: ExampleSet, what: str) -> None:
        """Raise DataError if the net cannot learn from a set, or be scored on it."""

    def prepared(self, batch: Batch, data: ExampleSet) -> Batch:
        """Return a batch of a set as the net wants it."""
        return batch

    def learns_from(self, data: Any) -> None:
        """Take over from a training set what later inputs must share with it; see `Classifier`."""

    def required_vocab(self) -> Vocab:
        """Return the vocabulary, or raise ConfigError if the model carries none."""
        if self.vocab is None:
            raise ConfigError(
                "the model carries no vocabulary, so text cannot be encoded; set net.vocab, or "
                "take the model of load_pretrained_model, whose model brings its vocabulary along"
            )
        return self.vocab

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights, sizes and vocabulary to one folder that any backend opens."""


class PretrainingModel(Trainable):
    """A BERT with its pretraining heads, as a trainer trains them.

    Attributes:
        next_sentence: whether the head for sentences is trained.
    """

    next_sentence: bool
    num_outcomes = PretrainingMetrics.NUM_OUTCOMES

    def shapes(self) -> Shapes:
        """Return name and shape of each tensor that is trained."""
        untrained = () if self.next_sentence else SENTENCE_HEADS
        shapes = bert_shapes(self.config)
        return {name: shapes[name] for name in shapes if not name.startswith(untrained)}

    def _keep_whole(self, bert: PretrainedModel) -> None:
        """Keep the untrained tensors for `save`."""
        self._whole = bert.arrays  # the model itself would count as a part of this one

    def score(self, outcomes: NDArray[np.float32], labels: NDArray[np.int32]) -> PretrainingMetrics:
        """See `Trainable.score`."""
        return PretrainingMetrics.from_outcomes(outcomes, self.next_sentence)

    def check_set(self, data: ExampleSet, what: str) -> None:
        """See `Trainable.check_set`."""
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
        arrays = self._whole()
        ordered = {name: arrays[name] for name in bert_shapes(self.config)}
        save_native(folder, ordered, self.config, None, self.required_vocab())


class Classifier(Trainable):
    """An NLI classifier: what it does with pairs and files, on any backend.

    Attributes:
        encoding: how pairs are cut to length. It is saved with the weights, `Trainer.fit` takes it
            from the training set, and `predict` and `explain` cut as it says. A loop of the user's
            own sets it: ``net.encoding = train_set.encoding``.
        output_origin: where the output layer comes from: ``"of the checkpoint"``, or ``"new: "``
            and why.
    """

    encoding: PairEncoding
    output_origin: str

    @property
    def num_outcomes(self) -> int:
        """See `Trainable.num_outcomes`."""
        return len(self.labels)

    def score(self, outcomes: NDArray[np.float32], labels: NDArray[np.int32]) -> Metrics:
        """Return accuracy and all else of logits (N, labels)."""
        return Metrics.from_logits(self.labels, outcomes, labels)

    def check_set(self, data: ExampleSet, what: str) -> None:
        """See `Trainable.check_set`."""
        if not isinstance(data, PairDataset):
            raise DataError(f"the {what} set has no labelled pairs, which a classifier learns from")
        label_permutation(self.labels, data.label_names)  # refuses other names
        if int(data.labels.min()) < 0 or int(data.labels.max()) >= len(data.label_names):
            raise DataError(
                f"the {what} set has label ids from {data.labels.min()} to {data.labels.max()}; "
                f"its classes are 0 to {len(data.label_names) - 1}, {list(data.label_names)}"
            )

    def prepared(self, batch: Batch, data: ExampleSet) -> Batch:
        """Give the classes of a set the ids that the net has for their names."""
        assert isinstance(data, PairDataset)
        ids = label_permutation(self.labels, data.label_names).astype(np.int32)
        return batch.relabelled(ids)

    def learns_from(self, data: Any) -> None:
        """Take over how the pairs of a training set were cut to length."""
        if isinstance(data, PairDataset):
            self.encoding = data.encoding

    def encode(
        self, corpus: Corpus, max_len: int | None = None, truncation: str | None = None
    ) -> PairDataset:
        """Return a corpus as the ids of the net's vocabulary.

        Args:
            corpus: pairs of sentences.
            max_len, truncation: None for the net's own; see `PairDataset`.

        Raises:
            ConfigError: the model carries no vocabulary, or has fewer positions than ``max_len``.
        """
        chosen = self.encoding.overridden(max_len, truncation, self.config.max_len)
        return PairDataset(
            corpus,
            chosen.max_len,
            self.required_vocab(),
            truncation=chosen.truncation,
            verbose=False,
        )

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

    @abstractmethod
    def probability_gradients(
        self, batch: Batch, embedded: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the classes' probabilities, and the gradient of one by the tokens' embeddings.

        Without dropout; the gradients of the parameters stay what they were.

        Args:
            batch: (B, T); its segments and valid_lens count, its token_ids do not.
            embedded: (B, T, H), what stands for the tokens' embeddings, before segments and
                positions are added.
            label: the id of the class.

        Returns:
            Probabilities (B, labels) and gradients (B, T, H), float32.
        """

    @hinted("Give two sentences: explain(premise, hypothesis)")
    def explain(self, premise: str, hypothesis: str, **options: Any) -> Explanation:
        """Return what the answer to a pair came from: see `bertnli.explain.explain`."""
        return explain(self, premise, hypothesis, **options)

    @hinted(ONE_LIST)
    def predict(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        batch_size: int = 64,
        max_len: int | None = None,
        truncation: str | None = None,
    ) -> list[Prediction]:
        """Return the class of each pair of raw sentences, in the order given.

        Args:
            pairs: (premise, hypothesis), text as people write it.
            batch_size: pairs computed at a time; pairs of similar length go together.
            max_len: tokens of a pair, special ones included; longer pairs are cut. None for what
                the net was trained with, ``net.encoding``.
            truncation: how they are cut, ``"book"``, ``"longest_first"`` or ``"ratio"``; None as
                for ``max_len``.

        Raises:
            ConfigError: the model carries no vocabulary, or has fewer positions than ``max_len``.
            DataError: something that is not a pair of sentences.
        """
        corpus = Corpus.from_pairs(pairs)
        dataset = self.encode(corpus, max_len, truncation)
        unknown = dataset.unknown_shares
        predictions: list[Prediction | None] = [None] * len(dataset)
        for indices, batch in sorted_batches(dataset, batch_size):
            for index, row in zip(indices, softmax(self.logits(batch)), strict=True):
                by_name = dict(zip(self.labels, map(float, row), strict=True))
                predictions[index] = Prediction(
                    self.labels[int(row.argmax())],
                    by_name,
                    float(unknown[index]),
                    bool(dataset.is_cut[index]),
                    corpus.premises[index],
                    corpus.hypotheses[index],
                )
        return [prediction for prediction in predictions if prediction is not None]

    def save(self, folder: str | Path) -> None:
        """Write the classifier to one folder that any backend opens.

        With its weights go sizes, labels, vocabulary and how pairs are cut to length.
        """
        vocab = self.required_vocab()
        save_native(folder, self.arrays(), self.config, self.labels, vocab, self.encoding)


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Return probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Backend:
    """One framework's side of bertnli; what `bertnli.get_backend` returns.

    ``load_pretrained_model``, ``load``, the classes and the device functions take the same
    arguments on every backend.
    """

    name: str
    BERTModel: type
    BERTClassifier: type
    BERTForPretraining: type
    SNLIBERTDataset: type
    Trainer: type
    load_pretrained_model: Callable[..., tuple[Any, Vocab]]
    load: Callable[..., Any]
    cpu: Callable[[], Any]
    try_gpu: Callable[..., Any]
    try_all_gpus: Callable[[], list]
    as_devices: Callable[..., list]
    as_precision: Callable[[str, Any], tuple[str, str]]
    find_workers: Callable[..., Workers]
    about: Callable[[], dict[str, Any]]
    DATA_HUB: HubView

    if not TYPE_CHECKING:  # a checker of types would take any name then

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(f"the backend {self.__dict__.get('name')!r}", name, self.__dict__)
