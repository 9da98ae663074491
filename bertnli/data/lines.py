"""The bytes of a corpus, plain or gzipped, with bounds on its lines and on what it unpacks to."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bertnli.errors import DataError
from bertnli.files import open_regular

#: Bytes of a line, and characters of a field: far more than sentences have.
MAX_LINE = 1 << 22
#: A gzipped file may unpack to so many bytes, and so many more for each of its own.
MAX_UNPACKED, MAX_RATIO = 1 << 24, 64
#: More lines of a gzipped file than this must have so many bytes each, on the average.
MAX_SHORT, SHORT = 1 << 18, 16
#: Bytes read at a time; fewer than a line may have.
PIECE = 1 << 16


class BoundedLines(io.RawIOBase):
    """A stream to read from another, which ends with an error where the other goes out of bounds.

    Args:
        source: has ``read1``.
        name: of the file, for messages.
        packed: the compressed file that the source unpacks; None for none.

    Raises:
        DataError: while reading.
    """

    def __init__(self, source: Any, name: str | Path, packed: BinaryIO | None = None) -> None:
        super().__init__()
        self.source, self.name, self.packed = source, name, packed
        self.size = self.lines = self.since_line_end = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what the source has now, as far as it fits.

        Raises:
            DataError: a line is too long, or far more is unpacked than text would be.
        """
        most = min(len(buffer), PIECE)
        data = self.source.read1(most)
        # A mark of the byte order is looked for in what comes first.
        while not self.size and 0 < len(data) < min(3, most) and b"\n" not in data:
            more = self.source.read1(most - len(data))
            if not more:
                break
            data += more
        buffer[: len(data)] = data
        self._check_line(data)
        self.size += len(data)
        if self.packed is not None:
            self._check_unpacked(self.packed.tell())
        return len(data)

    def _check_line(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if self.since_line_end + (data.find(b"\n") if end else len(data)) > MAX_LINE:
            raise DataError(
                f"{self.name}, line {self.lines + 1}: it has more than {MAX_LINE:,} bytes; a line "
                "is expected to hold a pair of sentences"
            )
        self.since_line_end = len(data) - end if end else self.since_line_end + len(data)
        self.lines += data.count(b"\n")

    def _check_unpacked(self, packed: int) -> None:
        if self.size > MAX_UNPACKED + MAX_RATIO * packed or (
            self.lines > MAX_SHORT and self.size < SHORT * self.lines
        ):
            raise DataError(
                f"{self.name}: its first {packed:,} bytes unpack to {self.size:,} in "
                f"{self.lines:,} lines, as no text does. If it is right, unpack it and give that "
                "file"
            )


@contextmanager
def open_binary(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read bytes: what was compressed, where its name says that it is gzipped.

    Raises:
        DataError: it cannot be read or is no regular file; or, while it is read, see
            `BoundedLines`.
    """
    with open_regular(path, DataError) as file:
        if path.suffix.lower() == ".gz":
            with gzip.open(file, "rb") as unpacked:
                yield io.BufferedReader(BoundedLines(unpacked, path, file), PIECE)
        else:
            yield io.BufferedReader(BoundedLines(file, path), PIECE)
