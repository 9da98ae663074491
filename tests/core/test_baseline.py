"""The hypothesis-only baseline, against PyTorch's optimizer on the same objective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bertnli
from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.evaluation.baseline import BIAS, HypothesisBaseline, Rows, fit_weights


def random_rows(seed: int, n: int, num_features: int) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows, the same as a dense matrix, and labels that some features tell."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n, num_features)) < 0.2
    dense[:, 0] = True
    labels = np.where(dense[:, 1], 0, np.where(dense[:, 2], 1, rng.integers(0, 3, n)))
    places = [np.flatnonzero(row) for row in dense]
    starts = np.cumsum([0, *map(len, places[:-1])])
    return Rows(np.concatenate(places), starts), dense.astype(np.float64), labels


@pytest.mark.parametrize("l2", [0.3, 5.0])
def test_weights_are_those_that_torch_finds(l2: float) -> None:
    import torch

    rows, dense, labels = random_rows(0, 150, 12)
    x, y = torch.from_numpy(dense), torch.from_numpy(labels)
    weights = torch.zeros(3, 12, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights.T, y, reduction="sum")
        loss = loss + l2 / 2 * (weights[:, 1:] ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = fit_weights(rows, labels, np.zeros((3, 12)), l2, tolerance=1e-9)
    # A constant added to the three biases changes nothing.
    expected = weights.detach().numpy()
    expected[:, 0] -= expected[:, 0].mean() - found[:, 0].mean()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(st.integers(0, 100), st.lists(st.integers(0, 19), max_size=25))
@settings(max_examples=25)
def test_rows_are_a_sparse_matrix(seed: int, chosen: list[int]) -> None:
    rows, dense, _ = random_rows(seed, 20, 6)
    weights = np.random.default_rng(seed).normal(size=(3, 6))
    np.testing.assert_allclose(rows.logits(weights), dense @ weights.T)
    if chosen:
        part = rows.select(np.array(chosen))
        np.testing.assert_allclose(part.logits(weights), dense[chosen] @ weights.T)


@pytest.fixture(scope="module")
def trained() -> HypothesisBaseline:
    return HypothesisBaseline.train(bertnli.read("sample", "train"))


def accuracy(baseline: HypothesisBaseline, corpus: Corpus) -> float:
    return float((baseline.log_probabilities(corpus).argmax(axis=1) == corpus.labels).mean())


def test_it_learns_from_the_hypothesis_alone(trained: HypothesisBaseline) -> None:
    dev = bertnli.read("sample", "dev")
    log_p = trained.log_probabilities(dev)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1)
    assert accuracy(trained, bertnli.read("sample", "train")) > 0.6
    other = Corpus(["x"] * len(dev.labels), *dev[1:], tokenized=dev.tokenized)
    np.testing.assert_array_equal(trained.log_probabilities(other), log_p)
    assert next(iter(trained.places)) == BIAS


def test_it_finds_the_artifact_that_was_planted() -> None:
    animals = [f"animal{i}" for i in range(40)]
    words = {0: "outside", 1: "sleeping", 2: "tall"}
    rows = [(f"A {a} is {word} .", label) for a in animals for label, word in words.items()]
    hypotheses, labels = [h for h, _ in rows], [label for _, label in rows]
    found = HypothesisBaseline.train(Corpus(["x"] * 120, hypotheses, labels, tokenized=True))
    new = Corpus(
        ["y"] * 3, [f"Some owl is {w} ." for w in words.values()], [0, 1, 2], tokenized=True
    )
    assert accuracy(found, new) == 1


def test_the_same_pairs_give_the_same_weights(trained: HypothesisBaseline) -> None:
    again = HypothesisBaseline.train(bertnli.read("sample", "train"))
    assert again.places == trained.places and again.l2 == trained.l2
    np.testing.assert_array_equal(again.weights, trained.weights)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="3 labelled pairs are too few"):
        HypothesisBaseline.train(Corpus(["a"] * 3, ["b"] * 3, [0, 1, 2], tokenized=True))
    with pytest.raises(DataError, match="all labelled"):
        HypothesisBaseline.train(Corpus(["a"] * 30, ["b"] * 30, [-1] * 30, tokenized=True))
