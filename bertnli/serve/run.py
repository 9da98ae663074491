"""Run the server from its start to its end."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bertnli.errors import BackendError
from bertnli.serve.limits import Limits
from bertnli.serve.worker import DEAD, Worker

try:
    import uvicorn

    from bertnli.serve.app import LOCAL_HOSTS, create_app
    from bertnli.serve.metrics import Metrics
except ModuleNotFoundError as error:
    raise BackendError(
        f'serving needs {error.name}, which is not installed: pip install "bertnli[serve]"'
    ) from None


class WorkerDied(BackendError):
    """Raised after the thread of a served model has ended with an error."""


def serve(
    loaders: Mapping[str, Callable[[], Any]],
    limits: Limits,
    checkpoint: str,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    access_log: bool = False,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Load the models and answer requests until SIGTERM or SIGINT; then answer queued requests.

    Args:
        loaders: a function for each backend that loads its classifier.
        limits: the limits of the server.
        checkpoint: the name of the model, as clients see it.
        host, port: the address to listen on; port 0 is any free port.
        on_ready: a function that is called with a line for the user when the server is ready.
        access_log: whether to print a line for each request.
        allow_hosts: accepted values of the Host header besides this machine's names.

    Raises:
        WorkerDied: a model's thread died.
        OSError: the address cannot be used.
        KeyboardInterrupt: after SIGINT, when all requests are answered.
    """
    with _bind(host, port) as listener:  # before minutes go into loading a model
        metrics = Metrics()
        workers = {name: Worker(name, load, limits, metrics) for name, load in loaders.items()}
        for worker in workers.values():
            worker.start()  # one by one: frameworks change process-wide settings on import
        hosts = [*LOCAL_HOSTS, host, *allow_hosts]
        config = uvicorn.Config(
            create_app(workers, limits, checkpoint, metrics, hosts),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="info" if access_log else "error",
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.max_connections + 1,  # it counts the new connection
            timeout_keep_alive=math.ceil(limits.read_timeout),
            timeout_graceful_shutdown=math.ceil(limits.timeout + limits.read_timeout),
        )
        line = f"{checkpoint} on {' and '.join(workers)}: {_url(listener)} (Ctrl-C ends)"
        server = _Server(config, workers, partial(on_ready, line))
        # uvicorn sends itself the signal again at its end, which would kill the process.
        previous = signal.signal(signal.SIGTERM, server.handle_exit)
        try:
            server.run(sockets=[listener])
        finally:
            signal.signal(signal.SIGTERM, previous)
            for worker in workers.values():
                worker.stop(limits.timeout)
        if server.dead:
            raise WorkerDied(f"the {server.dead[0]} worker died, and the server has ended")


class _Server(uvicorn.Server):
    """A uvicorn server that ends when a worker has died, so that a supervisor can restart it."""

    def __init__(
        self, config: uvicorn.Config, workers: Mapping[str, Worker], on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._workers, self._on_ready = workers, on_ready

    @property
    def dead(self) -> list[str]:
        """Names of the backends whose workers have died."""
        return [name for name, worker in self._workers.items() if worker.state == DEAD]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end the server; uvicorn calls this ten times a second."""
        return await super().on_tick(counter) or bool(self.dead)


def _bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address; connections are refused until uvicorn listens."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(*address[:3])  # with the protocol, for TCP_NODELAY by asyncio
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[4])
    except OSError as error:
        raise OSError(
            f"{host} port {port}: {error.strerror}; give --host an address of this machine, such "
            "as 127.0.0.1 or 0.0.0.0, and --port one that is free"
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
