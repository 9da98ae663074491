"""Connections between the launchers of several hosts, by which they notice that one failed."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress

from bertnli.errors import RankError

LOOPBACK = "127.0.0.1"
#: Seconds for the launchers of all hosts to arrive.
ARRIVAL = 600.0
_DONE = b"+"


class Hosts:
    """A connection from each host's launcher to the first one's.

    One that closes without a last byte tells that its launcher failed.

    Args:
        count: number of hosts.
        host: number of this one, from 0.
        address: host 0's name, and the port below the one that is used.

    Raises:
        RankError: on entering, the hosts did not find each other.
    """

    def __init__(self, count: int, host: int, address: tuple[str, int]) -> None:
        self.count, self.host, self.address = count, host, (address[0], address[1] + 1)
        self.sockets: list[socket.socket] = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> Hosts:
        try:
            if self.count > 1:
                (self._accept if self.host == 0 else self._connect)()
        except OSError as error:
            self.__exit__()
            raise RankError(
                f"the {self.count} hosts did not find each other at "
                f"{self.address[0]}:{self.address[1]}: {error}"
            ) from error
        for connection in self.sockets:
            self.selector.register(connection, selectors.EVENT_READ)
        return self

    def _accept(self) -> None:
        deadline = time.monotonic() + ARRIVAL
        with socket.create_server(("", self.address[1])) as server:
            while len(self.sockets) < self.count - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                self.sockets.append(server.accept()[0])

    def _connect(self) -> None:
        deadline = time.monotonic() + ARRIVAL
        while not self.sockets:
            try:
                self.sockets.append(socket.create_connection(self.address, timeout=10))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def addresses(self) -> tuple[str, str]:
        """Return this host's address and the first one's, as the hosts reach each other.

        Names do not do: a host's own name may mean its loopback interface to itself.
        """
        if not self.sockets:
            return LOOPBACK, LOOPBACK
        here = str(self.sockets[0].getsockname()[0])
        return here, here if self.host == 0 else str(self.sockets[0].getpeername()[0])

    def one_failed(self) -> bool:
        """Return whether another host's launcher is gone before its work was done."""
        for key, _ in self.selector.select(0):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                done = connection.recv(1) == _DONE
            except OSError:
                done = False
            if not done:
                return True
            self.selector.unregister(connection)
        return False

    def finish(self) -> None:
        """Tell the others that the work here is done."""
        for connection in self.sockets:
            with suppress(OSError):
                connection.sendall(_DONE)

    def __exit__(self, *_: object) -> None:
        for connection in self.sockets:
            connection.close()
        self.selector.close()
