"""`bertnli serve` as a process: sockets, the real model, signals, the end."""

import json
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import processes
import pytest
from serve_process import FAKE, Served

import bertnli
from bertnli.cli import main
from bertnli.explain import explain

SENTENCES = bertnli.read("sample", "test")
PAIRS = list(zip(SENTENCES.premises, SENTENCES.hypotheses, strict=True))
PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
BODY = json.dumps(PAIR).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
TYPE = b"Content-Type: application/json\r\n"


def as_json(pair):
    return {"premise": pair[0], "hypothesis": pair[1]}


@pytest.mark.needs("torch", "mxnet")
def test_concurrent_answers_are_those_of_predict(served, backend):
    expected = bertnli.load("bert.mini", backend.name, devices="cpu").predict(PAIRS)

    def ask(i):
        part = slice(i, i + (1 if i % 4 else 7))
        body = {"pairs": list(map(as_json, PAIRS[part])), "backend": backend.name}
        return part, *served.ask(body)

    batches = served.metric("bertnli_batch_pairs_count")
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(ask, list(range(len(PAIRS))) * 2))
    for part, status, content in answers:
        assert status == 200
        assert content["backend"] == backend.name and content["checkpoint"] == "bert.mini"
        assert len(content["predictions"]) == len(expected[part])
        for answer, prediction in zip(content["predictions"], expected[part], strict=True):
            assert answer["label"] == prediction.label
            assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)
    assert served.metric("bertnli_batch_pairs_count") - batches < len(answers)


@pytest.mark.needs("torch", "mxnet")
def test_explain_is_that_of_the_library(served, backend):
    status, answer = served.ask({**PAIR, "backend": backend.name}, "/explain")
    assert status == 200
    expected = explain(bertnli.load("bert.mini", backend.name, devices="cpu"), *PAIR.values())
    assert answer["tokens"] == list(expected.tokens)
    assert answer["segments"] == list(expected.segments)
    assert answer["label"] == expected.label
    np.testing.assert_allclose(answer["saliency"], expected.saliency, atol=1e-4)
    np.testing.assert_allclose(answer["attention"], expected.attention, atol=2e-4)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (HEAD + TYPE + b"Content-Length: 3\r\n\r\n{]}", 422),
        (HEAD + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, 413),
        (
            HEAD
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 30,
            408,
        ),
        (HEAD + b"Content-Length: 50\r\n\r\n{", 408),
        (HEAD + TYPE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, 200),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_request_gets_a_status(fake, request_, status):
    assert fake.send(request_).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 400),
        ("localhost.evil.example:8000", 400),
        ("127.0.0.1@evil.example", 400),
        ("localhost:1", 200),
        ("[::1]:8000", 200),
        ("nli.example.org", 200),
    ],
)
def test_only_its_names_are_answered(fake, host, status):
    for body, path in ((PAIR, "/predict"), (None, "/health"), (None, "/")):
        assert fake.ask(body, path, {"Host": host})[0] == status


def test_a_crowd_is_answered(fake):
    with ThreadPoolExecutor(200) as clients:
        assert {status for status, _ in clients.map(fake.ask, [PAIR] * 400)} == {200}


def test_too_many_connections_are_503():
    with Served("--max-connections", "5", program=FAKE) as server, ExitStack() as stack:
        for _ in range(5):
            connection = socket.create_connection(server.address)
            stack.enter_context(connection)
            connection.sendall(HEAD)
        assert server.send(HEAD + b"\r\n").startswith(b"HTTP/1.1 503 ")
        stack.close()
        server.process.until(lambda: server.ask(PAIR)[0] == 200)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_its_end_loses_nothing(number, status):
    """Requests that are in the queue when the signal comes are answered."""
    with Served("--max-batch", "1", program=FAKE, stderr=subprocess.DEVNULL) as server:
        answers = []
        body = {**PAIR, "premise": "slow"}
        clients = [
            threading.Thread(target=lambda: answers.append(server.ask(body)[0])) for _ in range(10)
        ]
        for client in clients:
            client.start()
        server.process.until(lambda: server.metric("bertnli_queue_pairs") >= 5)
        assert server.end(number) == status
        for client in clients:
            client.join(processes.LIMIT)
        assert answers == [200] * 10
        with pytest.raises(ConnectionError):
            server.ask(path="/health")


def test_the_death_of_a_worker_ends_the_process():
    with Served(program=FAKE, stderr=subprocess.PIPE) as server:
        assert server.ask({**PAIR, "premise": "death"})[0] == 503
        assert server.process.wait(processes.LIMIT) == 1
        assert server.process.stderr is not None
        assert "bertnli serve: the torch worker died" in server.process.stderr.read()


def test_a_server_for_other_machines_warns_and_names_no_folder(tmp_path):
    argv = ("--host", "0.0.0.0", "--checkpoint", f"{tmp_path}/secret/mine/")
    with Served(*argv, program=FAKE, stderr=subprocess.PIPE) as server:
        assert server.ask(path="/model")[1]["checkpoint"] == "mine"
        assert server.end() == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read().startswith("warning: --host 0.0.0.0 ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--checkpoint", "/nowhere"], "/nowhere"),
        (["--max-len", "9999"], "max_len (--max-len) is 9999"),
        (["--max-queue", "10"], "the queue has room for 10"),
        (["--host", "192.0.2.1"], "give --host an address of this machine"),
        (["--host", "no host"], "give --host an address of this machine"),
        (["--port", "TAKEN"], "--port one that is free"),
    ],
)
def test_what_cannot_be_served(fake, argv, message, capsys):
    argv = [str(fake.address[1]) if word == "TAKEN" else word for word in argv]
    assert main(["serve", "--backend", "torch", "--port", "0", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.splitlines()[-1].startswith("bertnli serve: ")
