"""What every request passes: it is counted, its answer gets headers, and no error is left alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertnli.serve.metrics import Metrics
from bertnli.serve.reading import LEFT

LOGGER = logging.getLogger("bertnli.serve")

#: The page runs its own files alone, and is shown in nobody's frame.
POLICY = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Gate:
    """ASGI around an app.

    Args:
        app: the app.
        metrics: where requests are counted.
        paths: those that are counted by name; all others are one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status: int | None = None

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception:
            LOGGER.exception("%s %s failed", scope["method"], scope["path"])
            if status is not None:
                raise  # the answer has begun
            await _send_error(send_on)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.answered(path, status or LEFT, time.perf_counter() - start)


async def _send_error(send: Send) -> None:
    body = json.dumps({"error": "the server failed; its log says why"}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
