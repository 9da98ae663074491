"""Bytes and text of a source: unpacked and decoded, with bounds on lines and on unpacking."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bertnli._util.files import open_regular
from bertnli.errors import ConfigError, DataError

#: Maximum number of characters of a line, and of a field.
MAX_LINE = 1 << 22
#: A packed file may unpack to MAX_UNPACKED + MAX_RATIO * its size.
MAX_UNPACKED, MAX_RATIO = 1 << 24, 64
#: Nor may its first MAX_SHORT lines have fewer than SHORT bytes on average.
MAX_SHORT, SHORT = 1 << 18, 16
#: Bytes of a file by which its format and encoding are determined.
HEAD = 1 << 20
STDIN = "-"
#: Byte order marks, the longer first.
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
#: Encodings that charset_normalizer chooses from, and those that are always proposed: nearly any
#: bytes can be decoded by one of them.
_LIKELY = [
    *("utf_8", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r"),
    *("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"),
]
_EUROPE = ["cp1252", "cp1250", "iso8859_2", "cp1254", "mac_roman"]


def _zstd(file: Any) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError('zstd is unpacked by pyarrow: pip install "bertnli[fast]"') from None
    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))


#: The first bytes of packed files, and what unpacks them.
PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


@dataclass
class Stream:
    """An open source of bytes: its name for messages, its first bytes, and the file to read."""

    name: str
    head: bytes
    file: BinaryIO


class _Rejoined(io.RawIOBase):
    """A binary file that first yields ``head``, bytes that were already read, then the rest.

    If the content is unpacked, ``packed`` is the compressed file: when the unpacked bytes are far
    more than those read from it, as in a decompression bomb, DataError is raised.
    """

    def __init__(self, name: str, head: bytes, file: Any, packed: Any) -> None:
        super().__init__()
        self.name, self.head, self.file, self.packed = name, head, file, packed
        self.size = self.lines = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.head[: len(buffer)] or self.file.read1(len(buffer))
        self.head = self.head[len(data) :]
        buffer[: len(data)] = data
        self.size += len(data)
        if self.packed is not None and self.packed.seekable():
            packed, self.lines = self.packed.tell(), self.lines + data.count(b"\n")
            are_short = self.lines > MAX_SHORT and self.size < SHORT * self.lines
            if are_short or self.size > MAX_UNPACKED + MAX_RATIO * packed:
                raise DataError(
                    f"{self.name}: its first {packed:,} bytes unpack to {self.size:,} in "
                    f"{self.lines:,} lines, which is not text. If it is right, unpack it first"
                )
        return len(data)


def is_pipe(path: str | Path) -> bool:
    """Check whether this is ``"-"`` for standard input, or a shell's ``/dev/fd/N``."""
    return str(path) == STDIN or str(path).startswith(("/dev/stdin", "/dev/fd/"))


def stream_name(path: str | Path) -> str:
    """Return the name of a file or pipe for messages."""
    return "standard input" if str(path) == STDIN else str(path)


@contextmanager
def open_bytes(path: str | Path) -> Iterator[Stream]:
    """Open a file or a pipe (see `is_pipe`), and unpack it if it is packed."""
    name, is_file = stream_name(path), not is_pipe(path)
    with ExitStack() as stack:
        if str(path) == STDIN:
            file: Any = sys.stdin.buffer
        elif is_file:
            file = stack.enter_context(open_regular(path, DataError))
        else:
            file = stack.enter_context(open(path, "rb"))
        try:
            start = file.peek(8)
            unpack = next((PACKED[magic] for magic in PACKED if start.startswith(magic)), None)
            unpacked = file
            if unpack is not None:
                unpacked = io.BufferedReader(stack.enter_context(unpack(file)))
            head = unpacked.read(HEAD) if is_file else _first_line(unpacked)
            if is_file and unpack is None:
                file.seek(0)
            else:
                packed = None if unpack is None else file
                unpacked = io.BufferedReader(_Rejoined(name, head, unpacked, packed))
            yield Stream(name, head, unpacked)
        # pyarrow's errors are among these types.
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{name}: cannot be read: {error}") from error


