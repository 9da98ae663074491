"""Starting the processes of a run on MXNet, and ending all of them when one dies.

MXNet's key-value store takes workers, which train; servers, which add up what the workers push; and
one scheduler, by which they find each other. A worker waits for the others for ever, so whoever
started them has to see that one is gone. On several hosts each has a launcher, and the launchers
hold a connection to that of the first host: when one of them fails, it closes.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bertnli._util.machine import available_cores
from bertnli.errors import ConfigError, RankError
from bertnli.training.children import Child, Server
from bertnli.training.heartbeat import LOOPBACK
from bertnli.training.watch import RANK_TIMEOUT, STATUS

#: Seconds: between looks at the processes, to let the others end by themselves after one failed, a
#: stop was asked for, or a server was silent for too long, and for the launchers of all hosts to
#: come.
POLL, GRACE, STOP_GRACE, SILENT_GRACE, ARRIVAL = 0.1, 20.0, 300.0, 60.0, 600.0
#: Variables that tell a worker its rank, which ps-lite leaves to chance, and, where a host has
#: several, its place among those.
RANK, LOCAL_RANK = "BERTNLI_RANK", "BERTNLI_LOCAL_RANK"
#: What a server and the scheduler run: importing MXNet is all they do, beside signs of life. A
#: signal to all processes is for the workers, which need the servers to end.
SERVE = (
    "import signal; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)]; "
    "from bertnli.training.heartbeat import beat_to_launcher; beat_to_launcher(); "
    "import bertnli.backends.mxnet._framework"
)
_DONE = b"+"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Layout:
    """Which processes run where.

    Args:
        workers, servers: on each host.
        hosts: how many there are.
        host: number of this one, from 0.
        address: host 0's name and port, which the others reach it by; the port above it is used as
            well. None for a free one on a single host.

    Raises:
        ConfigError: numbers that cannot be.
    """

    workers: int
    servers: int = 1
    hosts: int = 1
    host: int = 0
    address: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        if min(self.workers, self.servers, self.hosts) < 1:
            raise ConfigError("there must be at least one worker, one server and one host")
        if not 0 <= self.host < self.hosts:
            raise ConfigError(f"the host is number {self.host} of {self.hosts}; they begin at 0")
        if self.hosts > 1 and self.address is None:
            raise ConfigError("several hosts need the address of the first, HOST:PORT")


def launch(layout: Layout, command: Sequence[str], rank_timeout: timedelta = RANK_TIMEOUT) -> int:
    """Run a command in each worker, and return when all have ended.

    Ctrl-C and SIGTERM are passed on to the workers, which then end by themselves.

    Args:
        layout: the processes.
        command: of a worker.
        rank_timeout: how long a server or the scheduler may be silent before the workers are
            stopped. They watch each other.

    Returns:
        0 if all workers ended with it; else the first other status.

    Raises:
        RankError: a worker, a server or another host died or is silent; all processes here were
            ended.
    """
    address = layout.address or (LOOPBACK, _free_port())
    with _Lifeline(layout, address) as lifeline, _forwarded() as signals:
        children, workers = _start(layout, address[1], lifeline, command)
        try:
            return _watch(children, workers, lifeline, signals, rank_timeout)
        finally:
            for child in children:
                with suppress(ProcessLookupError):
                    child.process.kill()
            for child in children:
                child.process.wait()
                if isinstance(child, Server):
                    child.close()


def _start(
    layout: Layout, port: int, lifeline: _Lifeline, command: Sequence[str]
) -> tuple[list[Child], list[Child]]:
    """Start the processes of this host; return all of them, and the workers among them."""
    own, root = lifeline.addresses()
    shared = {
        "DMLC_PS_ROOT_URI": root,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(layout.workers * layout.hosts),
        "DMLC_NUM_SERVER": str(layout.servers * layout.hosts),
        "DMLC_NODE_HOST": own,
    }
    serve = [sys.executable, "-c", SERVE]
    children: list[Child] = []
    if layout.host == 0:
        children.append(Server("the scheduler", serve, {**shared, "DMLC_ROLE": "scheduler"}))
    for i in range(layout.servers):
        children.append(Server(f"server {i}", serve, {**shared, "DMLC_ROLE": "server"}))
    workers = []
    threads = str(max(available_cores() // layout.workers, 1))
    for i in range(layout.workers):
        rank = layout.host * layout.workers + i
        variables = {**shared, "DMLC_ROLE": "worker", RANK: str(rank)}
        if layout.workers > 1:
            variables[LOCAL_RANK] = str(i)
        if not os.environ.get("OMP_NUM_THREADS"):
            variables["OMP_NUM_THREADS"] = threads
        workers.append(Child(f"worker {rank}", command, variables))
    return children + workers, workers


def _watch(
    children: list[Child],
    workers: list[Child],
    lifeline: _Lifeline,
    signals: list[int],
    rank_timeout: timedelta,
) -> int:
    """Wait for the workers' end, or for what makes it necessary."""
    deadline, silent = None, None
    servers = [child for child in children if isinstance(child, Server)]
    while True:
        too_long = [server for server in servers if server.tell(rank_timeout)]
        if too_long and silent is None:
            silent = too_long[0]
            signals.append(signal.SIGTERM)
            deadline = time.monotonic() + SILENT_GRACE
        while signals:
            signum = signals.pop(0)
            deadline = deadline or time.monotonic() + STOP_GRACE
            for worker in workers:
                if worker.status is None:
                    worker.process.send_signal(signum)
        running = [worker for worker in workers if worker.status is None]
        failed = [worker for worker in workers if worker.status]
        # Servers and scheduler end when the workers say so, a little before these do.
        failed += [child for child in children if child not in workers and child.status]
        if failed:
            return _failed(failed[0], workers)
        if not running:
            lifeline.finish()
            return 0
        if lifeline.is_cut():
            _stop(workers)
            raise RankError(
                "another host's processes are gone; those here were ended. Its own launcher says "
                "why; the run can go on from its last state (--resume)"
            )
        if deadline is not None and time.monotonic() > deadline:
            why = f"{running[0].name} did not end within {STOP_GRACE:.0f} seconds"
            if silent is not None:
                why = f"{silent.name} has been silent for {silent.silent():.0f} s"
            raise RankError(
                f"{why}, and all processes were ended. The run can go on from its last state "
                "(--resume)"
            )
        time.sleep(POLL)


