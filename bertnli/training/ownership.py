"""Which files of a folder a run wrote: told by their content, so that nothing else is replaced."""

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
from bertnli.training.state import has_name_of_state, is_state, states

BEST, LAST, CURVE, STATE = "best", "last", "curve.png", "state"
DIVERGED, LOCK = "diverged.npz", ".lock"


def check_run_folder(path: Path, overwrite: bool, resume: bool) -> None:
    """Check that a run may use a folder: what it is going to replace is a run's.

    Args:
        path: of the folder; it need not exist.
        overwrite, resume: what is to be done with a run that is there.

    Raises:
        ConfigError: the folder cannot be written, or holds something else under a name that a run
            writes, or a run and nobody said what to do with it, or none of its states to go on
            from.
    """
    check_output_folder(path, "output")
    if is_checkpoint(path):
        raise ConfigError(f"{path} is a checkpoint, not a run's folder; choose another folder")
    foreign = _foreign(path)
    if foreign:
        raise ConfigError(
            f"{', '.join(map(str, foreign))}: not written by a run of bertnli, or damaged, and "
            "left as it is. A run replaces what is there; choose another folder, or move it "
            "elsewhere"
        )
    kept = [name for name in (BEST, LAST) if is_checkpoint(path / name)]
    can_resume = bool(states(path / STATE))
    if resume and kept and not (path / STATE).is_dir():
        raise ConfigError(
            f"{path} holds checkpoints, but no {STATE}/ to go on from; choose another "
            "folder, or overwrite it"
        )
    if (kept or can_resume or _size(path / METRICS)) and not (overwrite or resume):
        go_on = "to go on with it (--resume) or " if can_resume else ""
        raise ConfigError(
            f"{path} holds an earlier run; ask {go_on}to replace it (--overwrite), or choose "
            "another folder"
        )


def others_in_state(path: Path) -> list[Path]:
    """Return what is in a run's ``state/`` and is neither a state nor a temporary folder of ours.

    Args:
        path: of the run's folder.
    """
    if not (path / STATE).is_dir():
        return []
    return [p for p in sorted((path / STATE).iterdir()) if not (is_state(p) or is_temporary(p))]


def _foreign(path: Path) -> list[Path]:
    """Return what has the name of a file of a run, and is not one."""
    is_own: dict[str, Callable[[Path], bool]] = {
        BEST: is_replaceable,
        LAST: is_replaceable,
        STATE: _is_state_folder,
        METRICS: _is_metrics,
        CURVE: partial(has_mark, mark=CURVE_MARK),
        DIVERGED: _is_diverged,
    }
    there = [name for name in is_own if os.path.lexists(path / name)]
    found = []
    for place in (path / name for name in there if not is_own[name](path / name)):
        found += others_beside(place) or [place]
    lock = path / LOCK
    # Where a file system has no locks, the lock of a run that was killed says whose it was.
    if os.path.lexists(lock) and not (is_plain_file(lock) and (not _size(lock) or there)):
        found.append(lock)
    return found


def _is_state_folder(path: Path) -> bool:
    """Return whether a folder has states, and nothing of their names that is none; or is empty."""
    if path.is_symlink() or not path.is_dir():
        return False
    others = others_in_state(path.parent)
    return not any(map(has_name_of_state, others)) and (not others or bool(states(path)))


def _is_metrics(path: Path) -> bool:
    if not is_plain_file(path):
        return False
    try:
        read_history(path)
    except DataError:
        return False
    return True


def _is_diverged(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return is_plain_file(path) and {"step.npy", "token_ids.npy"} <= {*file.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
