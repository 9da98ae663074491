"""Scores against each annotator's answer, where a set has more than the gold label.

``h_ic = n_ic / K_i`` is the share of pair i's K_i annotators who chose class c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.evaluation import scores
from bertnli.evaluation.scores import Bins, Floats

#: With a single annotator, the answer is the gold label again.
MIN_ANSWERS = 2
#: Ends of the bins of the majority's share; those of five annotators are 0.4, 0.6, 0.8 and 1.
SHARE_EDGES = (0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Annotators:
    """The answers of the annotators, for the pairs that at least `MIN_ANSWERS` of them labelled.

    Args:
        rows: (n,) int64, indices of these pairs in the set.
        counts: (n, classes) int64, number of annotators who chose each class.
        labels: (n,) int64, gold labels.
        num_pairs: number of pairs of the whole set.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    labels: NDArray[np.int64]
    num_pairs: int

    @classmethod
    def of(cls, corpus: Corpus) -> Annotators | None:
        """Read the annotators' answers of a labelled corpus; return None if it has none.

        Raises:
            DataError: the counts do not belong to the set's pairs and classes, or are negative.
        """
        if corpus.annotations is None:
            return None
        counts = np.asarray(corpus.annotations, dtype=np.int64)
        expected = (len(corpus.labels), len(corpus.label_names))
        if counts.shape != expected or counts.min(initial=0) < 0:
            raise DataError(
                f"{corpus.source}: annotations of shape {counts.shape}, the least "
                f"{counts.min(initial=0)}; counts of shape {expected}, pairs and classes, are "
                "expected"
            )
        rows = np.flatnonzero(counts.sum(axis=1) >= MIN_ANSWERS)
        labels = np.asarray(corpus.labels, dtype=np.int64)
        return cls(rows, counts[rows], labels[rows], len(counts)) if len(rows) else None

    @property
    def shares(self) -> Floats:
        """Share of each pair's annotators who chose each class, (n, classes)."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)

    def scores(self, log_p: Floats) -> dict[str, Any]:
        """Score log-probabilities (num_pairs, classes) of the whole set against the annotators.

        Returns:
            ``agreement``, the mean share of a pair's annotators who chose the predicted class, and
            its interval, ``low`` to ``high``; ``gold``, the accuracy on the gold labels of these
            pairs; ``jensen_shannon`` and ``kl``, the mean distance and divergence (None if
            infinite) of the predicted probabilities from the annotators' shares.
        """
        log_p, shares = log_p[self.rows], self.shares
        predicted = log_p.argmax(axis=1)
        kl = float(scores.kl_divergence(shares, log_p).mean())
        return {
            **_mean_share(shares[np.arange(len(shares)), predicted]),
            "gold": float((predicted == self.labels).mean()),
            "jensen_shannon": float(scores.jensen_shannon(shares, np.exp(log_p)).mean()),
            "kl": kl if np.isfinite(kl) else None,
        }

    def facts(self) -> dict[str, Any]:
        """Return reference scores with which those of a classifier can be compared.

        Returns:
            ``pairs``, ``left_out`` (pairs of fewer than `MIN_ANSWERS` annotators), ``answers``, and
            the scores of

            - ``one``: an annotator compared with the others of the same pair. It agrees where its
              class is the most frequent one of the other ``K_i - 1`` answers; where several classes
              are the most frequent, the agreement is ``1 / number of these``;
            - ``gold_label``: always giving the gold label;
            - ``majority``: always giving the most frequent answer (of ties the gold label). Its
              agreement, ``mean_i max_c h_ic``, is the ceiling for one answer per pair; with few
              annotators it is biased upwards, since their answers determine the majority;
            - ``uniform``: every class as probable as any other.
        """
        n, num_classes = self.counts.shape
        agrees = np.zeros(n)
        for c in range(num_classes):
            others = self.counts.copy()
            others[:, c] -= 1
            best = others == others.max(axis=1, keepdims=True)
            agrees += self.shares[:, c] * best[:, c] / best.sum(axis=1)
        is_gold = np.arange(num_classes) == self.labels[:, None]
        uniform = self.scores(np.full((self.num_pairs, num_classes), -np.log(num_classes)))
        for key in ("agreement", "gold"):  # every class is its answer equally often
            uniform[key] = 1 / num_classes
        return {
            "pairs": n,
            "left_out": self.num_pairs - n,
            "answers": int(self.counts.sum()),
            "one": _mean_share(np.minimum(agrees, 1.0)),  # rounding
            "gold_label": self._constant_scores(self.labels),
            "majority": self._constant_scores((2 * self.counts + is_gold).argmax(axis=1)),
            "uniform": uniform | {"low": None, "high": None},
        }

    def _constant_scores(self, answers: NDArray[np.int64]) -> dict[str, Any]:
        """Score predictions of one class per pair, given by class ids (n,), with probability 1."""
        log_p = np.zeros((self.num_pairs, self.counts.shape[1]))
        with np.errstate(divide="ignore"):
            log_p[self.rows] = np.log(np.arange(log_p.shape[1]) == answers[:, None])
        return self.scores(log_p)

    def bins(self) -> Bins:
        """Divide the set's pairs by the share of the most frequent answer, without empty bins."""
        share = np.full(self.num_pairs, -1.0)
        share[self.rows] = self.shares.max(axis=1)
        least = SHARE_EDGES[0]
        bins = [
            (f"fewer than {MIN_ANSWERS} annotators", share < 0),
            (f"<{least:.0%}", (share >= 0) & (share < least)),
            *scores.share_bins(share, SHARE_EDGES),
        ]
        return [(name, mask) for name, mask in bins if mask.any()]


def _mean_share(shares: Floats) -> dict[str, float]:
    # A share varies at most as much as a hit or miss of the same mean, so the interval is too wide.
    low, high = scores.wilson_interval(float(shares.sum()), len(shares))
    return {"agreement": float(shares.mean()), "low": low, "high": high}
