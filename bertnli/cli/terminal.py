"""What a terminal is sent: text, and no commands.

Labels, names of files and columns, and messages about them come from files that somebody else made.
A terminal obeys the escape codes in them: it moves the cursor, hides a line, changes its title.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

#: Control characters but for tab and newline, those that turn the direction of writing, and halves
#: of surrogate pairs, which names of files that are no UTF-8 have.
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text with its control characters written as in Python: an escape becomes ``\x1b``."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Printable:
    """A stream that writes printable text."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        start = text[:1] if text[:1] == "\r" else ""  # a progress bar writes its line again
        self._stream.write(start + printable(text[len(start) :]))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Send standard output and standard error printable text alone while the context lasts.

    One filter for all commands, for dozens of places print what comes from files.
    """
    out: Any = _Printable(sys.stdout)
    err: Any = _Printable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield
