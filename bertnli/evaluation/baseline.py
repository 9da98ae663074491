"""How far the hypothesis alone goes: a bag of its words, and logistic regression.

What a classifier scores above this it may owe to the relation of the two sentences; what it scores
below, anybody gets who never reads the premise. A. Poliak et al., Hypothesis only baselines in
natural language inference, *SEM 2018; S. Gururangan et al., Annotation artifacts in natural
language inference data, NAACL 2018.
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
from bertnli.evaluation.scores import log_softmax, mean_loss
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
        vectorizer, classifier: scikit-learn's, trained.
        l2: strength of the penalty that was chosen.
        held_out_accuracy: on the tenth that chose it.
        pairs: how many it was trained on.
        source: where they come from.
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
        """Train on a corpus. The same corpus gives the same weights.

        Presence of each word and bigram (with marks for beginning and end) that stands in at least
        `MIN_FREQ` hypotheses; multinomial logistic regression with a penalty of ``l2 / 2`` times
        the squared weights, biases excepted, on the sum of the losses; L-BFGS. A tenth of the
        pairs, drawn with a fixed seed, chooses ``l2`` by its loss; then all are trained on.

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
        vectorizer = CountVectorizer(
            analyzer=_features, binary=True, min_df=MIN_FREQ, dtype=np.float64
        )
        try:
            rows = vectorizer.fit_transform(hypotheses)  # (N, features), sparse
        except ValueError:  # nothing is there twice
            rows = vectorizer.set_params(min_df=1).fit_transform(hypotheses)
        classifier = LogisticRegression(tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=True)

        order = np.random.default_rng(0).permutation(n)[:MAX_CHOOSING]
        held_out, rest = order[: len(order) // 10], order[len(order) // 10 :]
        if len(np.unique(labels[rest])) < 2:  # nearly all of one class
            rest = order
        losses: dict[float, float] = {}
        scores: dict[float, float] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MAX_STEPS, which are enough
            for l2 in L2_GRID:  # each from where the one before came to
                classifier.set_params(C=1 / l2).fit(rows[rest], labels[rest])
                logits = _logits(classifier, rows[held_out], len(corpus.label_names))
                losses[l2] = mean_loss(log_softmax(logits), labels[held_out])
                scores[l2] = float((logits.argmax(axis=1) == labels[held_out]).mean())
                if losses[l2] > min(losses.values()):
                    break
            l2 = min(losses, key=lambda one: losses[one])
            classifier.set_params(C=1 / l2).fit(rows, labels)
        names = tuple(corpus.label_names)
        return cls(names, vectorizer, classifier, l2, scores[l2], n, corpus.source)

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
        """Return log-probabilities (N, labels), float64, in the order of ``labels``."""
        rows = self.vectorizer.transform([*_hypotheses(corpus)])
        return log_softmax(_logits(self.classifier, rows, len(self.labels)))


def _logits(classifier: Any, rows: Any, num_labels: int) -> NDArray[np.float64]:
    """Return the logits, (N, labels), also of classes that no training pair had."""
    logits = np.full((rows.shape[0], num_labels), NEVER)
    logits[:, classifier.classes_] = np.log(np.maximum(classifier.predict_proba(rows), 1e-13))
    return logits


def _hypotheses(corpus: Corpus) -> Iterator[list[str]]:
    return lower_tokens(corpus.hypotheses, corpus.tokenized)


def _features(words: Sequence[str]) -> list[str]:
    marked = ["<s>", *words, "</s>"]
    return [*words, *(f"{a} {b}" for a, b in pairwise(marked))]
