"""Scores against scikit-learn's, and suspected wrong orders of the classes."""

import json
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import log_loss, precision_recall_fscore_support

from bertnli.nets.metrics import Metrics


def test_metrics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(0, 3, 50)
    logits[:, 2] -= 9  # never predicted; the last class has no pairs
    metrics = Metrics.from_logits("abcd", logits, labels)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities, labels=range(4)), 1e-6)
    assert metrics.accuracy == np.mean(logits.argmax(1) == labels) and metrics.num_pairs == 50
    expected = precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(4), zero_division=0
    )
    for row, values in zip(metrics.per_class().values(), zip(*expected, strict=True), strict=True):
        assert list(row.values()) == pytest.approx(values)
    assert json.loads(json.dumps(metrics.to_dict()))["confusion"] == metrics.confusion.tolist()
    assert f"accuracy {metrics.accuracy:.4f}" in str(metrics)
    huge = np.array([[1e4, -1e4, 0]], np.float32)
    assert Metrics.from_logits("abc", huge, np.array([1])).loss == pytest.approx(2e4)


def better_order(confusion):
    return Metrics(tuple("abcd")[: len(confusion)], np.array(confusion), 1.0).better_permutation()


#: A weak model on SNLI's dev set: entailment, contradiction, neutral; 68 % are right.
REAL = np.array([[36, 4, 10], [4, 36, 10], [8, 12, 30]])


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
@pytest.mark.parametrize("times", [1, 20])
def test_a_wrong_order_is_suspected(order, times):
    renamed, accuracy = better_order(times * REAL[:, list(order)])
    assert accuracy == pytest.approx(0.68)
    for i, meant in enumerate(order):
        assert renamed.get("abc"[i], "abc"[i]) == "abc"[meant]


def test_few_pairs_suffice_if_all_are_right():
    assert better_order([[0, 6, 0], [0, 0, 6], [6, 0, 0]]) is not None
    assert better_order([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) is None


@pytest.mark.parametrize(
    "confusion",
    [
        REAL.tolist(),
        [[20, 40, 40], [40, 20, 40], [40, 40, 20]],  # pairs chosen for being hard
        [[0, 31, 69], [37, 0, 63], [44, 56, 0]],  # only errors
        [[4, 90, 6], [3, 92, 5], [5, 89, 6]],  # nearly always one class
        [[0, 0, 20], [0, 0, 900], [0, 0, 80]],  # always one class, on a set of another
        [[47, 6, 47], [10, 80, 10], [49, 6, 45]],  # two classes are not told apart
        [[30, 40, 30], [30, 30, 40], [45, 25, 30]],  # a third right in any order
        [[10, 15, 5], [5, 10, 15], [15, 5, 10]],
        [[1, 9, 0], [0, 1, 9], [0, 0, 0]],  # a class without pairs
        [[1, 0], [13, 0]],
    ],
    ids=str,
)
def test_a_weak_model_is_not_taken_for_a_wrong_order(confusion):
    assert better_order(confusion) is None


def test_false_alarms_and_hits():
    """A small part of the measurements of benchmarks/label_order.py."""
    rng = np.random.default_rng(0)

    def alarms(rows, size, times):
        count = 0
        for _ in range(times):
            pairs = rng.multinomial(size, np.full(len(rows), 1 / len(rows)))
            drawn = [rng.multinomial(n, row) for n, row in zip(pairs, rows, strict=True)]
            count += better_order(drawn) is not None
        return count / times

    rows = REAL / REAL.sum(1, keepdims=True)
    always_one, a_little = np.tile([0.05, 0.9, 0.05], (3, 1)), 0.3 * rows + 0.7 / 3
    for weak in (np.full((3, 3), 1 / 3), always_one, a_little, np.full((2, 2), 0.5)):
        for size in (50, 200):
            assert alarms(weak, size, 400) <= 0.015
    assert alarms(rows[:, [1, 2, 0]], 300, 100) == 1


def test_an_order_is_judged_by_recall_not_by_precision():
    """Two small classes are exchanged, beside a large one."""
    better = better_order([[4, 24, 2], [25, 3, 2], [30, 20, 250]])
    assert better == ({"b": "a", "a": "b"}, (24 + 25 + 250) / 360)
