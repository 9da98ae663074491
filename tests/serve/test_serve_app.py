"""What the server answers: everything above the sockets and around the model."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from processes import LIMIT
from prometheus_client.parser import text_string_to_metric_families
from serve_fakes import FakeNet, answer, pairs_of, started

from bertnli.bert.labels import LABELS
from bertnli.cli import main
from bertnli.errors import BackendError, ConfigError
from bertnli.explain import Explanation
from bertnli.serve import app as app_module
from bertnli.serve.app import create_app
from bertnli.serve.hosts import Hosts
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import Worker

PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
LIMITS: dict[str, Any] = {
    "max_batch": 4,
    "max_queue": 20,
    "max_pairs": 10,
    "max_chars": 200,
    "max_body": 5000,
    "timeout": 5.0,
    "read_timeout": 1.0,
}


class Server:
    """An app on two fake backends."""

    def __init__(self, **limits: Any) -> None:
        limits = {**LIMITS, **limits}
        self.metrics = Metrics()
        self.nets = {"torch": FakeNet(), "mxnet": FakeNet()}
        self.workers: dict[str, Worker] = {
            name: started(net, self.metrics, name, **limits) for name, net in self.nets.items()
        }
        self.app = create_app(self.workers, Limits(**limits), "some/model", self.metrics)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())

    def post(self, content: Any, path: str = "/predict") -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", path, content=body)

    def samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """What /metrics says: name to label values to number."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.ask("GET", "/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def stop(self) -> None:
        for net in self.nets.values():
            net.gate.set()
        for worker in self.workers.values():
            worker.stop(10)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Server]:
    """One server for many requests."""
    made = Server()
    yield made
    made.stop()


def test_one_pair(server: Server) -> None:
    found = server.post(PAIR)
    expected = answer((PAIR["premise"], PAIR["hypothesis"]))
    assert found.status_code == 200
    assert found.json() == {
        "backend": "torch",
        "checkpoint": "some/model",
        "predictions": [vars(expected)],
    }
    assert list(found.json()["predictions"][0]["probabilities"]) == list(LABELS)


def test_several_pairs_of_a_backend(server: Server) -> None:
    pairs = pairs_of("many", 10)
    asked = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in pairs]
    found = server.post({"pairs": asked, "backend": "mxnet"}).json()
    assert found["backend"] == "mxnet"
    labels = [prediction["label"] for prediction in found["predictions"]]
    assert labels == [answer(pair).label for pair in pairs]
    assert not server.nets["torch"].batches


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, 'send {"premise"'),
        (b"\xff\xfe\xfa", 400, "no JSON"),
        (b"[" * 4000, 400, "no JSON"),
        (b'{"premise": ' + b"9" * 4900 + b"}", 400, "no JSON"),
        ([], 422, "the body is []; give an object such as"),
        ("text", 422, "the body is 'text'"),
        ({}, 422, "the request has no premise"),
        ({"premise": "A."}, 422, "has no hypothesis; give it as a string"),
        ({**PAIR, "premise": 3}, 422, "premise is 3; give a string"),
        ({**PAIR, "premise": None}, 422, "premise is None"),
        ({**PAIR, "premise": " \n"}, 422, "premise is empty; give a sentence"),
        ({**PAIR, "hypothesis": "a" * 201}, 422, "hypothesis has 201 characters"),
        (b'{"premise": "\\ud800", "hypothesis": "A."}', 422, "half of a surrogate pair"),
        ({**PAIR, "premis": "A."}, 422, "'premis', which means nothing"),
        ({**PAIR, "backend": "jax"}, 422, "give one of ['torch', 'mxnet'], or leave it out"),
        ({**PAIR, "backend": ["torch"]}, 422, "backend is ['torch']"),
        (b'{"premise": "A.", "hypothesis": "B.", "premise": "C."}', 400, "one key, 'premise'"),
        ({"pairs": []}, 422, "there are 0 pairs, and a request may have 1 to 10"),
        ({"pairs": [PAIR] * 11}, 422, "there are 11 pairs"),
        ({"pairs": PAIR}, 422, "pairs is"),
        ({"pairs": [PAIR, ["A.", "B."]]}, 422, "pairs[1] is ['A.', 'B.']; give an object"),
        ({"pairs": [PAIR, {**PAIR, "premise": ""}]}, 422, "pairs[1].premise is empty"),
        ({"pairs": [{**PAIR, "backend": "torch"}]}, 422, "pairs[0] has 'backend'"),
        ({**PAIR, "pairs": [PAIR]}, 422, "the request has 'premise'"),
        ({**PAIR, "premise": "a" * 5000}, 413, "longer than 5,000 bytes"),
    ],
)
def test_what_is_wrong_is_said(server: Server, body: Any, status: int, message: str) -> None:
    found = server.post(body)
    assert found.status_code == status
    assert message in found.json()["error"]


