"""Temporary folders for writing files and folders, and removal of those that a kill left behind.

    .NAME.0123456789abcdef.tmp/   a temporary folder for writing NAME, beside it
      lock                        locked until the process that writes ends
      bertnli.json                the mark: NAME, and the machine on which the folder was made
      new  old                    the new content of NAME; its old content

A folder is removed if no process holds its lock. Locks of a network file system may not reach other
machines, so a folder that was made on another machine is kept. A process that is killed as it makes
or removes a folder leaves it without a mark, and without content.
"""

from __future__ import annotations

import json
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from bertnli._util.files import is_there, read_json_object
from bertnli._util.locks import hidden
from bertnli.errors import BERTNLIError

NEW, OLD = "new", "old"
_MARK, _LOCK = "bertnli.json", "lock"
_FORMAT = "bertnli temporary folder"
_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
#: Seconds in which a folder without a mark may belong to a process that is just making it.
_NEW_FOR = 60.0


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Create a temporary folder beside a path, and remove it when the context ends.

    Folders that killed processes left beside the path are removed first.

    Args:
        target: the path to which the caller will rename ``NEW``, a file or folder that it writes
            in the temporary folder.

    Raises:
        OSError: the folder cannot be created.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target.parent)
    home = hidden(target, f".{secrets.token_hex(8)}.tmp")
    home.mkdir(0o700)
    lock = _acquire(home)
    # The mark is written after locking: a folder with a mark and a free lock has no process.
    mark = {"format": _FORMAT, "target": target.name, "host": platform.node()}
    (home / _MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
    try:
        yield home
    finally:
        _remove(home, lock)


def clear_leftovers(folder: Path, any_machine: bool = False) -> None:
    """Remove temporary folders whose process has ended from a folder.

    The ``OLD`` content of a temporary folder is renamed back if its target is missing.

    Args:
        folder: the folder to clean; it need not exist.
        any_machine: also remove folders that were made on other machines, which is safe if the
            caller holds a lock that all writers of the folder take.
    """
    try:
        homes = [path for path in folder.iterdir() if is_temporary(path)]
    except OSError:
        return
    for home in homes:
        with suppress(OSError, Timeout):  # Timeout: its process still runs
            _clear(home, any_machine)


def is_temporary(path: Path) -> bool:
    """Return whether a path is a folder that `temporary_folder` made."""
    if _NAME.fullmatch(path.name) is None or path.is_symlink() or not path.is_dir():
        return False
    return _read_mark(path) is not None or {file.name for file in path.iterdir()} <= {_LOCK, _MARK}


def _clear(home: Path, any_machine: bool) -> None:
    if _read_mark(home) is None and time.time() - home.stat().st_mtime < _NEW_FOR:
        return
    lock = _acquire(home)
    mark = _read_mark(home)  # None: its process has removed it by now
    target = home.with_name(mark["target"]) if mark else home
    if is_there(home / OLD) and not is_there(target):
        (home / OLD).rename(target)
    if lock is None:
        return
    if mark is None or any_machine or mark["host"] == platform.node():
        _remove(home, lock)
    else:
        lock.release()


def _read_mark(home: Path) -> dict[str, str] | None:
    """Read the JSON object in a temporary folder's `_MARK`; None for any other folder."""
    try:
        names = {path.name for path in home.iterdir() if not _NAME.fullmatch(path.name)}
        mark = read_json_object(home / _MARK, BERTNLIError)
    except (OSError, BERTNLIError):
        return None
    if home.is_symlink() or _LOCK not in names or not names <= {_LOCK, _MARK, NEW, OLD}:
        return None
    target = str(mark.get("target"))
    is_ours = mark.get("format") == _FORMAT and target == Path(target).name and "host" in mark
    return mark if is_ours else None


def _acquire(home: Path) -> BaseFileLock | None:
    """Take the lock of a temporary folder; raise Timeout if it is held.

    Return None if the system has no locks.
    """
    lock = FileLock(home / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:  # an OSError
        raise
    except (OSError, NotImplementedError):
        return None
    return lock


def _remove(home: Path, lock: BaseFileLock | None) -> None:
    """Remove a temporary folder, its mark last, so that a kill in between leaves it removable."""
    with suppress(OSError):
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_MARK, _LOCK):
                path.unlink()
    if lock is not None:
        lock.release()
    shutil.rmtree(home, ignore_errors=True)
