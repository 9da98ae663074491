"""Ranks that are silent: what the others say of them, without a framework."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import processes
import pytest

from bertnli.errors import ConfigError, RankError
from bertnli.training import watch as watching
from bertnli.training.heartbeat import LOOPBACK, Hub, Line, Row, Standing
from bertnli.training.watch import NOBODY, Watch, awaited, checked, notice_after

IN_7 = Standing(7, "taking step 3", True)
COMPUTES = Standing(7, "taking step 3", True, True)
READS = Standing(6, "reading the batch of step 3")
IN_8 = Standing(8, "taking step 4", True)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([Row(0, IN_7, 0, 40), Row(1, READS, 40, 40)], {1: "has been silent since"}),
        ([Row(0, IN_7, 0, 40), Row(1, READS, 0, 40)], {1: "has been reading the batch of step 3"}),
        ([Row(0, COMPUTES, 0, 40), Row(1, READS, 0, 40)], {1: "has been reading"}),
        ([Row(0, IN_7, 0, 40), Row(1, IN_7, 0, 40)], {NOBODY: "while all were taking step 3"}),
        ([Row(0, IN_7, 0, 5), Row(1, IN_7, 5, 5, 5)], {1: "is gone since"}),
        # One waits for another, which the first of them is not told.
        (
            [Row(0, IN_8, 0, 40), Row(1, IN_7, 0, 40), Row(2, READS, 40, 40)],
            {2: ""},
        ),
        (
            [Row(0, IN_8, 0, 40), Row(1, IN_7, 0, 40), Row(2, READS, 0, 40)],
            {2: ""},
        ),
        # A step that takes long in all, and one in which nobody waits for long.
        ([Row(0, COMPUTES, 0, 400), Row(1, COMPUTES, 0, 400)], {}),
        ([Row(0, IN_7, 0, 5), Row(1, READS, 0, 400)], {}),
        ([Row(0, IN_7, 0, 400), Row(1, READS, 0, 5)], {}),
        # Nothing is wrong with the others while this rank does not wait.
        ([Row(0, READS, 0, 400), Row(1, READS, 400, 400)], {}),
        ([Row(0, READS, 0, 400), Row(1, IN_7, 400, 400, 400)], {}),
    ],
)
def test_who_is_waited_for(rows: list[Row], expected: dict[int, str]) -> None:
    found = awaited(0, rows, 30)
    assert found.keys() == expected.keys()
    assert all(words in found[rank] for rank, words in expected.items())


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub(LOOPBACK, "secret")
    found.note(0, IN_7)
    yield found
    found.close()


def until(condition: Any) -> None:
    end = time.monotonic() + processes.LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ranks_tell_each_other_where_they_stand(hub: Hub) -> None:
    lines = [Line(rank, LOOPBACK, hub.port, "secret") for rank in (1, 2)]
    assert lines[0].rows() == []
    until(lambda: [line.exchange(READS, 0.05) for line in lines] and len(hub.rows()) == 3)
    until(lambda: lines[0].exchange(READS, 0.05) or len(lines[0].rows()) == 3)
    assert [row.standing for row in lines[0].rows()] == [IN_7, READS, READS]
    lines[1].close()
    until(lambda: hub.rows()[2].gone >= 0)
    until(lambda: lines[1].exchange(IN_7, 0.05) or hub.rows()[2].gone < 0)  # it comes again
    hub.ended = True
    until(lambda: lines[0].exchange(READS, 0.05) or lines[0].ended)


def test_a_first_rank_that_is_gone(hub: Hub) -> None:
    line = Line(1, LOOPBACK, hub.port, "secret")
    until(lambda: line.exchange(READS, 0.05) or line.rows())
    hub.close()
    until(lambda: line.exchange(READS, 0.05) or line.rows()[0].gone >= 0)
    assert [row.rank for row in line.rows()] == [0]


def test_who_does_not_know_the_word_is_not_heard(hub: Hub) -> None:
    line = Line(1, LOOPBACK, hub.port, "guess")
    for _ in range(5):
        line.exchange(READS, 0.05)
    assert [row.rank for row in hub.rows()] == [0] and line.rows() == []


def test_a_rank_timeout_that_is_too_short() -> None:
    assert notice_after(checked(timedelta(minutes=10))) == 30
    assert notice_after(checked(timedelta(seconds=10))) == 5
    with pytest.raises(ConfigError, match="rank_timeout is 1 s; give 5 s or more"):
        checked(timedelta(seconds=1))


def test_the_state_does_not_change_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that saves ends the process; the main thread waits for that."""
    ended, left = threading.Event(), threading.Event()
    monkeypatch.setattr(watching, "_leave", ended.set)
    watch = Watch(0, 2)
    watch._running = True
    gate = threading.Event()

    def save() -> str:
        gate.wait(processes.LIMIT)
        return "saved"

    watch.rest(save)
    watch._standing = IN_7
    monkeypatch.setattr(watch, "_rows", lambda: [Row(0, IN_7, 0, 900), Row(1, READS, 900, 900)])
    monkeypatch.setattr(watching, "BEAT", 0.0)
    ending = threading.Thread(target=watch._judge, args=[watch._rows()])
    ending.start()
    until(watch._gate.locked)
    main = threading.Thread(target=lambda: (watch.go_on(), left.set()))
    main.start()
    assert not left.wait(0.2)
    gate.set()
    assert ended.wait(processes.LIMIT)
    ending.join(processes.LIMIT)
    main.join(processes.LIMIT)


