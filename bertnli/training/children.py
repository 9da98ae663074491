"""The processes that a launcher starts, and whether they live."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

from bertnli.training.heartbeat import PIPE
from bertnli.training.watch import notice_after

_PR_SET_PDEATHSIG = 1


class Child:
    """A process that was started, with a name to speak of it by."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        variables: dict[str, str],
        handles: Sequence[int] = (),
    ) -> None:
        self.name = name
        # In a session of its own: Ctrl-C reaches it through us, and not twice.
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            start_new_session=True,
            pass_fds=handles,
            preexec_fn=partial(_die_with, os.getpid()) if sys.platform == "linux" else None,
        )

    @property
    def status(self) -> int | None:
        """The exit status; the negative number of the signal that ended it; None if it runs."""
        return self.process.poll()

    def end(self) -> str:
        """Return how it ended, in words."""
        status = self.status
        if status is not None and status < 0:
            return f"{self.name} was ended by {signal.Signals(-status).name}"
        return f"{self.name} ended with the status {status}"


class Server(Child):
    """A server or the scheduler, which write signs of life to a pipe."""

    def __init__(self, name: str, command: Sequence[str], variables: dict[str, str]) -> None:
        self._pipe, other = os.pipe()
        os.set_blocking(self._pipe, False)
        super().__init__(name, command, {**variables, PIPE: str(other)}, (other,))
        os.close(other)
        self._heard = time.monotonic()
        self._said: float | None = None

    def silent(self) -> float:
        """Return for how many seconds nothing was heard of it."""
        with suppress(BlockingIOError):
            if os.read(self._pipe, 1 << 16):
                self._heard = time.monotonic()
        return time.monotonic() - self._heard

    def tell(self, rank_timeout: timedelta) -> bool:
        """Say once that it is silent, and that it is no more; return whether it is so too long."""
        if self.status is not None:  # it ends when the workers say so
            return False
        silent, limit = self.silent(), rank_timeout.total_seconds()
        if self._said is None and silent >= notice_after(rank_timeout):
            self._said = self._heard
            print(
                f"note: {self.name} has been silent for {silent:.0f} s, and the workers need it. "
                f"After {limit:g} s (--rank-timeout) they are stopped",
                file=sys.stderr,
                flush=True,
            )
        elif self._said is not None and self._heard > self._said:
            seconds = self._heard - self._said
            self._said = None
            print(
                f"note: {self.name} answers again, after {seconds:.0f} s; the run goes on",
                file=sys.stderr,
                flush=True,
            )
        return silent >= limit

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._pipe)


def _die_with(parent: int) -> None:
    """In a new process: have the system end it when the launcher is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before
        os._exit(1)
