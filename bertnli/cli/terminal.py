"""Escape control characters in the output: labels and names of untrusted files may contain them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

#: Control characters except tab and newline, characters that change the direction of writing, and
#: lone surrogates, which stand for bytes of file names that are not UTF-8.
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Printable:
    r"""A stream that writes control characters as escapes, such as ``\x1b``, to another stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        start = "\r" if text.startswith("\r") else ""  # a progress bar rewrites its line
        rest = text.removeprefix(start)
        escaped = UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), rest)
        self._stream.write(start + escaped)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Context manager that escapes control characters in standard output and standard error."""
    out: Any = _Printable(sys.stdout)
    err: Any = _Printable(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield
