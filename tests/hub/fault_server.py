"""A server on the loopback interface that goes wrong as it is told to."""

from __future__ import annotations

import gzip
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
#: Longest that a stalled connection is kept, if nobody leaves it.
STALL = 20.0


class Served:
    """A file of the server.

    Args:
        content: what is right.
        script: names of faults, one for each request; after them the file is served.
        headers: more of them, such as an ETag.
        ranges: whether parts of the file can be asked for.
    """

    def __init__(
        self,
        content: bytes,
        script: list[str] | None = None,
        headers: dict[str, str] | None = None,
        ranges: bool = True,
    ) -> None:
        self.content, self.script, self.ranges = content, list(script or []), ranges
        self.headers = headers or {}
        self.requests: list[dict[str, str]] = []


class FaultServer(ThreadingHTTPServer):
    """Serves `files` by path, each by its script."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """Clients that leave are expected."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Serves one request."""

    server: FaultServer

    def do_GET(self) -> None:
        self.close_connection = True
        with self.server.lock:
            self.file = self.server.files[self.path]
            self.file.requests.append(dict(self.headers))
            fault = self.file.script.pop(0) if self.file.script else "ok"
        self.body = self.file.content
        FAULTS[fault](self)

    def log_message(self, *_: Any) -> None:
        pass

    def head(self, status: int, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {**self.file.headers, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def begin(self) -> bytes:
        """Send the right head; return the body that belongs to it."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        wanted = self.headers.get("If-Range")
        same = wanted is None or wanted in self.file.headers.values()
        if asked is None or not same or not self.file.ranges:
            self.head(200, Content_Length=len(self.body))
            return self.body
        start, total = int(asked[1]), len(self.body)
        if start >= total:
            self.head(416, Content_Range=f"bytes */{total}", Content_Length=0)
            return b""
        span = f"bytes {start}-{total - 1}/{total}"
        self.head(206, Content_Range=span, Content_Length=total - start)
        return self.body[start:]

    def send(self, data: bytes) -> None:
        self.wfile.write(data)

    def status(self, number: int, **headers: Any) -> None:
        self.head(number, Content_Length=len(PAGE), Content_Type="text/html", **headers)
        self.send(PAGE)

    def cut(self, at: float = 0.5) -> None:
        body = self.begin()
        self.send(body[: int(len(body) * at)])

    def reset(self) -> None:
        self.cut()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def stall(self) -> None:
        self.cut()
        self.wait()

    def wait(self) -> None:
        """Until the client leaves."""
        self.connection.settimeout(STALL)
        self.connection.recv(1)

    def trickle(self, data: bytes, pause: float = 0.02) -> None:
        for i in range(len(data)):
            self.send(data[i : i + 1])
            time.sleep(pause)

    def slow(self) -> None:
        body = self.begin()
        for i in range(0, len(body), 1 << 14):
            self.send(body[i : i + (1 << 14)])
            time.sleep(0.15)

    def trickle_head(self) -> None:
        self.send(b"HTTP/1.1 200 OK\r\n")
        self.trickle(b"X-Long: " + b"a" * 2000)

    def lying_length(self, extra: int) -> None:
        self.head(200, Content_Length=len(self.body) + extra)
        self.send(self.body)

    def chunked(self, end: bytes) -> None:
        self.protocol_version = "HTTP/1.1"
        self.head(200, Transfer_Encoding="chunked")
        half = self.body[: len(self.body) // 2] if end else self.body
        self.send(f"{len(half):x}\r\n".encode() + half + b"\r\n" + (end or b"0\r\n\r\n"))

    def endless(self) -> None:
        self.head(200)
        while True:
            self.send(b"more" * 4096)

    def range_of(self, span: str, status: int = 206) -> None:
        """What a server answers that counts wrongly."""
        self.head(status, Content_Range=span, Content_Length=len(self.body))
        self.send(self.body)

    def ranged(self, start: int, more: int, size: int | None = None) -> None:
        """A part that does not begin where it should, or of a file of another length, or short."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = max(0, (int(asked[1]) if asked else 0) + start)
        body, total = self.body[first:][:size], len(self.body) + more
        span = f"bytes {first}-{first + len(body) - 1}/{total}"
        self.head(206, Content_Range=span, Content_Length=len(body))
        self.send(body)

    def long_range(self) -> None:
        """More than the range that it names."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first, total = int(asked[1]) if asked else 0, len(self.body)
        self.head(206, Content_Range=f"bytes {first}-{total - 1}/{total}")
        self.send(self.body[first:])
        while True:
            self.send(b"more" * 4096)

    def wrong(self) -> None:
        self.body = self.body[::-1]
        self.send(self.begin())

    def gzipped(self) -> None:
        packed = gzip.compress(self.body)
        self.head(200, Content_Encoding="gzip", Content_Length=len(packed))
        self.send(packed)

    def page(self) -> None:
        self.head(200, Content_Type="text/html; charset=utf-8", Content_Length=len(PAGE))
        self.send(PAGE)

    def redirect(self, where: str) -> None:
        self.head(302, Location=where)
        self.send(b"x" * 1000)


FAULTS: dict[str, Callable[[Handler], None]] = {
    "ok": lambda h: h.send(h.begin()),
    "cut": lambda h: h.cut(),
    "cut at once": lambda h: h.cut(0),
    "reset": lambda h: h.reset(),
    "stall": lambda h: h.stall(),
    "stall at once": lambda h: h.wait(),
    "trickle": lambda h: h.trickle(h.begin()),
    "slow": lambda h: h.slow(),
    "trickle head": lambda h: h.trickle_head(),
    "says too much": lambda h: h.lying_length(1000),
    "says too little": lambda h: h.lying_length(-1000),
    "says nonsense": lambda h: (h.head(200, Content_Length="-5"), h.send(h.body)),
    "without length": lambda h: (h.head(200), h.send(h.body)),
    "chunked": lambda h: h.chunked(b""),
    "chunked and cut": lambda h: h.chunked(b"5000\r\nabc"),
    "chunked wrongly": lambda h: h.chunked(b"zz\r\n"),
    "endless": lambda h: h.endless(),
    "wrong": lambda h: h.wrong(),
    "page": lambda h: h.page(),
    "gzip": lambda h: h.gzipped(),
    "not gzip": lambda h: (h.head(200, Content_Encoding="gzip"), h.send(h.body)),
    "no HTTP": lambda h: h.send(b"SSH-2.0-OpenSSH\r\n" + b"x" * 200_000),
    "many headers": lambda h: (h.send(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500), h.wait()),
    "500": lambda h: h.status(500),
    "503": lambda h: h.status(503, Retry_After="1"),
    "429": lambda h: h.status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "odd wish": lambda h: h.status(503, Retry_After="soon"),
    "404": lambda h: h.status(404),
    "403": lambda h: h.status(403),
    "204": lambda h: h.head(204),
    "304": lambda h: h.head(304),
    "redirect": lambda h: h.redirect(h.path),
    "to a file": lambda h: h.redirect("file:///etc/passwd"),
    "to nonsense": lambda h: h.redirect("http://[::1"),
    "redirect to nothing": lambda h: h.head(302),
    "range of nothing": lambda h: h.range_of(""),
    "range of nonsense": lambda h: h.range_of("bytes 9-3/*"),
    "range too early": lambda h: h.ranged(-7, 0),
    "range too late": lambda h: h.ranged(7, 0),
    "range of another": lambda h: h.ranged(0, 100),
    "range too short": lambda h: h.ranged(0, 0, 20_000),
    "range too long": lambda h: h.long_range(),
    "416": lambda h: h.head(416, Content_Length=0),
}
#: After these another attempt may succeed.
PASSING = (
    *("cut", "cut at once", "reset", "stall", "stall at once", "trickle", "trickle head"),
    *("says too much", "chunked and cut", "chunked wrongly", "many headers", "500", "503", "429"),
    *("odd wish", "range of nothing", "range of nonsense", "range too early", "range too late"),
    *("range of another", "range too long", "range too short", "416"),
    *("no HTTP", "slow"),
)
#: What nobody can see who does not know the hash.
UNSEEN = ("says too little", "wrong", "page", "says nonsense", "without length", "gzip")
