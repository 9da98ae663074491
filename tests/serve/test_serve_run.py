"""`bertnli serve` as a process: sockets, the real model, signals, the end."""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import processes
import pytest
from serve_process import FAKE, Served

import bertnli
from bertnli.cli import main
from bertnli.explain import explain

PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
BODY = json.dumps(PAIR).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
TYPE = b"Content-Type: application/json\r\n"


@pytest.mark.needs("torch", "mxnet")
def test_concurrent_answers_are_those_of_the_library(served, backend):
    sentences = bertnli.read("sample", "test")
    pairs = list(zip(sentences.premises, sentences.hypotheses, strict=True))[:40]
    net = bertnli.load("bert.mini", backend.name, devices="cpu")
    expected = net.predict(pairs)

    def ask(i):
        part = slice(i, i + (1 if i % 4 else 7))
        body = [{"premise": a, "hypothesis": b} for a, b in pairs[part]]
        return part, *served.ask({"pairs": body, "backend": backend.name})

    batches = served.metric("bertnli_batch_pairs_count")
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(ask, range(len(pairs))))
    for part, status, content in answers:
        assert status == 200
        assert content["backend"] == backend.name and content["checkpoint"] == "bert.mini"
        for answer, prediction in zip(content["predictions"], expected[part], strict=True):
            assert answer["label"] == prediction.label
            assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-5)
    assert served.metric("bertnli_batch_pairs_count") - batches < len(answers)

    status, answer = served.ask({**PAIR, "backend": backend.name}, "/explain")
    explanation = explain(net, *PAIR.values())
    assert status == 200
    assert answer["tokens"] == list(explanation.tokens)
    assert answer["segments"] == list(explanation.segments)
    assert answer["label"] == explanation.label
    np.testing.assert_allclose(answer["saliency"], explanation.saliency, atol=1e-4)
    np.testing.assert_allclose(answer["attention"], explanation.attention, atol=2e-4)


CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n" + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 30


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (HEAD + TYPE + b"Content-Length: 3\r\n\r\n{]}", 422),
        (HEAD + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, 413),
        (HEAD + CHUNKS, 408),
        (HEAD + b"Content-Length: 50\r\n\r\n{", 408),
        (HEAD + TYPE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY, 200),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_request_gets_a_status(fake, content, status):
    assert fake.send(content).startswith(f"HTTP/1.1 {status} ".encode())


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
def test_requests_to_other_hosts_are_refused(fake, host, status):
    for body, path in ((PAIR, "/predict"), (None, "/health"), (None, "/")):
        assert fake.ask(body, path, {"Host": host})[0] == status


def test_many_clients_at_once_are_answered(fake):
    with ThreadPoolExecutor(100) as clients:
        assert {status for status, _ in clients.map(fake.ask, [PAIR] * 200)} == {200}


def test_connections_are_limited_and_the_end_loses_no_request(tmp_path):
    """A server for other machines warns, and shows no folder. Queued requests are answered."""
    options = ["--max-connections", "12", "--max-batch", "1"]
    argv = ("--host", "0.0.0.0", "--checkpoint", f"{tmp_path}/secret/mine/", *options)
    with Served(*argv, program=FAKE, stderr=subprocess.PIPE) as server:
        assert server.ask(path="/model")[1]["checkpoint"] == "mine"
        with ExitStack() as stack:
            for _ in range(12):
                connection = stack.enter_context(socket.create_connection(server.address))
                connection.sendall(HEAD)
            assert server.send(HEAD + b"\r\n").startswith(b"HTTP/1.1 503 ")
        server.process.until(lambda: server.ask(PAIR)[0] == 200)
        with ThreadPoolExecutor(10) as clients:
            answers = [clients.submit(server.ask, {**PAIR, "premise": "slow"}) for _ in range(10)]
            server.process.until(lambda: server.metric("bertnli_queue_pairs") >= 5)
            assert server.end() == 0
            assert [answer.result()[0] for answer in answers] == [200] * 10
        with pytest.raises(ConnectionError):
            server.ask(path="/health")
        assert server.process.stderr.read().startswith("warning: --host 0.0.0.0 ")


def test_a_dead_worker_ends_the_process():
    with Served(program=FAKE, stderr=subprocess.PIPE) as server:
        assert server.ask({**PAIR, "premise": "death"})[0] == 503
        assert server.process.wait(processes.LIMIT) == 1
        assert "bertnli serve: the torch worker died" in server.process.stderr.read()


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
def test_wrong_options_are_refused(fake, argv, message, capsys):
    argv = [str(fake.address[1]) if word == "TAKEN" else word for word in argv]
    assert main(["serve", "--backend", "torch", "--port", "0", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.splitlines()[-1].startswith("bertnli serve: ")
