"""`bertnli serve` in a process of its own, and clients that do not behave."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import processes
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
FAKE = ("tests/serve/serve_fakes.py",)


class Served:
    """A server that is ready.

    Args:
        argv: more of the command's arguments.
        program: what has the command `serve`; `FAKE` for a model without a framework.
        before: a command that runs it.
        stderr: as `subprocess.Popen`.
    """

    def __init__(
        self,
        *argv: str,
        program: Sequence[str] = ("-m", "bertnli"),
        before: Sequence[str] = (),
        stderr: int | None = None,
    ) -> None:
        command = [*before, sys.executable, *program, "serve", "--port", "0", *argv]
        path = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        self.process = processes.Process(
            command, env, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr
        )
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
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def ask(
        self, body: Any = None, path: str = "/predict", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return status and answer of a request: a POST if it has a body, or else a GET."""
        connection = http.client.HTTPConnection(*self.address, timeout=processes.LIMIT)
        try:
            if body is None:
                connection.request("GET", path, headers=headers or {})
            else:
                connection.request("POST", path, json.dumps(body), headers or {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text.decode()

    def counted(self) -> Counter[str]:
        """Return how many requests were answered with each status, but for those of /metrics."""
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(self.ask(path="/metrics")[1]):
            for sample in family.samples:
                if sample.name == "bertnli_requests_total" and sample.labels["path"] != "/metrics":
                    found[sample.labels["status"]] += int(sample.value)
        return found

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
