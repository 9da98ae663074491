"""Progress of long work in a log, where no bar can be drawn: a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

#: Seconds between two lines.
EVERY = 30.0


class LogLines:
    """Prints on standard error how far some work is, a line every `EVERY` seconds.

    Work that takes less than that prints nothing.

    Args:
        what: the beginning of each line.
        unit: what is counted.
        total: how many there are; None if that is not known.
        done: how many were done before the clock started.
        more: how many follow after these, for the time that is left.
        clock: gives seconds.
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
        self._before, self._clock = done, clock
        self._start = clock()
        self._next = self._start + EVERY

    def update(self, done: float, note: str = "") -> None:
        """Print a line if one is due.

        Args:
            done: how many are done by now.
            note: what else to say.
        """
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
    """Return a time as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
