"""A run's progress for a person: a bar on a terminal, a curve that grows in a notebook."""

from __future__ import annotations

import base64
import io
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from bertnli.errors import BackendError
from bertnli.plots import plot_progress
from bertnli.training.observers.interface import Observer

if TYPE_CHECKING:
    from bertnli.training.state import TrainingState

#: Seconds between two drawings of a curve, at least; and the share of time that drawing may take.
EVERY, SHARE = 0.5, 0.03


def progress_observer(num_epochs: int, num_pairs: int | None) -> Observer:
    """Return what shows a run's progress here: in a notebook a curve, else a bar.

    Args:
        num_epochs: of the run.
        num_pairs: of an epoch; None if that is not known.
    """
    kind = LiveCurve if in_notebook() else ProgressBar
    return kind(num_epochs, num_pairs)


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook, which can show pictures."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it; nobody else need have it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class ProgressBar(Observer):
    """A line for each epoch with loss, accuracy and pairs/s; nothing where stderr is no terminal.

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
            disable=None,
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
