"""A run's folder, and how a run is stopped.

best/  last/          checkpoints: after the epoch with the best dev score, and the latest
metrics.jsonl         a line for each finished epoch
curve.png             the same, drawn
state/                where the run stands; see `bertnli.training.state`
diverged.npz          the batch of a step whose loss is not a number
.lock                 held while a run is under way
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from bertnli._util.temporary import clear_leftovers
from bertnli.data.batches import Batch
from bertnli.errors import BackendError, ConfigError, TrainingError
from bertnli.formats.folder import replaced_file
from bertnli.formats.native import is_checkpoint, remove_checkpoint
from bertnli.training.engine import BaseEngine
from bertnli.training.environment import describe_differences, differences, environment
from bertnli.training.history import METRICS
from bertnli.training.ownership import (
    BEST,
    CURVE,
    DIVERGED,
    LAST,
    LOCK,
    STATE,
    check_run_folder,
    others_in_state,
)
from bertnli.training.settings import check_settings
from bertnli.training.state import (
    TrainingState,
    load_state,
    remove_states,
    save_state,
    state_from_bytes,
    state_to_bytes,
    states,
)

#: Interval between states within an epoch; number of states kept.
SAVE_EVERY, KEEP = timedelta(minutes=10), 2
WEIGHTS = "weights/"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a run shall stop, and by which signal it was asked to.

    A signal may reach one process of several, so they vote, and stop after the same step.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether it shall stop, as was found when the votes were last counted."""
        return self._signal is not None

    def set(self, signum: int) -> None:
        """Ask for it."""
        self._asked = signum

    def votes(self) -> NDArray[np.float32]:
        """Return this process's votes, (2,), to be summed: stop by Ctrl-C, stop by SIGTERM."""
        return np.array([self._asked == s for s in _SIGNALS], np.float32)

    def count(self, votes: NDArray) -> bool:
        """Take the sum of all votes, and return whether to stop."""
        for signum, vote in zip(_SIGNALS, votes, strict=True):
            if vote:
                self._signal = signum
        return self.requested

    def leave(self) -> None:
        """Raise what stands for the signal: KeyboardInterrupt, or SystemExit with the status 0."""
        raise SystemExit(0) if self._signal == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the step under way.

    A step that is broken off would leave some tensors updated and others not. A second Ctrl-C
    interrupts at once; a second SIGTERM may be the same one, passed on by a launcher. Outside the
    main thread no handler can be set, and none is.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {s: signal.getsignal(s) for s in _SIGNALS}

    def restore() -> None:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

    def request(signum: int, frame: Any) -> None:
        stop.set(signum)
        if signum == signal.SIGINT:
            signal.signal(signum, previous[signal.SIGINT])

    for signum in previous:
        signal.signal(signum, request)
    try:
        yield stop
    finally:
        restore()


