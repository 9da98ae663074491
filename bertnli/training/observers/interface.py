"""The interface between the training loop and what watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertnli.training.history import EpochRecord
    from bertnli.training.state import TrainingState


class Observer:
    """Watches a run. Each method does nothing here; override those that matter.

    Every method gets the run's state, to read and not to change: ``state.history`` has the finished
    epochs and the losses of all steps, ``state.progress`` the sums of the epoch under way,
    ``state.step`` the number of steps taken. What a method raises ends the run.

    Examples:
        >>> class LossPrinter(Observer):
        ...     def on_step(self, state):
        ...         print(state.step, state.history.step_losses[-1])
    """

    def on_start(self, state: TrainingState) -> None:
        """The run begins, or resumes after the epochs and steps of its history."""

    def on_epoch_start(self, state: TrainingState) -> None:
        """An epoch begins, or resumes after some of its steps."""

    def on_step(self, state: TrainingState) -> None:
        """A step was taken; its batch's mean loss is the last of ``state.history.step_losses``."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """An epoch's training has ended, perhaps by a stop; it is not evaluated yet."""

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """A batch of the dev set was evaluated: ``num_pairs`` of the set so far."""

    def on_epoch(self, state: TrainingState) -> None:
        """An epoch was evaluated and saved; its record is the last of the history's."""

    def on_end(self) -> None:
        """The run has ended, by an error or not; called once."""


class EpochCallback(Observer):
    """Calls a function with each epoch's record."""

    def __init__(self, callback: Callable[[EpochRecord], None]) -> None:
        self.callback = callback

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        self.callback(state.history.epochs[-1])
