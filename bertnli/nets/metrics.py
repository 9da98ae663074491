"""How well a net did: a classifier's accuracy, per class precision, recall and F1, the confusion
matrix; a pretrained model's masked words and next sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

#: With more classes than this there are too many orders to try.
MAX_PERMUTED = 6
#: What another order must reach to be suspected; see `Metrics.better_permutation`.
MIN_RECALL, CHANCE_SIGMAS, GAIN_SIGMAS = 0.54, 3.8, 2.8
CORNER = "true \\ predicted"


class Score(Protocol):
    """What a run watches, and chooses its best epoch by."""

    @property
    def loss(self) -> float:
        """Mean loss, in nats."""

    @property
    def accuracy(self) -> float:
        """Share predicted right."""


@dataclass(frozen=True)
class PretrainingMetrics:
    """The score of a model on masked text.

    Args:
        mlm_loss: mean cross-entropy of the masked tokens, in nats.
        mlm_accuracy: share of them predicted right.
        nsp_loss, nsp_accuracy: the same of whether the second sentence follows the first; None
            where the model does not learn it.
        num_predictions: masked tokens.
        num_pairs: examples.
    """

    mlm_loss: float
    mlm_accuracy: float
    nsp_loss: float | None
    nsp_accuracy: float | None
    num_predictions: int
    num_pairs: int

    #: Of an example: its tokens' summed loss, how many are right, how many there are; the same of
    #: its sentences, without the number.
    NUM_EVAL_OUTPUTS: ClassVar[int] = 5

    @classmethod
    def from_eval_outputs(cls, eval_outputs: NDArray, next_sentence: bool) -> PretrainingMetrics:
        """Score evaluation outputs, (N, NUM_EVAL_OUTPUTS)."""
        mlm_loss, mlm_hits, count, nsp_loss, nsp_hits = (
            eval_outputs.astype(np.float64).sum(0).tolist()
        )
        n = len(eval_outputs)
        return cls(
            mlm_loss / max(count, 1),
            mlm_hits / max(count, 1),
            nsp_loss / n if next_sentence else None,
            nsp_hits / n if next_sentence else None,
            int(count),
            n,
        )

    @property
    def loss(self) -> float:
        """The loss that is trained, as the book has it: the sum of both tasks' means."""
        return self.mlm_loss + (self.nsp_loss or 0.0)

    @property
    def accuracy(self) -> float:
        """Share of the masked tokens predicted right."""
        return self.mlm_accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that JSON can hold."""
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
    """The score of a classifier on a set of pairs.

    Args:
        labels: class names.
        confusion: (labels, labels) counts; row the true class, column the predicted one.
        loss: mean cross-entropy, in nats.

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
        """Number of pairs scored."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of pairs classified right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    def better_permutation(self) -> tuple[dict[str, str], float] | None:
        """Return the other order of the classes that the predictions fit, if there is one.

        That the classes of a file or a checkpoint are in another order than supposed shows in this
        way; so does, less and less clearly, a model that is weak on the set. Of all other orders
        the one with the highest mean recall (that of all classes, whatever their shares) is
        returned if it looks like the right order of a model that has learned its task:

        - each class is predicted for its own pairs more often than any other class is;
        - the mean recall is `MIN_RECALL` or more, and `CHANCE_SIGMAS` standard errors above that of
          guessing, which is 1 / classes for any model that does not see its input, also for one
          that always says the same;
        - it is `GAIN_SIGMAS` standard errors above the mean recall in the order as it is.

        ``benchmarks/label_order.py`` measures how often that is right and wrong.

        Returns:
            Predicted name to true name, of the classes that change, and the accuracy; or None.
        """
        classes, pairs = len(self.labels), self.confusion.sum(axis=1)
        if not 2 <= classes <= MAX_PERMUTED or not pairs.all():
            return None
        rows = np.arange(classes)
        recalls = self.confusion / pairs[:, None]
        others = [np.array(order) for order in permutations(range(classes))][1:]
        best = max(others, key=lambda order: recalls[rows, order].sum())  # true class -> column
        own = recalls[rows, best]
        guessed = 1 / classes
        error = np.sqrt((guessed * (1 - guessed) / pairs).sum()) / classes
        lowest = max(MIN_RECALL, guessed + CHANCE_SIGMAS * error)
        if own.mean() < lowest or (own < recalls.max(axis=1)).any():
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
        """Return for each class its precision, recall, F1 and support (number of true pairs).

        A ratio with nothing below the line is 0.
        """
        rows = {}
        for i, label in enumerate(self.labels):
            right = float(self.confusion[i, i])
            predicted, support = self.confusion[:, i].sum(), self.confusion[i].sum()
            precision = right / predicted if predicted else 0.0
            recall = right / support if support else 0.0
            total = precision + recall
            f1 = 2 * precision * recall / total if total else 0.0
            rows[label] = {
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": int(support),
            }
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary that JSON can hold."""
        return {
            "pairs": self.num_pairs,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "labels": list(self.labels),
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }

    def __str__(self) -> str:
        width = max(len(CORNER), *(len(label) for label in self.labels))
        lines = [f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f}, {self.num_pairs} pairs", ""]
        lines.append(f"{'class':<{width}} precision  recall      f1   pairs")
        for label, row in self.per_class().items():
            lines.append(
                f"{label:<{width}} {row['precision']:>9.4f} {row['recall']:>7.4f} "
                f"{row['f1']:>7.4f} {row['support']:>7}"
            )
        column = max(7, *(len(label) for label in self.labels))
        lines += ["", f"{CORNER:<{width}}"]
        lines[-1] += "".join(f" {label:>{column}}" for label in self.labels)
        for label, counts in zip(self.labels, self.confusion, strict=True):
            lines.append(f"{label:<{width}}" + "".join(f" {n:>{column}}" for n in counts))
        return "\n".join(lines)
