"""ASGI middleware for metrics, response headers and limits of request bodies."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics

#: The paths that have their own metrics.
PATHS = ("/predict", "/explain", "/model", "/health", "/metrics", "/openapi.json", "/")
#: Response headers: the page loads nothing from other hosts, is not framed, and is not cached.
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
#: nginx's status of a request whose client has left.
CLIENT_LEFT = 499
#: Bytes read beyond the limit. Closing a connection with unread bytes resets it, and a client that
#: is still sending would not see the answer.
DRAINED = 8 << 20


class Instrument:
    """Middleware that counts requests, adds headers to responses, and handles HEAD like GET."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        status = CLIENT_LEFT

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # uvicorn drops the body
        try:
            await self.app({**scope, "method": method}, receive, send_with_headers)
        except Exception:
            status = 500
            raise
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - start)


class BodyLimit:
    """Middleware that reads the body of a request; the status is 413 if too long, 408 if slow."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.max_body, self.seconds = app, limits.max_body, limits.read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body = await asyncio.wait_for(self._read(receive), self.seconds)
        except asyncio.TimeoutError:  # not the built-in TimeoutError in Python 3.10
            status, body = 408, b""
        if status != 200:
            error = {
                408: f"the body did not arrive within {self.seconds:g} seconds (--read-timeout)",
                413: f"the body is longer than {self.max_body:,} bytes (--max-body)",
                CLIENT_LEFT: "the client left",
            }[status]
            response = JSONResponse({"error": error}, status, headers={"connection": "close"})
            await response(scope, receive, send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> tuple[int, bytes]:
        """Read a body, and return a status and the body; at most ``max_body`` bytes are stored."""
        chunks, size, is_open = [], 0, True
        while is_open and size <= self.max_body + DRAINED:
            message = await receive()
            if message["type"] == "http.disconnect":
                return CLIENT_LEFT, b""
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self.max_body:
                chunks.append(chunk)
            is_open = message.get("more_body", False)
        return (200, b"".join(chunks)) if size <= self.max_body else (413, b"")
