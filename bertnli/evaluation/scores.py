"""Scores from arrays: intervals, calibration, temperature, bins. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.text.tokenize import lower_tokens

#: Number of confidence bins, all equally wide, as in Guo et al. (2017).
NUM_BINS = 15
#: Range in which a temperature is searched.
TEMPERATURES = (0.05, 20.0)
#: Ends of the bins of word overlap; the last bin holds the pairs with all words in the premise.
OVERLAP_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
LENGTH_BINS = 5
#: The greatest Jensen-Shannon distance, that of distributions without a common class.
MAX_DISTANCE = float(np.sqrt(np.log(2)))
Floats = NDArray[np.float64]
#: Name and mask (N,) of each bin; the mask selects its pairs among the N of a set.
Bins = list[tuple[str, NDArray[np.bool_]]]


def wilson_interval(correct: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the confidence interval of a proportion that was observed as ``correct / total``.

    Wilson's score interval without continuity correction (E. B. Wilson, 1927). Unlike the usual
    p ± 1.96 s, it stays within 0 and 1, and holds its level for few pairs and for proportions near
    0 or 1.

    Args:
        correct: number of right answers, or sum of partial credits, from 0 to ``total``.
        total: number of answers, above 0.
        confidence: level, between 0 and 1.
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
    """Compare an accuracy with that of always predicting the most frequent class.

    Args:
        accuracy: accuracy on a set; the best of ``num_tries`` scores.
        labels: (N,) class ids of the set.
        num_tries: number of scores that the best was chosen from, for a Bonferroni correction.

    Returns:
        The share of the most frequent class, its id, and the accuracy's 95% lower bound. If this
        bound is not above the share, the accuracy may be chance.
    """
    counts = np.bincount(labels)
    low, _ = wilson_interval(round(accuracy * len(labels)), len(labels), 1 - 0.05 / num_tries)
    return float(counts.max() / len(labels)), int(counts.argmax()), low


def mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    """Compute mean, sample standard deviation (None for one value), minimum, maximum and count."""
    sd = stdev(values) if len(values) > 1 else None
    return {
        "mean": fmean(values),
        "sd": sd,
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def log_softmax(logits: NDArray) -> Floats:
    """Compute log-probabilities (N, labels) from logits of the same shape, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def merged(log_probabilities: Floats, places: NDArray, num_labels: int) -> Floats:
    """Merge a classifier's L classes to those of a set by adding their probabilities.

    Args:
        log_probabilities: (N, L) log-probabilities of the classifier's classes.
        places: (L,) the set's class id of each; see `bertnli.bert.labels.label_merging`.
        num_labels: number of the set's classes.

    Returns:
        (N, num_labels) log-probabilities.
    """
    sums = np.full((len(log_probabilities), num_labels), -np.inf)
    for column, place in enumerate(places):
        sums[:, place] = np.logaddexp(sums[:, place], log_probabilities[:, column])
    return sums


def calibration_bins(
    probabilities: Floats, labels: NDArray, num_bins: int = NUM_BINS
) -> list[dict[str, Any]]:
    """Compute the bins of a reliability diagram (C. Guo et al., On calibration of ..., 2017).

    Args:
        probabilities: (N, labels); the confidence is the probability of the predicted class.
        labels: (N,) true class ids.
        num_bins: number M of bins; bin m from 1 to M holds confidences in ((m - 1) / M, m / M].

    Returns:
        For each bin ``low``, ``high``, ``pairs``, and the means ``confidence`` and ``accuracy``,
        None where it is empty.
    """
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(places, minlength=num_bins)
    sums = [np.bincount(places, values, minlength=num_bins) for values in (confidence, is_right)]
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
    """Compute the expected calibration error from bins: their mean gap, weighted by their pairs."""
    gaps = [b["pairs"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["pairs"]]
    return math.fsum(gaps) / sum(b["pairs"] for b in bins)


def fit_temperature(logits: NDArray, labels: NDArray) -> float:
    """Find the temperature T for which ``softmax(logits / T)`` has the least cross-entropy.

    C. Guo et al. (2017). The loss is convex in 1 / T, so its derivative has one zero, which is
    found by bisection within `TEMPERATURES`.

    Args:
        logits: (N, labels) of pairs that the classifier is neither trained nor scored on.
        labels: (N,) true class ids.
    """
    if not len(labels):
        raise DataError("a temperature cannot be fitted without pairs")
    z = logits.astype(np.float64)
    mean_true = z[np.arange(len(z)), labels].mean()

    def slope(temperature: float) -> float:  # the derivative by 1 / T: it falls as T grows
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


def kl_divergence(p: Floats, log_q: Floats) -> Floats:
    """Compute the Kullback-Leibler divergence ``sum p ln(p / q)`` of rows (N, classes), in nats.

    It is infinite where q has a 0 and p has none.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - log_q), 0.0).sum(axis=1)


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Compute the Jensen-Shannon distance between the rows of p and q, both (N, classes).

    ``sqrt((KL(p, m) + KL(q, m)) / 2)`` with ``m = (p + q) / 2`` and natural logarithms, as
    `scipy.spatial.distance.jensenshannon` and the tables of ChaosNLI (Nie et al., 2020) have it: 0
    for equal distributions, `MAX_DISTANCE` for disjoint ones.
    """
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # m is 0 where p underflows.
        terms = [np.where((x > 0) & (m > 0), x * np.log(x / m), 0.0).sum(axis=1) for x in (p, q)]
    return np.sqrt(np.maximum((terms[0] + terms[1]) / 2, 0.0))


def _words(corpus: Corpus) -> Iterator[tuple[list[str], list[str]]]:
    premises, hypotheses = (lower_tokens(column, corpus.tokenized) for column in corpus[:2])
    return zip(premises, hypotheses, strict=True)


def pair_lengths(corpus: Corpus) -> NDArray[np.int64]:
    """Count the words and punctuation marks of each pair, (N,); no vocabulary is involved."""
    return np.array([len(a) + len(b) for a, b in _words(corpus)], dtype=np.int64)


def word_overlap(corpus: Corpus) -> Floats:
    """Compute the share of each hypothesis's distinct words that its premise contains, (N,).

    Words are lower-cased; tokens without a letter or digit do not count. A hypothesis without words
    has the share 0.
    """
    shares = np.zeros(len(corpus.labels))
    for i, sentences in enumerate(_words(corpus)):
        a, b = ({w for w in words if any(map(str.isalnum, w))} for words in sentences)
        shares[i] = len(a & b) / len(b) if b else 0.0
    return shares


def length_bins(lengths: NDArray[np.int64], num_bins: int = LENGTH_BINS) -> Bins:
    """Divide pairs by their lengths (N,) into at most ``num_bins`` bins of similar size.

    Pairs of equal length share a bin.
    """
    edges = np.unique(np.quantile(lengths, np.arange(1, num_bins + 1) / num_bins, method="lower"))
    bins, low = [], int(lengths.min())
    for edge in map(int, edges):
        name = f"{low}–{edge}" if low < edge else str(edge)
        bins.append((name, (lengths >= low) & (lengths <= edge)))
        low = edge + 1
    return bins


def overlap_bins(overlap: Floats) -> Bins:
    """Divide pairs by their word overlap (N,) at `OVERLAP_EDGES`."""
    return share_bins(overlap, OVERLAP_EDGES)


def share_bins(shares: Floats, edges: Sequence[float]) -> Bins:
    """Divide pairs by a share (N,) into bins from one edge to below the next, or to the end."""
    bins = [
        (f"{low:.0%} to <{high:.0%}", (shares >= low) & (shares < high))
        for low, high in pairwise(edges)
    ]
    return [*bins, (f"{edges[-1]:.0%}", shares >= edges[-1])]
