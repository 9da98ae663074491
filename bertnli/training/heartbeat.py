"""Signs of life: each rank tells the first one where it stands, beside what the framework sends.

A rank that waits for the others waits inside the framework, which says nothing and cannot be
interrupted. So a thread of each rank connects to the first rank, sends a line twice a second, and
gets back what is known of all ranks. A process that is stopped, or whose host is gone, sends none.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import socket
import socketserver
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

#: Seconds between two lines of a rank.
BEAT = 0.5
LOOPBACK = "127.0.0.1"
#: Variable that tells a process that was launched where to write its signs of life.
PIPE = "BERTNLI_BEATS"
#: Bytes of a rank's line.
_LINE = 4096


class Standing(NamedTuple):
    """Where a rank stands.

    Args:
        exchanges: how many it has entered. All ranks enter the same ones, in the same order.
        place: what it does, in words.
        waits: whether it is inside an exchange, where it may wait for the others.
        computes: whether it computes there, too.
    """

    exchanges: int = 0
    place: str = "starting"
    waits: bool = False
    computes: bool = False


class Row(NamedTuple):
    """What is known of a rank.

    Args:
        rank: of the process.
        standing: what it said last.
        silent: seconds since then.
        idle: seconds since it said anything else.
        gone: seconds since its connection ended; -1 while there is one.
    """

    rank: int
    standing: Standing
    silent: float
    idle: float
    gone: float = -1.0


@dataclass
class _Heard:
    """When a rank was heard last, when it said something new, and when its connection ended."""

    standing: Standing
    last: float
    changed: float
    connection: object = None
    gone: float | None = None


class Hub:
    """What the first rank keeps: the last line of each, and a server that takes them.

    Args:
        host: by which the others reach this process; the loopback address keeps to the host.
        token: that they know, and nobody else.
    """

    def __init__(self, host: str, token: str) -> None:
        self.token, self.ended, self._closed = token, False, False
        self._heard: dict[int, _Heard] = {}
        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), _Talk, False)
        self._server.socket.close()
        if host == LOOPBACK:
            self._server.socket = socket.create_server((LOOPBACK, 0))
        elif socket.has_dualstack_ipv6():
            everywhere: Any = ("", 0)
            self._server.socket = socket.create_server(
                everywhere, family=socket.AF_INET6, dualstack_ipv6=True
            )
        else:
            self._server.socket = socket.create_server(("", 0))
        self.port = int(self._server.socket.getsockname()[1])
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and answer those that there are no more."""
        self._closed = True
        self._server.shutdown()
        self._server.server_close()

    def note(self, rank: int, standing: Standing, connection: object = None) -> None:
        """Remember what a rank said."""
        now = time.monotonic()
        with self._lock:
            heard = self._heard.get(rank)
            if heard is None or heard.standing != standing:
                self._heard[rank] = _Heard(standing, now, now, connection)
            else:
                heard.last, heard.connection, heard.gone = now, connection, None

    def answer(self, rank: int, standing: Standing, connection: object) -> bytes:
        """Remember what a rank said, and return the line that it gets for it."""
        if self._closed:
            raise ConnectionError("closed")
        self.note(rank, standing, connection)
        return json.dumps([self.ended, self.rows()]).encode() + b"\n"

    def note_end(self, rank: int, connection: object) -> None:
        """Remember that a rank's connection has ended."""
        with self._lock:
            heard = self._heard.get(rank)
            if heard is not None and heard.connection is connection:
                heard.gone = time.monotonic()

    def rows(self) -> list[Row]:
        """Return what is known of the ranks that were heard."""
        now = time.monotonic()
        with self._lock:
            return [
                Row(
                    rank,
                    heard.standing,
                    now - heard.last,
                    now - heard.changed,
                    -1.0 if heard.gone is None else now - heard.gone,
                )
                for rank, heard in sorted(self._heard.items())
            ]


class _Talk(socketserver.StreamRequestHandler):
    """The connection of one rank: a line of it, a line to it."""

    def handle(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        rank = None
        with suppress(OSError, ValueError, TypeError):
            token, rank = json.loads(self.rfile.readline(_LINE))
            if not hmac.compare_digest(str(token), hub.token):
                return
            while line := self.rfile.readline(_LINE):
                self.wfile.write(hub.answer(rank, Standing(*json.loads(line)), self))
        if rank is not None:
            hub.note_end(rank, self)


class Line:
    """A rank's connection to the first one, made anew when it has ended.

    Attributes:
        ended: whether the first rank has said that it ends the run.
    """

    def __init__(self, rank: int, host: str, port: int, token: str) -> None:
        self.rank, self.address, self.token, self.ended = rank, (host, port), token, False
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._rows: list[Row] = []
        self._asked = False
        self._heard: float | None = None
        self._gone: float | None = None

    def exchange(self, standing: Standing, seconds: float) -> None:
        """Say where this rank stands, and take in what comes back, for so many seconds."""
        end = time.monotonic() + seconds
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self.address, timeout=seconds)
                self._send([self.token, self.rank])
                self._buffer, self._asked = b"", False
            if not self._asked:  # what a stopped process does not read must not pile up
                self._send(standing)
                self._asked = True
            while (left := end - time.monotonic()) > 0:
                if select.select([self._socket], [], [], left)[0]:
                    self._take(self._socket.recv(1 << 16))
        except (OSError, ValueError):
            self.close()
        time.sleep(max(end - time.monotonic(), 0))

    def rows(self) -> list[Row]:
        """Return what is known: of the first rank, by what was heard of it; what it knows of others
        only while it answers."""
        if self._heard is None:
            return []
        now = time.monotonic()
        silent = now - self._heard
        first = next(row for row in self._rows if row.rank == 0)
        gone = -1.0 if self._gone is None else now - self._gone
        first = first._replace(silent=silent, idle=first.idle + silent, gone=gone)
        fresh = silent < 4 * BEAT and self._gone is None
        return [first, *(row for row in self._rows if fresh and row.rank)]

    def _send(self, value: Any) -> None:
        assert self._socket is not None
        self._socket.sendall(json.dumps(value).encode() + b"\n")

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionError("the first rank has closed its connection")
        self._buffer += data
        line, found, rest = self._buffer.partition(b"\n")
        if found:
            ended, rows = json.loads(line)
            self.ended = bool(ended)
            self._rows = [Row(row[0], Standing(*row[1]), *row[2:]) for row in rows]
            self._buffer, self._asked = rest, False
            self._heard, self._gone = time.monotonic(), None

    def close(self) -> None:
        """End the connection; the next exchange makes another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        if self._gone is None:
            self._gone = time.monotonic()


def beat_to_launcher() -> None:
    """Write a byte twice a second, from a thread, where the launcher of this process reads."""
    handle = int(os.environ[PIPE])
    os.set_blocking(handle, False)

    def beat() -> None:
        while True:
            try:
                os.write(handle, b".")
            except BlockingIOError:
                pass  # the launcher does not read now
            except OSError:
                return  # it is gone
            time.sleep(BEAT)

    threading.Thread(target=beat, daemon=True, name="bertnli beat").start()
