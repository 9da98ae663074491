"""The answers of the server: everything between the sockets and the model."""

import asyncio
import json
import sys

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from processes import LIMIT
from prometheus_client.parser import text_string_to_metric_families
from serve_fakes import FakeNet, answer, pairs_of, started

from bertnli.bert.labels import LABELS
from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.explain import Explanation
from bertnli.serve import app as app_module
from bertnli.serve.app import create_app
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics

PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
LIMITS = {
    "max_batch": 4,
    "max_queue": 20,
    "max_pairs": 10,
    "max_chars": 200,
    "max_body": 5000,
    "timeout": LIMIT,
    "read_timeout": LIMIT,
}
HEADERS = {"content-type": "application/json"}


class Server:
    """An app on two fake backends."""

    def __init__(self, **limits):
        limits, metrics = {**LIMITS, **limits}, Metrics()
        self.nets = {"torch": FakeNet(), "mxnet": FakeNet()}
        self.workers = {
            name: started(net, metrics, name, **limits) for name, net in self.nets.items()
        }
        self.app = create_app(self.workers, Limits(**limits), "some/model", metrics)

    def client(self):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=HEADERS, timeout=LIMIT
        )

    def ask(self, method, path, **options):
        async def once():
            async with self.client() as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())

    def post(self, content, path="/predict"):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", path, content=body)

    def raw(self, messages, after):
        """Call the app with a client's messages and then those of `after`; return the status."""
        request = httpx.Request("POST", "http://localhost/predict", headers=HEADERS)
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
        statuses = []

        async def receive():
            return messages.pop(0) if messages else await after()

        async def send(message):
            statuses.append(message.get("status"))

        asyncio.run(self.app({**scope, "headers": headers}, receive, send))
        return statuses[0]

    def metric(self, name):
        """Return a metric's values by label values."""
        families = text_string_to_metric_families(self.ask("GET", "/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return {tuple(s.labels.values()): s.value for s in samples if s.name == name}

    def stop(self):
        for name, worker in self.workers.items():
            self.nets[name].gate.set()
            worker.stop(10)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared():
    """A server for requests that leave no trace."""
    server = Server()
    yield server
    server.stop()


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


async def never():
    await asyncio.sleep(LIMIT)


def test_answers_and_metrics(server):
    response = server.post(PAIR)
    prediction = vars(answer(tuple(PAIR.values())))
    names = ("label", "probabilities", "unknown_share", "is_cut")
    assert response.status_code == 200
    assert response.json() == {
        "backend": "torch",
        "checkpoint": "some/model",
        "predictions": [{name: prediction[name] for name in names}],
    }
    assert list(response.json()["predictions"][0]["probabilities"]) == list(LABELS)
    pairs = pairs_of("many", 10)
    body = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in pairs]
    content = server.post({"pairs": body, "backend": "mxnet"}).json()
    assert content["backend"] == "mxnet" and len(server.nets["torch"].batches) == 1
    labels = [prediction["label"] for prediction in content["predictions"]]
    assert labels == [answer(pair).label for pair in pairs]
    server.post(b"{")
    server.ask("GET", "/some/path")
    statuses = {("/predict", "200"): 2, ("/predict", "422"): 1, ("other", "404"): 1}
    assert server.metric("bertnli_requests_total") == statuses
    assert server.metric("bertnli_pairs_total") == {("torch",): 1, ("mxnet",): 10}
    assert server.metric("bertnli_batch_pairs_count") == {("torch",): 1, ("mxnet",): 3}
    assert server.metric("bertnli_queue_pairs") == {("torch",): 0, ("mxnet",): 0}
    assert server.metric("bertnli_request_seconds_count")[("/predict",)] == 3


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "body: "),
        (b"{", 422, "JSON"),
        (b"\xff\xfe\xfa", 400, "pars"),
        (b"[" * 4000, *((422, "JSON") if sys.version_info >= (3, 13) else (400, "pars"))),
        ([], 422, "body: "),
        ({}, 422, "premise: "),
        ({"premise": "A."}, 422, "hypothesis: "),
        ({**PAIR, "premise": 3}, 422, "premise: "),
        ({**PAIR, "premise": " \n"}, 422, "premise: "),
        ({**PAIR, "hypothesis": "a" * 201}, 422, "200 characters"),
        (b'{"premise": "\\ud800", "hypothesis": "A."}', 422, "premise: "),
        ({**PAIR, "premis": "A."}, 422, "premis: "),
        ({**PAIR, "backend": "jax"}, 422, "['torch', 'mxnet']"),
        ({"pairs": []}, 422, "pairs: "),
        ({"pairs": [PAIR] * 11}, 422, "10 pairs"),
        ({"pairs": [PAIR, ["A.", "B."]]}, 422, "pairs.1: "),
        ({"pairs": [PAIR, {**PAIR, "premise": ""}]}, 422, "pairs.1.premise: "),
        ({**PAIR, "pairs": [PAIR]}, 422, "premise: "),
        ({**PAIR, "premise": "a" * 5000}, 413, "longer than 5,000 bytes"),
    ],
)
def test_a_bad_request_is_explained(shared, body, status, message):
    response = shared.post(body)
    assert response.status_code == status and message in response.json()["error"]


def test_pages_of_other_sites_cannot_post(shared):
    """A browser lets them post text, but JSON only after a preflight, which is refused."""
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"content-type": kind}
        response = shared.ask("POST", "/predict", content=json.dumps(PAIR), headers=headers)
        assert response.status_code == 422 and "Content-Type" in response.json()["error"]
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    response = shared.ask("OPTIONS", "/predict", headers=preflight)
    assert response.status_code >= 400
    assert not any(name.startswith("access-control") for name in response.headers)


def test_unknown_paths(shared):
    for method, path in (("GET", "/docs"), ("GET", "/../../etc/passwd"), ("POST", "/nowhere")):
        response = shared.ask(method, path)
        assert response.status_code in (404, 405) and response.json()["error"]


@pytest.mark.parametrize("path", ["/health", "/model", "/openapi.json", "/", "/style.css"])
def test_head_and_headers(shared, path):
    get, head = shared.ask("GET", path), shared.ask("HEAD", path)
    assert head.status_code == get.status_code == 200
    assert len(get.content) > 50 and dict(head.headers) == dict(get.headers)
    assert get.headers["content-security-policy"].startswith("default-src 'self'")
    assert get.headers["x-content-type-options"] == "nosniff"


KEYS = st.sampled_from(["premise", "hypothesis", "pairs", "backend"]) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(KEYS, x, max_size=4),
    max_leaves=12,
)
#: Requests that are nearly right.
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "premise": st.text() | JSON,
        "hypothesis": st.text() | JSON,
        "backend": st.sampled_from(["torch", "mxnet", "both", "", None]) | JSON,
        "pairs": st.lists(st.fixed_dictionaries({"premise": st.text(), "hypothesis": st.text()})),
    },
)
BODIES = st.binary(max_size=300) | (JSON | REQUESTS).map(lambda value: json.dumps(value).encode())


@given(BODIES)
@settings(max_examples=60)
def test_no_request_makes_the_server_fail(shared, body):
    response = shared.post(body)
    assert response.status_code in (200, 400, 413, 422)
    assert ("predictions" if response.status_code == 200 else "error") in response.json()


@given(st.text(min_size=1, max_size=100).filter(lambda text: text.strip()), st.booleans())
@settings(max_examples=50)
def test_any_sentence_is_answered(shared, text, escaped):
    body = json.dumps({"premise": text, "hypothesis": "A."}, ensure_ascii=escaped).encode()
    response = shared.post(body)
    assert response.status_code == 200
    labels = {answer((sentence, "A.")).label for sentence in (text, text.strip())}
    assert response.json()["predictions"][0]["label"] in labels


def test_a_full_queue_is_503(server):
    async def ask_all():
        async with server.client() as client:
            posts = [client.post("/predict", json={"pairs": [PAIR] * 10}) for _ in range(6)]
            tasks = [asyncio.ensure_future(post) for post in posts]
            while sum(task.done() for task in tasks) < 4:
                await asyncio.sleep(0.01)
            server.nets["torch"].gate.set()
            return await asyncio.gather(*tasks)

    server.nets["torch"].gate.clear()
    responses = asyncio.run(ask_all())
    assert sorted(response.status_code for response in responses) == [200] * 2 + [503] * 4
    full = [response for response in responses if response.status_code == 503]
    assert all(int(response.headers["retry-after"]) >= 1 for response in full)
    assert "room for 20" in full[0].json()["error"]


def test_a_failing_model_is_500_for_its_own_request(server):
    assert server.post({**PAIR, "premise": "poison"}).status_code == 500
    assert server.post(PAIR).status_code == 200
    nan = answer(("A.", "B."))
    nan.probabilities["neutral"] = float("nan")
    server.nets["torch"].predict = lambda pairs, **_: [nan]
    response = server.post(PAIR)
    assert response.status_code == 500 and "the server's log" in response.json()["error"]


def test_slow_answers_are_503_and_slow_bodies_408():
    server = Server(timeout=0.2, read_timeout=0.2)
    server.nets["torch"].gate.clear()
    response = server.post(PAIR)
    assert response.status_code == 503 and "retry-after" in response.headers
    assert "no answer within 0.2 seconds" in response.json()["error"]
    assert server.raw([part(b'{"premise"')], never) == 408
    server.stop()