@pytest.mark.parametrize("body", [{"pairs": [PAIR]}, b"{", {**PAIR, "backend": "jax"}])
def test_explain_takes_one_pair(server: Server, body: Any) -> None:
    assert server.post(body, "/explain").status_code in (400, 422)


def test_paths_and_methods_that_there_are_not(server: Server) -> None:
    for method, path, status in (
        ("GET", "/predict", 405),
        ("DELETE", "/", 405),
        ("GET", "/docs", 404),
        ("GET", "/../../etc/passwd", 404),
        ("POST", "/nowhere", 404),
    ):
        found = server.ask(method, path)
        assert found.status_code == status
        assert "openapi.json" in found.json()["error"]
    assert server.ask("GET", "/predict").headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/health", "/model", "/metrics", "/openapi.json", "/", "/style.css", "/words.js"]
)
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    server.ask("GET", path)
    got, head = server.ask("GET", path), server.ask("HEAD", path)
    assert head.status_code == got.status_code == 200
    assert head.content == b"" and got.content
    own = {"content-length"} if path == "/metrics" else set()  # it counts the GET
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }
    assert server.ask("POST", path).headers["allow"] == "GET, HEAD"


def test_head_where_there_is_no_get(server: Server) -> None:
    found = server.ask("HEAD", "/predict")
    assert found.status_code == 405 and found.content == b""
    assert found.headers["allow"] == "POST"
    server.nets["torch"].gate.set()
    server.post({**PAIR, "premise": "death"})
    assert server.ask("HEAD", "/health").status_code == 503


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "GZIP", "identity, gzip", "made-up"])
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_compressed_body_is_415(server: Server, coding: str, path: str) -> None:
    body = gzip.compress(json.dumps(PAIR).encode())
    found = server.ask("POST", path, content=body, headers={"content-encoding": coding})
    assert found.status_code == 415
    assert f"Content-Encoding {coding!r}; send it uncompressed" in found.json()["error"]
    assert found.headers["accept-encoding"] == "identity"


def test_a_body_that_says_it_is_not_compressed(server: Server) -> None:
    for coding in ("identity", "Identity", ""):
        body = json.dumps(PAIR).encode()
        found = server.ask("POST", "/predict", content=body, headers={"content-encoding": coding})
        assert found.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": ""}, 400),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:80"}, 200),
        ({"host": "192.0.2.7:80"}, 200),  # where it came in
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://[broken"}, 403),
        ({"origin": "http://192.0.2.7"}, 200),
    ],
)
def test_hosts_and_origins(server: Server, headers: dict[str, str], status: int) -> None:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://192.0.2.7") as client:
            return await client.post("/predict", json=PAIR, headers=headers)

    found = asyncio.run(once())
    assert found.status_code == status
    counted = server.samples()["bertnli_requests_total"]
    assert counted == {("/predict", str(status)): 1}
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["http://nli.example.org", "a b", "", "x/y", "u@h"])
def test_hosts_that_cannot_be_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match="give a name such as nli"):
        Hosts("127.0.0.1", [name])


def test_too_many_requests_wait_a_little_and_are_503() -> None:
    server = Server(max_connections=2)
    net = server.nets["torch"]

    async def ask_all() -> list[httpx.Response]:
        async with server.client() as client:
            asked = [asyncio.ensure_future(client.post("/predict", json=PAIR)) for _ in range(5)]
            while len([task for task in asked if task.done()]) < 3:
                await asyncio.sleep(0.01)
            others = [await client.get(path) for path in ("/health", "/metrics")]
            net.gate.set()
            return [*await asyncio.gather(*asked), *others]

    try:
        net.gate.clear()
        found = asyncio.run(ask_all())
        assert [answer.status_code for answer in found] == [200, 200, 503, 503, 503, 200, 200]
        assert "2 requests are under way" in found[2].json()["error"]
        assert found[2].headers["retry-after"] == "5"
        assert server.samples()["bertnli_requests_total"][("/predict", "503")] == 3
        assert server.post(PAIR).status_code == 200
    finally:
        server.stop()


