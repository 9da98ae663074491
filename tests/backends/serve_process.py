"""`bertnli serve` in a process of its own, and clients that do not behave."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import processes

ROOT = Path(__file__).resolve().parents[2]


class Served:
    """A server that is ready.

    Args:
        argv: more of the command's arguments.
    """

    def __init__(self, *argv: str) -> None:
        command = [sys.executable, "-m", "bertnli", "serve", "--port", "0", *argv]
        self.process = processes.Process(command, cwd=ROOT, stdout=subprocess.PIPE)
        line = self.process.line()
        found = re.search(r"http://\S+", line)
        assert found, f"the server said {line!r}"
        self.line, self.url = line, found[0]
        where = urlsplit(self.url)
        assert where.hostname is not None and where.port is not None
        self.address = (where.hostname, where.port)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ask(self, body: Any = None, path: str = "/predict") -> tuple[int, Any]:
        """Return status and answer of a request: a POST if it has a body, or else a GET."""
        connection = http.client.HTTPConnection(*self.address, timeout=processes.LIMIT)
        try:
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text.decode()

    def connect(self) -> socket.socket:
        """Return a connection on which nothing was sent."""
        return socket.create_connection(self.address, timeout=processes.LIMIT)

    def send(self, content: bytes) -> bytes:
        """Send bytes, and return what comes until the server closes."""
        with self.connect() as connection:
            connection.sendall(content)
            return read_all(connection)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        self.process.until(lambda: self.process.poll() is not None, alive=False)
        return self.process.returncode


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def seconds_until_closed(connection: socket.socket, trickle: bytes = b"") -> float:
    """Send a byte now and then, and return after how long the other side closes."""
    start = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - start < processes.LIMIT:
        try:
            if trickle:
                connection.sendall(trickle)
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start
