"""`bertnli serve` in a process of its own, and HTTP/1.1 with as little work as possible."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit


class Server:
    """A server in a process of its own."""

    def __init__(self, args: argparse.Namespace, *more: str) -> None:
        command = [sys.executable, "-m", "bertnli", "serve", "--port", "0"]
        command += ["--checkpoint", args.checkpoint, "--backend", args.backend, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)  # where this script is broken off; else it has ended
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        result = re.search(r"http://\S+", line)
        if result is None:
            raise SystemExit(f"the server did not start: {line}")
        where = urlsplit(result[0])
        assert where.hostname is not None and where.port is not None
        self.address = (where.hostname, where.port)

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Return its memory in the machine's."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def counters(self) -> dict[str, float]:
        """Return the numbers of /metrics, summed over their labels, by name."""
        async with Connection(self.address) as connection:
            _, text = await connection.ask("GET", "/metrics")
        totals: dict[str, float] = Counter()
        for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text.decode(), re.M):
            totals[name] += float(value) if "le=" not in labels else 0
        return totals

    def stop(self) -> int:
        """End it, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class Connection:
    """HTTP/1.1 with as little work as possible: the clients share the machine with the server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(*self.address, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request, and return status and body of its answer."""
        self.writer.write(request(method, path, len(body)) + body)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        assert length is not None, head
        return int(head[9:12]), await self.reader.readexactly(int(length[1]))


def request(method: str, path: str, length: int) -> bytes:
    """Return a request's line and headers."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )
