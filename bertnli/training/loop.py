"""The training loop: the epochs of one call of `Trainer.fit`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.errors import DataError
from bertnli.nets.metrics import Score
from bertnli.training.checks import LAST
from bertnli.training.engine import BaseEngine, StepResult
from bertnli.training.history import EpochRecord, History
from bertnli.training.observers import Observer
from bertnli.training.run import RunFolder
from bertnli.training.sets import Source, smoothed
from bertnli.training.state import EpochProgress, TrainingState
from bertnli.training.stop import StopRequest, stop_between_steps

#: Number of pairs in a batch of the dev set.
EVAL_BATCH_SIZE = 256
EvalStep = Callable[[Batch], NDArray[np.float32]]


@dataclass
class Loop:
    """Trains a net for some epochs, evaluates it after each of them, and writes checkpoints.

    Args:
        engine, train_step, eval_step: the trainer's engine and methods.
        config: the run's settings.
        total_steps: number of steps of the run; None if a loader's length is not known.
        train, dev: the training set and the dev set.
        folder: the folder of the run.
        observers: observers that are called after each step and epoch.
    """

    engine: BaseEngine
    train_step: Callable[[Batch, float, int], StepResult]
    eval_step: EvalStep
    config: TrainingConfig
    total_steps: int | None
    train: Source
    dev: Source | None
    folder: RunFolder
    observers: Sequence[Observer]

    state: TrainingState = field(init=False)
    stop: StopRequest = field(init=False)
    #: Steps that were taken, and whose results were not read yet.
    _pending: deque[tuple[Batch, StepResult]] = field(default_factory=deque, init=False)
    #: When the epoch began, shifted by the time that it was interrupted for.
    _start: float = field(default=0.0, init=False)
    _save_due: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.average, self.workers = self.engine.weight_average, self.engine.workers

    def run(self) -> History:
        """Train to the last epoch, or until a stop is requested."""
        with self.folder, ExitStack() as ends:
            for observer in self.observers:
                ends.callback(observer.on_end)
            ends.callback(setattr, self.engine, "before_update", None)
            self.engine.before_update = self._settle
            self.average.load_arrays({})
            self.state = self.folder.start()
            self._notify("on_start")
            # Signals first: a launcher that ends all processes must not interrupt the last save.
            with (
                stop_between_steps() as self.stop,
                self.workers.saving(lambda: self.folder.save_if_possible(self.state)),
            ):
                history, config = self.state.history, self.config
                while len(history.epochs) < config.num_epochs:
                    if history.has_stalled(config.patience):
                        break
                    self._train_epoch()
                    self._notify("on_epoch_end")
                    self._finish_epoch()
                self._end_together()
            self.average.finish()
        return history

    def _notify(self, event: str, *arguments: Any) -> None:
        for observer in self.observers:
            getattr(observer, event)(self.state, *arguments)

    def _end_together(self) -> None:
        """Wait until the first process has written its files."""
        self.workers.barrier()
        self.workers.set_exit_together(together=True)

    def _train_epoch(self) -> None:
        """Take the remaining steps of an epoch, or those until a stop is requested."""
        state, config = self.state, self.config
        self._start = time.perf_counter() - state.progress.seconds
        self._notify("on_epoch_start")
        epoch, first = len(state.history.epochs), state.progress.steps
        batches = self.train.train_batches(config.batch_size, config.seed, epoch, first)
        for step, batch in enumerate(batches, state.step):
            self._take_step(step, batch)
            if self.workers.size == 1:  # a signal that came since the votes were counted
                self.stop.count(self.stop.votes())
            if self._save_due or self.stop.requested:
                self._record_pending()
            if self.stop.requested:
                return
            if self._save_due:
                self.folder.save_state(state)
        self._record_pending()
        if not state.progress.num_pairs:
            raise DataError("the training loader gave no batch; is it used up, or its set empty?")

    def _take_step(self, step: int, batch: Batch) -> None:
        """Take step number ``step`` of the run, counted from 0."""
        config, total = self.config, self.total_steps
        batch = smoothed(batch, config.label_smoothing, len(self.engine.net.labels))
        lr = config.lr if total is None else config.lr_at(step, total)
        self.train_step(batch, lr, step_seed(config.seed, step, self.workers.rank))
        if total is not None and config.averages_at(step, total):
            self.average.update()

    def _settle(self, batch: Batch, result: StepResult) -> None:
        """Sum a step's result over the processes, and decide on a stop, before the weights change.

        So history and weights agree if a process is lost. With several processes, this step's
        result is read; with one, that of the step before, so that the framework need not wait.
        """
        self._pending.append((batch, result))
        is_ready = len(self._pending) > (self.workers.size == 1)
        loss_sum, num_correct = self._pending[0][1].read() if is_ready else (0.0, 0.0)
        due = self.folder.is_due(self.state.step + len(self._pending))
        sums = self.workers.sum(np.array([loss_sum, num_correct, due, *self.stop.votes()]))
        self._save_due = bool(sums[2])
        self.stop.count(sums[3:])
        if is_ready:
            self._record(float(sums[0]), float(sums[1]))

    def _record_pending(self) -> None:
        while self._pending:
            self._record(*self._pending[0][1].read())
        self.state.progress.seconds = time.perf_counter() - self._start

    def _record(self, loss_sum: float, num_correct: float) -> None:
        """Add the loss and the correct predictions of the oldest pending step to the history."""
        batch, _ = self._pending.popleft()
        self.folder.check_loss(loss_sum, batch, self.state)
        self.state.history.step_losses.append(loss_sum / len(batch))
        progress = self.state.progress
        progress.steps += 1
        progress.loss_sum += loss_sum
        progress.num_correct += num_correct
        progress.num_pairs += len(batch)
        progress.seconds = time.perf_counter() - self._start
        self._notify("on_step")

    def _finish_epoch(self) -> None:
        """Evaluate and save; if a stop is requested, only save, and raise the exception for it."""
        record = self._evaluated_epoch()
        if record is None:
            self.folder.save_state(self.state)
            self.folder.save_net(LAST)
            self._end_together()
            self.average.finish()
            self.stop.leave()
            return
        self.state.history.epochs.append(record)
        self.state.progress = EpochProgress()
        self.folder.save_epoch(self.state)
        self._notify("on_epoch")

    def _evaluated_epoch(self) -> EpochRecord | None:
        """Evaluate the net and return the epoch's record; return None if a stop is requested."""
        progress, start, score = self.state.progress, time.perf_counter(), None
        if self.stop.requested or self.stop.count(self.workers.sum(self.stop.votes())):
            return None
        if self.dev is not None:
            batches = self.dev.eval_batches(EVAL_BATCH_SIZE)
            on_batch = partial(self._notify, "on_dev_batch")
            with self.average.in_place():
                score = evaluate(self.engine, self.eval_step, batches, self.stop, on_batch)
        if self.stop.requested:
            return None
        return EpochRecord(
            epoch=len(self.state.history.epochs) + 1,
            steps=self.state.step,
            train_loss=progress.loss_sum / progress.num_pairs,
            train_accuracy=progress.num_correct / progress.num_pairs,
            dev_loss=None if score is None else score.loss,
            dev_accuracy=None if score is None else score.accuracy,
            pairs_per_second=progress.num_pairs / progress.seconds,
            train_seconds=progress.seconds,
            dev_seconds=0.0 if score is None else time.perf_counter() - start,
        )


