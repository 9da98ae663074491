"""The folder of a run.

best/  last/          checkpoints: of the epoch with the best dev score, and the latest
metrics.jsonl         a line for each finished epoch
curve.png             the same, drawn
state/                what the run resumes from; see `bertnli.training.state`
diverged.npz          the batch of a step whose loss is not a number
.lock                 held while a run is under way
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from tqdm import tqdm

from bertnli._util.temporary import clear_leftovers
from bertnli.data.batches import Batch
from bertnli.errors import BackendError, ConfigError, TrainingError
from bertnli.formats.folder import replaced_file
from bertnli.formats.native import is_checkpoint, remove_checkpoint
from bertnli.training import state as state_files
from bertnli.training.checks import (
    BEST,
    CURVE,
    DIVERGED,
    LAST,
    LOCK,
    STATE,
    check_run_folder,
    check_settings,
    differences,
    environment,
)
from bertnli.training.engine import BaseEngine
from bertnli.training.history import METRICS
from bertnli.training.state import TrainingState

#: Interval between states within an epoch; number of states kept.
SAVE_EVERY, KEEP = timedelta(minutes=10), 2
WEIGHTS = "weights/"


class RunFolder:
    """Writes a run's files, and reads its state.

    Of several processes only the first reads and writes, and sends the state to the others, which
    need no common file system. A context manager: the folder is locked within the ``with`` block.

    Args:
        path: the folder; None writes no files.
        engine: the engine whose net and optimizer are saved and restored.
        settings: the settings that a resumed run must repeat.
        overwrite, resume, save_every, keep: see `bertnli.training.trainer.Trainer.fit`.
    """

    def __init__(
        self,
        path: str | Path | None,
        engine: BaseEngine,
        settings: dict[str, Any],
        overwrite: bool,
        resume: bool,
        save_every: int | timedelta,
        keep: int,
    ) -> None:
        self.engine, self.settings, self.resume = engine, settings, resume
        self.workers, self.average = engine.workers, engine.weight_average
        self.save_every, self.keep = save_every, keep
        self._saved_step, self._saved_at = 0, 0.0
        self._lock: BaseFileLock | None = None
        if keep < 1:
            raise ConfigError(f"keep is {keep}; a run keeps at least one state")
        if (save_every if isinstance(save_every, int) else save_every.total_seconds()) <= 0:
            raise ConfigError(f"save_every is {save_every}; it is a number of steps, or a time")
        if path is None and resume:
            raise ConfigError("resume needs the run's folder, output=...")
        if path is not None:
            engine.net.required_vocab()  # without one, nothing could be saved after training
            self.workers.on_rank0(lambda: check_run_folder(Path(path), overwrite, resume))
        #: The folder; None in a process that writes no files.
        self.path = Path(path) if path is not None and self.workers.is_first else None

    def __enter__(self) -> RunFolder:
        self.workers.on_rank0(self._lock_folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def _lock_folder(self) -> None:
        if self.path is None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another process is training into {self.path}; wait for its end, stop it, or "
                "choose another folder"
            ) from None
        except NotImplementedError:
            pass  # a file system without locks
        except OSError as error:
            raise ConfigError(f"the output folder {self.path} cannot be used: {error}") from error

    def start(self) -> TrainingState:
        """Restore net and optimizer of a run to resume, or clear the folder for a new run.

        Returns:
            The state to go on from; an empty one for a new run.
        """
        convert = state_files.state_to_bytes, state_files.state_from_bytes
        state = self.workers.on_rank0(self._open, *convert)
        self._saved_step, self._saved_at = 0, time.monotonic()
        if state is None:
            return TrainingState(self.settings)
        check_settings(self.settings, state.settings)
        differ = differences(state.environment, environment(self.engine))
        if differ and self.workers.is_first:
            tqdm.write(
                f"note: the run goes on elsewhere than it was saved: {'; '.join(differ)}. The "
                "weights at its end agree with those of an uninterrupted run to rounding, not to "
                "the bit",
                file=sys.stderr,
            )
        arrays = state.arrays
        weights = {n.removeprefix(WEIGHTS): a for n, a in arrays.items() if n.startswith(WEIGHTS)}
        self.engine.net.load_arrays(weights, "the run's state")
        self.engine.load_optimizer_arrays(arrays)
        self.average.load_arrays(arrays)
        state.arrays = {}
        self._saved_step = state.step
        if state.history.epochs and not state.progress.steps:
            self._save_after_state(state)
        else:
            self._write_metrics(state)
        return state

    def _open(self) -> TrainingState | None:
        """Load the state to resume from; if there is none, remove an earlier run's files."""
        if self.path is None:
            return None
        folder = self.path / STATE
        try:
            folder.mkdir(exist_ok=True)
            clear_leftovers(self.path, any_machine=True)  # all who write here hold the lock
            clear_leftovers(folder, any_machine=True)
            state = state_files.load_state(folder) if self.resume else None
            if state is None:
                state_files.remove_states(folder)
                for checkpoint in filter(is_checkpoint, (self.path / BEST, self.path / LAST)):
                    remove_checkpoint(checkpoint)
                self._write_metrics(TrainingState(self.settings))
        except OSError as error:
            raise ConfigError(f"the output folder {self.path} cannot be used: {error}") from error
        return state

    def is_due(self, step: int) -> bool:
        """Return whether to save a state after this step of the run, counted from 1."""
        if self.path is None:
            return False
        if isinstance(self.save_every, int):
            return step - self._saved_step >= self.save_every
        return time.monotonic() - self._saved_at >= self.save_every.total_seconds()

    def save_state(self, state: TrainingState) -> None:
        """Write the state of the run, with the weights and the optimizer as they are now."""
        if self.path is None:
            return
        weights = {WEIGHTS + name: a for name, a in self.engine.net.arrays().items()}
        arrays = {**weights, **self.engine.optimizer_arrays(), **self.average.arrays()}
        state.environment = environment(self.engine)
        state_files.save_state(self.path / STATE, replace(state, arrays=arrays), self.keep)
        self._saved_step, self._saved_at = state.step, time.monotonic()

    def save_if_possible(self, state: TrainingState) -> str:
        """Save the state when another process is lost; return a sentence that says how to go on."""
        # Weights and history agree whenever processes exchange anything, unless the net has its
        # average for the time of an evaluation.
        advice = "the same command with --resume goes on from the last state"
        if self.path is None or self.average.in_use:
            return advice
        self.save_state(state)
        return f"step {state.step} was saved in {self.path / STATE}; {advice}"

    def save_net(self, name: str) -> None:
        """Write a checkpoint of the average of the weights, or of the weights if there is none."""
        if self.path is not None:
            with self.average.in_place():
                self.engine.net.save(self.path / name)

    def save_epoch(self, state: TrainingState) -> None:
        """Write all files after an epoch.

        The order matters if the run is killed meanwhile: ``best/`` before the state that counts the
        epoch as done; what comes after the state is written again when the run resumes.
        """
        if state.history.best is state.history.epochs[-1]:
            self.save_net(BEST)
        self.save_state(state)
        self._save_after_state(state)

    def _save_after_state(self, state: TrainingState) -> None:
        if self.path is None:
            return
        self.save_net(LAST)
        self._write_metrics(state)
        try:
            with replaced_file(self.path / CURVE) as new:
                state.history.plot(new)
        except BackendError as error:
            if len(state.history.epochs) == 1:
                tqdm.write(f"no {CURVE}: {error}", file=sys.stderr)

    def _write_metrics(self, state: TrainingState) -> None:
        if self.path is not None:
            with replaced_file(self.path / METRICS) as new:
                new.write_text(state.history.to_lines(), encoding="utf-8")

    def check_loss(self, loss: float, batch: Batch, state: TrainingState) -> None:
        """Raise TrainingError if a step's loss is not finite, after writing its batch to a file."""
        if math.isfinite(loss):
            return
        where = ""
        if self.path is not None:
            arrays = {name: array for name, array in vars(batch).items() if array is not None}
            with replaced_file(self.path / DIVERGED) as new, new.open("wb") as file:
                np.savez(file, step=state.step, **arrays)
            where = f"; its batch is in {self.path / DIVERGED}, and the state before it in {STATE}/"
        raise TrainingError(
            f"the loss of step {state.step + 1} is {loss}{where}. A smaller learning rate, or a "
            "warm-up, may help"
        )
