"""Text output: progress lines of long work in a log, times, and tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

#: Seconds between two lines.
EVERY = 30.0


class LogLines:
    """Print the progress of long work on standard error, a line every `EVERY` seconds.

    Args:
        what: the beginning of each line.
        unit: the name of the things that are counted.
        total: the number of things to do, or None if it is unknown.
        done: the number of things that were done before the clock started.
        more: the number of things to do after ``total``, for the estimate of the time left.
        clock: a function that returns seconds.
    """

    def __init__(
        self,
        what: str,
        unit: str = "pairs",
        total: float | None = None,
        *,
        done: float = 0,
        more: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.unit, self.total, self.more = what, unit, total, more
        self._before, self._clock, self._start = done, clock, clock()
        self._next = self._start + EVERY

    def update(self, done: float, note: str = "") -> None:
        """Print the number of things done and a note, if the time for a line has come."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = (done - self._before) / (now - self._start)
        total = "" if self.total is None else f" of {self.total:,.0f}"
        parts = [f"{self.what}: {done:,.0f}{total} {self.unit}", note, f"{rate:,.1f} {self.unit}/s"]
        if self.total is not None and rate > 0:
            parts.append(f"about {duration((self.total - done + self.more) / rate)} left")
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Format a time in hours, minutes or seconds, such as ``"4 min"``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 100 * size / 60:
            return f"{seconds / size:.{int(unit == 'h')}f} {unit}"
    return f"{seconds:.0f} s"


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Format the rows of a table as lines, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [zip(row, widths, strict=True) for row in cells]
    return ["  ".join(f"{cell:<{width}}" for cell, width in row).rstrip() for row in rows]
