"""Scores of a classifier, and of a model in pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Maximum number of classes whose orders are all tried.
MAX_PERMUTED = 6
#: Thresholds of `Metrics.better_permutation`.
MIN_RECALL, CHANCE_SIGMAS, GAIN_SIGMAS = 0.54, 3.8, 2.8
CORNER = "true \\ predicted"


@dataclass(frozen=True)
class PretrainingMetrics:
    """Scores of masked language modelling (mlm) and next sentence prediction (nsp).

    Args:
        mlm_loss: the mean cross-entropy of the masked tokens, in nats.
        mlm_accuracy: the share of masked tokens predicted right.
        nsp_loss, nsp_accuracy: mean cross-entropy and accuracy of whether the second sentence
            follows the first; None if the model does not learn it.
        num_predictions: the number of masked tokens.
        num_pairs: the number of examples.
    """

    mlm_loss: float
    mlm_accuracy: float
    nsp_loss: float | None
    nsp_accuracy: float | None
    num_predictions: int
    num_pairs: int

    #: Columns of an example: mlm loss, mlm hits, number of masked tokens, nsp loss, nsp hit.
    NUM_EVAL_OUTPUTS: ClassVar[int] = 5

    @classmethod
    def from_eval_outputs(cls, eval_outputs: NDArray, next_sentence: bool) -> PretrainingMetrics:
        """Compute the scores of N examples from their evaluation outputs (N, NUM_EVAL_OUTPUTS)."""
        n, sums = len(eval_outputs), eval_outputs.astype(np.float64).sum(0).tolist()
        mlm_loss, mlm_hits = (value / max(sums[2], 1) for value in sums[:2])
        nsp_loss, nsp_hits = (value / n if next_sentence else None for value in sums[3:])
        return cls(mlm_loss, mlm_hits, nsp_loss, nsp_hits, int(sums[2]), n)

    @property
    def loss(self) -> float:
        """The training loss, as in the book: the sum of both tasks' mean losses."""
        return self.mlm_loss + (self.nsp_loss or 0.0)

    @property
    def accuracy(self) -> float:
        """The share of masked tokens predicted right."""
        return self.mlm_accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as a dictionary that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        text = (
            f"masked tokens: accuracy {self.mlm_accuracy:.4f}, loss {self.mlm_loss:.4f}, "
            f"{self.num_predictions} of {self.num_pairs} examples"
        )
        if self.nsp_accuracy is None:
            return text
        return f"{text}\nnext sentence: accuracy {self.nsp_accuracy:.4f}, loss {self.nsp_loss:.4f}"


@dataclass(frozen=True)
class Metrics:
    """The scores of a classifier on a set of pairs.

    Args:
        labels: the class names.
        confusion: the confusion matrix, (labels, labels) counts; rows are true classes, columns
            predicted ones.
        loss: the mean cross-entropy, in nats.

    Examples:
        >>> import numpy as np
        >>> metrics = bertnli.Metrics(("entailment", "other"), np.array([[8, 2], [1, 9]]), loss=0.4)
        >>> metrics.accuracy, metrics.num_pairs
        (0.85, 20)
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    loss: float

    @classmethod
    def from_logits(cls, labels: Sequence[str], logits: NDArray, true_labels: NDArray) -> Metrics:
        """Score logits (N, labels) against true class ids (N,)."""
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        losses = -log_probabilities[np.arange(len(true_labels)), true_labels]
        confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(confusion, (true_labels, logits.argmax(axis=1)), 1)
        return cls(tuple(labels), confusion, float(losses.mean()))

    @property
    def num_pairs(self) -> int:
        """The number of pairs scored."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of pairs classified right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    def better_permutation(self) -> tuple[dict[str, str], float] | None:
        """Find another order of the classes that fits the predictions clearly better.

        There is one if the classes of a file or a checkpoint are in another order than assumed. The
        other order with the highest mean recall, over classes whatever their shares, is returned if
        it looks like the right order of a model that has learned its task:

        - each class is predicted for its pairs more often than for those of any other class;
        - the mean recall is `MIN_RECALL` or more, and `CHANCE_SIGMAS` standard errors above that of
          guessing, which is 1 / classes for any model that does not see its input;
        - it is `GAIN_SIGMAS` standard errors above the mean recall in the present order.

        ``benchmarks/label_order.py`` measures how often that is right and wrong.

        Returns:
            A dictionary of predicted to true names, for the classes that change, and the accuracy
            in the other order; None if there is no such order.
        """
        classes, pairs = len(self.labels), self.confusion.sum(axis=1)
        if not 2 <= classes <= MAX_PERMUTED or not pairs.all():
            return None
        rows = np.arange(classes)
        recalls = self.confusion / pairs[:, None]
        others = [np.array(order) for order in permutations(range(classes))][1:]
        best = max(others, key=lambda order: recalls[rows, order].sum())  # true class -> column
        best_recalls = recalls[rows, best]
        chance = 1 / classes
        error = np.sqrt((chance * (1 - chance) / pairs).sum()) / classes
        lowest = max(MIN_RECALL, chance + CHANCE_SIGMAS * error)
        if best_recalls.mean() < lowest or (best_recalls < recalls.max(axis=1)).any():
            return None
        moved = np.flatnonzero(best != rows)
        there, here = self.confusion[moved, best[moved]], self.confusion[moved, moved]
        n = pairs[moved]
        # Of each pair: 1, 0 or -1. One is added to the count, so that no class is without variance.
        variance = (there + here + 1) / (n + 2) - ((there - here) / (n + 2)) ** 2
        if ((there - here) / n).sum() < GAIN_SIGMAS * np.sqrt((variance / n).sum()):
            return None
        renamed = {self.labels[best[i]]: self.labels[i] for i in moved}
        return renamed, float(self.confusion[rows, best].sum() / self.confusion.sum())

    def per_class(self) -> dict[str, dict[str, float]]:
        """Return a dictionary of each class to its precision, recall, F1 and support.

        A ratio with the denominator 0 is 0.
        """
        rows = {}
        for i, label in enumerate(self.labels):
            hits = float(self.confusion[i, i])
            predicted, support = self.confusion[:, i].sum(), self.confusion[i].sum()
            rows[label] = {
                "precision": hits / predicted if predicted else 0.0,
                "recall": hits / support if support else 0.0,
                "f1": 2 * hits / (predicted + support) if hits else 0.0,
                "support": int(support),
            }
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as a dictionary that JSON can hold."""
        return {
            "pairs": self.num_pairs,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "labels": list(self.labels),
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }

    def __str__(self) -> str:
        names = [len(label) for label in self.labels]
        width, column = max(len(CORNER), *names), max(7, *names)
        lines = [
            f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f}, {self.num_pairs} pairs",
            "",
            f"{'class':<{width}} precision  recall      f1   pairs",
        ]
        for label, row in self.per_class().items():
            *ratios, support = row.values()
            cells = "".join(f"{ratio:>8.4f}" for ratio in ratios)
            lines.append(f"{label:<{width}}  {cells} {support:>7}")
        lines.append("")
        table = [(CORNER, self.labels), *zip(self.labels, self.confusion, strict=True)]
        for label, counts in table:
            lines.append(f"{label:<{width}}" + "".join(f" {count:>{column}}" for count in counts))
        return "\n".join(lines)


#: The score of a net on a data set; both kinds have a loss and an accuracy.
Score: TypeAlias = Metrics | PretrainingMetrics