def _failed(first: Child, workers: list[Child]) -> int:
    """End what is left; return the status of a worker that ended by itself, or raise."""
    status = first.status
    if status != STATUS:  # with which nobody ends before all that can be said and saved is
        _stop(workers)
    if first in workers and status is not None and status > 0:
        return status  # it has said why
    raise RankError(
        f"{first.end()}, and all other processes were ended. The run can go on from its last state "
        "(--resume)"
    )


def _stop(workers: list[Child]) -> None:
    """Let workers end by themselves for a while, for they may be about to say why."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(w.status is None for w in workers):
        time.sleep(POLL)


@contextmanager
def _forwarded() -> Iterator[list[int]]:
    """Collect the signals that ask for a stop."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda signum, frame: came.append(signum)) for s in _SIGNALS}
    try:
        yield came
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Lifeline:
    """A connection from each host's launcher to the first one's.

    One that closes without a last word says that its launcher failed, or its host.
    """

    def __init__(self, layout: Layout, address: tuple[str, int]) -> None:
        self.layout, self.address = layout, (address[0], address[1] + 1)
        self.sockets: list[socket.socket] = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> _Lifeline:
        try:
            if self.layout.hosts > 1:
                (self._accept if self.layout.host == 0 else self._connect)()
        except OSError as error:
            self.__exit__()
            raise RankError(
                f"the {self.layout.hosts} hosts did not find each other at "
                f"{self.address[0]}:{self.address[1]}: {error}"
            ) from error
        for connection in self.sockets:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):  # a host that lost its power is noticed in 20 s
                for option, value in (("KEEPIDLE", 10), ("KEEPINTVL", 5), ("KEEPCNT", 2)):
                    connection.setsockopt(
                        socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), value
                    )
            self.selector.register(connection, selectors.EVENT_READ)
        return self

    def _accept(self) -> None:
        with socket.create_server(("", self.address[1])) as server:
            deadline = time.monotonic() + ARRIVAL
            while len(self.sockets) < self.layout.hosts - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                self.sockets.append(server.accept()[0])

    def _connect(self) -> None:
        deadline = time.monotonic() + ARRIVAL
        while True:
            try:
                self.sockets.append(socket.create_connection(self.address, timeout=10))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def addresses(self) -> tuple[str, str]:
        """Return this host's address and the first one's, as the hosts reach each other.

        A host's own name may mean its loopback interface to itself.
        """
        if not self.sockets:
            return LOOPBACK, LOOPBACK
        own = str(self.sockets[0].getsockname()[0])
        return own, own if self.layout.host == 0 else str(self.sockets[0].getpeername()[0])

    def is_cut(self) -> bool:
        """Return whether another launcher is gone that did not say that its work is done."""
        for key, _ in self.selector.select(0):
            connection: Any = key.fileobj
            try:
                word = connection.recv(1)
            except OSError:
                word = b""
            if word != _DONE:
                return True
            self.selector.unregister(connection)
        return False

    def finish(self) -> None:
        """Say that the work here is done."""
        for connection in self.sockets:
            with suppress(OSError):
                connection.sendall(_DONE)

    def __exit__(self, *_: object) -> None:
        for connection in self.sockets:
            connection.close()
        self.selector.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])
