"""How far the hypothesis alone goes: a bag of its words, and logistic regression, in NumPy.

What a classifier scores above this it may owe to the relation of the two sentences; what it scores
below, anybody gets who never reads the premise. A. Poliak et al., Hypothesis only baselines in
natural language inference, *SEM 2018; S. Gururangan et al., Annotation artifacts in natural
language inference data, NAACL 2018.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.evaluation.scores import log_softmax, mean_loss
from bertnli.text.tokenize import lower_tokens

#: A word or bigram in fewer hypotheses than this is left out.
MIN_FREQ = 2
#: Strengths of the penalty that are tried, each the precision of a normal prior on the weights,
#: from the strongest on until the held-out loss rises.
L2_GRID = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
#: Of more pairs than this, a part chooses the penalty.
MAX_CHOOSING = 60_000
MAX_STEPS = 200
#: The search ends where no entry of the mean loss's gradient is above this.
TOLERANCE = 2e-4
BIAS = "<bias>"


@dataclass(frozen=True)
class Rows:
    """Sparse rows of ones.

    Args:
        features: (E,) int64, the features of each row, row after row.
        starts: (N,) int64, where each row starts; no row is empty.
    """

    features: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Features of each row, (N,)."""
        return np.diff(self.starts, append=len(self.features))

    def select(self, rows: NDArray[np.int64]) -> Rows:
        """Return some of the rows."""
        lengths = self.lengths[rows]
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) - np.repeat(starts - self.starts[rows], lengths)
        return Rows(self.features[places], starts)

    def logits(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits (N, labels) for weights (labels, features)."""
        sums = [np.add.reduceat(row[self.features], self.starts) for row in weights]
        return np.stack(sums, axis=1)


@dataclass(frozen=True)
class HypothesisBaseline:
    """A classifier that sees words and bigrams of the hypothesis, and nothing of the premise.

    Args:
        labels: class names.
        places: feature to its place.
        weights: (labels, features) float64.
        l2: strength of the penalty that was chosen.
        held_out_accuracy: on the tenth that chose it.
        pairs: how many it was trained on.
        source: where they come from.
    """

    labels: tuple[str, ...]
    places: dict[str, int]
    weights: NDArray[np.float64]
    l2: float
    held_out_accuracy: float
    pairs: int
    source: str

    @classmethod
    def train(cls, corpus: Corpus) -> HypothesisBaseline:
        """Train on a corpus. The same corpus gives the same weights.

        Presence of each word and bigram (with marks for beginning and end) that stands in at least
        `MIN_FREQ` hypotheses; multinomial logistic regression with a penalty of ``l2 / 2`` times
        the squared weights, biases excepted, on the sum of the losses; L-BFGS. A tenth of the
        pairs, drawn with a fixed seed, chooses ``l2`` by its loss; then all are trained on.

        Raises:
            DataError: fewer than 20 pairs, or pairs without labels.
        """
        n, num_labels = len(corpus.labels), len(corpus.label_names)
        labels = np.asarray(corpus.labels, dtype=np.int64)
        if n < 20 or labels.min() < 0:
            raise DataError(
                f"{corpus.source or 'the corpus'}: {n} labelled pairs are too few for the "
                "hypothesis-only baseline; give at least 20, all labelled"
            )
        hypotheses = [_features(words) for words in _hypotheses(corpus)]
        counts = Counter(feature for found in hypotheses for feature in found)
        kept = sorted(feature for feature, count in counts.items() if count >= MIN_FREQ)
        places = {feature: place for place, feature in enumerate([BIAS, *kept])}
        rows = _rows(hypotheses, places)
        del hypotheses, counts

        order = np.random.default_rng(0).permutation(n)[:MAX_CHOOSING]
        held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
        part, others = rows.select(rest), rows.select(held_out)
        weights = np.zeros((num_labels, len(places)))
        losses: dict[float, float] = {}
        scores: dict[float, float] = {}
        for l2 in L2_GRID:  # each from where the one before came to
            weights = fit_weights(part, labels[rest], weights, l2)
            logits = others.logits(weights)
            losses[l2] = mean_loss(log_softmax(logits), labels[held_out])
            scores[l2] = float((logits.argmax(axis=1) == labels[held_out]).mean())
            if losses[l2] > min(losses.values()):
                break
        l2 = min(losses, key=lambda one: losses[one])
        weights = fit_weights(rows, labels, weights, l2)
        names = tuple(corpus.label_names)
        return cls(names, places, weights, l2, scores[l2], n, corpus.source)

    def log_probabilities(self, corpus: Corpus) -> NDArray[np.float64]:
        """Return log-probabilities (N, labels), float64, in the order of ``labels``."""
        rows = _rows([_features(words) for words in _hypotheses(corpus)], self.places)
        return log_softmax(rows.logits(self.weights))


def _hypotheses(corpus: Corpus) -> Iterator[list[str]]:
    return lower_tokens(corpus.hypotheses, corpus.tokenized)


def _features(words: Sequence[str]) -> list[str]:
    marked = ["<s>", *words, "</s>"]
    bigrams = (f"{a} {b}" for a, b in pairwise(marked))
    return list(dict.fromkeys([*words, *bigrams]))


def _rows(found: Sequence[Sequence[str]], places: dict[str, int]) -> Rows:
    ids = [[0, *(places[f] for f in features if f in places)] for features in found]
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    flat = np.fromiter((i for row in ids for i in row), np.int64, int(lengths.sum()))
    return Rows(flat, np.cumsum(lengths) - lengths)


def fit_weights(
    rows: Rows,
    labels: NDArray[np.int64],
    start: NDArray[np.float64],
    l2: float,
    tolerance: float = TOLERANCE,
) -> NDArray[np.float64]:
    """Return the weights (labels, features) of least penalised loss, searched by L-BFGS.

    The loss is the mean cross-entropy plus ``l2 / (2 N)`` times the sum of the squared weights, of
    which feature 0, the bias, has no part. It is convex, so that the start does not matter but for
    time.

    Args:
        rows: N rows of features.
        labels: (N,) class ids.
        start: (labels, features) weights to begin with.
        l2: strength of the penalty.
        tolerance: no entry of the gradient is above it at the end, or `MAX_STEPS` were taken.
    """
    n, (num_labels, num_features) = len(rows), start.shape
    one_hot = np.arange(num_labels) == labels[:, None]
    lengths = rows.lengths

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(start.shape)
        log_p = log_softmax(rows.logits(weights))
        penalised = weights.copy()
        penalised[:, 0] = 0
        residual = np.exp(log_p) - one_hot
        gradient = np.stack(
            [
                np.bincount(rows.features, np.repeat(column, lengths), num_features)
                for column in residual.T
            ]
        )
        loss = mean_loss(log_p, labels) + l2 / (2 * n) * float((penalised**2).sum())
        return loss, ((gradient + l2 * penalised) / n).ravel()

    return _lbfgs(objective, start.ravel(), tolerance).reshape(start.shape)


def _lbfgs(
    objective: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    x: NDArray[np.float64],
    tolerance: float,
    memory: int = 10,
) -> NDArray[np.float64]:
    """Minimise a convex function by L-BFGS (Nocedal & Wright, Numerical optimization, 7.4, 7.5)."""
    value, gradient = objective(x)
    steps: deque[tuple[NDArray, NDArray, float]] = deque(maxlen=memory)
    for _ in range(MAX_STEPS):
        if np.abs(gradient).max() <= tolerance:
            break
        direction, alphas = gradient.copy(), []
        for s, y, rho in reversed(steps):
            alphas.append(rho * (s @ direction))
            direction -= alphas[-1] * y
        if steps:
            s, y, rho = steps[-1]
            direction /= rho * (y @ y)
        for (s, y, rho), alpha in zip(steps, reversed(alphas), strict=True):
            direction += (alpha - rho * (y @ direction)) * s
        slope = -float(gradient @ direction)
        # The first step knows no scale: the mean loss's gradient is small.
        length = 1.0 if steps else 1.0 / float(np.abs(gradient).max())
        while True:
            moved = x - length * direction
            new_value, new_gradient = objective(moved)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
            if length < 1e-10:  # rounding: no step is better
                return x
        s, y = moved - x, new_gradient - gradient
        if s @ y > 0:  # always, of a convex function, but for rounding
            steps.append((s, y, 1 / float(s @ y)))
        x, value, gradient = moved, new_value, new_gradient
    return x
