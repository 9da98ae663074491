"""The bytes and the text of a corpus: unpacked, decoded, with bounds on lines and on unpacking."""

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
from pathlib import Path
from typing import Any, BinaryIO

from bertnli._util.files import open_regular
from bertnli.errors import ConfigError, DataError

#: Bytes of a line, and characters of a field: far more than sentences have.
MAX_LINE = 1 << 22
#: A packed file may unpack to so many bytes, and so many more for each of its own.
MAX_UNPACKED, MAX_RATIO = 1 << 24, 64
#: More lines of a packed file than this must have so many bytes each, on the average.
MAX_SHORT, SHORT = 1 << 18, 16
#: Bytes read at a time, fewer than a line may have; bytes by which a format is known.
PIECE, HEAD = 1 << 16, 1 << 20
#: What reads from a shell's pipe.
STDIN = "-"
#: Marks of byte order, the longer first, and the encoding that each means.
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _zstd(file: Any) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError('zstd is unpacked by pyarrow: pip install "bertnli[fast]"') from None
    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))


#: How a packed file begins, and what unpacks it.
PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


class BoundedLines(io.RawIOBase):
    """A stream to read from another, which ends with an error where the other goes out of bounds.

    Args:
        source: has ``read1``.
        name: of the file, for messages.
        packed: the compressed file that the source unpacks; None for none.
        is_file: the whole head is waited for; of a pipe, its first line.

    Attributes:
        head: what it begins with, which is read all the same.
        bounded: whether lines are; not those of a document or of columns.

    Raises:
        DataError: while reading.
    """

    def __init__(
        self, source: Any, name: str | Path, packed: BinaryIO | None = None, is_file: bool = False
    ) -> None:
        super().__init__()
        self.source, self.name, self.packed = source, name, packed
        self.bounded = True
        self.size = self.lines = self.since_line_end = 0
        self.head = self.pending = b""
        while len(self.head) < HEAD and (is_file or b"\n" not in self.head):
            data = source.read1(min(PIECE, HEAD - len(self.head)))
            if not data:
                break
            self.head += data
            self.size += len(data)
            self._check_unpacked()
        self.pending, self.size = self.head, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what the source has now, as far as it fits.

        Raises:
            DataError: a line is too long, or far more is unpacked than text would be.
        """
        most = min(len(buffer), PIECE)
        data = self.pending[:most] or self.source.read1(most)
        self.pending = self.pending[most:]
        buffer[: len(data)] = data
        self._check_line(data)
        self.size += len(data)
        self._check_unpacked()
        return len(data)

    def _check_line(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if self.bounded and (
            self.since_line_end + (data.find(b"\n") if end else len(data)) > MAX_LINE
        ):
            raise DataError(
                f"{self.name}, line {self.lines + 1}: it has more than {MAX_LINE:,} bytes; a line "
                "is expected to hold a pair of sentences"
            )
        self.since_line_end = len(data) - end if end else self.since_line_end + len(data)
        self.lines += data.count(b"\n")

    def _check_unpacked(self) -> None:
        if self.packed is None or not self.packed.seekable():
            return
        packed = self.packed.tell()
        if self.size > MAX_UNPACKED + MAX_RATIO * packed or (
            self.lines > MAX_SHORT and self.size < SHORT * self.lines
        ):
            raise DataError(
                f"{self.name}: its first {packed:,} bytes unpack to {self.size:,} in "
                f"{self.lines:,} lines, as no text does. If it is right, unpack it and give that "
                "file"
            )


@contextmanager
def open_bytes(path: str | Path) -> Iterator[BoundedLines]:
    """Open a file, ``"-"`` or what a shell has opened, unpacked if it begins as packed files do.

    Raises:
        DataError: it cannot be read, is no regular file, or is damaged; or, while it is read, see
            `BoundedLines`.
    """
    with ExitStack() as stack:
        is_file = False
        if str(path) == STDIN:
            file: Any = sys.stdin.buffer
        elif str(path) == "/dev/stdin" or str(path).startswith("/dev/fd/"):
            file = stack.enter_context(open(path, "rb"))
        else:
            file, is_file = stack.enter_context(open_regular(path, DataError)), True
        name = "standard input" if str(path) == STDIN else path
        try:
            start = file.peek(8)
            unpack = next((PACKED[magic] for magic in PACKED if start.startswith(magic)), None)
            if unpack is None:
                yield BoundedLines(file, name, None, is_file)
            else:
                unpacked = io.BufferedReader(stack.enter_context(unpack(file)))
                yield BoundedLines(unpacked, name, file, is_file)
        # pyarrow's errors are of these types.
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{name}: cannot be read: {error}") from error


def encoding_of(head: bytes, given: str | None) -> tuple[str, int]:
    """Return the encoding of a text, UTF-8 if nothing tells, and the bytes of its mark.

    Raises:
        ConfigError: there is no such encoding.
    """
    if given is not None:
        try:
            if not codecs.lookup(given)._is_text_encoding:
                raise LookupError(f"{given} is none of text")
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"encoding is {given!r}: {error}; it is a name that Python knows, such as utf-8, "
                "utf-16, cp1252 or latin-1 (--encoding)"
            ) from None
    for mark, name in BOMS:
        if head.startswith(mark):
            same = given is None or codecs.lookup(given).name in (name, name[:6], "utf-8-sig")
            return (name, len(mark)) if same else (str(given), 0)
    return given or "utf-8", 0


@contextmanager
def as_text(stream: BoundedLines, encoding: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Give a stream as text, lines ending at a line feed alone.

    Other characters that Unicode takes for line ends may stand inside a sentence.

    Raises:
        ConfigError: there is no such encoding.
        DataError: the text is in another, and which; or it cannot be read.
    """
    name, mark = encoding_of(stream.head, encoding)
    raw = io.BufferedReader(stream, PIECE)
    raw.read(mark)
    if encoding is None and not mark and _utf_16(stream.head) and _is_control(stream.head):
        raise DataError(f"{stream.name}: not UTF-8 text. {_about_encoding(name, stream.head)}")
    try:
        yield io.TextIOWrapper(raw, encoding=name, newline="\n")
    except UnicodeError as error:
        sample = error.object if isinstance(error, UnicodeDecodeError) else stream.head
        raise DataError(
            f"{stream.name}: not {'UTF-8' if name == 'utf-8' else name} text: {error!s:.200}. "
            + _about_encoding(name, stream.head, sample)
        ) from error


