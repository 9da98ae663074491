"""An NLI classifier on any backend. Shapes: B pairs, T tokens, H num_hiddens, E embedding_size."""

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
from bertnli.nets.packed import first_tokens
from bertnli.nets.pretraining import check_bert
from bertnli.nets.trainable import Tensor, Trainable
from bertnli.text.pairs import PairEncoding


@dataclass(frozen=True)
class Prediction:
    """A classifier's answer to one pair.

    Args:
        label: the name of the most probable class.
        probabilities: dictionary of each class to its probability; they sum to 1.
        unknown_share: the share of ``<unk>`` among the pair's tokens, without special ones; with a
            high share the answer means little.
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
        labels: the class names in the order of the logits.
        seed: the seed of a new output layer's initial values, which also depend on the model's
            weights and are the same on every backend.
        new_head: whether to start with a new output layer even if the model comes from a classifier
            of the same classes; otherwise that classifier's output layer is kept.

    Attributes:
        encoding: how pairs are cut to ``max_len`` tokens, also in `predict` and `explain`. It is
            saved with the weights. `Trainer.fit` takes it from the training set; set it in a
            training loop of your own: ``net.encoding = train_set.encoding``.
        output_origin: the origin of the output layer: ``"of the checkpoint"``, or ``"new: "`` and
            the reason.
    """

    output: Any
    pooler_dropout: Any
    dropout: Any
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

    def forward(self, inputs: Sequence[Tensor], table: Tensor | None = None) -> Any:
        """Compute the class logits, (B, labels).

        Args:
            inputs: token_ids (B, T), segments (B, T), valid_lens (B,), as in `Batch.inputs`.
            table: (U, E), the rows of the token embedding that token_ids index; None for all rows.
        """
        self.check_input(inputs[0])
        dropout = self.ops.Dropout
        X = dropout(self.pooler_dropout)(first_tokens(self, inputs, table))  # (B, H)
        return self.output(dropout(self.dropout)(self.hidden(X)))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        losses, hits = self.cross_entropy(outputs, batch.labels, batch.targets)
        return losses.sum(), hits.sum()

    def eval_outputs(self, outputs: Tensor, batch: Batch) -> NDArray[np.float32]:
        return self.read(outputs)  # the logits, (B, labels)

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
        """Encode a corpus with the net's vocabulary.

        Args:
            corpus: the pairs of sentences.
            max_len, truncation: see `PairDataset`; None for those of ``net.encoding``.

        Raises:
            ConfigError: the model carries no vocabulary, or has fewer positions than ``max_len``.
        """
        how = self.encoding.overridden(max_len, truncation, self.config.max_len)
        vocab = self.required_vocab()
        return PairDataset(corpus, how.max_len, vocab, truncation=how.truncation, verbose=False)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Compute the class logits of a batch without dropout, (B, labels), float32."""
        with self.inference():
            return self.read(self(self.inputs(batch)))  # type: ignore[operator]

    def activations(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Compute each layer's output for a batch, without dropout and including padding.

        Returns:
            Dictionary of each name of `layer_names` to a float32 array: (B, T, H) for the
            embeddings and for each block, (B, H) for the pooler, (B, labels) for the output layer.
        """
        self.check_weights()
        with self.inference():
            tokens, *others = self.inputs(batch)
            outputs = self._layer_outputs(self.encoder.token_embedding(tokens), *others)
            arrays = [self.read(X) for X in outputs]
        return dict(zip(layer_names(self.config), arrays, strict=True))

    def _layer_outputs(self, X: Tensor, segments: Tensor, valid_lens: Tensor) -> list[Tensor]:
        """Compute the outputs of all layers from token embeddings X, (B, T, E)."""
        outputs = [self.encoder.embed(X, segments)]
        bias = self.ops.relative_bias(self.encoder, X.shape[1], X)
        for blk in self.encoder.blks:
            outputs.append(blk(outputs[-1], valid_lens, bias))
        pooled = self.hidden(outputs[-1][:, 0])
        return [*outputs, pooled, self.output(pooled)]

    def probability_gradients(
        self, batch: Batch, embedded: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute class probabilities and the gradient of one of them by the token embeddings.

        Dropout is off, and the gradients of parameters do not change.

        Args:
            batch: the batch, (B, T), whose segments and valid_lens are used.
            embedded: (B, T, E), the token embeddings to use, before segment and position embeddings
                are added.
            label: the id of the class whose probability is differentiated.

        Returns:
            Probabilities (B, labels) and gradients (B, T, E), float32.
        """
        self.check_weights()
        _, *others = self.inputs(batch)
        return self.softmax_gradient(lambda X: self._layer_outputs(X, *others)[-1], embedded, label)

    @abstractmethod
    def softmax_gradient(
        self, logits: Callable[[Tensor], Tensor], x: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the softmax of ``logits(x)``, and the gradient of its column ``label`` by x."""

    @hinted("Give two sentences: explain(premise, hypothesis)")
    def explain(self, premise: str, hypothesis: str, **options: Any) -> Explanation:
        """Compute each token's share in the predicted class; see `bertnli.explain.explain`."""
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
        """Classify pairs of sentences; return one `Prediction` for each, in the same order.

        Args:
            pairs: pairs (premise, hypothesis) of untokenized text.
            batch_size: the number of pairs computed together.
            max_len: the maximum number of tokens of a pair, including special ones; longer pairs
                are cut. None for that of the training set, in ``net.encoding``.
            truncation: how long pairs are cut: ``"book"``, ``"longest_first"`` or ``"ratio"``, see
                `truncated_lengths`; None for that of the training set.

        Raises:
            ConfigError: the model carries no vocabulary, or has fewer positions than ``max_len``.
            DataError: an element is not a pair of sentences.
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
        """Write the classifier to a folder that any backend opens.

        It contains the weights, sizes, labels, vocabulary and ``net.encoding``.
        """
        vocab = self.required_vocab()
        save_native(folder, self.arrays(), self.config, self.labels, vocab, self.encoding)


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Compute the softmax of logits along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