@pytest.mark.parametrize(
    ("rank", "rows", "ends", "saves"),
    [
        (0, [Row(0, IN_7, 0, 700), Row(1, IN_7, 0, 700), Row(2, READS, 700, 700)], True, True),
        (1, [Row(0, IN_7, 0, 700), Row(1, IN_7, 0, 700), Row(2, READS, 700, 700)], False, False),
        (1, [Row(0, IN_7, 0, 950), Row(1, IN_7, 0, 950), Row(2, READS, 950, 950)], True, False),
        (1, [Row(0, IN_7, 0, 9), Row(1, IN_7, 0, 9), Row(2, READS, 9, 9, 9)], False, False),
        # While the first is silent, nothing is known of the others.
        (1, [Row(0, READS, 700, 700), Row(1, IN_7, 0, 700)], True, True),
        (2, [Row(0, READS, 700, 700), Row(2, IN_7, 0, 700)], False, False),
        (2, [Row(0, READS, 950, 950), Row(2, IN_7, 0, 950)], True, False),
        # A first rank that lives, and hangs.
        (1, [Row(0, READS, 0, 700), Row(1, IN_7, 0, 700), Row(2, IN_7, 0, 700)], True, True),
        (2, [Row(0, READS, 0, 700), Row(1, IN_7, 0, 700), Row(2, IN_7, 0, 700)], False, False),
        (0, [Row(0, IN_7, 0, 700), Row(1, IN_7, 0, 700)], True, True),
        (1, [Row(0, IN_7, 0, 700), Row(1, IN_7, 0, 700)], False, False),
    ],
)
def test_one_saves_and_the_others_wait_for_it(
    rank: int, rows: list[Row], ends: bool, saves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    watch = Watch(rank, 3)
    monkeypatch.setattr(watch, "_end", lambda found, saves: ended.append(saves))
    watch._judge(rows)
    assert ended == [saves] * ends


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_the_framework_saves(rank: int, capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(rank, 2)
    with (
        pytest.raises(RankError, match=r"closed; .*--resume goes on from the last state"),
        watch.saving(lambda: "nothing"),
    ):
        watch.rest(lambda: "step 3 was saved")
        raise RankError("connection closed")
    assert ("note: step 3 was saved" in capsys.readouterr().err) == (rank == 0)
