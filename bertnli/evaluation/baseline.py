"""A hypothesis-only baseline: logistic regression on a bag of the hypothesis's words.

It shows how much of a classifier's score needs no premise, and so says nothing about inference.
A. Poliak et al., Hypothesis only baselines in natural language inference, *SEM 2018; S. Gururangan
et al., Annotation artifacts in natural language inference data, NAACL 2018.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.errors import BackendError, DataError
from bertnli.evaluation.scores import log_softmax
from bertnli.text.tokenize import lower_tokens

#: A word or bigram in fewer hypotheses than this is left out.
MIN_FREQ = 2
#: Strengths of the penalty that are tried, each the precision of a normal prior on the weights,
#: from the strongest on until the held-out loss rises.
L2_GRID = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
#: At most this many pairs choose the penalty.
MAX_CHOOSING = 60_000
MAX_STEPS = 200
#: The search ends where no entry of the mean loss's gradient is above this.
TOLERANCE = 2e-4
NO_SCIKIT_LEARN = 'the hypothesis-only baseline needs scikit-learn: pip install "bertnli[report]"'
#: Logit of a class that the training pairs do not have.
NEVER = -30.0


@dataclass(frozen=True)
class HypothesisBaseline:
    """A classifier that sees words and bigrams of the hypothesis, and nothing of the premise.

    Args:
        labels: class names.
        vectorizer, classifier: trained `CountVectorizer` and `LogisticRegression` of scikit-learn.
        l2: strength of the penalty that was chosen.
        held_out_accuracy: accuracy on the tenth of the pairs that chose ``l2``.
        pairs: number of training pairs.
        source: name of the training set.
    """

    labels: tuple[str, ...]
    vectorizer: Any = field(repr=False)
    classifier: Any = field(repr=False)
    l2: float
    held_out_accuracy: float
    pairs: int
    source: str

    @classmethod
    def train(cls, corpus: Corpus) -> HypothesisBaseline:
        """Train on a corpus; the same corpus gives the same weights.

        Features are the presence of each word and bigram (with marks for beginning and end) that
        at least `MIN_FREQ` hypotheses contain. Multinomial logistic regression minimises the sum of
        the losses and ``l2 / 2`` times the squared weights, biases excepted, by L-BFGS. A tenth of
        the pairs, drawn with a fixed seed, chooses ``l2`` by its loss; then all are trained on.

        Raises:
            DataError: fewer than 20 pairs, pairs without labels, or all of one class.
            BackendError: scikit-learn is missing.
        """
        try:
            from sklearn.feature_extraction.text import CountVectorizer
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise BackendError(NO_SCIKIT_LEARN) from None
        n = len(corpus.labels)
        labels = np.asarray(corpus.labels, dtype=np.int64)
        if n < 20 or labels.min() < 0 or len(np.unique(labels)) < 2:
            raise DataError(
                f"{corpus.source or 'the corpus'}: {n} labelled pairs of "
                f"{len(np.unique(labels))} classes are too few for the hypothesis-only baseline; "
                "give at least 20, all labelled, of two classes or more"
            )
        hypotheses = [*_hypotheses(corpus)]
        options = {"analyzer": _features, "binary": True, "dtype": np.float64}
        vectorizer = CountVectorizer(**options, min_df=MIN_FREQ)
        try:
            rows = vectorizer.fit_transform(hypotheses)  # (N, features), sparse
        except ValueError:  # nothing is there twice
            rows = vectorizer.set_params(min_df=1).fit_transform(hypotheses)
        classifier = LogisticRegression(tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=True)

        order = np.random.default_rng(0).permutation(n)[:MAX_CHOOSING]
        held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
        if len(np.unique(labels[rest])) < 2:  # nearly all of one class
            rest = order
        tried: list[tuple[float, float, float]] = []  # loss, l2, accuracy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that MAX_STEPS were taken, which are enough
            for l2 in L2_GRID:  # each begins with the weights of the one before
                classifier.set_params(C=1 / l2).fit(rows[rest], labels[rest])
                log_p = log_softmax(_logits(classifier, rows[held_out], len(corpus.label_names)))
                loss = float(-log_p[np.arange(len(held_out)), labels[held_out]].mean())
                accuracy = float((log_p.argmax(axis=1) == labels[held_out]).mean())
                tried.append((loss, l2, accuracy))
                if loss > min(tried)[0]:
                    break
            _, l2, accuracy = min(tried, key=lambda each: each[0])
            classifier.set_params(C=1 / l2).fit(rows, labels)
        names = tuple(corpus.label_names)
        return cls(names, vectorizer, classifier, l2, accuracy, n, corpus.source)

    def to_dict(self) -> dict[str, Any]:
        """Return the baseline's entry in a report."""
        return {
            "missing": None,
            "source": self.source,
            "pairs": self.pairs,
            "features": len(self.vectorizer.vocabulary_),
            "l2": self.l2,
            "held_out_accuracy": self.held_out_accuracy,
        }

    def log_probabilities(self, corpus: Corpus) -> NDArray[np.float64]:
        """Compute log-probabilities (N, labels) of a corpus, in the order of ``labels``."""
        rows = self.vectorizer.transform([*_hypotheses(corpus)])
        return log_softmax(_logits(self.classifier, rows, len(self.labels)))


def _logits(classifier: Any, rows: Any, num_labels: int) -> NDArray[np.float64]:
    logits = np.full((rows.shape[0], num_labels), NEVER)
    logits[:, classifier.classes_] = np.log(np.maximum(classifier.predict_proba(rows), 1e-13))
    return logits


def _hypotheses(corpus: Corpus) -> Iterator[list[str]]:
    return lower_tokens(corpus.hypotheses, corpus.tokenized)


def _features(words: Sequence[str]) -> list[str]:
    marked = ["<s>", *words, "</s>"]
    return [*words, *(f"{a} {b}" for a, b in pairwise(marked))]
