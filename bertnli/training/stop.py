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
    """A request to stop a run after a step, made by SIGINT or SIGTERM.

    A signal may reach only one of several processes. So they sum their votes, and all stop after
    the same step.
    """

    #: Signal that this process received, and signal by which all processes stop; None before that.
    received: int | None = None
    agreed: int | None = None

    @property
    def requested(self) -> bool:
        """Whether to stop, as of the last count of votes."""
        return self.agreed is not None

    def votes(self) -> NDArray[np.float32]:
        """Return (2,) numbers to be summed: 1 after SIGINT, and 1 after SIGTERM, else 0."""
        return np.array([self.received == signum for signum in SIGNALS], np.float32)

    def count(self, votes: NDArray) -> bool:
        """Decide by the sum (2,) of all processes' votes whether to stop; return the decision."""
        for signum, vote in zip(SIGNALS, votes, strict=True):
            if vote:
                self.agreed = signum
        return self.requested

    def leave(self) -> None:
        """Raise KeyboardInterrupt after SIGINT, SystemExit with the status 0 after SIGTERM."""
        raise SystemExit(0) if self.agreed == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def handled_signals(handler: Any) -> Iterator[None]:
    """Context manager in which a function handles SIGINT and SIGTERM."""
    previous = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, before in previous.items():
            signal.signal(signum, before)


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Context manager that turns the first SIGINT or SIGTERM into a request to stop after the step.

    Interrupting a step would leave some tensors updated and others not. A second SIGINT interrupts
    at once; a second SIGTERM may be the first one, passed on by a launcher. Python allows handlers
    only in the main thread; elsewhere none is set.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    previous = signal.getsignal(signal.SIGINT)

    def request(signum: int, frame: Any) -> None:
        stop.received = signum
        if signum == signal.SIGINT:
            signal.signal(signum, previous)

    with handled_signals(request):
        yield stop
