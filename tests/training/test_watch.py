"""A process that waits too long for the others saves and ends; without a framework."""

import os
import threading
import time
from datetime import timedelta

import processes
import pytest

from bertnli.errors import ConfigError, RankError
from bertnli.training import watch as watching
from bertnli.training.watch import STATUS, Watch, checked
from bertnli.training.workers import Workers

TIMEOUT = timedelta(seconds=0.1)


@pytest.fixture
def exits(monkeypatch):
    """The statuses with which the process would have ended; the watch's thread blocks instead."""
    statuses = []

    def leave(status):
        statuses.append(status)
        threading.Event().wait()

    monkeypatch.setattr(watching, "TICK", 0.01)
    monkeypatch.setattr(watching.os, "_exit", leave)
    return statuses


def until(condition):
    deadline = time.monotonic() + processes.LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_exchange(watch, leaves):
    """Start a thread that is inside an exchange until an event is set."""

    def exchange():
        with watch.exchange():
            leaves.wait(processes.LIMIT)

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("save", [lambda: "step 7 was saved", lambda: 1 / 0])
def test_an_exchange_that_takes_too_long(exits, capsys, save):
    """It saves if it can. The main thread cannot leave the exchange while the state is written."""
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


def test_short_exchanges_and_long_work_are_no_failure(exits):
    watch, end = Watch(TIMEOUT), time.monotonic() + 0.5
    while time.monotonic() < end:
        with watch.exchange():
            time.sleep(0.02)
    time.sleep(0.3)
    assert exits == []


def test_the_other_end_of_the_pipe_is_closed(exits, capsys):
    """The process ends at its next exchange: until then, its state may be inconsistent."""
    end, other = os.pipe()
    watch, leaves = Watch(timedelta(hours=1), end), threading.Event()
    leaves.set()
    in_exchange(watch, leaves).join()
    os.close(other)
    time.sleep(0.2)
    assert exits == []
    in_exchange(watch, threading.Event())
    until(lambda: exits)
    assert exits == [STATUS]
    assert "another process of the run is gone. nothing was saved yet" in capsys.readouterr().err
    os.close(end)


def test_a_rank_timeout_has_a_minimum():
    with pytest.raises(ConfigError, match="rank_timeout is 1 s; give 5 s or more"):
        checked(timedelta(seconds=1))


def test_an_error_of_the_framework_saves():
    with (
        pytest.raises(RankError, match=r"closed\. step 3 was saved"),
        Workers().saving(lambda: "step 3 was saved"),
    ):
        raise RankError("connection closed")
