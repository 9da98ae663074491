"""A lock beside a file or folder that several processes may want to write."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bertnli.errors import DownloadError

#: Seconds after which a message explains the wait, and after which the wait ends.
SAY_AFTER, GIVE_UP_AFTER = 1.0, 5 * 3600.0


def hidden(target: Path, suffix: str) -> Path:
    """Return a hidden name beside a file, always the same; long names are hashed."""
    name = target.name
    if len(name.encode(errors="replace")) > 200:
        name = hashlib.sha1(name.encode(errors="replace")).hexdigest()
    return target.with_name(f".{name}{suffix}")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of a path, whose folder is made if needed.

    The operating system frees the lock when the process ends, however it ends.

    Raises:
        DownloadError: another process has kept the lock for `GIVE_UP_AFTER` seconds.
        OSError: the folder cannot be written.
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
