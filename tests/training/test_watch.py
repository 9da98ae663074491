"""A process that waits too long for the others saves and ends; without a framework."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import processes
import pytest

from bertnli.errors import ConfigError, RankError
from bertnli.training import watch as watching
from bertnli.training.watch import STATUS, Watch, checked
from bertnli.training.workers import Workers

#: Of the watches here; a tick is a hundredth of a second.
TIMEOUT = timedelta(seconds=0.1)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses that the process would have ended with; the watch's thread ends instead."""
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        threading.Event().wait()

    monkeypatch.setattr(watching, "TICK", 0.01)
    monkeypatch.setattr(watching.os, "_exit", leave)
    return statuses


@pytest.fixture
def lifeline() -> Iterator[tuple[int, Callable[[], None]]]:
    """A pipe's end to watch, and what closes the other end."""
    end, other = os.pipe()
    yield end, lambda: os.close(other)
    os.close(end)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + processes.LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_exchange(watch: Watch, leaves: threading.Event) -> threading.Thread:
    """Start a thread that is inside an exchange until an event."""

    def exchange() -> None:
        with watch.exchange():
            leaves.wait(processes.LIMIT)

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("save", [lambda: "step 7 was saved", lambda: 1 / 0])
def test_an_exchange_that_takes_too_long(
    exits: list[int], capsys: pytest.CaptureFixture[str], save: Callable[[], str]
) -> None:
    """It saves if it can. The main thread cannot change the state while it is being written."""
    watch, leaves = Watch(TIMEOUT), threading.Event()
    watch.save = save
    thread = in_exchange(watch, leaves)
    until(lambda: exits)
    leaves.set()
    thread.join(0.1)
    assert exits == [STATUS] and thread.is_alive()
    text = capsys.readouterr().err
    assert "no answer from the other processes for 0.1 s (--rank-timeout)" in text
    assert "step 7 was saved" in text or "could not be saved: division by zero" in text


def test_short_exchanges_and_long_work(exits: list[int]) -> None:
    watch, end = Watch(TIMEOUT), time.monotonic() + 0.5
    while time.monotonic() < end:
        with watch.exchange():
            time.sleep(0.02)
    time.sleep(0.3)
    assert exits == []


def test_a_closed_lifeline(
    exits: list[int],
    lifeline: tuple[int, Callable[[], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The process ends when it next waits for the others: until then, its state may be half new."""
    end, close = lifeline
    watch = Watch(timedelta(hours=1), end)
    leaves = threading.Event()
    leaves.set()
    in_exchange(watch, leaves).join()
    close()
    time.sleep(0.2)
    assert exits == []
    in_exchange(watch, threading.Event())
    until(lambda: exits)
    assert exits == [STATUS]
    assert "another process of the run is gone. nothing was saved yet" in capsys.readouterr().err


def test_a_rank_timeout_that_is_too_short() -> None:
    with pytest.raises(ConfigError, match="rank_timeout is 1 s; give 5 s or more"):
        checked(timedelta(seconds=1))


def test_an_error_of_the_framework_saves() -> None:
    with (
        pytest.raises(RankError, match=r"closed\. step 3 was saved"),
        Workers().saving(lambda: "step 3 was saved"),
    ):
        raise RankError("connection closed")
