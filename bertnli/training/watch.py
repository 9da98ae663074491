"""What a rank does about others that are silent: it says so, and in the end it saves and ends.

A rank that waits for the others is inside the framework, in C; a thread of it looks at where all
ranks stand (`bertnli.training.heartbeat`). After a while it says which of them it waits for. After
the rank timeout it writes the run's state, where this is whole, and ends the process: nothing else
can interrupt the main thread.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from tqdm import tqdm

from bertnli.errors import ConfigError, RankError
from bertnli.training.heartbeat import BEAT, Hub, Line, Row, Standing

#: How long a rank may be silent, or behind, before the others end the run; and before they say so.
RANK_TIMEOUT, NOTICE = timedelta(minutes=10), timedelta(seconds=30)
SHORTEST = timedelta(seconds=5)
#: Exit status of a rank that ended the run because of another: it can be started again (sysexits.h:
#: a temporary failure).
STATUS = 75
#: Stands for no rank, where all wait.
NOBODY = -1
#: Seconds: for the framework to notice by itself that a process is gone, for writing the state, and
#: without a judgement after this process itself was stopped.
LINGER, SAVING, CALM = 2.0, 300.0, 5.0


def checked(rank_timeout: timedelta) -> timedelta:
    """Return a rank timeout, or raise ConfigError where it is too short to judge by."""
    if rank_timeout < SHORTEST:
        raise ConfigError(
            f"rank_timeout is {rank_timeout.total_seconds():g} s; give "
            f"{SHORTEST.total_seconds():g} s or more"
        )
    return rank_timeout


def notice_after(rank_timeout: timedelta) -> float:
    """Return the seconds after which a silent rank is named."""
    return min(NOTICE, rank_timeout / 2).total_seconds()


def awaited(
    own: int, rows: Sequence[Row], seconds: float, linger: float = LINGER
) -> dict[int, str]:
    """Return the ranks that another has waited for, and what each does.

    Args:
        own: the rank that asks.
        rows: what is known of all ranks, itself among them.
        seconds: how long it must have waited.
        linger: how long ago the connection of one that is gone must have ended.

    Returns:
        Rank to words; nothing where this rank does not wait, or not so long. NOBODY stands for
        what is between the ranks: each of them waits for an answer in the same exchange.
    """
    me = next(row for row in rows if row.rank == own)
    if not me.standing.waits:
        return {}
    others = [row for row in rows if row is not me]
    found = {}
    for row in others:
        doing = f"last heard while {row.standing.place}"
        if row.gone >= linger:
            found[row.rank] = f"is gone since {_clock(row.gone)}, {doing}"
        elif row.silent >= seconds:
            found[row.rank] = f"has been silent since {_clock(row.silent)}, {doing}"
    if found:
        return found
    most = max(row.standing.exchanges for row in rows)
    answering = [row for row in rows if row.standing.waits and not row.standing.computes]
    for row in others:
        behind = row.standing.exchanges < most and row not in answering
        if behind and min(row.idle, me.idle) >= seconds:
            found[row.rank] = f"has been {row.standing.place} since {_clock(row.idle)}"
    idle = min(row.idle for row in rows)
    if not found and len(answering) == len(rows) and idle >= seconds:
        found[NOBODY] = f"has not answered since {_clock(idle)}, while all were {me.standing.place}"
    return found


def _name(rank: int) -> str:
    return f"rank {rank}" if rank != NOBODY else "a server or the network between the ranks"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time.time() - seconds))


class Watch:
    """The watch of one rank; of a run of one process, it does nothing.

    Attributes:
        rank_timeout: how long others may be silent, in a run, before this rank ends it.
        remains: says what there is to go on from, where nothing can be saved.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.rank_timeout = rank, size, RANK_TIMEOUT
        self.remains: Callable[[], str] = lambda: "nothing was saved yet"
        self._running = False
        self._standing = Standing()
        self._save: Callable[[], str] | None = None
        self._gate = threading.Lock()
        self._begun = size == 1
        self._over = False
        self._hub: Hub | None = None
        self._line: Line | None = None
        self._said: dict[int, float] = {}
        self._seen = (self._standing, 0.0)

    def begin(self, on_rank0: Callable[..., tuple[int, str]], host: str) -> None:
        """Start to watch, once; all ranks call this at the same place.

        Args:
            on_rank0: `Workers.on_rank0` of the processes.
            host: by which the others reach the first.
        """
        if self._begun:
            return
        self._begun = True  # what follows exchanges

        def open_hub() -> tuple[int, str]:
            token = secrets.token_hex(16)
            try:
                self._hub = Hub(host, token)
            except OSError as error:
                _say(f"the ranks cannot watch each other, for no port can be opened: {error}")
                return 0, token
            self._hub.note(0, self._standing)
            return self._hub.port, token

        port, token = on_rank0(
            open_hub,
            lambda found: f"{found[0]} {found[1]}".encode(),
            lambda data: (int(data.split()[0]), data.split()[1].decode()),
        )
        if not port:
            return
        if self.rank:
            self._line = Line(self.rank, host, port, token)
        threading.Thread(target=self._run, daemon=True, name="bertnli watch").start()

    @property
    def patience(self) -> timedelta:
        """How long others may be silent now. Before a run they may be busy for different times."""
        return self.rank_timeout if self._running else max(self.rank_timeout, RANK_TIMEOUT)

    def at(self, place: str) -> None:
        """Say what this rank does now, in words that follow "while"."""
        self._standing = self._standing._replace(place=place)

    @contextmanager
    def exchange(self, computes: bool = False) -> Iterator[None]:
        """Say that this rank is inside an exchange, where it may wait for the others.

        Args:
            computes: whether it computes there as well.
        """
        number = self._standing.exchanges + 1
        self._standing = Standing(number, self._standing.place, True, computes)
        try:
            yield
        finally:
            self._standing = self._standing._replace(waits=False, computes=False)

    def rest(self, save: Callable[[], str]) -> None:
        """Say that the run's state is whole, and stays as it is until `go_on`.

        Args:
            save: writes it, from another thread, and says in words what can be gone on from.
        """
        self._save = save

    def go_on(self) -> None:
        """Say that the state changes from here on; waits where it is just being written."""
        with self._gate:
            self._save = None

    @contextmanager
    def saving(self, remains: Callable[[], str]) -> Iterator[None]:
        """For the time of a run, know what to go on from, and save where the framework says that
        another rank is lost.

        Args:
            remains: see the attribute.

        Raises:
            RankError: that of the framework; a note has said what was saved.
        """
        before, self.remains, self._running = self.remains, remains, True
        try:
            yield
        except RankError as error:
            with self._gate:
                self._over = True
                if self.rank == 0:
                    _say(self._saved())
            raise RankError(
                f"{error}; the same command with --resume goes on from the last state"
            ) from error
        finally:
            self.remains, self._save, self._running = before, None, False

    def _saved(self) -> str:
        """Write the state where it is whole, and say what there is to go on from."""
        if self._save is None:
            return self.remains()
        try:
            return self._save()
        except Exception as error:
            return f"the state could not be saved ({error}); {self.remains()}"

    def _run(self) -> None:
        last, calm = time.monotonic(), 0.0
        while not self._over:
            if self._line is not None:
                self._line.exchange(self._standing, BEAT)
            else:
                time.sleep(BEAT)
            now = time.monotonic()
            notice = notice_after(self.patience)
            if now - last > min(CALM, notice / 2):  # what came meanwhile is still to be read
                calm = now + CALM
            last = now
            if self._line is not None and self._line.ended:
                _leave()
            rows = self._rows()
            if now >= calm:
                self._tell(rows, awaited(self.rank, rows, notice))
                self._judge(rows)

    def _rows(self) -> list[Row]:
        """Return what is known of all ranks, this one among them."""
        if self._hub is not None:
            self._hub.note(0, self._standing)
            return self._hub.rows()
        assert self._line is not None
        now = time.monotonic()
        if self._seen[0] != self._standing:
            self._seen = (self._standing, now)
        me = Row(self.rank, self._standing, 0.0, now - self._seen[1])
        return [*(row for row in self._line.rows() if row.rank != self.rank), me]

    def _tell(self, rows: Sequence[Row], found: dict[int, str]) -> None:
        """Say which ranks this one waits for, and which came back: each once."""
        waiting = [row.rank for row in rows if row.rank not in found and row.standing.waits]
        for rank in [rank for rank in self._said if rank not in found]:
            seconds = time.monotonic() - self._said.pop(rank)
            _say(f"{_name(rank)} answers again, after {seconds:.0f} s; the run goes on")
        for rank, words in found.items():
            row = next((row for row in rows if row.rank == rank), rows[0])
            if rank in self._said or row.gone >= 0 or min(waiting) != self.rank:
                continue
            since = row.silent if row.silent > 2 * BEAT else row.idle
            self._said[rank] = time.monotonic() - since
            limit = self.patience.total_seconds()
            _say(
                f"{_name(rank)} {words}, and the run waits. After {limit:g} s of that "
                "(--rank-timeout) the others save what can be saved, and end"
            )

    def _judge(self, rows: Sequence[Row]) -> None:
        """End the run if a rank was waited for too long, and it falls to this rank to do so."""
        limit = self.patience.total_seconds()
        found = awaited(self.rank, rows, limit)
        if not found:
            return
        saver = min(row.rank for row in rows if row.rank not in found)
        if 0 in found and len(rows) == 2:  # without the first, nothing is known of the others
            saver = 1
        late = awaited(self.rank, rows, limit + SAVING, LINGER + SAVING)
        if saver == self.rank or late:  # it ends first, and then there is no need to wait
            self._end(found, saver == self.rank)

    def _end(self, found: dict[int, str], saves: bool) -> None:
        """Save, if that falls to this rank, say why, and end the process."""
        with self._gate:  # kept to the end: the main thread does not change the state any more
            if self._over:
                return
            told: list[str] = []
            if saves:
                saver = threading.Thread(target=lambda: told.append(self._saved()), daemon=True)
                saver.start()
                saver.join(SAVING)
            saved = told[0] if told else self.remains()
            who = "; ".join(f"{_name(rank)} {words}" for rank, words in found.items())
            _say(f"{who}: this run ends. {saved}")
            if self._hub is not None:
                self._hub.ended = True
                time.sleep(3 * BEAT)  # the others are told with their next lines
            _leave()


@contextmanager
def joining(rank: str, rank_timeout: timedelta) -> Iterator[None]:
    """While this rank waits for all to have started, say so, and end the process in the end."""
    patience = max(rank_timeout, RANK_TIMEOUT)

    def end() -> None:
        _say(f"rank {rank}: the others did not join within {patience}; this run ends")
        _leave()

    notice = notice_after(patience)
    words = f"rank {rank} has waited {notice:g} s for all others to join the run"
    timers = [
        threading.Timer(notice, _say, [words]),
        threading.Timer(patience.total_seconds(), end),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _say(text: str) -> None:
    tqdm.write(f"note: {text}", file=sys.stderr)
    sys.stderr.flush()


def _leave() -> None:
    """End the process at once: its main thread is inside the framework, and may stay there."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(STATUS)