def _first_line(file: Any) -> bytes:
    """Read up to a line feed: a pipe's writer may wait for the answer to a line."""
    head = b""
    while b"\n" not in head and len(head) < HEAD and (data := file.read1(1 << 16)):
        head += data
    return head


def lines_of(file: io.TextIOBase, name: str) -> Iterator[str]:
    """Yield the lines of a text; DataError if one is too long. ``name`` begins the message."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise DataError(
                f"{name}, line {number}: it has more than {MAX_LINE:,} characters; a line is "
                "expected to hold a pair of sentences"
            )
        yield line


def encoding_of(head: bytes, given: str | None) -> tuple[str, int]:
    """Determine the encoding of a text, and the length of its byte order mark.

    The encoding is ``given`` or, if that is None, the one of the byte order mark or UTF-8.
    """
    try:
        name = "utf-8" if given is None else codecs.lookup(given).name
        b"".decode(name)  # refuses codecs that are not of text
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"encoding is {given!r}: {error}; it is a name that Python knows, such as utf-8, "
            "utf-16, cp1252 or latin-1 (--encoding)"
        ) from None
    for mark, marked in BOMS.items():
        if head.startswith(mark):
            same = given is None or name in (marked, marked[:6], "utf-8-sig")
            return (marked, len(mark)) if same else (name, 0)
    return name, 0


@contextmanager
def as_text(stream: Stream, encoding: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Open a stream as text, whose lines end at line feeds only; ``encoding``: see `read`."""
    name, mark = encoding_of(stream.head, encoding)
    stream.file.read(mark)
    if encoding is None and not mark and _utf_16(stream.head):  # which may be valid UTF-8
        raise DataError(f"{stream.name}: not UTF-8 text. {_proposal(name, stream.head, b'')}")
    try:
        yield io.TextIOWrapper(stream.file, encoding=name, newline="\n")
    except UnicodeError as error:
        bad = error.object if isinstance(error, UnicodeDecodeError) else b""
        raise DataError(
            f"{stream.name}: not {'UTF-8' if name == 'utf-8' else name} text: {error!s:.200}. "
            + _proposal(name, stream.head, bad)
        ) from error


def _proposal(name: str, head: bytes, undecodable: bytes) -> str:
    """Suggest encodings for a text that cannot be decoded, each with a decoded sample."""
    from charset_normalizer import from_bytes

    sample = b"\n".join((head[: 1 << 16], undecodable[: 1 << 16]))
    letters = sum(byte > 127 for byte in sample)
    if utf_16 := _utf_16(head):
        sample, likely = head[: len(head) & ~1][: 1 << 16], [utf_16]
    elif name == "utf-8" and 2 * sample.decode(errors="replace").count("\ufffd") < letters:
        return "Only single characters are damaged. Mend these, or convert the file"
    else:
        best = from_bytes(sample, cp_isolation=_LIKELY).best()
        # A few letters among many of ASCII are most likely European.
        likely = [] if best is None or 8 * letters < len(sample) else [best.encoding]
        likely += [] if {*likely} & {*_LIKELY[-5:]} else _EUROPE
    readings: dict[str, str] = {}
    for encoding in likely:
        with suppress(UnicodeError):
            lines = sample.decode(encoding).split("\n")
            line = max(lines, key=lambda line: sum(not char.isascii() for char in line[:40]))
            readings.setdefault(line.strip()[:40], f"encoding={encoding!r} (--encoding {encoding})")
    if not readings:
        return "Convert it to UTF-8"
    return "Perhaps it is in another encoding; give the one that reads well: " + ", or ".join(
        f"{option}, as which it has {line!r}" for line, option in readings.items()
    )


def _utf_16(head: bytes) -> str | None:
    """Return the name of the UTF-16 encoding of a text without a byte order mark, or None.

    ASCII characters, such as tabs and line feeds, have one zero byte each, always on the same side.
    """
    zeros = head[1::2].count(0), head[::2].count(0)
    if min(zeros) > max(zeros) / 3 or max(zeros) <= 0.1 * len(head):
        return None
    return "utf-16-le" if zeros[0] > zeros[1] else "utf-16-be"
