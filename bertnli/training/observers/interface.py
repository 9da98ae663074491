"""The interface of what watches a run.

So the trainer knows of no terminal, notebook or file format, and a user's own needs no subclass of
the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertnli.training.state import TrainingState


class Observer:
    """Watches a run. Each method does nothing here; override those that matter.

    Every method gets the run's state, which is to be read and not to be changed: ``state.history``
    has the finished epochs and the losses of all steps, ``state.progress`` the sums of the epoch
    under way, ``state.step`` the number of steps taken. What a method raises ends the run.
    """

    def on_start(self, state: TrainingState) -> None:
        """The run begins, or goes on after the epochs and steps of its history."""

    def on_epoch_start(self, state: TrainingState) -> None:
        """An epoch begins, or goes on after some of its steps."""

    def on_step(self, state: TrainingState) -> None:
        """A step has ended; its batch's mean loss is the last of ``state.history.step_losses``."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """An epoch's training has ended, all of it or up to a stop; what it scores is not known."""

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """A batch of the dev set has been scored: ``num_pairs`` of the set by now."""

    def on_epoch(self, state: TrainingState) -> None:
        """An epoch has been scored and saved; its record is the last of the history's."""

    def on_end(self) -> None:
        """The run has ended, whatever ended it; called once if `on_start` was."""


class Observers(Observer):
    """Several observers as one; see `watched`."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def on_start(self, state: TrainingState) -> None:
        """See `Observer.on_start`."""
        for observer in self._observers:
            observer.on_start(state)

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        for observer in self._observers:
            observer.on_epoch_start(state)

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        for observer in self._observers:
            observer.on_step(state)

    def on_epoch_end(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_end`."""
        for observer in self._observers:
            observer.on_epoch_end(state)

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """See `Observer.on_dev_batch`."""
        for observer in self._observers:
            observer.on_dev_batch(state, num_pairs)

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        for observer in self._observers:
            observer.on_epoch(state)


@contextmanager
def watched(observers: Sequence[Observer]) -> Iterator[Observer]:
    """Give several observers as one, and tell each at the end that the run has ended."""
    with ExitStack() as ends:
        for observer in observers:
            ends.callback(observer.on_end)
        yield Observers(observers)