def test_a_long_body_is_413(shared):
    async def endless():
        return part(b"x" * 65536)

    parts = [part(b"x" * 1000) for _ in range(20)]
    assert shared.raw([*parts, part(b"", False)], never) == 413
    assert shared.raw([], endless) == 413


def test_the_pairs_of_a_client_that_leaves_are_dropped(server):
    net, worker = server.nets["torch"], server.workers["torch"]

    async def leave():
        while worker.waiting < 1:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    with net.held():
        worker.predict(pairs_of("first", 1))
        assert net.entered.acquire(timeout=LIMIT)
        body = json.dumps({"pairs": [PAIR] * 3}).encode()
        assert server.raw([part(body, False)], leave) == 499
    assert server.post({**PAIR, "premise": "After that"}).status_code == 200
    assert [len(batch) for batch in net.batches] == [1, 1]
    assert server.metric("bertnli_dropped_pairs_total")[("torch",)] == 3
    assert server.raw([{"type": "http.disconnect"}], never) == 499
    assert server.metric("bertnli_requests_total")[("/predict", "499")] == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_when_a_worker_is_dead(server):
    ready = {"status": "ready", "backends": {"torch": "ready", "mxnet": "ready"}}
    assert server.ask("GET", "/health").json() == ready
    assert server.post({**PAIR, "premise": "death"}).status_code == 503
    for method in ("GET", "HEAD"):
        assert server.ask(method, "/health").status_code == 503
    dead = {"status": "dead", "backends": {"torch": "dead", "mxnet": "ready"}}
    assert server.ask("GET", "/health").json() == dead
    assert server.post(PAIR).status_code == 503
    assert server.post({**PAIR, "backend": "mxnet"}).status_code == 200
    assert server.metric("bertnli_worker_up") == {("torch",): 0, ("mxnet",): 1}


@pytest.fixture
def explained(monkeypatch):
    """Explain each pair in the same way; the premise "strange" is an error of the library."""
    rng = np.random.default_rng(0)
    attention = rng.random((2, 4, 5, 5))
    attention /= attention.sum(-1, keepdims=True)
    probabilities = {"entailment": 0.25, "contradiction": 0.25, "neutral": 0.5}
    tokens, segments = ("<cls>", "a", "<sep>", "b", "<sep>"), (0, 0, 0, 1, 1)
    texts, labels = ("A.", "B.", tokens, segments), ("neutral", probabilities, "neutral", 0.3)
    explanation = Explanation(*texts, *labels, rng.normal(size=5), attention)

    def explain(net, premise, hypothesis):
        if premise == "strange":
            raise ConfigError("the model carries no vocabulary")
        return explanation

    monkeypatch.setattr(app_module, "explain", explain)


def test_explain(shared, explained):
    response = shared.post({**PAIR, "premise": "strange"}, "/explain")
    assert response.status_code == 422
    assert response.json() == {"error": "the model carries no vocabulary"}
    for body in ({"pairs": [PAIR]}, {**PAIR, "backend": "jax"}):
        assert shared.post(body, "/explain").status_code == 422


def test_the_openapi_description_is_valid_and_right(shared, explained):
    described = shared.ask("GET", "/openapi.json").json()
    validate(described)
    requests = {
        ("post", "/predict"): [PAIR, {"pairs": [PAIR]}, b"{", {}, {"pairs": []}],
        ("post", "/explain"): [PAIR, {"pairs": [PAIR]}],
        ("get", "/model"): [None],
        ("get", "/health"): [None],
    }

    def validator(content):
        schema = {**content["application/json"]["schema"], **described}
        return jsonschema.Draft202012Validator(schema)

    for (method, path), bodies in requests.items():
        operation = described["paths"][path][method]
        for body in bodies:
            response = shared.post(body, path) if method == "post" else shared.ask("GET", path)
            answered = operation["responses"][str(response.status_code)]["content"]
            validator(answered).validate(response.json())
            if isinstance(body, dict):
                accepted = validator(operation["requestBody"]["content"]).is_valid(body)
                assert accepted == (response.status_code == 200)


def test_the_model_is_described(shared):
    assert shared.ask("GET", "/model").json() == {
        "checkpoint": "some/model",
        "backends": ["torch", "mxnet"],
        "labels": list(LABELS),
        "blocks": 2,
        "heads": 4,
        "max_len": 128,
        "truncation": "book",
        "limits": {"max_pairs": 10, "max_chars": 200, "max_body": 5000},
    }


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "bertnli.serve.run", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--backend", "torch"]) == 2
    message = 'needs uvicorn, which is not installed: pip install "bertnli[serve]"'
    assert message in capsys.readouterr().err
