"""The training loop: what each step is a function of, and how often the framework is waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_runs import STEPS, fit, new_trainer, signal_at

from bertnli.backends.interface import Backend
from bertnli.bert.config import TrainingConfig
from bertnli.training.engine import StepResult
from bertnli.training.history import EpochRecord, History
from bertnli.training.loop import step_seed


def expected_steps(total: int, rank: int = 0) -> list[tuple[float, int]]:
    """Rate and dropout's seed of each step, from its number, which counts from 0."""
    config = TrainingConfig(lr=3e-3, schedule="linear", warmup=0.2, seed=3)
    key = [rank] if rank else []
    seeds = [np.random.SeedSequence([3, step, *key]).generate_state(1)[0] for step in range(total)]
    return [(config.lr_at(i, total), int(seeds[i]) & 0x7FFFFFFF) for i in range(total)]


def test_rate_and_dropout_are_functions_of_the_step(backend: Backend) -> None:
    """Of its number in the run, across epochs."""
    trainer, data = new_trainer(backend)
    calls = signal_at(trainer, 0)
    fit(trainer, data, epochs=2)
    assert calls == expected_steps(2 * STEPS)
    assert calls[0][0] == pytest.approx(3e-3 / 2)  # the first of two steps of warm-up
    assert calls[-1][0] == pytest.approx(3e-3 / 8)  # the last of eight that fall to 0


@pytest.mark.parametrize("stopped_at", [1, 3, STEPS, STEPS + 2])
def test_a_resumed_run_counts_on(backend: Backend, tmp_path: Any, stopped_at: int) -> None:
    trainer, data = new_trainer(backend)
    first = signal_at(trainer, stopped_at)
    with pytest.raises(SystemExit):
        fit(trainer, data, tmp_path, epochs=2)
    again, data = new_trainer(backend)
    rest = signal_at(again, 0)
    fit(again, data, tmp_path, epochs=2, resume=True)
    assert first + rest == expected_steps(2 * STEPS)
    assert len(first) == stopped_at


def test_each_process_has_dropout_of_its_own() -> None:
    assert [step_seed(3, step, 2) for step in range(9)] == [s for _, s in expected_steps(9, 2)]
    assert len({step_seed(3, 5, rank) for rank in range(4)}) == 4


def test_results_are_read_a_step_late(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the framework computes a step while the result of the one before is read."""
    trainer, data = new_trainer(backend)
    train_step, read, events = trainer.train_step, StepResult.read, []
    trainer.train_step = lambda *arguments: events.append("step") or train_step(*arguments)
    monkeypatch.setattr(StepResult, "read", lambda self: events.append("read") or read(self))
    fit(trainer, data, epochs=1)
    assert events == ["step", *["step", "read"] * (STEPS - 1), "read"]


def test_runs_repeat_and_depend_on_the_seed(backend: Backend) -> None:
    def losses(seed: int) -> list[float]:
        return fit(*new_trainer(backend, seed), epochs=1).step_losses

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_the_best_epoch_is_the_first_with_the_highest_dev_accuracy() -> None:
    records = [EpochRecord(i, i, 1.0, 0.5, 1.0, dev, 1.0, 1.0, 0.1) for i, dev in SCORES]
    assert History(records).best.epoch == 2


SCORES = [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.7)]
