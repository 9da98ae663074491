"""Temporary folders beside what is being written, and the removal of those that a kill left.

    .NAME.0123456789abcdef.tmp/   beside NAME
      lock                        locked by its process, until that ends in whatever way
      bertnli.json                its target, and the machine it was made on
      new  old                    what is written; what had the name NAME before

A folder is removed if no process holds its lock. Locks of a network file system may not reach other
machines, so a folder that was made on another machine is left alone.
"""

from __future__ import annotations

import json
import platform
import re
import secrets
import shutil
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


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Make a temporary folder beside a target, and remove it at the end.

    Folders that killed processes left beside the target are removed first.

    Args:
        target: what `NEW`, a file or a folder in the temporary folder, is going to be named.

    Raises:
        OSError: the folder cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(target.parent)
    home = hidden(target, f".{secrets.token_hex(8)}.tmp")
    home.mkdir(0o700)
    lock = _acquire(home)
    # The mark follows the lock: a folder with a mark whose lock is free has no process.
    mark = {"format": _FORMAT, "target": target.name, "host": platform.node()}
    (home / _MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
    try:
        yield home
    finally:
        _remove(home, lock)


def clear_leftovers(folder: Path, any_machine: bool = False) -> None:
    """Remove the temporary folders in a folder that no live process owns.

    What such a folder has moved aside gets its name back if nothing has taken its place.

    Args:
        folder: to look in; it need not exist.
        any_machine: also remove those made on other machines: the caller holds a lock that
            everybody who writes in the folder takes.
    """
    try:
        homes = [path for path in folder.iterdir() if is_temporary(path)]
    except OSError:
        return
    for home in homes:
        with suppress(OSError, Timeout):  # Timeout: its process is alive
            _clear(home, any_machine)


def is_temporary(path: Path) -> bool:
    """Return whether a path is a temporary folder that bertnli made."""
    return _NAME.fullmatch(path.name) is not None and _read_mark(path) is not None


def _clear(home: Path, any_machine: bool) -> None:
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
    """Return the mark of a folder; None if it is not a temporary folder of bertnli."""
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
    """Return the lock of a temporary folder, held; None where the file system has no locks.

    Raises:
        Timeout: another process holds it.
    """
    lock = FileLock(home / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise
    except (OSError, NotImplementedError):
        return None
    return lock


def _remove(home: Path, lock: BaseFileLock | None) -> None:
    """Remove a temporary folder; the mark goes last, so that a kill on the way leaves it ours."""
    with suppress(OSError):
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_MARK, _LOCK):
                path.unlink()
    if lock is not None:
        lock.release()
    shutil.rmtree(home, ignore_errors=True)
