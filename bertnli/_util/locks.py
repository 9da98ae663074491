"""One process at a time at a file or folder that several may want to write."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bertnli.errors import DownloadError

#: Seconds after which a message says why nothing happens, and after which waiting ends.
SAY_AFTER, GIVE_UP_AFTER = 1.0, 5 * 3600.0


def hidden(target: Path, suffix: str) -> Path:
    """Return a hidden name beside a file, the same each time, and not longer than names may be."""
    name = target.name
    if len(name.encode(errors="replace")) > 200:
        name = hashlib.sha1(name.encode(errors="replace")).hexdigest()
    return target.with_name(f".{name}{suffix}")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of a path; its folder is made if it is not there.

    The lock is the operating system's, on a file beside the target that stays there. It ends with
    the process that holds it, however that ends.

    Raises:
        DownloadError: another process has kept the lock for `GIVE_UP_AFTER` seconds.
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(hidden(target, ".lock"))
    try:
        lock.acquire(timeout=min(SAY_AFTER, GIVE_UP_AFTER))
    except Timeout:
        print(f"waiting for another process, which is making {target}", file=sys.stderr)
        try:
            lock.acquire(timeout=max(0.0, GIVE_UP_AFTER - SAY_AFTER))
        except Timeout:
            raise DownloadError(
                f"another process has been making {target} for {GIVE_UP_AFTER:.0f} seconds; end "
                "it, or choose another folder"
            ) from None
    except NotImplementedError as error:
        raise OSError(f"the file system has no locks: {error}") from error
    try:
        yield
    finally:
        lock.release()
