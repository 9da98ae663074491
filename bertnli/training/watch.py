"""Ends a process that waits too long for the other processes of its run.

It is for MXNet, whose store waits for ever, inside C code that nothing can interrupt. PyTorch has
timeouts of its own.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from bertnli.errors import ConfigError

#: How long a process waits for the others, by default and at least.
RANK_TIMEOUT, SHORTEST = timedelta(minutes=10), timedelta(seconds=5)
#: Exit status of a process that ended because of another: a temporary failure (sysexits.h).
STATUS = 75
#: Seconds between two looks at the clock.
TICK = 1.0


def checked(rank_timeout: timedelta) -> timedelta:
    """Return a rank timeout, or raise ConfigError if it is too short."""
    if rank_timeout < SHORTEST:
        raise ConfigError(
            f"rank_timeout is {rank_timeout.total_seconds():g} s; give "
            f"{SHORTEST.total_seconds():g} s or more"
        )
    return rank_timeout


class Watch:
    """A thread that ends this process if an exchange with the others takes too long.

    Args:
        rank_timeout: the longest time that an exchange may take.
        lifeline: file descriptor of a pipe that the launcher closes when a process of the run is
            gone; None without a launcher.

    Attributes:
        save: called before the process ends; saves the state of the run, and returns a sentence
            that says how to go on. It must not exchange anything.
    """

    def __init__(self, rank_timeout: timedelta, lifeline: int | None = None) -> None:
        self.limit, self._lifeline = rank_timeout.total_seconds(), lifeline
        self.save: Callable[[], str] = lambda: "nothing was saved yet"
        self._lock = threading.Lock()
        self._exchanges = 0
        self._waits = False
        threading.Thread(target=self._run, daemon=True, name="bertnli watch").start()

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Context manager around a communication with other processes.

        If it takes longer than ``rank_timeout``, or the lifeline closes, the process saves the
        run's state and ends with the exit status of a lost process.
        """
        with self._lock:
            self._exchanges += 1
            self._waits = True
        try:
            yield
        finally:
            with self._lock:  # held until the process has ended
                self._waits = False

    def _run(self) -> None:
        lifelines = [] if self._lifeline is None else [self._lifeline]
        exchange, seconds = 0, 0.0
        while True:
            lost = bool(select.select(lifelines, [], [], 0)[0])
            time.sleep(TICK)
            # Ticks are counted: the time for which this process itself was stopped does not count.
            seconds = seconds + TICK if self._waits and self._exchanges == exchange else 0.0
            exchange = self._exchanges
            if lost:
                self._end_if_waiting("another process of the run is gone")
            elif seconds > self.limit:
                self._end_if_waiting(
                    f"no answer from the other processes for {self.limit:g} s (--rank-timeout); "
                    "one of them hangs, or its host is gone"
                )

    def _end_if_waiting(self, why: str) -> None:
        with self._lock:
            if not self._waits:
                return
            try:
                try:
                    advice = self.save()
                except Exception as error:
                    advice = f"the state could not be saved: {error}"
                print(f"bertnli: {why}. {advice}", file=sys.stderr, flush=True)
                sys.stdout.flush()
            finally:
                os._exit(STATUS)