def test_a_slow_body_makes_room_for_others() -> None:
    server = Server(max_connections=1, read_timeout=LIMIT)
    try:
        sent = asyncio.run(_raw(server, [part(b'{"premise"')], [], never))
        assert status_of(sent) == 503
        assert b"others wait for its place" in sent[1]["body"]
    finally:
        server.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["premise", "hypothesis", "pairs", "backend"]) | st.text(),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)
#: What is nearly right.
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "premise": st.text() | JSON,
        "hypothesis": st.text() | JSON,
        "backend": st.sampled_from(["torch", "mxnet", "both", "", None]) | JSON,
        "pairs": st.lists(st.fixed_dictionaries({"premise": st.text(), "hypothesis": st.text()})),
    },
)


@given(
    body=st.binary(max_size=300) | (JSON | REQUESTS).map(lambda found: json.dumps(found).encode()),
    path=st.sampled_from(["/predict", "/explain"]),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_no_request_makes_the_server_fail(fuzzed: Server, body: bytes, path: str) -> None:
    if path == "/explain":
        found = fuzzed.post(body, path)
        if found.status_code == 500:  # a fake model cannot be explained
            found = fuzzed.post(body)
    else:
        found = fuzzed.post(body)
    assert found.status_code in (200, 400, 413, 422)
    assert ("predictions" if found.status_code == 200 else "error") in found.json()


@given(
    text=st.text(min_size=1, max_size=100).filter(lambda text: text.strip()),
    escaped=st.booleans(),
)
def test_any_sentence_is_answered(fuzzed: Server, text: str, escaped: bool) -> None:
    body = json.dumps({"premise": text, "hypothesis": text}, ensure_ascii=escaped).encode()
    found = fuzzed.post(body)
    assert found.status_code == 200
    assert found.json()["predictions"][0]["label"] == answer((text, text)).label


def test_concurrent_requests_share_batches(server: Server) -> None:
    net = server.nets["torch"]

    async def ask_all() -> list[httpx.Response]:
        async with server.client() as client:
            bodies = [{**PAIR, "premise": f"Man {i} is asleep."} for i in range(16)]
            asked = [asyncio.ensure_future(client.post("/predict", json=b)) for b in bodies]
            while server.workers["torch"].waiting < 12:
                await asyncio.sleep(0.01)
            net.gate.set()
            return await asyncio.gather(*asked)

    net.gate.clear()
    for i, found in enumerate(asyncio.run(ask_all())):
        expected = answer((f"Man {i} is asleep.", PAIR["hypothesis"]))
        assert found.json()["predictions"][0]["probabilities"] == expected.probabilities
    assert sum(map(len, net.batches)) == 16
    assert len(net.batches) <= 5


def test_a_failing_model_is_500_for_its_own_request(server: Server) -> None:
    found = server.post({**PAIR, "premise": "poison"})
    assert found.status_code == 500
    assert "the server's log says why" in found.json()["error"]
    assert server.post(PAIR).status_code == 200


def test_probabilities_that_are_no_numbers(server: Server) -> None:
    nan = answer(("A.", "B."))
    nan.probabilities["neutral"] = float("nan")
    server.nets["torch"].predict = lambda pairs, **_: [nan]  # type: ignore[method-assign]
    found = server.post(PAIR)
    assert found.status_code == 500
    assert found.json() == {"error": "the server failed; its log says why"}


def test_a_full_queue_is_429(server: Server) -> None:
    async def ask_all() -> list[httpx.Response]:
        async with server.client() as client:
            first = [client.post("/predict", json={"pairs": [PAIR] * 10}) for _ in range(6)]
            asked = [asyncio.ensure_future(one) for one in first]
            while len([task for task in asked if task.done()]) < 3:
                await asyncio.sleep(0.01)
            server.nets["torch"].gate.set()
            return await asyncio.gather(*asked)

    server.nets["torch"].gate.clear()
    found = asyncio.run(ask_all())
    full = [answer for answer in found if answer.status_code == 429]
    # The first two fill the queue, or all but the batch of 4 that is computed.
    assert len(full) == 4
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in full)
    assert "there is room for 20" in full[0].json()["error"]
    assert {answer.status_code for answer in found} == {200, 429}


