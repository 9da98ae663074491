"""Progress of long work in a log, where no bar can be drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

#: Seconds between two lines.
EVERY = 30.0


class LogLines:
    """Prints on standard error how much of some work is done, a line every `EVERY` seconds.

    Args:
        what: the beginning of each line.
        unit: what is counted.
        total: how many there are; None if that is not known.
        done: how many were done before the clock started.
        more: how many follow after these, for the time that is left.
        clock: returns seconds.
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
        """Print a line if one is due, with a note."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = (done - self._before) / (now - self._start)
        of = "" if self.total is None else f" of {self.total:,.0f}"
        parts = [f"{self.what}: {done:,.0f}{of} {self.unit}", note, f"{rate:,.1f} {self.unit}/s"]
        if self.total is not None and rate > 0:
            parts.append(f"about {duration((self.total - done + self.more) / rate)} left")
        print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are two or more."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 100 * size / 60:
            return f"{seconds / size:.{int(unit == 'h')}f} {unit}"
    return f"{seconds:.0f} s"
