"""SIGINT and SIGTERM as requests to stop after the step under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a run has to stop, and which signal asked for it.

    A signal may reach only one of several processes. So they vote, and all stop after the same
    step.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._agreed: int | None = None

    @property
    def requested(self) -> bool:
        """Whether to stop, as of the last count of votes."""
        return self._agreed is not None

    def set(self, signum: int) -> None:
        """Ask for a stop."""
        self._received = signum

    def votes(self) -> NDArray[np.float32]:
        """Return this process's votes, (2,), to be summed: stop by SIGINT, stop by SIGTERM."""
        return np.array([self._received == signum for signum in SIGNALS], np.float32)

    def count(self, votes: NDArray) -> bool:
        """Take the sum of all processes' votes, and return whether to stop."""
        for signum, vote in zip(SIGNALS, votes, strict=True):
            if vote:
                self._agreed = signum
        return self.requested

    def leave(self) -> None:
        """Raise KeyboardInterrupt after SIGINT, SystemExit with the status 0 after SIGTERM."""
        raise SystemExit(0) if self._agreed == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop after the step under way.

    Interrupting a step would leave some tensors updated and others not. A second SIGINT interrupts
    at once; a second SIGTERM may be the first one, passed on by a launcher. Python allows handlers
    only in the main thread; elsewhere none is set.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signum: int, frame: Any) -> None:
        stop.set(signum)
        if signum == signal.SIGINT:
            signal.signal(signum, previous[signal.SIGINT])

    previous = {signum: signal.signal(signum, request) for signum in SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
