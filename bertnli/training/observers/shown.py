"""A run's progress for a person: a bar on a terminal, lines in a log, a curve in a notebook."""

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

#: Seconds between two drawings of a curve, at least; and the share of time that drawing may take.
EVERY, SHARE = 0.5, 0.03


def progress_observer(num_epochs: int, num_pairs: int | None) -> Observer:
    """Return what shows a run: a curve in a notebook, a bar on a terminal, lines in a log.

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
    """Return whether the code runs in the kernel of a notebook, which can show pictures."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it; nobody else need have it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class ProgressBar(Observer):
    """A bar for each epoch with loss, accuracy and pairs/s.

    Args:
        num_epochs: of the run.
        num_pairs: of an epoch; None if that is not known.
    """

    def __init__(self, num_epochs: int, num_pairs: int | None) -> None:
        self.num_epochs, self.num_pairs = num_epochs, num_pairs
        self._bar: Any = None

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        self._bar = tqdm(
            total=self.num_pairs,
            initial=state.progress.num_pairs,
            desc=f"epoch {len(state.history.epochs) + 1}/{self.num_epochs}",
            unit="pair",
        )

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        self._bar.set_postfix_str(_scores(state), refresh=False)
        self._bar.update(state.progress.num_pairs - self._bar.n)

    def on_epoch_end(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_end`."""
        self._bar.close()

    def on_end(self) -> None:
        """See `Observer.on_end`."""
        if self._bar is not None:
            self._bar.close()


class LogProgress(Observer):
    """A line now and then in a log: loss, accuracy, pairs/s and the time that the run still takes.

    See `bertnli._util.progress.LogLines`.

    Args:
        num_epochs: of the run.
        num_pairs: of an epoch; None if that is not known.
        clock: gives seconds.
    """

    def __init__(
        self,
        num_epochs: int,
        num_pairs: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.num_epochs, self.num_pairs, self._clock = num_epochs, num_pairs, clock
        self._lines: LogLines | None = None

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        epoch = len(state.history.epochs) + 1
        self._lines = LogLines(
            f"epoch {epoch}/{self.num_epochs}",
            total=self.num_pairs,
            done=state.progress.num_pairs,
            more=(self.num_epochs - epoch) * (self.num_pairs or 0),
            clock=self._clock,
        )

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        if self._lines is not None:
            note = f"step {state.step:,}, {_scores(state)}"
            self._lines.update(state.progress.num_pairs, note)

    def on_epoch_end(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_end`."""
        what = f"epoch {len(state.history.epochs) + 1}/{self.num_epochs}, dev set"
        self._lines = LogLines(what, clock=self._clock)

    def on_dev_batch(self, state: TrainingState, num_pairs: int) -> None:
        """See `Observer.on_dev_batch`."""
        if self._lines is not None:
            self._lines.update(num_pairs)


class LiveCurve(Observer):
    """The run's curve in the output of a notebook's cell, drawn anew in its place as it grows.

    After each epoch, and on the way where there is time for it: `EVERY`, `SHARE`. Without
    matplotlib there is a line of text alone, which a notebook that is read as text has as well.

    Args:
        num_epochs: of the run.
        num_pairs: of an epoch; None if that is not known.
    """

    def __init__(self, num_epochs: int, num_pairs: int | None) -> None:
        self.num_epochs, self.num_pairs = num_epochs, num_pairs
        self._display: Any = None
        self._next = 0.0
        self._start = (0.0, 0)

    def on_start(self, state: TrainingState) -> None:
        """See `Observer.on_start`."""
        self._draw(state, _bare_line(state))

    def on_epoch_start(self, state: TrainingState) -> None:
        """See `Observer.on_epoch_start`."""
        self._start = (time.perf_counter(), state.progress.num_pairs)

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        now = time.perf_counter()
        if now < self._next:
            return
        began, before = self._start
        done = state.progress.num_pairs
        of = "" if self.num_pairs is None else f" of {self.num_pairs}"
        self._draw(
            state,
            f"epoch {len(state.history.epochs) + 1}/{self.num_epochs}: {done}{of} pairs, "
            f"{_scores(state)}, {(done - before) / max(now - began, 1e-9):.1f} pairs/s",
        )

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        self._draw(state, str(state.history.epochs[-1]))

    def _draw(self, state: TrainingState, text: str) -> None:
        from IPython.display import display

        start = time.perf_counter()
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
        now = time.perf_counter()
        self._next = now + max(EVERY, (now - start) / SHARE)


def _bare_line(state: TrainingState) -> str:
    epochs = state.history.epochs
    return str(epochs[-1]) if epochs else "training begins"


def _scores(state: TrainingState) -> str:
    so_far = state.progress
    return (
        f"loss {so_far.loss_sum / so_far.num_pairs:.3f}, "
        f"acc {so_far.num_correct / so_far.num_pairs:.3f}"
    )