class RunFolder:
    """The files of a run, where the user wants any; of several processes, the first has them.

    The first sends the others what it read, so that hosts need no common file system.

    Args:
        path: of the folder; None for no files.
        engine: whose net and optimizer are saved.
        settings: what a run that goes on must have the same.
        overwrite, resume, save_every, keep: see `Trainer.fit`.

    Raises:
        ConfigError: the folder cannot be used, or holds a run and nobody said what to do with it;
            settings that cannot be.
    """

    def __init__(
        self,
        path: str | Path | None,
        engine: BaseEngine,
        settings: dict[str, Any],
        overwrite: bool = False,
        resume: bool = False,
        save_every: int | timedelta = SAVE_EVERY,
        keep: int = KEEP,
    ) -> None:
        self.engine, self.settings, self.resume = engine, settings, resume
        self.workers = engine.workers
        self.save_every, self.keep = save_every, keep
        self._last_save: tuple[int, float] = (0, 0.0)
        if keep < 1:
            raise ConfigError(f"keep is {keep}; a run that can go on keeps one state at least")
        if (save_every if isinstance(save_every, int) else save_every.total_seconds()) <= 0:
            raise ConfigError(f"save_every is {save_every}; it is a number of steps, or a time")
        if path is None and resume:
            raise ConfigError("resume needs the run's folder, output=...")
        self.path: Path | None = None
        self.home = None if path is None else Path(path)
        self._lock: BaseFileLock | None = None
        if path is not None:
            engine.net.required_vocab()  # a run that cannot be saved is refused before it trains
            self.workers.on_rank0(lambda: check_run_folder(Path(path), overwrite, resume))
            self.path = Path(path) if self.workers.is_first else None

    def __enter__(self) -> RunFolder:
        """Keep other runs out of the folder, until the context ends or the process does.

        Raises:
            ConfigError: another run is in it, or it cannot be written.
        """
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
            lock = FileLock(self.path / LOCK)
            lock.acquire(timeout=0)
            self._lock = lock
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
        """Make the folder ready, and return where the run stands; net and optimizer are put there.

        Raises:
            ConfigError: the folder cannot be written, or holds a run with other settings.
            CheckpointError: the run's states are damaged.
        """
        state = self.workers.on_rank0(self._opened, state_to_bytes, state_from_bytes)
        self._last_save = (0, time.monotonic())
        if state is None:
            return TrainingState(self.settings)
        check_settings(self.settings, state.settings)
        differ = differences(state.environment, environment(self.engine))
        if differ and self.workers.is_first:
            tqdm.write(f"note: {describe_differences(differ)}", file=sys.stderr)
        weights = {
            name.removeprefix(WEIGHTS): array
            for name, array in state.arrays.items()
            if name.startswith(WEIGHTS)
        }
        self.engine.net.load_arrays(weights, "the run's state")
        self.engine.load_optimizer_arrays(state.arrays)
        self.engine.weight_average.load_arrays(state.arrays)
        state.arrays = {}
        self._last_save = (state.step, time.monotonic())
        if state.history.epochs and not state.progress.steps:
            self._save_after_state(state)
        else:
            self._write_metrics(state)
        return state

    def _opened(self) -> TrainingState | None:
        """Make the folder ready, and return where its run stands; None to begin."""
        if self.path is None:
            return None
        try:
            for folder in (self.path, self.path / STATE):
                clear_leftovers(folder, any_machine=True)  # all who write here take our lock
            state = load_state(self.path / STATE) if self.resume else None
            if state is None:
                remove_states(self.path / STATE)
                for name in (BEST, LAST):
                    if is_checkpoint(self.path / name):
                        remove_checkpoint(self.path / name)
                left = others_in_state(self.path)
                if left:
                    names = ", ".join(map(str, left))
                    tqdm.write(f"note: {names}: not of a run, and left as it is", file=sys.stderr)
                self._write_metrics(TrainingState(self.settings))
        except OSError as error:
            raise ConfigError(f"the output folder {self.path} cannot be used: {error}") from error
        return state

    def is_due(self, step: int) -> bool:
        """Return whether a state is to be saved after so many steps of the run."""
        if self.path is None:
            return False
        if isinstance(self.save_every, int):
            return step - self._last_save[0] >= self.save_every
        return time.monotonic() - self._last_save[1] >= self.save_every.total_seconds()

    def save_state(self, state: TrainingState) -> None:
        """Write where the run stands."""
        if self.path is None:
            return
        self._write_state(self.path, state)
        self._last_save = (state.step, time.monotonic())

    def _write_state(self, path: Path, state: TrainingState) -> None:
        weights = {WEIGHTS + name: a for name, a in self.engine.net.arrays().items()}
        average = self.engine.weight_average.arrays()
        arrays = {**weights, **self.engine.optimizer_arrays(), **average}
        state.environment = environment(self.engine)
        save_state(path / STATE, replace(state, arrays=arrays), self.keep)

    def save_for_all(self, state: TrainingState) -> str:
        """Write where the run stands, also in the first process's stead where that is silent.

        Another process writes into a folder only where it finds it locked, as the first one's is:
        on another host, a folder of the same name is another one.

        Returns:
            What there is to go on from, in words.
        """
        if self.home is None or not self._is_seen(self.home):
            return self.remains()
        kept = states(self.home / STATE)
        if not kept or int(kept[0].name[5:]) != state.step:
            self._write_state(self.home, state)
        return (
            f"step {state.step} was saved in {self.home / STATE}; the same command with --resume "
            "goes on from there"
        )

    def remains(self) -> str:
        """Say what there is to go on from, without anything being saved now."""
        if self.home is None:
            return "nothing was saved, for the run has no folder"
        folder = self.home / STATE
        if not self._is_seen(self.home):
            return (
                f"nothing was saved, for {self.home} is not held by the first process here; the "
                "same command with --resume goes on from the last state in it"
            )
        kept = states(folder)
        if not kept:
            return (
                f"no state is in {folder} yet; the same command with --resume starts the run again"
            )
        return (
            f"the last state in {folder} is that of step {int(kept[0].name[5:])}; the same command "
            "with --resume goes on from there"
        )

    def _is_seen(self, path: Path) -> bool:
        """Return whether this process sees the run's folder: it is the first, which locked it, or
        finds it locked. On another host, a folder of the same name is another one."""
        if self.workers.is_first:
            return True
        if not (path / LOCK).exists():
            return False
        try:
            with FileLock(path / LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except (NotImplementedError, OSError):  # a file system without locks, or one that fails
            return False

    def save_last(self) -> None:
        """Write the weights as they are, or their average."""
        self._save_net(LAST)

    def _save_net(self, name: str) -> None:
        if self.path is not None:
            with self.engine.weight_average.in_place():
                self.engine.net.save(self.path / name)

    def save_epoch(self, state: TrainingState) -> None:
        """Write all that there is after an epoch.

        The order matters to a run that is killed on the way: what the state says to be done is done
        before, or is done again from the state.
        """
        if self.path is None:
            return
        history = state.history
        if history.best is history.epochs[-1]:
            self._save_net(BEST)
        self.save_state(state)
        self._save_after_state(state)

    def _save_after_state(self, state: TrainingState) -> None:
        """Write what an epoch's state stands for: a run that was killed here does it again."""
        if self.path is None:
            return
        history = state.history
        self.save_last()
        self._write_metrics(state)
        try:
            with replaced_file(self.path / CURVE) as new:
                history.plot(new)
        except BackendError as error:
            if len(history.epochs) == 1:
                tqdm.write(f"no {CURVE}: {error}", file=sys.stderr)

    def check_loss(self, loss: float, batch: Batch, state: TrainingState) -> None:
        """Stop a run whose loss is not a number any more; its batch is kept, to be looked at.

        Raises:
            TrainingError: it is not.
        """
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

    def _write_metrics(self, state: TrainingState) -> None:
        """Write all lines anew, and put them in the place of the old ones at once."""
        if self.path is None:
            return
        with replaced_file(self.path / METRICS) as new:
            new.write_text(state.history.to_lines(), encoding="utf-8")
