"""Which files of a folder a run wrote, judged by their content: a run replaces nothing else."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bertnli._util.files import has_mark, is_plain_file
from bertnli._util.outputs import check_output_folder
from bertnli._util.temporary import is_temporary
from bertnli.errors import ConfigError, DataError
from bertnli.formats.native import is_checkpoint, is_replaceable, others_beside
from bertnli.training.history import CURVE_MARK, METRICS, read_history
from bertnli.training.state import is_state, states

BEST, LAST, CURVE, STATE = "best", "last", "curve.png", "state"
DIVERGED, LOCK = "diverged.npz", ".lock"


def check_run_folder(path: Path, overwrite: bool, resume: bool) -> None:
    """Check that a run may use a folder, and that whatever it replaces is a run's.

    Args:
        path: the folder, which need not exist.
        overwrite, resume: whether to replace an earlier run in it, or to go on with that run.

    Raises:
        ConfigError: the folder cannot be written, or holds something else under a name that a run
            writes, or a run that is neither to be overwritten nor resumed, or none of its states.
    """
    check_output_folder(path, "output")
    if is_checkpoint(path):
        raise ConfigError(f"{path} is a checkpoint, not a run's folder; choose another folder")
    foreign = _foreign(path)
    if foreign:
        raise ConfigError(
            f"{', '.join(map(str, foreign))}: not written by a run of bertnli, or damaged, and "
            "left as it is. Choose another folder, or move it elsewhere"
        )
    checkpoints = any(is_checkpoint(path / name) for name in (BEST, LAST))
    can_resume = bool(states(path / STATE))
    if resume and checkpoints and not (path / STATE).is_dir():
        raise ConfigError(
            f"{path} holds checkpoints, but no {STATE}/ to go on from; choose another folder, or "
            "overwrite it"
        )
    if (checkpoints or can_resume or _size(path / METRICS)) and not (overwrite or resume):
        go_on = "to go on with it (--resume) or " if can_resume else ""
        raise ConfigError(
            f"{path} holds an earlier run; ask {go_on}to replace it (--overwrite), or choose "
            "another folder"
        )


def _foreign(path: Path) -> list[Path]:
    """List the paths that are named like a run's files but were not written by a run."""
    checks: dict[str, Callable[[Path], bool]] = {
        BEST: is_replaceable,
        LAST: is_replaceable,
        STATE: _is_state_folder,
        METRICS: _is_metrics,
        CURVE: partial(has_mark, mark=CURVE_MARK),
        DIVERGED: _is_diverged,
    }
    present = [name for name in checks if os.path.lexists(path / name)]
    foreign = []
    for name in present:
        if not checks[name](path / name):
            foreign += others_beside(path / name) or [path / name]
    lock = path / LOCK  # empty, or with the process that holds it, where a file system has no locks
    if os.path.lexists(lock) and not (is_plain_file(lock) and (present or not _size(lock))):
        foreign.append(lock)
    return foreign


def _is_state_folder(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    return all(is_state(entry) or is_temporary(entry) for entry in path.iterdir())


def _is_metrics(path: Path) -> bool:
    try:
        read_history(path)
    except DataError:
        return False
    return is_plain_file(path)


def _is_diverged(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return is_plain_file(path) and {"step.npy", "token_ids.npy"} <= {*file.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
