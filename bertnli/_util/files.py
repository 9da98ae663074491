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

#: Largest sizes in bytes: of a settings file, of a vocabulary, of any other file.
MAX_SETTINGS, MAX_VOCAB, MAX_BYTES = 1 << 22, 12 << 20, 1 << 40
COPY_ANEW = "Copy it anew from where it came from"
#: Most lists and objects, and most commas, of a JSON file; they bound the memory of parsing.
MAX_CONTAINERS, MAX_COMMAS = 1 << 17, 1 << 20
#: A file above ``MIN_SPARSE`` bytes is refused if it has ``MAX_HOLES`` times as many bytes as data.
MIN_SPARSE, MAX_HOLES = 1 << 26, 16
#: First bytes and largest size of a pointer, which git-lfs leaves for a file that was not fetched.
_POINTER, _POINTER_SIZE = b"version https://git-lfs.github.com/spec/", 1 << 10


def open_regular(
    path: str | Path, error: type[BERTNLIError], max_bytes: int = MAX_BYTES
) -> BinaryIO:
    """Open a regular file of bounded size for reading bytes.

    Args:
        path: the file's path; a pipe or a device is refused at once.
        error: the exception to raise if the file cannot be read.
        max_bytes: the largest accepted size.
    """
    # Without O_NONBLOCK, opening a pipe waits until another process writes to it.
    flag = getattr(os, "O_NONBLOCK", 0)
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | flag))  # noqa: SIM115
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


def _is_sparse(handle: int, size: int) -> bool:
    """Return whether nearly all bytes of an open file are holes; False if that is unknown."""
    place = data = 0
    with suppress(AttributeError, OSError):  # OSError: no more data
        while place < size and data * MAX_HOLES < size:
            start = os.lseek(handle, place, os.SEEK_DATA)
            place = os.lseek(handle, start, os.SEEK_HOLE)
            data += place - start
    os.lseek(handle, 0, os.SEEK_SET)
    return hasattr(os, "SEEK_DATA") and data * MAX_HOLES < size


def read_text(path: str | Path, error: type[BERTNLIError], max_bytes: int) -> str:
    """Read a UTF-8 file and make all line ends ``\\n``; see `open_regular` for the arguments."""
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


def has_too_many_values(
    text: str, max_values: int = MAX_COMMAS, max_containers: int = MAX_CONTAINERS
) -> bool:
    """Return whether parsing a JSON text could take too much memory, by its brackets and commas."""
    return text.count("[") + text.count("{") > max_containers or text.count(",") > max_values


def read_json(
    path: str | Path,
    error: type[BERTNLIError],
    max_bytes: int = MAX_SETTINGS,
    max_values: int = MAX_COMMAS,
) -> Any:
    """Parse a JSON file of at most ``max_values`` values; see `open_regular` for the others."""
    text = read_text(path, error, max_bytes)
    if has_too_many_values(text, max_values):
        raise error(
            f"{path}: it has more than {MAX_CONTAINERS:,} lists and objects, or more than "
            f"{max_values:,} values"
        )
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # perhaps lone surrogates, which cannot be encoded as UTF-8
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as reason:  # RecursionError: thousands of brackets
        message = f"not a JSON file: {reason}"
        if isinstance(reason, json.JSONDecodeError) and (
            reason.pos >= len(text.rstrip()) or reason.msg.startswith("Unterminated")
        ):
            message = f"its JSON is cut off: {reason}. {COPY_ANEW}"
        raise error(f"{path}: {message}") from reason
    return value


def read_json_object(path: str | Path, error: type[BERTNLIError], *limits: int) -> dict[str, Any]:
    """Parse a JSON file that must hold an object; see `read_json` for the arguments."""
    value = read_json(path, error, *limits)
    if not isinstance(value, dict):
        raise error(f"{path}: an object is expected, not a {type(value).__name__}")
    return value


def as_path(path: str | Path) -> Path:
    """Convert an argument to a Path; raise ConfigError if it is neither a string nor a Path."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"a path is expected, a string or a Path, and not {path!r:.80}")
    return Path(path)


def expanded(path: str | Path, error: type[BERTNLIError]) -> Path:
    """Replace ``~`` or ``~user`` in a path; raise an ``error`` if there is no such user."""
    try:
        return as_path(path).expanduser()
    except RuntimeError as reason:
        raise error(f"{path}: {reason}") from reason


def is_there(path: Path) -> bool:
    """Return whether a path exists; a symbolic link exists even if its target does not."""
    return os.path.lexists(path)


def is_plain_file(path: Path) -> bool:
    """Return whether a path is a regular file and not a symbolic link."""
    return path.is_file() and not path.is_symlink()


def has_mark(path: Path, mark: str) -> bool:
    """Return whether a plain file has the string ``mark`` in its first 4 KiB."""
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        return mark.encode() in file.read(1 << 12)


def digest_of(path: Path, algorithm: str) -> str:
    """Return a file's hash in hexadecimal, by an algorithm of hashlib such as ``"sha256"``."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
