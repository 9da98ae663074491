"""The hypothesis-only baseline, against PyTorch's optimizer on the same objective."""

import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone

import bertnli
from bertnli.data.corpus import Corpus
from bertnli.errors import BackendError, DataError
from bertnli.evaluation.baseline import HypothesisBaseline
from bertnli.text.tokenize import lower_tokens


@pytest.fixture(scope="module")
def trained():
    return HypothesisBaseline.train(bertnli.read("sample", "train"))


def made_up(hypotheses, labels):
    return Corpus(["p"] * len(labels), hypotheses, labels, tokenized=True)


def accuracy(baseline, corpus):
    return float((baseline.log_probabilities(corpus).argmax(axis=1) == corpus.labels).mean())


def test_it_minimises_its_objective(trained):
    """The objective is the sum of the losses, and l2 / 2 times the squared weights, no biases."""
    corpus = bertnli.read("sample", "train")
    hypotheses = [*lower_tokens(corpus.hypotheses, corpus.tokenized)]
    x = torch.from_numpy(trained.vectorizer.transform(hypotheses).toarray())
    y = torch.tensor(corpus.labels)
    weights = torch.zeros(3, x.shape[1], dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, biases], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights.T + biases, y, reduction="sum")
        loss = loss + trained.l2 / 2 * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = (x @ weights.T + biases).log_softmax(1).detach().numpy()
    assert np.abs(trained.log_probabilities(corpus) - expected).mean() < 0.02
    exact = clone(trained.classifier).set_params(tol=1e-10, max_iter=5000, warm_start=False)
    result = exact.fit(x.numpy(), y.numpy()).predict_log_proba(x.numpy())
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_it_learns_only_from_the_hypothesis(trained):
    dev, train = bertnli.read("sample", "dev"), bertnli.read("sample", "train")
    log_p = trained.log_probabilities(dev)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
    assert accuracy(trained, train) > 0.6
    other = Corpus(["x"] * len(dev.labels), *dev[1:], tokenized=dev.tokenized)
    np.testing.assert_array_equal(trained.log_probabilities(other), log_p)
    again = HypothesisBaseline.train(train)
    assert again.vectorizer.vocabulary_ == trained.vectorizer.vocabulary_
    np.testing.assert_array_equal(again.classifier.coef_, trained.classifier.coef_)


def test_it_finds_a_planted_artifact():
    words = ["outside", "sleeping", "tall"]
    rows = [f"A animal{i} is {word} ." for i in range(40) for word in words]
    result = HypothesisBaseline.train(made_up(rows, [0, 1, 2] * 40))
    assert accuracy(result, made_up([f"Some owl is {w} ." for w in words], [0, 1, 2])) == 1


def test_features_are_words_and_bigrams_of_two_hypotheses():
    corpus = made_up(["a b", "a c", *["x y z"] * 18], [0, 1] * 10)
    features = {*HypothesisBaseline.train(corpus).vectorizer.vocabulary_}
    assert features == {"a", "<s> a", "x", "y", "z", "<s> x", "x y", "y z", "z </s>"}


def test_a_class_without_pairs_is_improbable():
    corpus = made_up(["x y", "y z"] * 10, [0, 2] * 10)
    log_p = HypothesisBaseline.train(corpus).log_probabilities(corpus)
    assert (log_p.argmax(1) == corpus.labels).all() and log_p[:, 1].max() < -20


def test_errors(monkeypatch):
    for labels in ([0, 1, 2], [-1] * 30, [1] * 30):
        with pytest.raises(DataError, match="too few for the hypothesis-only baseline"):
            HypothesisBaseline.train(made_up(["b"] * len(labels), labels))
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(BackendError, match=r"pip install \"bertnli\[report\]\""):
        HypothesisBaseline.train(bertnli.read("sample", "train"))
