"""`bertnli serve` in a separate process."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import processes

ROOT = Path(__file__).resolve().parents[2]
#: The program of a server whose model needs no framework.
FAKE = (str(Path(__file__).parent / "serve_fakes.py"), "serve", "--backend", "torch")


class Served:
    """A server that is ready.

    Args:
        argv: more arguments of the command.
        program: what Python runs.
        stderr: see `subprocess.Popen`.
    """

    def __init__(self, *argv, program=("-m", "bertnli", "serve"), stderr=None):
        path = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = processes.Process(
            [sys.executable, *program, "--port", "0", *argv],
            {**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        line = self.process.line()
        url = re.search(r"http://\S+", line)
        assert url, f"the server printed {line!r}"
        self.url = url[0]
        where = urlsplit(self.url)
        self.address = (where.hostname, where.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def ask(self, body=None, path="/predict", headers=None):
        """Send a GET, or a POST if there is a body; return status and content of the answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=processes.LIMIT)
        content = None if body is None else json.dumps(body)
        headers = {"content-type": "application/json", **(headers or {})}
        try:
            connection.request("GET" if body is None else "POST", path, content, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()

    def send(self, content):
        """Send bytes; return the bytes that arrive until the server closes the connection."""
        received = b""
        with socket.create_connection(self.address, timeout=processes.LIMIT) as connection:
            connection.sendall(content)
            while part := connection.recv(65536):
                received += part
        return received

    def metric(self, name):
        """Return a value of /metrics, summed over its labels."""
        lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.ask(path="/metrics")[1], re.M)
        return sum(map(float, lines))

    def end(self, number=signal.SIGTERM):
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        self.process.until(lambda: self.process.poll() is not None, alive=False)
        return self.process.returncode
