"""Intervals, calibration, temperature and bins, against published values and plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from bertnli.bert.labels import LABELS, TWO_WAY, label_merging
from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.evaluation import scores


# R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine
# 17 (1998), 857-872, table I, method 3 (Wilson's score interval without continuity correction).
@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_newcombe_s(correct, total, low, high):
    assert scores.wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_inverts_the_score_test(n, data, level):
    """Its ends are the proportions that are z standard errors away from the observed one."""
    correct = data.draw(st.integers(0, n))
    z, p = norm.ppf((1 + level) / 2), correct / n
    ends = scores.wilson_interval(correct, n, level)
    for end in ends:
        assert (p - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, rel=1e-6, abs=1e-12)
    assert 0 <= ends[0] <= p <= ends[1] <= 1


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (2, 1), (-1, 3)])
def test_counts_that_are_no_proportion(correct, total):
    with pytest.raises(DataError, match="no proportion"):
        scores.wilson_interval(correct, total)


def test_spread_is_the_sample_standard_deviation():
    result = scores.mean_and_spread([0.2, 0.4, 0.9])
    assert result["mean"] == pytest.approx(0.5)
    assert result["sd"] == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert scores.mean_and_spread([0.5])["sd"] is None


def test_a_guess_is_rarely_taken_for_more_than_chance():
    """The best of five epochs of guesses on 90 pairs is mistaken in less than 5 of 100 runs."""
    labels = np.repeat([0, 1, 2], [20, 50, 30])
    assert scores.chance_bound(0.6, labels) == (0.5, 1, scores.wilson_interval(60, 100)[0])
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 2], 30)
    best = rng.binomial(90, 1 / 3, (2000, 5)).max(axis=1) / 90
    taken = [low > share for share, _, low in (scores.chance_bound(a, labels, 5) for a in best)]
    assert 0 < np.mean(taken) < 0.05


def random_logits(seed, n, scale=2.0):
    """Draw logits that are larger for the right class, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(0, scale, (n, 3))
    logits[np.arange(n), labels] += scale / 2
    return logits.astype(np.float32), labels


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 20))
@settings(max_examples=40)
def test_calibration_error_is_that_of_a_plain_loop(seed, n, num_bins):
    logits, labels = random_logits(seed, n)
    probabilities = np.exp(scores.log_softmax(logits))
    error = 0.0
    for m in range(1, num_bins + 1):
        inside = [
            (max(row), row.tolist().index(max(row)) == label)
            for row, label in zip(probabilities, labels, strict=True)
            if (m - 1) / num_bins < max(row) <= m / num_bins
        ]
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / n * abs(accuracy - confidence)
    bins = scores.calibration_bins(probabilities, labels, num_bins)
    assert sum(row["pairs"] for row in bins) == n
    assert scores.calibration_error(bins) == pytest.approx(error, abs=1e-12)


def test_confidences_at_the_edges_of_bins():
    bins = scores.calibration_bins(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]), 2)
    assert [(row["pairs"], row["accuracy"]) for row in bins] == [(1, 0.0), (1, 1.0)]


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.5), (1, 2.0), (2, 8.0)])
def test_temperature_is_the_best_of_a_grid(seed, scale):
    logits, labels = random_logits(seed, 400, scale)

    def loss(temperature):
        rows = logits.astype(np.float64) / temperature
        logs = np.log(np.exp(rows).sum(axis=1))
        return float((logs - rows[np.arange(400), labels]).mean())

    grid = np.exp(np.linspace(*np.log(scores.TEMPERATURES), 4001))
    best = min(grid, key=loss)
    result = scores.fit_temperature(logits, labels)
    assert loss(result) <= loss(best) and result == pytest.approx(best, rel=2e-3)


def test_temperature_of_a_model_that_is_always_or_never_right():
    logits, labels = np.eye(3, dtype=np.float32), np.arange(3)
    assert scores.fit_temperature(logits, labels) == scores.TEMPERATURES[0]
    assert scores.fit_temperature(-logits, labels) == scores.TEMPERATURES[1]
    with pytest.raises(DataError, match="without pairs"):
        scores.fit_temperature(logits[:0], labels[:0])


def test_merging_adds_probabilities():
    logits = np.log(np.array([[0.4, 0.35, 0.25], [0.6, 0.1, 0.3]]))
    names = ("Entailment", "neutral", "contradiction")
    places = label_merging(names, ("not_entailment", TWO_WAY[0]))
    result = np.exp(scores.merged(scores.log_softmax(logits), places, 2))
    np.testing.assert_allclose(result, [[0.6, 0.4], [0.4, 0.6]])


def test_classes_are_merged_by_name():
    assert label_merging(("c", "a", "b"), ("a", "b", "c")).tolist() == [2, 0, 1]
    assert label_merging(("not entailment", "entailment"), TWO_WAY).tolist() == [1, 0]
    for names, expected in (
        (("yes", "no", "maybe"), TWO_WAY),
        (TWO_WAY, LABELS),
        (LABELS, ("entailment", "contradiction")),
        (LABELS, ("yes", "no")),
    ):
        with pytest.raises(DataError, match=r"^the classes .*--label-map"):
            label_merging(names, expected)


def test_overlap_by_hand():
    hypotheses = ["a Dog runs.", "A cat runs .", "Nobody sleeps .", "a a a cat", "..."]
    corpus = Corpus(["A dog runs ."] * 5, hypotheses, [0] * 5, tokenized=False)
    result = scores.word_overlap(corpus)
    np.testing.assert_allclose(result, [1, 2 / 3, 0, 1 / 2, 0])
    assert [chosen.sum() for _, chosen in scores.overlap_bins(result)] == [2, 0, 2, 0, 1]
    corpus = Corpus(["A dog runs."], ["It's one."], [0], tokenized=False)
    assert scores.pair_lengths(corpus).tolist() == [8]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=80), st.integers(1, 8))
def test_bins_hold_each_pair_once(lengths, num_bins):
    array = np.array(lengths)
    by_length = scores.length_bins(array, num_bins)
    for bins in (by_length, scores.overlap_bins(np.minimum(array / 30, 1))):
        assert (sum(rows.astype(int) for _, rows in bins) == 1).all()
        assert len({name for name, _ in bins}) == len(bins)
    assert len(by_length) <= num_bins
