"""Logits of classifiers: the one place where a report calls a backend. All else is arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertnli._util.progress import LogLines
from bertnli.bert.labels import label_merging
from bertnli.data.batches import sorted_batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation.scores import log_softmax, merged
from bertnli.nets.classifier import Classifier
from bertnli.nets.metrics import Metrics
from bertnli.training.trainer import Trainer

#: A classifier, or its trainer, which computes on all its devices and processes.
Model = Classifier | Trainer


@dataclass(frozen=True)
class Encoding:
    """Settings by which pairs of sentences become token ids; None for those of the classifier.

    Args:
        max_len: maximum number of tokens of a pair, special ones included.
        truncation: rule by which longer pairs are cut; see `PairDataset`.
        batch_size: number of pairs computed at a time.
    """

    max_len: int | None = None
    truncation: str | None = None
    batch_size: int = 256

    def dataset(self, net: Classifier, corpus: Corpus) -> PairDataset:
        """Encode a corpus with the vocabulary of a classifier."""
        return net.encode(corpus, self.max_len, self.truncation)


def net_of(model: Model) -> Classifier:
    """Return the classifier of a trainer, or a classifier itself; raise ConfigError for others."""
    net = model.net if isinstance(model, Trainer) else model
    if not isinstance(net, Classifier):
        raise ConfigError("what is evaluated is a classifier, and this net has no classes")
    return net


def logits_of(
    model: Model, dataset: PairDataset, batch_size: int = 256, progress: bool = False
) -> NDArray[np.float32]:
    """Compute the logits (N, labels) of a dataset's pairs, in its order, without dropout.

    Several processes compute different batches, and all get all logits.

    Args:
        model: a classifier or its trainer.
        dataset: pairs encoded with the model's vocabulary; labels are not needed.
        batch_size: pairs computed at a time; pairs of similar length go together.
        progress: print a line on standard error every 30 seconds.

    Raises:
        DataError: there are no pairs.
    """
    if not len(dataset):
        left_out = "".join(f"; {n} left out ({why})" for why, n in dataset.skipped.items())
        raise DataError(f"{dataset.source or 'the set'} has no pairs to score{left_out}")
    logits = np.zeros((len(dataset), len(net_of(model).labels)), np.float32)
    compute, rank, size = net_of(model).logits, 0, 1
    if isinstance(model, Trainer):
        compute, rank, size = model.eval_step, model.workers.rank, model.workers.size
    lines, done = LogLines(dataset.source or "the set", total=len(dataset)), 0
    for i, (indices, batch) in enumerate(sorted_batches(dataset, batch_size)):
        if i % size == rank:
            logits[indices] = compute(batch)
        done += len(batch)
        if progress and rank == 0:
            lines.update(done)
    if isinstance(model, Trainer):
        logits = model.workers.sum(logits.ravel()).reshape(logits.shape)
    return logits


def set_log_probabilities(
    logits: NDArray, labels: Sequence[str], set_labels: Sequence[str], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Compute log-probabilities (N, set labels) of a set's classes, matched by name.

    For a two-way set, a three-way classifier's probabilities of neutral and contradiction are
    added, and the class with the greater probability is predicted. McCoy et al. (Right for the
    wrong reasons, ACL 2019) instead predict one of three classes, and merge then; that differs
    where entailment is the most probable of three classes and has less than a half.

    Args:
        logits: (N, labels) of the classifier.
        labels, set_labels: class names of the classifier, and of the set.
        temperature: divisor of the logits.

    Raises:
        DataError: the set has other classes than the classifier; see `label_merging`.
    """
    places = label_merging(labels, set_labels)
    return merged(log_softmax(logits.astype(np.float64) / temperature), places, len(set_labels))


def metrics_of(logits: NDArray, net_labels: Sequence[str], dataset: PairDataset) -> Metrics:
    """Score a classifier's logits (N, net labels) of a labelled dataset's pairs.

    Raises:
        DataError: a pair has no label, or the set has other classes than the classifier.
    """
    labels, names = dataset.labels, dataset.label_names
    if int(labels.min()) < 0 or int(labels.max()) >= len(names):
        raise DataError(
            f"{dataset.source or 'the set'} has label ids from {labels.min()} to {labels.max()}; "
            f"its classes are 0 to {len(names) - 1}, {list(names)}"
        )
    return Metrics.from_logits(names, set_log_probabilities(logits, net_labels, names), labels)


def order_note(name: str, metrics: Metrics) -> str | None:
    """Write a note if a checkpoint's score suggests another order of its classes; None if not.

    See `Metrics.better_permutation`.
    """
    better = metrics.better_permutation()
    if better is None:
        return None
    renamed, accuracy = better
    order = ",".join(renamed.get(label, label) for label in metrics.labels)
    return (
        f"{name}: the classes may be in another order than {','.join(metrics.labels)}: in the "
        f"order {order} the accuracy would be {accuracy:.4f}, not {metrics.accuracy:.4f}; if so, "
        "mend --label-map, --labels, or the names in the checkpoint's config.json"
    )
