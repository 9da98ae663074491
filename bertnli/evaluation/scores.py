"""Scores from arrays: intervals, calibration, temperature, bins. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.text.tokenize import lower_tokens

#: Bins of confidence, all equally wide, as in Guo et al. (2017).
NUM_BINS = 15
#: Between these a temperature is looked for.
TEMPERATURES = (0.05, 20.0)
#: Ends of the bins of word overlap; the last bin holds the pairs with all words in the premise.
OVERLAP_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
LENGTH_BINS = 5
#: The greatest Jensen-Shannon distance, that of distributions without a common class.
MAX_DISTANCE = float(np.sqrt(np.log(2)))
#: Names of bins, and which pairs are in each, (N,) bool.
Bins = list[tuple[str, NDArray[np.bool_]]]


def wilson_interval(correct: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a proportion that was observed as ``correct / total``.

    Wilson's score interval without continuity correction: E. B. Wilson, Probable inference, the law
    of succession, and statistical inference, JASA 22 (1927), 209-212. It stays within 0 and 1, and
    holds its level for few pairs and for proportions near 1, where the usual p ± 1.96 s does not.

    Args:
        correct, total: counts, 0 <= correct <= total and total > 0; of answers that are right in
            part, ``correct`` is their sum.
        confidence: level, between 0 and 1.

    Raises:
        DataError: other counts.
    """
    if not 0 <= correct <= total or not total:
        raise DataError(f"{correct} of {total} is no proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, over = correct / total, z * z / total
    half = z * math.sqrt(p * (1 - p) / total + over / (4 * total))
    low, high = (p + over / 2 - half) / (1 + over), (p + over / 2 + half) / (1 + over)
    # At the ends the interval touches 0 and 1; rounding leaves some 1e-17.
    return (0.0 if correct == 0 else low), (1.0 if correct == total else high)


def chance_bound(accuracy: float, labels: NDArray, num_tries: int = 1) -> tuple[float, int, float]:
    """Return the majority class's share and the accuracy's lower bound, to tell it from chance.

    It is chance if its lower bound (`wilson_interval`) is not above the share of the most frequent
    class, which always predicting that class would score.

    Args:
        accuracy: on a set, the best of some tries.
        labels: (N,) class ids of the set.
        num_tries: how many scores the accuracy is the best of; the level of 95% is corrected for
            them (Bonferroni).

    Returns:
        The share of the most frequent class, its id, and the accuracy's lower bound.
    """
    counts = np.bincount(labels)
    low, _ = wilson_interval(round(accuracy * len(labels)), len(labels), 1 - 0.05 / num_tries)
    return float(counts.max() / len(labels)), int(counts.argmax()), low


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation (n - 1 below the line; None of a single value)."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    spread = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "sd": spread, "min": min(values), "max": max(values), "n": len(values)}


def log_softmax(logits: NDArray) -> NDArray[np.float64]:
    """Return log-probabilities (N, labels), float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def merged(
    log_probabilities: NDArray[np.float64], places: NDArray[np.int64], num_labels: int
) -> NDArray[np.float64]:
    """Add up a classifier's probabilities to those of a set with fewer classes, in logarithms.

    Args:
        log_probabilities: (N, L).
        places: (L,) of `bertnli.bert.labels.label_merging`.
        num_labels: classes of the set.
    """
    sums = np.full((len(log_probabilities), num_labels), -np.inf)
    for column, place in enumerate(places):
        sums[:, place] = np.logaddexp(sums[:, place], log_probabilities[:, column])
    return sums


def calibration_bins(
    probabilities: NDArray[np.float64], labels: NDArray, num_bins: int = NUM_BINS
) -> list[dict[str, Any]]:
    """Return the bins of the reliability diagram, by the probability of the predicted class.

    Bin m of M holds confidences in ((m - 1) / M, m / M], as in C. Guo et al., On calibration of
    modern neural networks, ICML 2017.

    Args:
        probabilities: (N, labels).
        labels: (N,) true class ids.
        num_bins: M.

    Returns:
        For each bin ``low``, ``high``, ``pairs``, and the means ``confidence`` and ``accuracy``,
        None where it is empty.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    sums = [np.bincount(places, values, minlength=num_bins) for values in (confidence, right)]
    return [
        {
            "low": m / num_bins,
            "high": (m + 1) / num_bins,
            "pairs": int(counts[m]),
            "confidence": float(sums[0][m] / counts[m]) if counts[m] else None,
            "accuracy": float(sums[1][m] / counts[m]) if counts[m] else None,
        }
        for m in range(num_bins)
    ]


def calibration_error(bins: Sequence[dict[str, Any]]) -> float:
    """Return the expected calibration error: the bins' mean gap, weighted by their pairs."""
    gaps = [b["pairs"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["pairs"]]
    return math.fsum(gaps) / sum(b["pairs"] for b in bins)


def mean_loss(log_probabilities: NDArray[np.float64], labels: NDArray) -> float:
    """Return the mean cross-entropy in nats of log-probabilities (N, labels)."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: NDArray, labels: NDArray) -> float:
    """Return the temperature T for which ``softmax(logits / T)`` has the least cross-entropy.

    C. Guo et al. (2017). The loss is convex in 1 / T (its second derivative is a variance of the
    logits), so its derivative has one zero, which is found by bisection.

    Args:
        logits: (N, labels) of pairs that the classifier was neither trained nor is scored on.
        labels: (N,) their true class ids.

    Returns:
        T, within `TEMPERATURES`; an end of that range if the least loss lies beyond it.

    Raises:
        DataError: there are no pairs.
    """
    if not len(labels):
        raise DataError("a temperature cannot be fitted without pairs")
    z = logits.astype(np.float64)
    mean_true = z[np.arange(len(z)), labels].mean()

    def slope(temperature: float) -> float:
        """The derivative of the mean loss by 1 / T: it falls as T grows."""
        return float((np.exp(log_softmax(z / temperature)) * z).sum(axis=1).mean() - mean_true)

    low, high = TEMPERATURES
    if slope(low) <= 0:
        return low
    if slope(high) >= 0:
        return high
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


def kl_divergence(p: NDArray[np.float64], log_q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of q from p, ``sum p ln(p / q)`` in nats, (N,).

    It is infinite where q has a 0 and p has none. S. Kullback and R. A. Leibler, On information and
    sufficiency, 1951.

    Args:
        p: (N, classes) probabilities.
        log_q: (N, classes) log-probabilities.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - log_q), 0.0).sum(axis=1)


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Jensen-Shannon distance of distributions (N, classes), (N,).

    ``sqrt((KL(p, m) + KL(q, m)) / 2)`` with ``m = (p + q) / 2`` and natural logarithms: 0 of equal
    distributions, `MAX_DISTANCE` of disjoint ones. J. Lin, Divergence measures based on the Shannon
    entropy, 1991, defines the divergence; D. M. Endres and J. E. Schindelin, A new metric for
    probability distributions, 2003, prove that its square root is a metric. The tables of ChaosNLI
    (Nie et al., 2020) have this distance, as scipy's ``jensenshannon`` computes it by default.
    """
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # m is 0 where p underflows.
        terms = [np.where((x > 0) & (m > 0), x * np.log(x / m), 0.0).sum(axis=1) for x in (p, q)]
    return np.sqrt(np.maximum((terms[0] + terms[1]) / 2, 0.0))


def pair_lengths(corpus: Corpus) -> NDArray[np.int64]:
    """Return the words of each pair, punctuation included, (N,): the same for any checkpoint."""
    columns = (lower_tokens(column, corpus.tokenized) for column in corpus[:2])
    return np.array([len(a) + len(b) for a, b in zip(*columns, strict=True)], dtype=np.int64)


def word_overlap(corpus: Corpus) -> NDArray[np.float64]:
    """Return the share of the hypothesis's distinct words that the premise has, (N,).

    Words are lower-cased; tokens without a letter or digit do not count. A hypothesis without words
    has the share 0.
    """
    shares = np.zeros(len(corpus.labels))
    columns = (lower_tokens(column, corpus.tokenized) for column in corpus[:2])
    for i, sentences in enumerate(zip(*columns, strict=True)):
        a, b = ({w for w in words if any(map(str.isalnum, w))} for words in sentences)
        shares[i] = len(a & b) / len(b) if b else 0.0
    return shares


def length_bins(lengths: NDArray[np.int64], num_bins: int = LENGTH_BINS) -> Bins:
    """Return bins with about as many pairs each.

    Pairs of one length stay together, so there may be fewer bins.
    """
    edges = np.unique(np.quantile(lengths, np.arange(1, num_bins + 1) / num_bins, method="lower"))
    bins, low = [], int(lengths.min())
    for edge in map(int, edges):
        name = f"{low}–{edge}" if low < edge else str(edge)
        bins.append((name, (lengths >= low) & (lengths <= edge)))
        low = edge + 1
    return bins


def overlap_bins(overlap: NDArray[np.float64]) -> Bins:
    """Return the bins of `OVERLAP_EDGES`."""
    return [*share_bins(overlap, OVERLAP_EDGES), ("100%", overlap >= OVERLAP_EDGES[-1])]


def share_bins(shares: NDArray[np.float64], edges: Sequence[float]) -> Bins:
    """Return the bins between neighbouring edges, the upper one excluded."""
    return [
        (f"{low:.0%} to <{high:.0%}", (shares >= low) & (shares < high))
        for low, high in pairwise(edges)
    ]
