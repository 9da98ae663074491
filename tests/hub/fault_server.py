"""A server on the loopback interface with scripted faults."""

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@dataclass
class Served:
    """A file of the server: its content, and a fault for each of the first requests."""

    content: bytes
    script: list
    requests: list = field(default_factory=list)


class FaultServer(ThreadingHTTPServer):
    """Serves `files` by path, each by its script; other paths are not found."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, path, content, *script):
        self.files[path] = Served(content, list(script))
        return self.files[path]

    def handle_error(self, *_):
        """Ignore clients that leave."""


class Handler(BaseHTTPRequestHandler):
    """Serves one request."""

    def do_GET(self):
        self.close_connection = True
        path = self.path.partition("#")[0]
        file = self.server.files.get(path) or Served(b"", ["404"])
        file.requests.append(dict(self.headers))
        self.body = file.content
        FAULTS[file.script.pop(0) if file.script else "ok"](self)

    def log_message(self, *_):
        pass

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def begin(self):
        """Send the right head; return the body that belongs to it."""
        first, total = self.first(), len(self.body)
        if not first:
            self.head(200, Content_Length=total)
        elif first >= total:
            self.head(416, Content_Length=0)
        else:
            span = f"bytes {first}-{total - 1}/{total}"
            self.head(206, Content_Range=span, Content_Length=total - first)
        return self.body[first:]

    def first(self):
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0

    def send(self, data):
        self.wfile.write(data)

    def cut(self, share=0.5):
        body = self.begin()
        self.send(body[: int(len(body) * share)])

    def reset(self):
        self.cut()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def wait(self):
        """Wait until the client leaves."""
        self.connection.settimeout(20)
        self.connection.recv(1)

    def send_slowly(self, data, size, pause):
        for i in range(0, len(data), size):
            self.send(data[i : i + size])
            time.sleep(pause)

    def trickle(self, data):
        self.send_slowly(data, 1, 0.02)

    def endless(self):
        self.head(200)
        while True:
            self.send(b"more" * 4096)

    def short(self, status, body=PAGE, **headers):
        self.head(status, Content_Length=len(body), **headers)
        self.send(body)

    def chunked(self):
        self.protocol_version = "HTTP/1.1"
        self.head(200, Transfer_Encoding="chunked")
        self.send(f"{len(self.body):x}\r\n".encode() + self.body[:1000])

    def range(self, shift):
        """Send the wrong part of the file."""
        first, total = self.first() + shift, len(self.body)
        self.head(206, Content_Range=f"bytes {first}-{total - 1}/{total}")
        self.send(self.body[first:])


FAULTS = {
    "ok": lambda h: h.send(h.begin()),
    "slow": lambda h: h.send_slowly(h.begin(), 1 << 14, 0.05),
    "cut": lambda h: h.cut(),
    "cut at once": lambda h: h.cut(0),
    "reset": lambda h: h.reset(),
    "stall": lambda h: (h.cut(), h.wait()),
    "stall at once": lambda h: h.wait(),
    "trickle": lambda h: h.trickle(h.begin()),
    "trickle without length": lambda h: (h.head(200), h.trickle(h.body)),
    "trickle head": lambda h: (h.send(b"HTTP/1.1 200 OK\r\n"), h.trickle(b"a" * 5000)),
    "says too much": lambda h: (h.head(200, Content_Length=len(h.body) + 9), h.send(h.body)),
    "says too little": lambda h: (h.head(200, Content_Length=len(h.body) - 9), h.send(h.body)),
    "without length": lambda h: (h.head(200), h.send(h.body)),
    "without ranges": lambda h: (h.head(200, Content_Length=len(h.body)), h.send(h.body)),
    "chunked and cut": lambda h: h.chunked(),
    "endless": lambda h: h.endless(),
    "wrong": lambda h: h.short(200, h.body[::-1]),
    "page": lambda h: h.short(200, Content_Type="text/html; charset=utf-8"),
    "no HTTP": lambda h: h.send(b"SSH-2.0-OpenSSH\r\n" + b"x" * 2000),
    "many headers": lambda h: (h.send(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500), h.wait()),
    "500": lambda h: h.short(500),
    "503": lambda h: h.short(503, Retry_After="1"),
    "429": lambda h: h.short(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "404": lambda h: h.short(404),
    "204": lambda h: h.head(204),
    "304": lambda h: h.head(304),
    "redirect": lambda h: h.short(302, Location=h.path),
    "to a file": lambda h: h.short(302, Location="file:///etc/passwd"),
    "to nonsense": lambda h: h.short(302, Location="http://[::1"),
    "range too early": lambda h: h.range(-7),
    "range too late": lambda h: h.range(7),
    "416": lambda h: h.head(416, Content_Length=0),
}
OF_RANGES = ("range too early", "range too late", "416")
#: After these another attempt may succeed.
PASSING = (
    *("slow", "cut", "cut at once", "reset", "stall", "stall at once", "says too much"),
    *("chunked and cut", "no HTTP", "many headers", "500", "503", "429"),
    *("without ranges", *OF_RANGES),
)
#: These end a download at once, or at its deadline.
FINAL = (
    *("404", "204", "304", "to a file", "to nonsense", "endless", "wrong", "trickle"),
    *("trickle head", "says too little"),
)
