"""Text for a terminal, without commands to it.

Labels, names of files and columns, and messages about them come from files of other people. A
terminal obeys the escape codes in them: it moves the cursor, hides a line, changes its title.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

#: Control characters but for tab and newline, those that turn the direction of writing, and halves
#: of surrogate pairs, which names of files that are not UTF-8 have.
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Printable:
    r"""A stream that writes control characters as Python does: an escape becomes ``\x1b``."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") else ""  # a progress bar writes its line again
        rest = text.removeprefix(start)
        self._stream.write(
            start + UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), rest)
        )
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Write printable text alone to standard output and standard error inside the context."""
    out: Any = _Printable(sys.stdout)
    err: Any = _Printable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield
