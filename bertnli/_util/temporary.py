"""Temporary folders beside what is being written, and the removal of those that a kill left.

    .NAME.0123456789abcdef.tmp/   beside NAME
      bertnli.json                what it is for, and on which machine it was made
      lock                        locked by its process, until that ends in whatever way
      new  old                    what is written; what had the name NAME before

Such a folder is recognised by its name and by its content, and is removed where no process holds
its lock. The lock is the operating system's: a process identifier would mean another process after
a restart. Locks of a network file system may not reach other machines, so a folder that was made on
another machine is left alone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from bertnli._util.files import is_plain_file, read_json_object
from bertnli._util.locks import hidden
from bertnli.errors import BERTNLIError

NEW, OLD = "new", "old"
_MARK, _LOCK = "bertnli.json", "lock"
_FORMAT = "bertnli temporary folder"
_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
#: A number that Linux draws at each start of a machine; its containers share it.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_MARK = 1 << 12
_ATTEMPTS = 10


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
    home, lock = _new_home(target)
    try:
        yield home
    finally:
        _remove(home, lock)


def clear_leftovers(folder: Path, any_machine: bool = False) -> None:
    """Remove the temporary folders in a folder that no live process owns.

    What such a folder has moved aside gets its name back where nothing has taken its place.

    Args:
        folder: to look in; it need not exist.
        any_machine: also remove those made on other machines: the caller holds a lock that
            everybody who writes in the folder takes.
    """
    for home in _temporary_folders(folder):
        mark = _read_mark(home)
        if mark is None and not _is_unfinished(home):
            continue
        try:
            lock = _locked(home)
        except Timeout:
            continue  # its process is at work
        if mark is None:
            if lock is not None:
                _remove_empty(home, lock)  # a process that is making it makes another
            continue
        old, target = home / OLD, folder / mark["target"]
        if os.path.lexists(old) and not os.path.lexists(target):
            with suppress(OSError):
                old.rename(target)
        own = _machine()
        near = any_machine or any(mark.get(key) == value for key, value in own.items() if value)
        if lock is not None and near:
            _remove(home, lock)
        elif lock is not None:
            lock.release()


def _new_home(target: Path) -> tuple[Path, BaseFileLock | None]:
    """Make a temporary folder with its lock, which is held, and its mark."""
    mark = {"format": _FORMAT, "target": target.name, **_machine()}
    for attempt in range(_ATTEMPTS):
        home = hidden(target, f".{secrets.token_hex(8)}.tmp")
        home.mkdir(0o700)
        try:
            # The lock first: where there is a mark, a lock that can be had is one of no process.
            lock = _locked(home)
            (home / _MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
            return home, lock
        except (Timeout, FileNotFoundError):  # another process took it for one that was left
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def is_temporary(path: Path) -> bool:
    """Return whether a path is a temporary folder that bertnli made."""
    return _NAME.fullmatch(path.name) is not None and _read_mark(path) is not None


def _temporary_folders(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if _NAME.fullmatch(name)]


def _names(folder: Path) -> list[str]:
    """Return the names in a folder; none where it cannot be read, or another process removed it."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_mark(home: Path) -> dict[str, str] | None:
    """Return what a folder says of itself; None if it is not a temporary folder of bertnli."""
    mark, lock = home / _MARK, home / _LOCK
    try:
        if home.is_symlink() or not all(map(_is_known, _names(home))):
            return None
        if not (is_plain_file(mark) and is_plain_file(lock)):
            return None
        if mark.stat().st_size > _MAX_MARK:
            return None
        found = read_json_object(mark, BERTNLIError)
    except (OSError, BERTNLIError):
        return None
    token = home.name[-len(".0123456789abcdef.tmp") :]
    target = found.get("target")
    if found.get("format") != _FORMAT or not isinstance(target, str) or "\0" in target:
        return None
    same = Path(target).name == target and hidden(home.with_name(target), token) == home
    return found if same else None


def _is_unfinished(home: Path) -> bool:
    """Return whether a folder has the name of a temporary one, and nothing in it, as at its birth.

    Files of its lock and its mark may be there, and are empty.
    """
    try:
        return (
            home.is_dir()
            and not home.is_symlink()
            and all(
                name in (_MARK, _LOCK)
                and is_plain_file(home / name)
                and (home / name).stat().st_size == 0
                for name in _names(home)
            )
        )
    except OSError:
        return False


def _is_known(name: str) -> bool:
    """Return whether a temporary folder may hold this name, that of a nested one among them."""
    return name in (_MARK, _LOCK, NEW, OLD) or _is_nested(name)


def _is_nested(name: str) -> bool:
    return name.startswith(f".{NEW}.") and _NAME.fullmatch(name) is not None


def _locked(home: Path) -> BaseFileLock | None:
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
    content = [home / NEW, home / OLD, *(home / name for name in _names(home) if _is_nested(name))]
    for path in content:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if not any(os.path.lexists(path) for path in content):
        _remove_empty(home, lock)
    elif lock is not None:
        lock.release()


def _remove_empty(home: Path, lock: BaseFileLock | None) -> None:
    """Remove a temporary folder that has no more than its mark and its lock."""
    with suppress(OSError):
        (home / _MARK).unlink(missing_ok=True)
        (home / _LOCK).unlink(missing_ok=True)  # before it is released: nobody takes it then
    if lock is not None:
        lock.release()
    with suppress(OSError):
        (home / _LOCK).unlink(missing_ok=True)  # where open files cannot be removed
        home.rmdir()


def _machine() -> dict[str, str]:
    """Return what a machine is told by: its name, and a number of its present start."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        boot = ""
    return {"host": platform.node(), "boot": boot}
