"""Starts the processes of a run on MXNet, and ends all of them when one dies.

MXNet's key-value store needs workers, which train; servers, which add up the workers' gradients;
and one scheduler, by which they find each other. They wait for each other for ever, so their
launcher watches them. The standard input of each is a pipe from the launcher, the lifeline: when it
closes, because the launcher died or closed it, the process ends. Each host has its own launcher; if
the workers of another host are gone, those of this one end after the rank timeout.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertnli._util.machine import available_cores
from bertnli.errors import ConfigError, RankError
from bertnli.training.stop import SIGNALS, handled_signals

#: Processes by their names in messages.
Children = dict[str, subprocess.Popen]
LOOPBACK = "127.0.0.1"
#: Seconds between looks at the processes, and for the others to save and end after one failed.
POLL, GRACE = 0.1, 30.0
#: Variables that tell a worker its rank, which ps-lite leaves to chance, and, if a host has several
#: workers, its number among those. A worker with a rank has the lifeline.
RANK, LOCAL_RANK = "BERTNLI_RANK", "BERTNLI_LOCAL_RANK"
#: File descriptor of the lifeline.
LIFELINE = 0
#: Code of a server and of the scheduler; importing MXNet is all they do.
SERVE = (
    "from bertnli.training.launch import end_with_launcher; end_with_launcher(); "
    "import bertnli.backends.mxnet._framework"
)


@dataclass(frozen=True)
class Layout:
    """The processes of a run and their hosts.

    Args:
        workers, servers: numbers of processes on each host.
        hosts: number of hosts.
        host: number of this host, from 0.
        address: name and port of host 0, by which the others reach it; None for a free port on a
            single host.

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


def end_with_launcher() -> None:
    """Make this process, a server or the scheduler, end when its lifeline closes.

    It ignores signals that are sent to all processes: the workers need it to end.
    """
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)

    def wait() -> None:
        os.read(LIFELINE, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def launch(layout: Layout, command: Sequence[str]) -> int:
    """Run a command, program and arguments, in each worker of a layout until all have ended.

    SIGINT and SIGTERM are passed on to the workers, which then end by themselves.

    Returns:
        0 if all workers ended with the exit status 0; otherwise the first other exit status.

    Raises:
        RankError: a worker was killed by a signal, or a server ended; all other processes were
            ended, too.
        ConfigError: the address of host 0 cannot be reached.
    """
    workers: Children = {}
    servers: Children = {}
    early: list[int] = []  # signals that arrive before all processes have started

    # At once: by the next look at the workers, those that got the signal, too, may have ended.
    def forward(signum: int, frame: Any = None) -> None:
        if len(workers) < layout.workers or not servers:
            early.append(signum)
            return
        for worker in workers.values():
            worker.send_signal(signum)  # does nothing if it has ended

    try:
        with handled_signals(forward):
            _start(layout, command, workers, servers)
            for signum in early:
                forward(signum)
            return _watch(workers, {**workers, **servers})
    finally:
        for process in (*workers.values(), *servers.values()):
            process.kill()
            process.wait()


def _addresses(layout: Layout) -> dict[str, str]:
    """Choose the variables by which ps-lite's processes find each other."""
    if layout.address is None:
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            root = here = LOOPBACK
            port = free.getsockname()[1]
    else:
        name, port = layout.address
        try:
            root = here = socket.gethostbyname(name)
            if layout.host:  # the address of the interface that leads to host 0
                with socket.socket(type=socket.SOCK_DGRAM) as probe:
                    probe.connect((root, port))
                    here = probe.getsockname()[0]
        except OSError as error:
            raise ConfigError(f"--address {name}:{port} cannot be reached: {error}") from error
    return {
        "DMLC_PS_ROOT_URI": root,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(layout.workers * layout.hosts),
        "DMLC_NUM_SERVER": str(layout.servers * layout.hosts),
        "DMLC_NODE_HOST": here,
    }


def _start(layout: Layout, command: Sequence[str], workers: Children, servers: Children) -> None:
    """Start the workers, then the servers and, on host 0, the scheduler; add them by name."""
    variables = {**os.environ, **_addresses(layout)}
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(available_cores() // layout.workers, 1))

    def start(role: str, command: Sequence[str], **more: str) -> subprocess.Popen:
        env = {**variables, "DMLC_ROLE": role, **more}
        # In a session of its own, so that Ctrl-C reaches it once, through the launcher.
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)

    for i in range(layout.workers):
        more = {RANK: str(layout.host * layout.workers + i), "OMP_NUM_THREADS": threads}
        if layout.workers > 1:
            more[LOCAL_RANK] = str(i)
        workers[f"worker {more[RANK]}"] = start("worker", command, **more)
    serve = [sys.executable, "-c", SERVE]
    if layout.host == 0:
        servers["the scheduler"] = start("scheduler", serve)
    for i in range(layout.servers):
        servers[f"server {i}"] = start("server", serve)


def _watch(workers: Children, children: Children) -> int:
    """Wait until all workers have ended, or one process failed; return the status of `launch`.

    After a failure, the workers have `GRACE` seconds to save and end.
    """
    failed = None
    while failed is None:
        running = any(worker.poll() is None for worker in workers.values())
        failed = next((name for name, process in children.items() if process.poll()), None)
        if failed is None and not running:
            return 0
        time.sleep(POLL)
    for worker in workers.values():  # their lifelines; they may save and end
        assert worker.stdin is not None
        worker.stdin.close()
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and any(w.poll() is None for w in workers.values()):
        time.sleep(POLL)
    status = children[failed].returncode
    if failed in workers and status > 0:
        return status  # it has printed why
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else "ended"
    raise RankError(
        f"{failed} {how}, and all other processes were ended. The run can go on from its last "
        "state (--resume)"
    )
