"""Progress of a run: a bar on a terminal, lines in a log, a curve in a notebook."""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from bertnli._util.progress import LogLines
from bertnli.errors import BackendError
from bertnli.plots import plot_progress
from bertnli.training.observers.interface import Observer

if TYPE_CHECKING:
    from bertnli.training.state import TrainingState

#: Least seconds between two drawings of a curve, and most of the time that drawing may take.
EVERY, SHARE = 0.5, 0.03


def progress_observer(num_epochs: int, num_pairs: int | None) -> Observer:
    """Return the observer that shows a run's progress here: in a notebook, a terminal or a log.

    Args:
        num_epochs: of the run.
        num_pairs: of an epoch; None if that is not known.
    """
    if in_notebook():
        return LiveCurve(num_epochs, num_pairs)
    if sys.stderr is not None and sys.stderr.isatty():
        return ProgressBar(num_epochs, num_pairs)
    return LogProgress(num_epochs, num_pairs)


def in_notebook() -> bool:
    """Return whether the code runs in a notebook's kernel, which can show pictures."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Progress(Observer):
    """What the observers below have in common; see `progress_observer`."""

    def __init__(
        self,
        num_epochs: int,
        num_pairs: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_epochs, self.num_pairs, self._clock = num_epochs, num_pairs, clock

    def _epoch(self, state: TrainingState) -> str:
        return f"epoch {len(state.history.epochs) + 1}/{self.num_epochs}"

    def _scores(self, state: TrainingState) -> str:
        sums = state.progress
        loss, accuracy = sums.loss_sum / sums.num_pairs, sums.num_correct / sums.num_pairs
        return f"loss {loss:.3f}, acc {accuracy:.3f}"


class ProgressBar(_Progress):
    """A bar for each epoch with loss, accuracy and pairs/s."""

    _bar: tqdm | None = None

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        self._bar = tqdm(
            total=self.num_pairs,
            initial=state.progress.num_pairs,
            desc=self._epoch(state),
            unit="pair",
        )

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        assert self._bar is not None
        self._bar.set_postfix_str(self._scores(state), refresh=False)
        self._bar.update(state.progress.num_pairs - self._bar.n)

    def on_epoch_end(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_end`."""
        self.on_end()

    def on_end(self) -> None:
        """See `Observer.on_end`."""
        if self._bar is not None:
            self._bar.close()


class LogProgress(_Progress):
    """A line every 30 seconds: loss, accuracy, pairs/s, remaining time; see `LogLines`."""

    _lines: LogLines

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        epochs_left = self.num_epochs - len(state.history.epochs) - 1
        self._lines = LogLines(
            self._epoch(state),
            total=self.num_pairs,
            done=state.progress.num_pairs,
            more=epochs_left * (self.num_pairs or 0),
            clock=self._clock,
        )

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        note = f"step {state.step:,}, {self._scores(state)}"
        self._lines.update(state.progress.num_pairs, note)

    def on_epoch_end(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_end`."""
        self._lines = LogLines(f"{self._epoch(state)}, dev set", clock=self._clock)

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """See `Observer.on_dev_batch`."""
        self._lines.update(num_pairs)


class LiveCurve(_Progress):
    """The run's curve in the output of a notebook's cell, drawn anew in its place.

    It is drawn after each epoch and, within the limits of `EVERY` and `SHARE`, after steps. Without
    matplotlib there is its line of text alone.
    """

    _display: Any = None
    _next = 0.0
    _start = (0.0, 0)

    def on_start(self, state: TrainingState) -> None:
        """See `Observer.on_start`."""
        epochs = state.history.epochs
        self._draw(state, str(epochs[-1]) if epochs else "training begins")

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        self._start = (self._clock(), state.progress.num_pairs)

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        now = self._clock()
        if now < self._next:
            return
        began, before = self._start
        done = state.progress.num_pairs
        total = "" if self.num_pairs is None else f" of {self.num_pairs}"
        rate = (done - before) / max(now - began, 1e-9)
        text = f"{self._epoch(state)}: {done}{total} pairs, {self._scores(state)}"
        self._draw(state, f"{text}, {rate:.1f} pairs/s")

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        self._draw(state, str(state.history.epochs[-1]))

    def _draw(self, state: TrainingState, text: str) -> None:
        from IPython.display import display

        start = self._clock()
        content = {"text/plain": text}
        try:
            picture = io.BytesIO()
            plot_progress(state.history, text).savefig(picture, format="png")
            content["image/png"] = base64.b64encode(picture.getvalue()).decode()
        except BackendError:
            pass  # no matplotlib
        if self._display is None:
            self._display = display(content, raw=True, display_id=True)
        else:
            self._display.update(content, raw=True)
        now = self._clock()
        self._next = now + max(EVERY, (now - start) / SHARE)
