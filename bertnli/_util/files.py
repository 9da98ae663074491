"""Read untrusted files: regular files only, of a bounded size."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from bertnli._util.hints import near_path
from bertnli.errors import BERTNLIError, ConfigError

#: Largest sizes in bytes: of a file of settings, of a vocabulary, of any other file.
MAX_SETTINGS, MAX_VOCAB, MAX_BYTES = 1 << 22, 12 << 20, 1 << 40
COPY_ANEW = "Copy it anew from where it came from"
#: Lists and objects of a JSON file, and its commas: they bound the memory that parsing takes.
MAX_CONTAINERS, MAX_COMMAS = 1 << 17, 1 << 20
#: In a file larger than the first number, at least one byte of the second must be data, not a hole.
MIN_SPARSE, MAX_HOLES = 1 << 26, 16
#: How the small file begins that git-lfs leaves in a clone for a file that was not fetched.
_POINTER, _POINTER_SIZE = b"version https://git-lfs.github.com/spec/", 1 << 10


def open_regular(
    path: str | Path, error: type[BERTNLIError], max_bytes: int = MAX_BYTES
) -> BinaryIO:
    """Open a regular file of bounded size, to read its bytes.

    Args:
        path: of the file; a pipe or a device is refused, and not waited for.
        error: what to raise where it cannot be read.
        max_bytes: the largest size.
    """
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the path
        why = getattr(reason, "strerror", None) or reason
        raise error(f"{path}: cannot be read: {why}{near_path(path)}") from reason
    info = os.fstat(file.fileno())
    problem = ""
    if not stat.S_ISREG(info.st_mode):
        problem = "cannot be read: it is a pipe or a device, and a regular file is expected"
    elif info.st_size > max_bytes:
        problem = f"it has {info.st_size:,} bytes; at most {max_bytes:,} are read"
    elif info.st_size > MIN_SPARSE and _is_sparse(file.fileno(), info.st_size):
        problem = f"nearly all of its {info.st_size:,} bytes are holes, without data. {COPY_ANEW}"
    elif info.st_size < _POINTER_SIZE:
        if file.read(len(_POINTER)) == _POINTER:
            problem = (
                "a pointer of git-lfs, and not the file itself; `git lfs pull` in its folder "
                "fetches that"
            )
        file.seek(0)
    if problem:
        file.close()
        raise error(f"{path}: {problem}")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_sparse(handle: int, size: int) -> bool:
    """Return whether nearly all of a file is holes; False where the system cannot tell."""
    place = data = 0
    with suppress(AttributeError, OSError):  # OSError: no more data
        while place < size and data * MAX_HOLES < size:
            start = os.lseek(handle, place, os.SEEK_DATA)
            place = os.lseek(handle, start, os.SEEK_HOLE)
            data += place - start
    os.lseek(handle, 0, os.SEEK_SET)
    return hasattr(os, "SEEK_DATA") and data * MAX_HOLES < size


def read_text(path: str | Path, error: type[BERTNLIError], max_bytes: int) -> str:
    """Return the text of a regular file, UTF-8 with any kind of line ends; see `open_regular`."""
    try:
        with open_regular(path, error, max_bytes) as file:
            data = file.read(max_bytes + 1)  # files of /proc have a size of 0
        text = data.decode()
    except OSError as reason:
        if isinstance(reason, BERTNLIError):
            raise
        raise error(f"{path}: cannot be read: {reason}") from reason
    except UnicodeDecodeError as reason:
        raise error(f"{path}: not UTF-8: {reason}") from reason
    if len(data) > max_bytes:
        raise error(f"{path}: it has more than {max_bytes:,} bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_SETTINGS,
    max_commas: int = MAX_COMMAS,
) -> Any:
    """Return the value in a JSON file.

    Args:
        path: of the file.
        error: what to raise where it cannot be read, or is not JSON.
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
        value = json.loads(text)
        if "\\ud" in text.lower():  # lone surrogates, perhaps, which cannot be written again
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as reason:  # RecursionError: thousands of brackets
        message = f"not a JSON file: {reason}"
        if isinstance(reason, json.JSONDecodeError) and (
            reason.pos >= len(text.rstrip()) or reason.msg.startswith("Unterminated")
        ):
            message = f"its JSON is cut off: {reason}. {COPY_ANEW}"
        raise error(f"{path}: {message}") from reason
    return value


def read_json_object(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_SETTINGS,
    max_commas: int = MAX_COMMAS,
) -> dict[str, Any]:
    """Return the JSON object of a file; see `read_json`."""
    value = read_json(path, error, max_bytes, max_commas)
    if not isinstance(value, dict):
        raise error(f"{path}: an object is expected, not a {type(value).__name__}")
    return value


def as_path(path: str | Path) -> Path:
    """Return a path that a user gave; ConfigError if it is neither a string nor a Path."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"a path is expected, a string or a Path, and not {path!r:.80}")
    return Path(path)


def expanded(path: str | Path, error: type[BERTNLIError]) -> Path:
    """Return a path with its ``~`` replaced; raise the error if there is no such user."""
    try:
        return as_path(path).expanduser()
    except RuntimeError as reason:
        raise error(f"{path}: {reason}") from reason


def is_there(path: Path) -> bool:
    """Return whether a path names anything, perhaps a link that leads nowhere."""
    return os.path.lexists(path)


def is_plain_file(path: Path) -> bool:
    """Return whether a path is a regular file, and not a symbolic link to one."""
    return path.is_file() and not path.is_symlink()


def has_mark(path: Path, mark: str) -> bool:
    """Return whether a path is a plain file with a mark, of what wrote it, in its first 4 KiB."""
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        return mark.encode() in file.read(1 << 12)


def digest_of(path: Path, algorithm: str) -> str:
    """Return the hash of a file, in hexadecimal."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
