"""A server from its start to its end."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from bertnli.errors import BackendError
from bertnli.serve.limits import Limits
from bertnli.serve.worker import Worker

try:
    import uvicorn

    from bertnli.serve.app import create_app
    from bertnli.serve.metrics import Metrics
    from bertnli.serve.protocol import protocol_of
except ModuleNotFoundError as error:
    raise BackendError(
        f'serving needs {error.name}, which is not installed: pip install "bertnli[serve]"'
    ) from None

BACKLOG = 2048


def serve(
    loaders: Mapping[str, Callable[[], Any]],
    limits: Limits,
    checkpoint: str,
    *,
    host: str,
    port: int,
    say: Callable[[str], None],
    access_log: bool = False,
) -> None:
    """Load the models, answer requests until SIGTERM or SIGINT, and answer what is queued then.

    Args:
        loaders: backend to a function that returns its classifier.
        limits: what clients may ask.
        checkpoint: what the model is called.
        host, port: where to listen; port 0 for any that is free.
        say: is given lines for the user.
        access_log: whether each request is a line of standard output.

    Raises:
        BERTNLIError: a model cannot be loaded.
        OSError: the port is taken, or not ours to take.
        KeyboardInterrupt: after SIGINT, when everything is answered.
    """
    with _bound(host, port) as listener:
        metrics = Metrics()
        workers = {name: Worker(name, load, limits, metrics) for name, load in loaders.items()}
        for worker in workers.values():
            worker.start()  # one after the other: frameworks change settings when they are imported
        config = uvicorn.Config(
            create_app(workers, limits, checkpoint, metrics),
            http=protocol_of(limits),
            ws="none",
            lifespan="on",
            log_level="info" if access_log else "error",
            access_log=access_log,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            # Those whose clients have just left still count: refuse nobody for them.
            limit_concurrency=2 * limits.max_connections + 1,
            timeout_keep_alive=max(1, math.ceil(limits.read_timeout)),
            timeout_graceful_shutdown=math.ceil(limits.timeout + limits.read_timeout),
        )
        # uvicorn sends itself the signal again when it has ended: let SIGTERM be nothing then, and
        # SIGINT an interrupt, also where a shell started us in the background and had it ignored.
        handlers = {signal.SIGTERM: _nothing, signal.SIGINT: signal.default_int_handler}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            listener.listen(BACKLOG)  # who reads the line may come before uvicorn takes them
            say(f"{checkpoint} on {' and '.join(workers)}: {_url(listener)} (Ctrl-C ends)")
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that has its address, before minutes go into loading a model."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(f"{host} port {port}: {error.strerror}; choose another --port") from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _nothing(_: int, __: FrameType | None) -> None:
    pass
