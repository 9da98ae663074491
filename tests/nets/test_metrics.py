"""Scores by hand, and the history's files."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bertnli.nets.metrics import Metrics
from bertnli.training.history import EpochRecord, History

LABELS = ("a", "b", "c")


def test_metrics_by_hand() -> None:
    logits = np.array([[2, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0, 2]], np.float32)
    metrics = Metrics.from_logits(LABELS, logits, np.array([0, 1, 1, 2]))
    assert metrics.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert metrics.accuracy == 0.75
    assert metrics.num_pairs == 4
    row = metrics.per_class()["b"]
    assert (row["precision"], row["recall"], row["support"]) == (1.0, 0.5, 2)
    assert row["f1"] == pytest.approx(2 / 3)
    right = np.log(np.exp(2) + 2) - 2
    assert metrics.loss == pytest.approx((3 * right + right + 2) / 4)
    assert json.loads(json.dumps(metrics.to_dict()))["confusion"] == metrics.confusion.tolist()
    assert "accuracy 0.7500" in str(metrics)


def test_class_without_predictions_or_pairs_scores_zero() -> None:
    metrics = Metrics.from_logits(LABELS, np.array([[1, 0, 0]], np.float32), np.array([0]))
    assert metrics.per_class()["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_loss_of_huge_logits_is_finite() -> None:
    metrics = Metrics.from_logits(LABELS, np.array([[1e4, -1e4, 0]], np.float32), np.array([1]))
    assert metrics.loss == pytest.approx(2e4)


def record(epoch: int, dev: float | None) -> EpochRecord:
    return EpochRecord(epoch, epoch, 1.0, 0.5, dev, dev, 10.0, 1.0, 1.0)


def test_best_is_the_first_of_the_highest() -> None:
    history = History([record(1, 0.5), record(2, 0.7), record(3, 0.7), record(4, 0.6)])
    assert history.best.epoch == 2
    assert History([record(1, None), record(2, None)]).best.epoch == 2


def test_lines_and_curve(tmp_path: Path) -> None:
    history = History([record(epoch, 0.1 * epoch) for epoch in (1, 2)])
    lines = [json.loads(line) for line in history.to_lines().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["dev_accuracy"] == 0.2
    history.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def scored(confusion: list[list[int]]) -> Metrics:
    return Metrics(("a", "b", "c", "d")[: len(confusion)], np.array(confusion), 1.0)


#: Of SNLI's dev set by a weak model: entailment, contradiction, neutral; 68 % are right.
REAL = np.array([[36, 4, 10], [4, 36, 10], [8, 12, 30]])


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
@pytest.mark.parametrize("times", [1, 20])
def test_each_wrong_order_of_a_model_that_has_learned_is_found(
    order: tuple[int, ...], times: int
) -> None:
    columns = times * REAL[:, list(order)]  # the column of class i has the predictions of another
    result = scored(columns.tolist()).better_permutation()
    assert result is not None
    renamed, accuracy = result
    assert accuracy == pytest.approx(0.68)
    for i, meant in enumerate(order):
        assert renamed.get("abc"[i], "abc"[i]) == "abc"[meant]


def test_a_few_pairs_that_are_all_right_suffice() -> None:
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
        [[2, 12], [9, 3]],
        [[1, 0], [13, 0]],
        [[45, 55], [55, 45]],
    ],
    ids=str,
)
def test_a_weak_model_is_not_taken_for_a_wrong_order(confusion: list[list[int]]) -> None:
    assert scored(confusion).better_permutation() is None


def test_false_alarms_and_hits() -> None:
    """A small part of what benchmarks/label_order.py measures."""
    rng = np.random.default_rng(0)

    def alarms(rows: NDArray, size: int, times: int = 400) -> float:
        even = np.full(len(rows), 1 / len(rows))
        result = 0
        for _ in range(times):
            pairs = rng.multinomial(size, even)
            drawn = [rng.multinomial(n, row) for n, row in zip(pairs, rows, strict=True)]
            result += scored(np.array(drawn).tolist()).better_permutation() is not None
        return result / times

    rows = REAL / REAL.sum(1, keepdims=True)
    for weak in (
        np.full((3, 3), 1 / 3),
        np.tile([0.05, 0.9, 0.05], (3, 1)),
        0.3 * rows + 0.7 / 3,  # 44 % are right
        np.full((2, 2), 0.5),
    ):
        for size in (50, 200):
            assert alarms(weak, size) <= 0.015
    for order in list(permutations(range(3)))[1:]:
        assert alarms(rows[:, list(order)], 300, 100) == 1