def test_an_answer_that_takes_too_long_is_503() -> None:
    server = Server(timeout=0.2)
    try:
        server.nets["torch"].gate.clear()
        found = server.post(PAIR)
        assert found.status_code == 503
        assert "no answer within 0.2 seconds" in found.json()["error"]
        assert "retry-after" in found.headers
    finally:
        server.stop()


def test_health_and_requests_when_a_worker_is_dead(server: Server) -> None:
    ready = {"status": "ready", "backends": {"torch": "ready", "mxnet": "ready"}}
    assert server.ask("GET", "/health").json() == ready
    assert server.post({**PAIR, "premise": "death"}).status_code == 503
    health = server.ask("GET", "/health")
    assert health.status_code == 503
    dead = {"status": "dead", "backends": {"torch": "dead", "mxnet": "ready"}}
    assert health.json() == dead
    assert server.post(PAIR).status_code == 503
    assert server.post({**PAIR, "backend": "mxnet"}).status_code == 200
    assert server.samples()["bertnli_worker_up"] == {("torch",): 0, ("mxnet",): 1}


async def _raw(
    server: Server, messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], after: Any
) -> list[dict[str, Any]]:
    """Call the app with messages of a client, then with what `after` gives."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[dict[str, Any]] = []
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else await after()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await server.app(scope, receive, send)
    return sent


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def never() -> Any:
    await asyncio.sleep(LIMIT)


def status_of(sent: list[dict[str, Any]]) -> int:
    return sent[0]["status"]


def test_the_pairs_of_a_client_that_left_are_not_computed(server: Server) -> None:
    net = server.nets["torch"]

    async def leave() -> Any:
        while server.workers["torch"].waiting < 1:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    net.gate.clear()
    server.workers["torch"].predict(pairs_of("first", 1))
    assert net.entered.acquire(timeout=LIMIT)
    body = json.dumps({"pairs": [PAIR] * 3}).encode()
    asyncio.run(_raw(server, [part(body, False)], [], leave))
    net.gate.set()
    assert server.post({**PAIR, "premise": "After that"}).status_code == 200
    assert [len(batch) for batch in net.batches] == [1, 1]
    samples = server.samples()
    assert samples["bertnli_dropped_pairs_total"][("torch",)] == 3
    assert samples["bertnli_requests_total"][("/predict", "499")] == 1


@pytest.mark.parametrize("size", [b"999999", None])
def test_a_long_body_is_refused_and_not_kept(server: Server, size: bytes | None) -> None:
    headers = [] if size is None else [(b"content-length", size)]
    parts = [part(b"x" * 1000) for _ in range(20)]
    sent = asyncio.run(_raw(server, [*parts, part(b"", False)], headers, never))
    assert status_of(sent) == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_body_without_end_is_refused_before_its_end(server: Server) -> None:
    async def on_and_on() -> Any:
        return part(b"x" * 65536)

    assert status_of(asyncio.run(_raw(server, [], [], on_and_on))) == 413


def test_a_client_that_asks_first_need_not_send(server: Server) -> None:
    headers = [(b"content-length", b"999999"), (b"expect", b"100-continue")]

    async def asked() -> Any:
        raise AssertionError("the body was asked for")

    assert status_of(asyncio.run(_raw(server, [], headers, asked))) == 413


def test_a_slow_body_is_408(server: Server) -> None:
    sent = asyncio.run(_raw(server, [part(b'{"premise"')], [], never))
    assert status_of(sent) == 408
    assert b"within 1 seconds" in sent[1]["body"]


def test_metrics_count_what_happens(server: Server) -> None:
    server.post({"pairs": [PAIR] * 6})
    server.post(b"{")
    server.ask("GET", "/some/path")
    found = server.samples()
    assert found["bertnli_requests_total"] == {
        ("/predict", "200"): 1,
        ("/predict", "400"): 1,
        ("other", "404"): 1,
    }
    assert found["bertnli_pairs_total"] == {("torch",): 6, ("mxnet",): 0}
    assert found["bertnli_batch_pairs_count"] == {("torch",): 2, ("mxnet",): 0}
    assert found["bertnli_batch_pairs_sum"][("torch",)] == 6
    assert found["bertnli_queue_pairs"] == {("torch",): 0, ("mxnet",): 0}
    assert found["bertnli_request_seconds_count"][("/predict",)] == 2
    again = server.samples()["bertnli_requests_total"]
    assert again[("/metrics", "200")] == 1


def test_each_server_counts_by_itself(server: Server) -> None:
    other = Server()
    try:
        other.post(PAIR)
        assert ("/predict", "200") not in server.samples().get("bertnli_requests_total", {})
    finally:
        other.stop()


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Explanation:
    """What the model makes of any pair; also one of backend's errors for a known sentence."""
    rng = np.random.default_rng(0)
    attention = rng.random((2, 4, 5, 5))
    attention /= attention.sum(-1, keepdims=True)
    probabilities = {"entailment": 0.25, "contradiction": 0.25, "neutral": 0.5}
    found = Explanation(
        "A.",
        "B.",
        ("<cls>", "a", "<sep>", "b", "<sep>"),
        (0, 0, 0, 1, 1),
        "neutral",
        probabilities,
        "neutral",
        0.3,
        rng.normal(size=5),
        attention,
    )

    def explain(net: Any, premise: str, hypothesis: str) -> Explanation:
        if premise == "strange":
            raise ConfigError("/srv/models/mine: it has no vocabulary in mine/best or ~/all/ours")
        return found

    monkeypatch.setattr(app_module, "explain", explain)
    return found


