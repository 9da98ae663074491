"""HTTP/1.1 as uvicorn speaks it, with the deadlines that uvicorn does not have.

uvicorn closes a connection that is idle after an answer, but waits forever for the first request,
for the rest of a request's headers, and for a client to take its answer. What it answers by itself
is neither JSON nor counted.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bertnli.serve.gate import ANSWERED
from bertnli.serve.limits import HURRY, Limits
from bertnli.serve.metrics import Metrics

#: Seconds that a connection without a request has when the server ends: one may be on its way.
GRACE = 0.25


class PatientProtocol(H11Protocol):
    """One connection."""

    seconds: float
    room: int
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; the first of them begin its time."""
        if self._is_between_requests() and not self._has_part():
            self._since = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._timer.cancel()

    def shutdown(self) -> None:
        """End after the request under way, or after one that is on its way."""
        if self._is_between_requests():
            self.loop.call_later(GRACE, self._shut_down)
        else:
            self._shut_down()

    def _shut_down(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def on_response_complete(self) -> None:
        """Give the client its time to take the answer, and then wait for the next request."""
        super().on_response_complete()
        self._since = self.loop.time()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.seconds, self._drop_if_stuck)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; called by uvicorn."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer has begun
            return
        if not self._is_between_requests():
            self.scope["state"][ANSWERED] = 400  # of a request that is counted there
            self.cycle.disconnected = True
        else:
            self.metrics.answered("other", 400, 0.0)
        self._answer(400, f"{msg} Send HTTP/1.1 with a Host header")

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _has_part(self) -> bool:
        """Return whether some of a request's headers have come."""
        return bool(self.conn.trailing_data[0])

    def _look(self) -> None:
        """Look at the connection now and then, and close it where a request takes too long."""
        if self.transport.is_closing():
            return
        waited = self.loop.time() - self._since if self._is_between_requests() else 0.0
        is_crowded = len(self.connections) > self.room
        patience = min(HURRY, self.seconds) if is_crowded else self.seconds
        if waited < patience:
            self._timer = self.loop.call_later(min(HURRY, patience - waited), self._look)
        elif self.conn.our_state is h11.IDLE and (self.cycle is None or self._has_part()):
            why = f"no headers came within {patience:g} seconds"
            status = 503 if is_crowded else 408
            why += ", and there are too many connections" if is_crowded else "; send them at once"
            self.metrics.answered("other", status, waited)
            self._answer(status, why)
        else:
            self.transport.close()  # after an answer, clients expect no more than that

    def _answer(self, status: int, message: str) -> None:
        """Send an answer that no request's cycle sends, and close."""
        body = json.dumps({"error": message}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        reason = HTTPStatus(status).phrase.encode()
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _drop_if_stuck(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()


def protocol_of(limits: Limits, room: int, metrics: Metrics) -> type[PatientProtocol]:
    """Return the protocol as uvicorn wants it.

    Args:
        limits: ``read_timeout`` is looked at.
        room: where there are more connections, one without a request is closed after `HURRY`; none
            is at once, for one that was just accepted looks idle until its request is read.
        metrics: where answers are counted that no request's cycle sends.
    """
    found = {"seconds": limits.read_timeout, "room": room, "metrics": metrics}
    return type("Protocol", (PatientProtocol,), found)
