"""Locks of files and folders that several processes may write."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bertnli.errors import DownloadError

#: Seconds until a message explains the wait, and until an error ends it.
SAY_AFTER, GIVE_UP_AFTER = 1.0, 5 * 3600.0


def hidden(target: Path, suffix: str) -> Path:
    """Return the path ``.NAME`` + ``suffix`` beside a path; a long name is replaced by its hash."""
    name = target.name
    if len(name.encode(errors="replace")) > 200:
        name = hashlib.sha1(name.encode(errors="replace")).hexdigest()
    return target.with_name(f".{name}{suffix}")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Context manager that holds the lock of a path; it creates the path's parent folder if needed.

    The operating system frees the lock when the process ends, also by a kill.

    Raises:
        DownloadError: another process has held the lock for `GIVE_UP_AFTER` seconds.
        OSError: the parent folder cannot be written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(hidden(target, ".lock"))
    try:
        try:
            lock.acquire(timeout=SAY_AFTER)
        except Timeout:
            print(f"waiting for another process, which is making {target}", file=sys.stderr)
            lock.acquire(timeout=GIVE_UP_AFTER)
    except Timeout:
        raise DownloadError(
            f"another process has been making {target} for {GIVE_UP_AFTER:.0f} seconds; end it, or "
            "choose another folder"
        ) from None
    except NotImplementedError as error:
        raise OSError(f"the file system has no locks: {error}") from error
    try:
        yield
    finally:
        lock.release()
