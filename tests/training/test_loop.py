"""The training loop: rates, seeds, order of the results, the best epoch."""

import numpy as np
import pytest
from small_runs import STEPS, fit, new_trainer, signal_at

from bertnli.bert.config import TrainingConfig
from bertnli.training.engine import StepResult
from bertnli.training.history import EpochRecord, History
from bertnli.training.loop import step_seed


def expected_steps(total, rank=0):
    """Return rate and dropout seed of each step of a run."""
    config = TrainingConfig(lr=3e-3, schedule="linear", warmup=0.2, seed=3)
    key = [rank] if rank else []
    seeds = [np.random.SeedSequence([3, step, *key]).generate_state(1)[0] for step in range(total)]
    return [(config.lr_at(i, total), int(seeds[i]) & 0x7FFFFFFF) for i in range(total)]


@pytest.mark.parametrize("stopped_at", [1, STEPS, STEPS + 2])
def test_rates_and_seeds_depend_on_the_number_of_the_step(backend, tmp_path, stopped_at):
    """A resumed run continues to count."""
    trainer, data = new_trainer(backend)
    first = signal_at(trainer, stopped_at)
    with pytest.raises(SystemExit):
        fit(trainer, data, tmp_path, epochs=2)
    again, data = new_trainer(backend)
    rest = signal_at(again, 0)
    fit(again, data, tmp_path, epochs=2, resume=True)
    steps = first + rest
    assert steps == expected_steps(2 * STEPS) and len(first) == stopped_at
    assert steps[0][0] == pytest.approx(3e-3 / 2)  # the first of two warm-up steps
    assert steps[-1][0] == pytest.approx(3e-3 / 8)  # the last of eight that decay to 0


def test_each_process_has_its_own_dropout():
    assert [step_seed(3, step, 2) for step in range(9)] == [s for _, s in expected_steps(9, 2)]
    assert len({step_seed(3, 5, rank) for rank in range(4)}) == 4


def test_a_step_is_started_before_the_result_of_the_last_is_read(backend, monkeypatch):
    trainer, data = new_trainer(backend)
    train_step, read, events = trainer.train_step, StepResult.read, []
    trainer.train_step = lambda *arguments: events.append("step") or train_step(*arguments)
    monkeypatch.setattr(StepResult, "read", lambda self: events.append("read") or read(self))
    fit(trainer, data, epochs=1)
    assert events == ["step", *["step", "read"] * (STEPS - 1), "read"]


def test_runs_repeat_and_depend_on_the_seed(backend):
    first, again, other = (
        fit(*new_trainer(backend, seed), epochs=1).step_losses for seed in (1, 1, 2)
    )
    assert first == again != other


def records(accuracies):
    return [EpochRecord(i, i, 1, 0.5, 1, acc, 1, 1, 1) for i, acc in enumerate(accuracies, 1)]


def test_the_best_epoch_is_the_first_with_the_highest_dev_accuracy():
    assert History(records([0.5, 0.9, 0.9, 0.7])).best.epoch == 2
    assert History(records([None, None])).best.epoch == 2


@pytest.mark.parametrize(
    ("accuracies", "patience", "stalled"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.6, 0.6, 0.4], 2, True),
        ([0.5, 0.4, 0.3], 0, False),
    ],
)
def test_a_run_stalls_after_epochs_without_a_better_one(accuracies, patience, stalled):
    assert History(records(accuracies)).has_stalled(patience) is stalled