def _about_encoding(name: str, *samples: bytes) -> str:
    """Return what to do about a text in another encoding than was thought."""
    from charset_normalizer import from_bytes

    sample = b"\n".join(piece[: 1 << 16] for piece in samples)
    likely = [one] if (one := _utf_16(samples[0])) else []
    if not likely and not sum(byte < 9 or 13 < byte < 32 for byte in sample[:4096]):
        letters = sum(byte > 127 for byte in sample)
        if name == "utf-8" and 2 * sample.decode(errors="replace").count("\ufffd") < letters:
            return "Most of it is, so single characters are damaged. Mend these, or convert it"
        best = from_bytes(sample, cp_isolation=_LIKELY).best()
        # For a few letters among many of ASCII an alphabet of Europe's is by far the likeliest.
        likely = [] if best is None or 8 * letters < len(sample) else [best.encoding]
        likely += [] if {*likely} & {*_LIKELY[-5:]} else _EUROPE
    readings = dict[str, str]()
    for one in likely:
        with suppress(UnicodeError):
            # The head of UTF-16 alone, as pieces may begin within a character.
            lines = (samples[0][: 1 << 16] if one[:3] == "utf" else sample).decode(one).split("\n")
            odd = max(lines, key=lambda line: sum(not char.isascii() for char in line[:40]))
            readings.setdefault(odd.strip()[:40], f"encoding={one!r} (--encoding {one})")
    if not readings:
        return "Convert it to UTF-8"
    return "Perhaps it is in another encoding; say the one that reads well: " + ", or ".join(
        f"{option}, as which it has {line!r}" for line, option in readings.items()
    )


def _is_control(head: bytes) -> bool:
    """Return whether more than a third of the bytes are no characters of text.

    UTF-16 of Latin or Cyrillic letters is UTF-8 too, of which every other character is such a one.
    """
    return 3 * len(head.translate(None, CONTROLS)) < 2 * len(head)


def _utf_16(head: bytes) -> str | None:
    """Return which UTF-16 a text without a mark is in, if it has letters or signs of ASCII."""
    # Of UTF-16 less than two thirds of the bytes are those of signs of ASCII: half, in Latin text.
    if b"\0" not in head or 3 * sum(31 < byte < 127 for byte in head) > 2 * len(head):
        return None
    found = {}
    for name in ("utf-16-le", "utf-16-be"):
        text = head[: min(len(head) & ~1, 1 << 16)].decode(name, "replace")
        found[name] = 0 if "\0" in text else sum(map(str.isascii, text)) / max(1, len(text))
    best = max(found, key=found.__getitem__)
    return best if found[best] > 0.02 else None


CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r")
#: Of encodings that nearly any bytes can be read as, those that files are likely to have.
_LIKELY = [
    *("utf_8", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r"),
    *("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"),
]
_EUROPE = ["cp1252", "cp1250", "iso8859_2", "cp1254", "mac_roman"]
