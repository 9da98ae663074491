"""ASGI middleware: metrics and headers, and limits of request bodies."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics

#: The paths that are counted by name.
PATHS = ("/predict", "/explain", "/model", "/health", "/metrics", "/openapi.json", "/")
#: The page works without other hosts, in no frame, and is asked for again after an update.
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
#: The status of a request whose client left, as nginx counts it.
CLIENT_LEFT = 499
#: Bytes read beyond the limit. A client that is still sending would not see the answer, since
#: closing a connection with unread bytes resets it.
DRAINED = 8 << 20


class Instrument:
    """Count each request by status and path, add headers to answers, and answer HEAD as GET."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
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
            self.metrics.answered(path, status, time.perf_counter() - start)


class BodyLimit:
    """Read a request's body before the app does; one too long is 413, one too slow 408."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.max_body, self.seconds = app, limits.max_body, limits.read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        task = asyncio.current_task()
        assert task is not None
        deadline = asyncio.get_running_loop().call_later(self.seconds, task.cancel)
        try:
            status, body = await self._read(receive)
        except asyncio.CancelledError:  # by the deadline; asyncio.timeout is not in Python 3.10
            status, body = 408, b""
        finally:
            deadline.cancel()
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
        """Return a status and the body, of which no more than the limit is ever kept."""
        chunks, size, more = [], 0, True
        while more and size <= self.max_body + DRAINED:
            message = await receive()
            if message["type"] == "http.disconnect":
                return CLIENT_LEFT, b""
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self.max_body:
                chunks.append(chunk)
            more = message.get("more_body", False)
        return (200, b"".join(chunks)) if size <= self.max_body else (413, b"")
