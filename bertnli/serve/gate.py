"""What every request passes.

A request of another site is refused, HEAD is a GET without the body, the answer gets headers, an
error is logged, and the status is counted.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertnli.serve.hosts import Hosts
from bertnli.serve.metrics import Metrics
from bertnli.serve.reading import LEFT, Refused

LOGGER = logging.getLogger("bertnli.serve")
#: In the state of a request's scope: the status of an answer that the protocol gave by itself.
ANSWERED = "bertnli.answered"

#: The page runs its own files alone, and is shown in nobody's frame: it works without a network,
#: and what people type goes nowhere else.
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
        hosts: the names that are answered to.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, paths: Collection[str], hosts: Hosts
    ) -> None:
        self.app, self.metrics, self.paths, self.hosts = app, metrics, paths, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status: int | None = None
        is_head = scope["method"] == "HEAD"

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            self.hosts.check(Headers(scope=scope), (scope.get("server") or [None])[0])
            await self.app({**scope, "method": "GET"} if is_head else scope, receive, send_on)
        except Refused as refused:
            await _send_error(send_on, refused.status, refused.message)
        except Exception:
            LOGGER.exception("%s %r failed", scope["method"], scope["path"])
            if status is not None:
                raise  # the answer has begun
            await _send_error(send_on, 500, "the server failed; its log says why")
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            found = scope.get("state", {}).get(ANSWERED) or status or LEFT
            self.metrics.answered(path, found, time.perf_counter() - start)


async def _send_error(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
