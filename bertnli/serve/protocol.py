"""HTTP/1.1 as uvicorn speaks it, for clients that take their time.

uvicorn waits for a request's headers as long as the client likes, and for as many clients as come.
Here a connection has so many seconds to send the headers of a request, and to take its answer; and
of too many connections, the one that has waited longest without a request makes room.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from bertnli.serve.limits import Limits

#: Seconds that a connection without a request has when the server ends: one may be on its way.
GRACE = 0.25


class PatientProtocol(H11Protocol):
    """One connection."""

    limits: Limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._watch()
        if len(self.connections) > self.limits.max_connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._forget_deadline()

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
            self.loop.call_later(self.limits.read_timeout, self._drop_if_stuck)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Have a deadline while a request's headers are awaited; further bytes do not move it."""
        if not self._is_between_requests():
            self._forget_deadline()
        elif self._deadline is None and not self.transport.is_closing():
            self._since = self.loop.time()
            self._deadline = self.loop.call_later(self.limits.read_timeout, self._drop_if_late)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop_if_late(self) -> None:
        if self._is_between_requests():
            self.transport.close()

    def _drop_if_stuck(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _make_room(self) -> None:
        """Close the connection that has been without a request longest; uvicorn refuses if none."""
        idle = [
            other
            for other in self.connections
            if isinstance(other, PatientProtocol)
            and other is not self
            and other._is_between_requests()
        ]
        if idle:
            oldest = min(idle, key=lambda other: other._since)
            oldest.transport.close()
            self.connections.discard(oldest)


def protocol_of(limits: Limits) -> type[PatientProtocol]:
    """Return the protocol with limits, as uvicorn wants it."""
    return type("Protocol", (PatientProtocol,), {"limits": limits})
