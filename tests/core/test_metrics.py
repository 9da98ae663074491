"""Scores by hand, and the history's files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertnli.training.history import EpochRecord, History
from bertnli.training.metrics import Metrics

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