def test_explain(server: Server, explained: Explanation) -> None:
    answered = server.post({**PAIR, "backend": "mxnet"}, "/explain")
    assert answered.status_code == 200
    found = answered.json()
    assert found["backend"] == "mxnet" and found["checkpoint"] == "some/model"
    assert found["tokens"] == list(explained.tokens)
    assert found["segments"] == list(explained.segments)
    assert found["probabilities"] == explained.probabilities
    np.testing.assert_allclose(found["attention"], explained.attention, atol=5.1e-5)
    np.testing.assert_allclose(found["saliency"], explained.saliency, atol=1e-6)
    strange = server.post({**PAIR, "premise": "strange"}, "/explain")
    assert strange.status_code == 422
    assert strange.json() == {"error": "mine: it has no vocabulary in mine/best or ours"}


def test_openapi_is_valid_and_answers_are_as_it_says(
    server: Server, explained: Explanation
) -> None:
    described = server.ask("GET", "/openapi.json").json()
    validate(described)
    asked = {
        ("post", "/predict"): [PAIR, {"pairs": [PAIR]}, b"{", {}],
        ("post", "/explain"): [PAIR, {"pairs": [PAIR]}],
        ("get", "/model"): [None],
        ("get", "/health"): [None],
    }
    for (method, path), bodies in asked.items():
        operation = described["paths"][path][method]
        for body in bodies:
            found = server.post(body, path) if method == "post" else server.ask("GET", path)
            content = operation["responses"][str(found.status_code)]["content"]
            schema = {**content["application/json"]["schema"], **described}
            jsonschema.Draft202012Validator(schema).validate(found.json())
            if isinstance(body, dict):
                content = operation["requestBody"]["content"]["application/json"]
                accepted = jsonschema.Draft202012Validator(content["schema"]).is_valid(body)
                assert accepted == (found.status_code == 200)


def test_the_model_is_described(server: Server) -> None:
    assert server.ask("GET", "/model").json() == {
        "checkpoint": "some/model",
        "backends": ["torch", "mxnet"],
        "labels": list(LABELS),
        "blocks": 2,
        "heads": 4,
        "max_len": 128,
        "truncation": "book",
        "limits": {"max_pairs": 10, "max_chars": 200, "max_body": 5000},
    }


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("bertnli.serve.")]:
        if name not in ("bertnli.serve.limits", "bertnli.serve.worker"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--backend", "torch"]) == 2
    assert 'needs uvicorn, which is not installed: pip install "bertnli[serve]"' in (
        capsys.readouterr().err
    )
    with pytest.raises(BackendError):
        __import__("bertnli.serve.run")
