"""A server from its start to its end."""

from __future__ import annotations

import asyncio
import errno
import math
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from types import FrameType
from typing import Any

from bertnli.errors import BackendError
from bertnli.serve.limits import Limits
from bertnli.serve.worker import DEAD, LOGGER, Worker

try:
    import resource
except ModuleNotFoundError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]
try:
    import uvicorn

    from bertnli.serve.app import create_app
    from bertnli.serve.hosts import Hosts
    from bertnli.serve.metrics import Metrics
    from bertnli.serve.protocol import protocol_of
except ModuleNotFoundError as error:
    raise BackendError(
        f'serving needs {error.name}, which is not installed: pip install "bertnli[serve]"'
    ) from None

BACKLOG = 2048
#: Open files that are no connections; connections that are kept while nothing is asked on them.
OTHER_FILES, MAX_IDLE = 64, 8192
#: What to do about an address that is not of this machine.
_OTHER_HOST = "give --host an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
#: Seconds between two lines on a want of files.
QUIET = 60.0


class WorkerDied(BackendError):
    """The thread of a served model has ended by an error."""


def serve(
    loaders: Mapping[str, Callable[[], Any]],
    limits: Limits,
    checkpoint: str,
    *,
    host: str,
    port: int,
    say: Callable[[str], None],
    access_log: bool = False,
    allow_hosts: Iterable[str] = (),
) -> None:
    """Load the models, answer requests until SIGTERM or SIGINT, and answer what is queued then.

    Args:
        loaders: backend to a function that returns its classifier.
        limits: what clients may ask.
        checkpoint: what the model is called.
        host, port: where to listen; port 0 for any that is free.
        say: is given lines for the user.
        access_log: whether each request is a line of standard output.
        allow_hosts: names beside this machine's own in requests' `Host` and `Origin`.

    Raises:
        BERTNLIError: a model cannot be loaded.
        WorkerDied: a model's thread died, and what was under way is answered.
        OSError: the port is taken, or not ours to take.
        KeyboardInterrupt: after SIGINT, when everything is answered.
    """
    hosts = Hosts(host, allow_hosts)
    room = _connections()
    limits = replace(limits, max_connections=min(limits.max_connections, room))
    with _bound(host, port) as listener:
        metrics = Metrics()
        workers = {name: Worker(name, load, limits, metrics) for name, load in loaders.items()}
        for worker in workers.values():
            worker.start()  # one after the other: frameworks change settings when they are imported
        config = uvicorn.Config(
            create_app(workers, limits, checkpoint, metrics, hosts),
            http=protocol_of(limits, min(room, MAX_IDLE), metrics),
            ws="none",
            lifespan="on",
            log_level="info" if access_log else "error",
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            # limit_concurrency is left out: what it refuses is not counted, and a client that sends
            # nothing would count; see Service and PatientProtocol.
            timeout_keep_alive=max(1, math.ceil(limits.read_timeout)),
            timeout_graceful_shutdown=math.ceil(limits.timeout + limits.read_timeout),
        )
        server = _Server(config, workers)
        # A signal may come before uvicorn listens to it, also where a shell started us in the
        # background and had SIGINT ignored; and uvicorn sends it again when it has ended.
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, server.end) for number in numbers}
        try:
            listener.listen(BACKLOG)  # who reads the line may come before uvicorn takes them
            say(f"{checkpoint} on {' and '.join(workers)}: {_url(listener)} (Ctrl-C ends)")
            server.run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if server.was_interrupted:
            raise KeyboardInterrupt
        if dead := _dead(workers):
            raise WorkerDied(f"the {dead[0]} worker died, and the server has ended; see its log")


class _Server(uvicorn.Server):
    """uvicorn's server; it ends when a worker has died.

    A supervisor can start another; nothing gives a framework its state back.
    """

    def __init__(self, config: uvicorn.Config, workers: Mapping[str, Worker]) -> None:
        super().__init__(config)
        self._workers = workers
        self._quiet_until = 0.0
        self.was_interrupted = False

    def end(self, number: int, _: FrameType | None) -> None:
        """Answer what is under way, and end; a handler of signals."""
        self.should_exit = True
        self.was_interrupted = self.was_interrupted or number == signal.SIGINT

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().set_exception_handler(self._complain)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        return await super().on_tick(counter) or bool(_dead(self._workers))

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of asyncio; a want of files, which it reports for each try, now and then."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif loop.time() > self._quiet_until:
            self._quiet_until = loop.time() + QUIET
            LOGGER.error(
                "new connections wait: %s, with %d connections; raise the limit (ulimit -n, "
                "LimitNOFILE)",
                error.strerror,
                len(self.server_state.connections),
            )


def _dead(workers: Mapping[str, Worker]) -> list[str]:
    return [name for name, worker in workers.items() if worker.state == DEAD]


def _connections() -> int:
    """Let this process open as many files as it may, and return how many connections that makes."""
    if resource is None:
        return MAX_IDLE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_IDLE if soft == resource.RLIM_INFINITY else max(1, soft - OTHER_FILES)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that has its address, before minutes go into loading a model."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OSError(f"{host}: {error.strerror}; {_OTHER_HOST}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        what = "choose another --port"
        if error.errno == errno.EADDRNOTAVAIL:
            what = _OTHER_HOST
        raise OSError(f"{host} port {port}: {error.strerror}; {what}") from None
    return listener


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return all(
            ip_address(address[0]).is_loopback
            for *_, address in socket.getaddrinfo(host, None, flags=socket.AI_PASSIVE)
        )
    except (OSError, ValueError):  # no address, which is said when it is bound
        return True


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
