"""`bertnli serve` on each backend: real sockets, the real model, a process that ends."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import processes
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_process import ROOT, Served, seconds_until_closed

import bertnli
from bertnli.backends.interface import Backend
from bertnli.explain import explain

SENTENCES = bertnli.read("sample", "test")
PAIRS = list(zip(SENTENCES.premises, SENTENCES.hypotheses, strict=True))
PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
#: Seconds that a slow client has, and that this noisy machine may need on top.
READ_TIMEOUT, NOISE = 1.0, 60.0


@pytest.fixture(scope="module")
def served(backend: Backend) -> Iterator[Served]:
    """One server of each backend, for all tests that leave it alive."""
    limits = ("--read-timeout", "1", "--max-connections", "20", "--max-body", "20000")
    with Served("--backend", backend.name, "--devices", "cpu", *limits) as found:
        yield found
        assert found.process.poll() is None


@pytest.fixture(scope="module")
def expected(backend: Backend) -> list[Any]:
    """What the model says of each pair, asked directly."""
    return bertnli.load("bert.mini", backend.name, devices="cpu").predict(PAIRS)


def as_json(pair: tuple[str, str]) -> dict[str, str]:
    return {"premise": pair[0], "hypothesis": pair[1]}


def is_alive(served: Served) -> bool:
    status, found = served.ask(PAIR)
    return status == 200 and found["predictions"][0]["label"] == "contradiction"


def test_concurrent_answers_are_those_of_predict(
    served: Served, backend: Backend, expected: list[Any]
) -> None:
    def ask(i: int) -> tuple[int, Any, slice]:
        part = slice(i, i + (1 if i % 4 else 7))
        pairs = PAIRS[part]
        body = as_json(pairs[0]) if len(pairs) == 1 else {"pairs": list(map(as_json, pairs))}
        return (*served.ask(body), part)

    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(ask, list(range(len(PAIRS))) * 2))
    for status, found, part in answers:
        assert status == 200
        assert found["backend"] == backend.name and found["checkpoint"] == "bert.mini"
        assert len(found["predictions"]) == len(expected[part])
        for one, prediction in zip(found["predictions"], expected[part], strict=True):
            assert one["label"] == prediction.label
            assert list(one["probabilities"]) == list(prediction.probabilities)
            np.testing.assert_allclose(
                list(one["probabilities"].values()),
                list(prediction.probabilities.values()),
                atol=1e-5,
            )
    families = {
        family.name: family
        for family in text_string_to_metric_families(served.ask(path="/metrics")[1])
    }
    batches = {sample.name: sample.value for sample in families["bertnli_batch_pairs"].samples}
    pairs = sum(len(found["predictions"]) for _, found, _ in answers)
    assert batches["bertnli_batch_pairs_sum"] >= pairs
    assert batches["bertnli_batch_pairs_count"] < len(answers)  # some were computed together


def test_explain_is_that_of_the_library(served: Served, backend: Backend) -> None:
    status, found = served.ask(PAIR, "/explain")
    assert status == 200
    net = bertnli.load("bert.mini", backend.name, devices="cpu")
    right = explain(net, *PAIR.values())
    assert found["tokens"] == list(right.tokens) and found["segments"] == list(right.segments)
    assert found["label"] == right.label
    np.testing.assert_allclose(found["saliency"], right.saliency, atol=1e-4)
    np.testing.assert_allclose(found["attention"], right.attention, atol=2e-4)
    np.testing.assert_allclose(np.sum(found["attention"], -1), 1, atol=1e-2)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Content-Length: x\r\n\r\n", 400),
        (HEAD + b"X: " + b"y" * 30_000 + b"\r\n\r\n", 400),
        (HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\n{]}", 400),
        (HEAD + b"Content-Length: 30000\r\n\r\n" + b"x" * 30_000, 413),
        (HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (
            HEAD
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 30
            + b"0\r\n\r\n",
            413,
        ),
        (HEAD + b"Content-Length: 50\r\n\r\n{", 408),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_answered_is_said_and_costs_nothing(
    served: Served, request_: bytes, status: int
) -> None:
    start = time.monotonic()
    answer = served.send(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert time.monotonic() - start < READ_TIMEOUT + NOISE
    assert is_alive(served)


@pytest.mark.parametrize("slow", ["headers", "nothing", "a second request"])
def test_a_slow_client_is_dropped(served: Served, slow: str) -> None:
    with served.connect() as connection:
        trickle = b""
        if slow != "nothing":
            body = json.dumps(PAIR).encode()
            if slow == "a second request":
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            connection.sendall(HEAD)
            trickle = b"X: y\r\n"
        assert seconds_until_closed(connection, trickle) < READ_TIMEOUT + NOISE
    assert is_alive(served)


def test_many_that_hold_connections_keep_nobody_out(served: Served) -> None:
    held = []
    for _ in range(60):  # three times as many as there may be
        connection = served.connect()
        connection.sendall(HEAD)
        held.append(connection)
    start = time.monotonic()
    assert is_alive(served)
    assert time.monotonic() - start < NOISE
    for connection in held:
        connection.close()


def test_clients_that_leave_cost_nothing(served: Served) -> None:
    body = json.dumps({"pairs": [as_json(pair) for pair in PAIRS[:60]]}).encode()
    for _ in range(30):
        with served.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert is_alive(served)
    status, health = served.ask(path="/health")
    assert status == 200 and health["status"] == "ready"


@pytest.mark.parametrize("where", ["/", "/style.css", "/page.js", "/words.js", "/icon.svg"])
def test_the_page_and_its_policy(served: Served, where: str) -> None:
    connection = http.client.HTTPConnection(*served.address, timeout=processes.LIMIT)
    connection.request("GET", where)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200 and len(text) > 100
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_its_end_loses_nothing(backend: Backend, number: int, status: int) -> None:
    """Requests that are in the queue when the signal comes are answered."""
    options = ("--backend", backend.name, "--devices", "cpu", "--max-batch", "1")
    with Served(*options, "--timeout", "300", "--read-timeout", "300") as served:
        body = {"pairs": [as_json(pair) for pair in PAIRS[:30]]}
        answers: list[tuple[int, Any]] = []

        def ask() -> None:
            try:
                answers.append(served.ask(body))
            except OSError as error:
                answers.append((0, repr(error)))

        clients = [threading.Thread(target=ask) for _ in range(10)]
        for client in clients:
            client.start()
        end = time.monotonic() + processes.LIMIT
        waiting = computed = 0.0
        while waiting + computed < 295:  # of 300, with a batch under way
            assert time.monotonic() < end, (waiting, computed, [found for found, _ in answers])
            waiting, computed = _pairs(served)
            time.sleep(0.02)  # the clients want to run, too
        assert waiting > 10, "the requests were answered too fast to see them wait"
        assert served.end(number) == status
        for client in clients:
            client.join(processes.LIMIT)
        assert [found for found, _ in answers] == [200] * 10
        assert all(len(found["predictions"]) == 30 for _, found in answers)
        with pytest.raises(ConnectionError):
            served.connect()


def _pairs(served: Served) -> tuple[float, float]:
    """How many pairs wait, and how many have been computed."""
    names = ("bertnli_queue_pairs", "bertnli_pairs_total")
    families = text_string_to_metric_families(served.ask(path="/metrics")[1])
    found = {sample.name: sample.value for family in families for sample in family.samples}
    return found[names[0]], found[names[1]]


@pytest.mark.needs("torch", "mxnet")
def test_both_side_by_side() -> None:
    with Served("--backend", "both", "--devices", "cpu") as served:
        assert served.line.startswith("bert.mini on torch and mxnet: http://127.0.0.1:")
        found = {name: served.ask({**PAIR, "backend": name})[1] for name in ("torch", "mxnet")}
        assert {name: answer["backend"] for name, answer in found.items()} == {
            "torch": "torch",
            "mxnet": "mxnet",
        }
        first, second = (found[name]["predictions"][0]["probabilities"] for name in found)
        np.testing.assert_allclose(list(first.values()), list(second.values()), atol=1e-5)
        explained = [
            served.ask({**PAIR, "backend": name}, "/explain")[1]["saliency"] for name in found
        ]
        np.testing.assert_allclose(*explained, atol=1e-4)
        assert served.end() == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--checkpoint", "/nowhere"], "/nowhere"),
        (["--max-len", "9999"], "max_len (--max-len) is 9999"),
        (["--max-queue", "10"], "the queue has room for 10"),
        (["--host", "192.0.2.1"], "192.0.2.1 port 0: Cannot assign requested address; give --host"),
        (["--host", "no host"], "; give --host an address of this machine, such as 127.0.0.1"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    backend: Backend, argv: list[str], message: str
) -> None:
    command = [sys.executable, "-m", "bertnli", "serve", "--backend", backend.name, "--port", "0"]
    found = processes.run([*command, *argv], cwd=ROOT)
    assert found.returncode == 2
    assert message in found.stderr and found.stderr.count("\n") == 1


def test_a_port_that_is_taken(served: Served) -> None:
    command = [sys.executable, "-m", "bertnli", "serve", "--port", str(served.address[1])]
    found = processes.run(command, cwd=ROOT)
    assert found.returncode == 2
    assert "choose another --port" in found.stderr
