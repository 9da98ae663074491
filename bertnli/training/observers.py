"""Observers of a run: the interface, displays of its progress, TensorBoard's event files."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bertnli._util.notebook import CellOutput, in_notebook
from bertnli._util.outputs import check_output_folder
from bertnli._util.progress import LogLines
from bertnli.errors import BackendError, ConfigError
from bertnli.plots import plot_progress
from bertnli.training.history import EpochRecord
from bertnli.training.state import TrainingState

__all__ = ["Observer", "progress_observer"]

#: Minimum seconds between two drawings of a curve, and maximum share of time spent on drawing.
EVERY, SHARE = 0.5, 0.03
#: TensorBoard's tag of the mean loss of each step's batch, in nats.
STEP_LOSS = "step/loss"
#: TensorBoard's tags of each epoch, with the fields of its `EpochRecord`.
EPOCH_TAGS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "dev/loss": "dev_loss",
    "dev/accuracy": "dev_accuracy",
    "pairs_per_second": "pairs_per_second",
}
#: Seconds after which an event is on the disk.
FLUSH = 10


def __dir__() -> list[str]:
    return __all__


class Observer:
    """Watches a run. Each method does nothing here; override those that matter.

    Every method gets the run's state, to read and not to change: ``state.history`` has the finished
    epochs and the losses of all steps, ``state.progress`` the sums of the epoch under way,
    ``state.step`` the number of steps taken. An exception from a method ends the run.

    Examples:
        >>> class LossPrinter(Observer):
        ...     def on_step(self, state):
        ...         print(state.step, state.history.step_losses[-1])
    """

    def on_start(self, state: TrainingState) -> None:
        """Called when the run begins, or resumes after the epochs and steps of its history."""

    def on_epoch_start(self, state: TrainingState) -> None:
        """Called when an epoch begins, or resumes after some of its steps."""

    def on_step(self, state: TrainingState) -> None:
        """Called after each step; ``state.history.step_losses[-1]`` is its batch's mean loss."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Called when an epoch's training has ended, perhaps by a stop, before its evaluation."""

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """Called after each batch of the dev set, with the number of pairs evaluated so far."""

    def on_epoch(self, state: TrainingState) -> None:
        """Called when an epoch was evaluated and saved, as ``state.history.epochs[-1]``."""

    def on_end(self) -> None:
        """Called once, when the run has ended, by an error or not."""


@dataclass
class EpochCallback(Observer):
    """Calls a function with the record of each finished epoch."""

    callback: Callable[[EpochRecord], None]

    def on_epoch(self, state: TrainingState) -> None:
        self.callback(state.history.epochs[-1])


def progress_observer(num_epochs: int, num_pairs: int | None) -> Observer:
    """Make the observer that shows a run's progress in a notebook, a terminal or a log.

    Args:
        num_epochs: number of epochs of the run.
        num_pairs: number of training pairs of an epoch; None if unknown.
    """
    if in_notebook():
        return LiveCurve(num_epochs, num_pairs)
    if sys.stderr is not None and sys.stderr.isatty():
        return ProgressBar(num_epochs, num_pairs)
    return LogProgress(num_epochs, num_pairs)


@dataclass
class _Progress(Observer):
    """Base of the displays below; see `progress_observer` for the arguments."""

    num_epochs: int
    num_pairs: int | None
    clock: Callable[[], float] = time.monotonic

    def _epoch(self, state: TrainingState) -> str:
        return f"epoch {len(state.history.epochs) + 1}/{self.num_epochs}"

    def _scores(self, state: TrainingState) -> str:
        sums = state.progress
        loss, accuracy = sums.loss_sum / sums.num_pairs, sums.num_correct / sums.num_pairs
        return f"loss {loss:.3f}, acc {accuracy:.3f}"


class ProgressBar(_Progress):
    """Draws a bar for each epoch, with loss, accuracy and pairs/s."""

    _bar: tqdm | None = None

    def on_epoch_start(self, state: TrainingState) -> None:
        start, text = state.progress.num_pairs, self._epoch(state)
        self._bar = tqdm(total=self.num_pairs, initial=start, desc=text, unit="pair")

    def on_step(self, state: TrainingState) -> None:
        assert self._bar is not None
        self._bar.set_postfix_str(self._scores(state), refresh=False)
        self._bar.update(state.progress.num_pairs - self._bar.n)

    def on_epoch_end(self, state: TrainingState) -> None:
        self.on_end()

    def on_end(self) -> None:
        if self._bar is not None:
            self._bar.close()


class LogProgress(_Progress):
    """Prints loss, accuracy, pairs/s and remaining time every 30 seconds; see `LogLines`."""

    _lines: LogLines

    def on_epoch_start(self, state: TrainingState) -> None:
        epochs_left = self.num_epochs - len(state.history.epochs) - 1
        self._lines = LogLines(
            self._epoch(state),
            total=self.num_pairs,
            done=state.progress.num_pairs,
            more=epochs_left * (self.num_pairs or 0),
            clock=self.clock,
        )

    def on_step(self, state: TrainingState) -> None:
        note = f"step {state.step:,}, {self._scores(state)}"
        self._lines.update(state.progress.num_pairs, note)

    def on_epoch_end(self, state: TrainingState) -> None:
        self._lines = LogLines(f"{self._epoch(state)}, dev set", clock=self.clock)

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        self._lines.update(num_pairs)


class LiveCurve(_Progress):
    """Draws the run's curve in the output of a notebook's cell; each drawing replaces the last.

    It is drawn after each epoch and, within the limits of `EVERY` and `SHARE`, after steps. Without
    matplotlib, a line of text is shown instead.
    """

    _next = 0.0
    _start = (0.0, 0)

    def on_start(self, state: TrainingState) -> None:
        self._output, epochs = CellOutput(), state.history.epochs
        self._draw(state, str(epochs[-1]) if epochs else "training begins")

    def on_epoch_start(self, state: TrainingState) -> None:
        self._start = (self.clock(), state.progress.num_pairs)

    def on_step(self, state: TrainingState) -> None:
        now = self.clock()
        if now < self._next:
            return
        start, pairs_before = self._start
        pairs = state.progress.num_pairs
        total = "" if self.num_pairs is None else f" of {self.num_pairs}"
        rate = (pairs - pairs_before) / max(now - start, 1e-9)
        text = f"{self._epoch(state)}: {pairs}{total} pairs, {self._scores(state)}"
        self._draw(state, f"{text}, {rate:.1f} pairs/s")

    def on_epoch(self, state: TrainingState) -> None:
        self._draw(state, str(state.history.epochs[-1]))

    def _draw(self, state: TrainingState, text: str) -> None:
        start, figure = self.clock(), None
        with suppress(BackendError):  # no matplotlib
            figure = plot_progress(state.history, text)
        self._output.show(text, figure)
        now = self.clock()
        self._next = now + max(EVERY, (now - start) / SHARE)


class TensorBoard(Observer):
    """Writes a run's event files with tensorboardX.

    A run that resumes, or overwrites another, adds a file that makes TensorBoard hide earlier
    events of the steps that it takes again. An epoch's events are at the number of steps by then.

    Args:
        folder: the folder to write to; one for each run.
        replace: whether the folder may hold events of a run to resume or to overwrite.

    Raises:
        BackendError: tensorboardX is missing.
        ConfigError: the folder has the events of another run, or cannot be used.
    """

    def __init__(self, folder: str | Path, replace: bool) -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise BackendError(
                'TensorBoard\'s files need tensorboardX: pip install "bertnli[tensorboard]"'
            )
        check_output_folder(folder, "TensorBoard")
        self.folder = Path(folder)
        self._writer: Any = None
        if not replace and any(self.folder.glob("events.out.tfevents.*")):
            raise ConfigError(
                f"{self.folder} holds the TensorBoard events of an earlier run; name a folder for "
                "each run, such as runs/tb/NAME, or go on with that run (--resume), or replace it "
                "(--overwrite)"
            )

    def on_start(self, state: TrainingState) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(self.folder),
            purge_step=state.step + 1,
            flush_secs=FLUSH,
            filename_suffix=f".{time.time_ns()}",  # or two files of a second had the same name
        )

    def on_step(self, state: TrainingState) -> None:
        self._writer.add_scalar(STEP_LOSS, state.history.step_losses[-1], state.step)

    def on_epoch(self, state: TrainingState) -> None:
        record = state.history.epochs[-1]
        for tag, name in EPOCH_TAGS.items():
            value = getattr(record, name)
            if value is not None:
                self._writer.add_scalar(tag, value, record.steps)

    def on_end(self) -> None:
        if self._writer is not None:
            self._writer.close()
