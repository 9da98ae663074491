"""Scores by hand; scikit-learn's; suspected orders of the classes; the history's files."""

import json
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import log_loss, precision_recall_fscore_support

from bertnli.nets.metrics import Metrics
from bertnli.training.history import EpochRecord, History


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


def test_loss_of_huge_logits_is_finite():
    metrics = Metrics.from_logits("abc", np.array([[1e4, -1e4, 0]], np.float32), np.array([1]))
    assert metrics.loss == pytest.approx(2e4)


def record(epoch, dev):
    return EpochRecord(epoch, epoch, 1.0, 0.5, dev, dev, 10.0, 1.0, 1.0)


def test_history(tmp_path):
    history = History([record(1, 0.5), record(2, 0.7), record(3, 0.7), record(4, 0.6)])
    assert history.best.epoch == 2  # the first of the highest
    assert History([record(1, None), record(2, None)]).best.epoch == 2
    lines = [json.loads(line) for line in history.to_lines().splitlines()]
    assert [(line["epoch"], line["dev_accuracy"]) for line in lines[:2]] == [(1, 0.5), (2, 0.7)]
    history.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def scored(confusion):
    return Metrics(("a", "b", "c", "d")[: len(confusion)], np.array(confusion), 1.0)


#: Of SNLI's dev set by a weak model: entailment, contradiction, neutral; 68 % are right.
REAL = np.array([[36, 4, 10], [4, 36, 10], [8, 12, 30]])


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
@pytest.mark.parametrize("times", [1, 20])
def test_wrong_orders_of_a_trained_model_are_suspected(order, times):
    columns = times * REAL[:, list(order)]  # the column of class i has the predictions of another
    better = scored(columns.tolist()).better_permutation()
    assert better is not None
    renamed, accuracy = better
    assert accuracy == pytest.approx(0.68)
    for i, meant in enumerate(order):
        assert renamed.get("abc"[i], "abc"[i]) == "abc"[meant]


def test_a_few_pairs_that_are_all_right_suffice():
    assert scored([[0, 6, 0], [0, 0, 6], [6, 0, 0]]).better_permutation() is not None
    assert scored([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).better_permutation() is None


@pytest.mark.parametrize(
    "confusion",
    [
        REAL.tolist(),
        [[20, 40, 40], [40, 20, 40], [40, 40, 20]],  # what is hard was chosen
        [[0, 31, 69], [37, 0, 63], [44, 56, 0]],  # nothing but errors
        [[4, 90, 6], [3, 92, 5], [5, 89, 6]],  # nearly always one class
        [[0, 0, 20], [0, 0, 900], [0, 0, 80]],  # and always, on a set of another
        [[47, 6, 47], [10, 80, 10], [49, 6, 45]],  # two classes are one to it
        [[30, 40, 30], [30, 30, 40], [45, 25, 30]],  # a third right in any order
        [[10, 15, 5], [5, 10, 15], [15, 5, 10]],
        [[1, 9, 0], [0, 1, 9], [0, 0, 0]],  # a class without pairs
        [[1, 0], [13, 0]],
    ],
    ids=str,
)
def test_a_weak_model_is_not_taken_for_a_wrong_order(confusion):
    assert scored(confusion).better_permutation() is None


def test_false_alarms_and_hits():
    """A small part of what benchmarks/label_order.py measures."""
    rng = np.random.default_rng(0)

    def alarms(rows, size, times):
        count = 0
        for _ in range(times):
            pairs = rng.multinomial(size, np.full(len(rows), 1 / len(rows)))
            drawn = [rng.multinomial(n, row) for n, row in zip(pairs, rows, strict=True)]
            count += scored(np.array(drawn).tolist()).better_permutation() is not None
        return count / times

    rows = REAL / REAL.sum(1, keepdims=True)
    always_one, a_little = np.tile([0.05, 0.9, 0.05], (3, 1)), 0.3 * rows + 0.7 / 3
    for weak in (np.full((3, 3), 1 / 3), always_one, a_little, np.full((2, 2), 0.5)):
        for size in (50, 200):
            assert alarms(weak, size, 400) <= 0.015
    assert alarms(rows[:, [1, 2, 0]], 300, 100) == 1


def test_another_order_is_judged_by_recall_not_by_precision():
    """Two small classes that change places, beside a large one."""
    confusion = np.array([[4, 24, 2], [25, 3, 2], [30, 20, 250]])
    better = Metrics(("a", "b", "c"), confusion, 1.0).better_permutation()
    assert better == ({"b": "a", "a": "b"}, (24 + 25 + 250) / 360)