def evaluate(
    engine: BaseEngine,
    eval_step: EvalStep,
    batches: Iterable[Batch],
    stop: StopRequest | None = None,
    on_batch: Callable[[int], None] = lambda num_pairs: None,
) -> Score | None:
    """Score a net on batches; with several processes, all of them get the same score.

    Each of n processes computes every n-th batch. The number of pairs evaluated so far is passed to
    ``on_batch``.

    Returns:
        The score; None if ``stop`` was requested in one of the processes meanwhile.
    """
    workers = engine.workers
    outputs, labels, num_pairs = [], [], 0
    for i, batch in enumerate(batches):
        turn = i % workers.size
        labels.append(batch.labels)
        zeros = np.zeros((len(batch), engine.net.num_eval_outputs), np.float32)
        outputs.append(eval_step(batch) if turn == workers.rank else zeros)
        num_pairs += len(batch)
        on_batch(num_pairs)
        if stop and turn == workers.size - 1 and stop.count(workers.sum(stop.votes())):
            return None
    if not outputs:
        raise DataError("the evaluation loader gave no batch; is it used up, or its set empty?")
    joined = np.concatenate(outputs)
    joined = workers.sum(joined.ravel()).reshape(joined.shape)
    return engine.net.score(joined, np.concatenate(labels))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Derive the seed of dropout from a run's seed, a step's number and a process's rank.

    Rank 0 has the seeds of a single process.
    """
    parts = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(parts).generate_state(1)[0] & 0x7FFFFFFF)
