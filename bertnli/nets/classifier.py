"""An NLI classifier on any backend. Shapes: B pairs, T tokens, H num_hiddens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.labels import LABELS, checked_labels, label_permutation
from bertnli.bert.parameters import Shapes, classifier_shapes, layer_names
from bertnli.data.batches import Batch, ExampleSet, sorted_batches
from bertnli.data.corpus import ONE_LIST, Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import DataError
from bertnli.explain import Explanation, explain
from bertnli.formats.checkpoint import content_names, content_of, output_layer
from bertnli.formats.native import save_native
from bertnli.nets.metrics import Metrics
from bertnli.nets.pretraining import check_bert
from bertnli.nets.trainable import Tensor, Trainable
from bertnli.text.pairs import PairEncoding


@dataclass(frozen=True)
class Prediction:
    """A classifier's answer to one pair.

    Args:
        label: name of the most probable class.
        probabilities: class name to probability, in the classifier's order; they sum to 1.
        unknown_share: share of ``<unk>`` among the pair's tokens, without special ones; with a high
            share the answer means little.
        is_cut: whether the pair was longer than ``max_len``, and lost tokens.
        premise, hypothesis: the pair.

    Examples:
        >>> net = bertnli.load("bert.mini")
        >>> [prediction] = net.predict([("A man is asleep.", "A man is awake.")])
        >>> prediction.label, round(prediction.probabilities["contradiction"], 2)
        ('contradiction', 0.87)
    """

    label: str
    probabilities: dict[str, float]
    unknown_share: float = 0.0
    is_cut: bool = False
    premise: str = field(default="", repr=False)
    hypothesis: str = field(default="", repr=False)


class Classifier(Trainable):
    """A BERT encoder with one output layer on ``<cls>``: an NLI classifier.

    Args:
        bert: the model whose encoder and pooler are used (shared, not copied).
        labels: the names of the classes, in the order of the logits.
        seed: of a new output layer's start values, which also depend on the content of the model
            and are the same on every backend.
        new_head: begin with a new output layer, also where the model comes from a classifier of the
            same classes, whose layer is taken otherwise.

    Attributes:
        encoding: how pairs are cut to length, in `predict` and `explain`, too. It is saved with the
            weights, and `Trainer.fit` takes it from the training set. A user's loop sets it:
            ``net.encoding = train_set.encoding``.
        output_origin: of the output layer: ``"of the checkpoint"``, or ``"new: "`` and why.
    """

    output: Any
    encoding: PairEncoding
    output_origin: str

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
        arrays, self.output_origin, encoding = layer
        self.encoding = encoding or PairEncoding.default(bert.config.max_len)
        self.give_values(arrays, bert)
        self._weights = tuple(self.named_tensors().values())

    def shapes(self) -> Shapes:
        return classifier_shapes(self.config, len(self.labels))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, hits = self.cross_entropy(outputs, batch.labels, batch.targets)
        return losses.sum(), hits.sum()

    def eval_outputs(self, outputs: Tensor, batch: Batch) -> NDArray[np.float32]:
        """Return the logits, (B, labels)."""
        return self.read(outputs)

    @property
    def num_eval_outputs(self) -> int:
        return len(self.labels)

    def score(self, eval_outputs: NDArray[np.float32], labels: NDArray[np.int32]) -> Metrics:
        return Metrics.from_logits(self.labels, eval_outputs, labels)

    def check_set(self, data: ExampleSet, what: str) -> None:
        if not isinstance(data, PairDataset):
            raise DataError(f"the {what} set has no labelled pairs, which a classifier learns from")
        label_permutation(self.labels, data.label_names)  # refuses other names
        if int(data.labels.min()) < 0 or int(data.labels.max()) >= len(data.label_names):
            raise DataError(
                f"the {what} set has label ids from {data.labels.min()} to {data.labels.max()}; "
                f"its classes are 0 to {len(data.label_names) - 1}, {list(data.label_names)}"
            )

    def with_net_labels(self, batch: Batch, data: ExampleSet) -> Batch:
        assert isinstance(data, PairDataset)
        ids = label_permutation(self.labels, data.label_names).astype(np.int32)
        return batch.relabelled(ids)

    def learns_from(self, data: Any) -> None:
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
        how = self.encoding.overridden(max_len, truncation, self.config.max_len)
        vocab = self.required_vocab()
        return PairDataset(corpus, how.max_len, vocab, truncation=how.truncation, verbose=False)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Return the class logits of a batch without dropout, (B, labels), float32."""
        with self.inference():
            return self.read(self(self.inputs(batch)))  # type: ignore[operator]

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Return each layer's output for a batch, without dropout and with padding computed.

        Returns:
            The names of `layer_names` to (B, T, H) of the embeddings and of each block, (B, H) of
            the pooler, (B, labels) of the output layer; float32.
        """
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
        """Return the classes' probabilities, and the gradient of one by the tokens' embeddings.

        Without dropout; the parameters' gradients are not changed.

        Args:
            batch: (B, T); of its arrays, segments and valid_lens are used.
            embedded: (B, T, H), in place of the tokens' embeddings, before segments and positions
                are added.
            label: the id of the class.

        Returns:
            Probabilities (B, labels) and gradients (B, T, H), float32.
        """
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

    @hinted("Give two sentences: explain(premise, hypothesis)")
    def explain(self, premise: str, hypothesis: str, **options: Any) -> Explanation:
        """Return each token's share in the answer to a pair; see `bertnli.explain.explain`."""
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
        probabilities = np.zeros((len(dataset), len(self.labels)))
        for indices, batch in sorted_batches(dataset, batch_size):
            probabilities[indices] = softmax(self.logits(batch))
        columns = (
            probabilities.argmax(axis=1).tolist(),
            probabilities.tolist(),
            dataset.unknown_shares.tolist(),
            dataset.is_cut.tolist(),
            *corpus[:2],
        )
        return [
            Prediction(self.labels[best], dict(zip(self.labels, row, strict=True)), *details)
            for best, row, *details in zip(*columns, strict=True)
        ]

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
