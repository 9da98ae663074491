"""Read untrusted files: regular files only, of a bounded size.

What a file declares is bounded in proportion to its bytes: one of a megabyte may not take a
gigabyte, nor a minute.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from bertnli._util.hints import near_path
from bertnli.errors import BERTNLIError, ConfigError

#: Bytes that a file of settings, a vocabulary, or any other file may have.
MAX_SETTINGS, MAX_VOCAB, MAX_BYTES = 1 << 22, 12 << 20, 1 << 40
#: What to do about a file that is damaged.
COPY_ANEW = "Copy it anew from where it came from"
#: Lists and objects of a JSON file, and its commas: what bounds the memory that it takes.
MAX_CONTAINERS, MAX_COMMAS = 1 << 17, 1 << 20
#: Of a file larger than this, one byte of so many must be data, and not a hole.
MIN_SPARSE, MAX_HOLES = 1 << 26, 16
#: The mark of a file stands within so many bytes.
MARK_WITHIN = 1 << 12
#: How git-lfs begins what stands in a clone for a file that was not fetched, which is short.
_POINTER, _POINTER_SIZE = b"version https://git-lfs.github.com/spec/", 1 << 10
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_BYTES,
    *,
    may_point: bool = False,
) -> BinaryIO:
    """Open a regular file of bounded size, to read its bytes.

    A pipe or a device, which may never end, is not waited for.

    Args:
        path: of the file.
        error: what to raise where it cannot be read, or is something else.
        max_bytes: the largest size.
        may_point: take a pointer of git-lfs, too, which stands for a file that was not fetched.
    """
    try:
        file = open(path, "rb", opener=_opener)  # noqa: SIM115
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the path
        why = getattr(reason, "strerror", None) or reason
        raise error(f"{path}: cannot be read: {why}{near_path(path)}") from reason
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            raise error(f"{path}: cannot be read: it is {kind}, and a regular file is expected")
        if found.st_size > max_bytes:
            raise error(f"{path}: it has {found.st_size:,} bytes; at most {max_bytes:,} are read")
        if found.st_size > MIN_SPARSE and _is_sparse(file.fileno(), found.st_size):
            raise error(
                f"{path}: nearly all of its {found.st_size:,} bytes are holes, without data. "
                f"{COPY_ANEW}"
            )
        if not may_point and 0 < found.st_size < _POINTER_SIZE:
            if file.read(len(_POINTER)) == _POINTER:
                raise error(
                    f"{path}: a pointer of git-lfs, and not the file itself; `git lfs pull` in its "
                    "folder fetches that"
                )
            file.seek(0)
        return file
    except BaseException:
        file.close()
        raise


def has_mark(path: Path, mark: str) -> bool:
    """Return whether a path is a plain file that says soon after its begin what wrote it."""
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        return mark.encode() in file.read(MARK_WITHIN)


def is_there(path: Path) -> bool:
    """Return whether a path names something, which may be no file, or a link that leads nowhere."""
    return os.path.lexists(path)


def _opener(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_sparse(handle: int, size: int) -> bool:
    """Return whether nearly all of a file is holes; False where the system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        return False
    place = data = 0
    try:
        while place < size and data * MAX_HOLES < size:
            start = os.lseek(handle, place, os.SEEK_DATA)
            place = os.lseek(handle, start, os.SEEK_HOLE)
            data += place - start
    except OSError as reason:
        if reason.errno != errno.ENXIO:  # no data after this place
            return False
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return data * MAX_HOLES < size


def read_bytes(path: str | Path, error: type[BERTNLIError], max_bytes: int) -> bytes:
    """Return the content of a regular file; see `open_regular`."""
    with open_regular(path, error, max_bytes) as file:
        try:
            data = file.read(max_bytes + 1)  # some files of the system say that they have 0 bytes
        except OSError as reason:
            raise error(f"{path}: cannot be read: {reason}") from reason
    if len(data) > max_bytes:
        raise error(f"{path}: it has more than {max_bytes:,} bytes")
    return data


def read_text(path: str | Path, error: type[BERTNLIError], max_bytes: int) -> str:
    """Return the text of a regular file, UTF-8 with any kind of line ends; see `open_regular`."""
    try:
        text = read_bytes(path, error, max_bytes).decode()
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not UTF-8: {reason}") from reason


def read_json(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_SETTINGS,
    max_commas: int = MAX_COMMAS,
) -> Any:
    """Return what a JSON file holds.

    Args:
        path: of the file.
        error: what to raise where it cannot be read, or is something else.
        max_bytes: the largest size.
        max_commas: the most commas, of which there are nearly as many as values.
    """
    text = read_text(path, error, max_bytes)
    if text.count("[") + text.count("{") > MAX_CONTAINERS or text.count(",") > max_commas:
        raise error(
            f"{path}: it has more than {MAX_CONTAINERS:,} lists and objects, or more than "
            f"{max_commas:,} values"
        )
    try:
        found = json.loads(text)
        if "\\ud" in text.lower():  # half a character, perhaps, which no file could be written of
            json.dumps(found, ensure_ascii=False).encode()
        return found
    # RecursionError: brackets in brackets, some thousand times.
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: {_not_json(text, reason)}") from reason


def as_path(path: str | Path) -> Path:
    """Return a path that a user gave; ConfigError where it is none."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"a path is expected, a string or a Path, and not {path!r:.80}")
    return Path(path)


def expanded(path: str | Path, error: type[BERTNLIError]) -> Path:
    """Return a path with its ``~`` replaced; raise the error where nobody has that name."""
    try:
        return as_path(path).expanduser()
    except RuntimeError as reason:
        raise error(f"{path}: {reason}") from reason


def read_json_object(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_SETTINGS,
    max_commas: int = MAX_COMMAS,
) -> dict[str, Any]:
    """Return the JSON object of a file; see `read_json`."""
    found = read_json(path, error, max_bytes, max_commas)
    if not isinstance(found, dict):
        raise error(f"{path}: an object is expected, not a {type(found).__name__}")
    return found


def _not_json(text: str, reason: ValueError | RecursionError) -> str:
    """Return what is wrong with text that is not JSON; one that only ends too early is cut."""
    # A string that never ends is found at its begin.
    if isinstance(reason, json.JSONDecodeError) and (
        reason.pos >= len(text.rstrip()) or reason.msg.startswith("Unterminated")
    ):
        return f"its JSON is cut off: {reason}. {COPY_ANEW}"
    return f"not a JSON file: {reason}"


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, for ``object_pairs_hook``; ValueError names a key with two values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"two values of one key, {key!r:.60}")
        found[key] = value
    return found


def is_plain_file(path: Path) -> bool:
    """Return whether a path is a regular file, and not a symbolic link to one."""
    return path.is_file() and not path.is_symlink()
