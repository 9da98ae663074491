"""What a server does for many clients, for strangers, and at its worker's death.

The model is one without a framework: all is in the sockets and the process.
"""

from __future__ import annotations

import http.client
import json
import selectors
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import LIMIT
from serve_process import FAKE, Served, read_all

PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
BODY = json.dumps(PAIR).encode()
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
)
OPTIONS = ("--backend", "torch", "--read-timeout", "2")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served(*OPTIONS, program=FAKE) as found:
        yield found
        assert found.process.poll() is None


def statuses(connections: list[socket.socket]) -> list[str]:
    """The status of what comes on each connection until it is closed; nothing for none."""
    found = dict.fromkeys(connections, b"")
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        end = time.monotonic() + LIMIT
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    part = connection.recv(65536)
                except ConnectionError:
                    part = b""
                found[connection] += part
                if not part:
                    selector.unregister(connection)
    return [answer[9:12].decode() for answer in found.values()]


def crowd(served: Served, size: int, request: bytes) -> list[socket.socket]:
    """Connect many clients, and then let all of them send a request."""
    connections = [served.connect() for _ in range(size)]
    for connection in connections:
        connection.sendall(request)
    return connections


@pytest.mark.parametrize(
    ("size", "options", "before", "expected"),
    [
        (1000, (), (), {"200"}),
        (300, ("--max-connections", "20"), (), {"200", "503"}),
        (600, (), ("prlimit", "--nofile=200:200"), {"200", "503"}),
    ],
    ids=["1000", "300 for 20 places", "600 and few files"],
)
def test_each_of_a_crowd_gets_a_status_that_is_counted(
    size: int, options: tuple[str, ...], before: tuple[str, ...], expected: set[str]
) -> None:
    patient = ("--backend", "torch", "--read-timeout", "120", *options)
    with Served(*patient, program=FAKE, before=before) as served, ExitStack() as stack:
        # Few at a time connect: a listening socket's queue has its limits, too.
        connections = crowd(served, size, HEAD % len(BODY) + BODY)
        for connection in connections:
            stack.enter_context(connection)
        found = Counter(statuses(connections))
        assert set(found) <= expected, found
        assert found["200"] >= 20
        assert served.counted() == found


@pytest.mark.parametrize("places", ["1024", "20"])
def test_slow_bodies_cost_nobody_an_answer(places: str) -> None:
    with (
        Served(*OPTIONS[:-1], "5", "--max-connections", places, program=FAKE) as served,
        ExitStack() as stack,
    ):
        slow = crowd(served, 300, HEAD % 1000 + b"{")
        good = crowd(served, 40, HEAD % len(BODY) + BODY)
        for connection in [*slow, *good]:
            stack.enter_context(connection)
        found = statuses(good)
        assert set(found) <= {"200", "503"}
        if places == "1024":
            assert set(found) == {"200"}
        held = statuses(slow)
        assert set(held) <= {"408", "503"}
        assert served.counted() == Counter(found + held)
        assert served.ask(PAIR)[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", "408"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\n", "408"),
        (b"nonsense\r\n\r\n", "400"),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "400"),
    ],
    ids=["nothing", "half of the headers", "no HTTP", "no chunk"],
)
def test_what_is_no_request_is_answered_and_counted(
    served: Served, sent: bytes, status: str
) -> None:
    before = served.counted()
    with served.connect() as connection:
        connection.sendall(sent)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head[9:12].decode() == status
    assert json.loads(body)["error"]
    end = time.monotonic() + LIMIT
    while not (counted := served.counted() - before) and time.monotonic() < end:
        time.sleep(0.05)  # the path learns of it after the client
    assert counted == Counter([status])


def test_a_connection_that_was_answered_is_closed_without_a_word(served: Served) -> None:
    """Clients take a connection again, and take what comes on it for their next answer."""
    with served.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200 and answer.read()
        assert read_all(connection) == b""


def test_the_limit_on_open_files_is_raised() -> None:
    with Served(*OPTIONS, program=FAKE, before=("prlimit", "--nofile=300:900")) as served:
        text = Path(f"/proc/{served.process.pid}/limits").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("Max open files"))
        assert line.split()[3] == "900"


def test_the_death_of_a_worker_ends_the_process() -> None:
    with Served(*OPTIONS, program=FAKE, stderr=subprocess.PIPE) as served:
        bodies = [PAIR] * 5 + [{**PAIR, "premise": "death"}] + [PAIR] * 5
        with ThreadPoolExecutor(len(bodies)) as clients:
            found = [status for status, _ in clients.map(served.ask, bodies)]
        assert set(found) <= {200, 503} and found[5] == 503
        assert served.process.wait(LIMIT) == 1
        assert served.process.stderr is not None
        assert "bertnli serve: the torch worker died" in served.process.stderr.read()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_at_the_first_moment_is_not_lost(number: int, status: int) -> None:
    """One that comes when the server has said that it is ready, and uvicorn is not there yet."""
    for _ in range(2):
        with Served(*OPTIONS, program=FAKE, stderr=subprocess.DEVNULL) as served:
            assert served.end(number) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "evil.example:8000"}, 400),
        ({"Host": "localhost.evil.example"}, 400),
        ({"Host": "[::2]"}, 400),
        ({"Host": "127.0.0.1@evil.example"}, 400),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "nli.example.org"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Origin": "https://nli.example.org"}, 200),
    ],
    ids=str,
)
def test_strangers(allowing: Served, headers: dict[str, str], status: int) -> None:
    for body, path in ((PAIR, "/predict"), (None, "/health"), (None, "/")):
        found, answer = allowing.ask(body, path, headers)
        assert found == status
        if status != 200:
            assert "none of this server's names" in answer["error"]


@pytest.fixture(scope="module")
def allowing() -> Iterator[Served]:
    with Served(*OPTIONS, "--allow-host", "nli.example.org", program=FAKE) as found:
        yield found


def test_any_host_may_be_allowed() -> None:
    with Served(*OPTIONS, "--allow-host", "*", program=FAKE) as served:
        headers = {"Host": "evil.example", "Origin": "http://other.example"}
        assert served.ask(PAIR, headers=headers)[0] == 200


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("localhost", False)])
def test_a_server_for_other_machines_warns(host: str, warns: bool) -> None:
    with Served(*OPTIONS, "--host", host, program=FAKE, stderr=subprocess.PIPE) as served:
        assert served.end() == 0
        assert served.process.stderr is not None
        said = served.process.stderr.read()
        assert said.startswith(f"warning: --host {host} ") == warns
        assert said.count("\n") == warns


def test_answers_say_no_folder_of_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "secret" / "mine"
    with Served(*OPTIONS, "--checkpoint", f"{folder}/", program=FAKE) as served:
        assert served.ask(path="/model")[1]["checkpoint"] == "mine"
        assert served.ask(PAIR)[1]["checkpoint"] == "mine"
