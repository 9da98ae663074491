"""The hypothesis-only baseline, against PyTorch's optimizer on the same objective."""

import sys

import numpy as np
import pytest

import bertnli
from bertnli.data.corpus import Corpus
from bertnli.errors import BackendError, DataError
from bertnli.evaluation.baseline import HypothesisBaseline


@pytest.fixture(scope="module")
def trained():
    return HypothesisBaseline.train(bertnli.read("sample", "train"))


def accuracy(baseline, corpus):
    return float((baseline.log_probabilities(corpus).argmax(axis=1) == corpus.labels).mean())


def test_it_minimises_what_it_says(trained):
    """The sum of the losses, and half of l2 times the squared weights without the biases."""
    import torch
    from sklearn.base import clone

    corpus = bertnli.read("sample", "train")
    hypotheses = [*bertnli.text.tokenize.lower_tokens(corpus.hypotheses, corpus.tokenized)]
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


def test_it_learns_from_the_hypothesis_alone(trained):
    dev = bertnli.read("sample", "dev")
    log_p = trained.log_probabilities(dev)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
    assert accuracy(trained, bertnli.read("sample", "train")) > 0.6
    other = Corpus(["x"] * len(dev.labels), *dev[1:], tokenized=dev.tokenized)
    np.testing.assert_array_equal(trained.log_probabilities(other), log_p)


def test_it_finds_the_artifact_that_was_planted():
    animals = [f"animal{i}" for i in range(40)]
    words = {0: "outside", 1: "sleeping", 2: "tall"}
    rows = [(f"A {a} is {word} .", label) for a in animals for label, word in words.items()]
    hypotheses, labels = [h for h, _ in rows], [label for _, label in rows]
    result = HypothesisBaseline.train(Corpus(["x"] * 120, hypotheses, labels, tokenized=True))
    new = Corpus(
        ["y"] * 3, [f"Some owl is {w} ." for w in words.values()], [0, 1, 2], tokenized=True
    )
    assert accuracy(result, new) == 1


def test_words_and_bigrams_in_two_hypotheses_are_features():
    hypotheses = ["a b", "a c", *["x y z"] * 18]
    corpus = Corpus(["p"] * 20, hypotheses, [0, 1] * 10, tokenized=True)
    result = {*HypothesisBaseline.train(corpus).vectorizer.vocabulary_}
    assert result == {"a", "<s> a", "x", "y", "z", "<s> x", "x y", "y z", "z </s>"}


def test_a_class_that_is_not_there_is_never_likely():
    corpus = Corpus(["p"] * 20, ["x y", "y z"] * 10, [0, 2] * 10, tokenized=True)
    log_p = HypothesisBaseline.train(corpus).log_probabilities(corpus)
    assert (log_p.argmax(1) == corpus.labels).all() and log_p[:, 1].max() < -20


def test_the_same_pairs_give_the_same_weights(trained):
    again = HypothesisBaseline.train(bertnli.read("sample", "train"))
    assert again.vectorizer.vocabulary_ == trained.vectorizer.vocabulary_
    assert again.l2 == trained.l2
    np.testing.assert_array_equal(again.classifier.coef_, trained.classifier.coef_)


def test_too_few_pairs_are_refused():
    for labels in ([0, 1, 2], [-1] * 30, [1] * 30):
        corpus = Corpus(["a"] * len(labels), ["b"] * len(labels), labels, tokenized=True)
        with pytest.raises(DataError, match="too few for the hypothesis-only baseline"):
            HypothesisBaseline.train(corpus)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(BackendError, match=r"pip install \"bertnli\[report\]\""):
        HypothesisBaseline.train(bertnli.read("sample", "train"))
