"""The paths of a server, and what each answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive

from bertnli.errors import BERTNLIError
from bertnli.explain import explain
from bertnli.serve import schemas
from bertnli.serve.gate import Gate
from bertnli.serve.hosts import Hosts
from bertnli.serve.limits import HURRY, Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.reading import AGAIN, LEFT, Asked, Refused, read_body, read_explain, read_predict
from bertnli.serve.worker import READY, NotReady, QueueFull, Worker
from bertnli.version import __version__

#: The page's files, with what they are.
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
#: A path of this machine, of which clients are told the last part.
PATH = re.compile(r"""(?<![\w/])(?:~?/|[A-Za-z]:\\)[^\s:;,'"]*[/\\]([^\s/\\:;,'"]+)""")
#: What requests are counted by.
PATHS = ("/predict", "/explain", "/model", "/health", "/metrics", "/openapi.json", "/")


class Service:
    """What the paths have in common.

    Args:
        workers: backend to worker, the first for those who ask for none.
        limits: what clients may ask.
        checkpoint: what the model is called.
        metrics: where all is counted.
    """

    def __init__(
        self, workers: Mapping[str, Worker], limits: Limits, checkpoint: str, metrics: Metrics
    ) -> None:
        self.workers, self.limits, self.checkpoint = workers, limits, checkpoint
        self.metrics = metrics
        self.backends = list(workers)
        self._places = asyncio.Semaphore(limits.max_connections)

    async def predict(self, request: Request) -> Response:
        """Answer with the class of each pair."""
        async with self._place():
            asked, worker = await self._read(request, read_predict)
            found = await self._result(request.receive, worker, lambda: worker.predict(asked.pairs))
        predictions = [{**vars(one), "unknown_share": round(one.unknown_share, 4)} for one in found]
        return _json({**self._who(worker), "predictions": predictions})

    async def explain(self, request: Request) -> Response:
        """Answer with what the model makes of each word of a pair."""
        async with self._place():
            asked, worker = await self._read(request, read_explain)
            (pair,) = asked.pairs
            function = partial(explained, pair=pair)
            found = await self._result(request.receive, worker, lambda: worker.call(function))
        return _response(f"{_text(self._who(worker))[:-1]},{found[1:]}")

    async def model(self) -> Response:
        """Answer with what is served."""
        limits, worker = self.limits, self._worker(None)
        names = ("max_pairs", "max_chars", "max_body")
        return _json(
            {
                "checkpoint": self.checkpoint,
                "backends": self.backends,
                "labels": worker.labels,
                "blocks": worker.num_blks,
                "heads": worker.num_heads,
                "max_len": worker.encoding.max_len,
                "truncation": worker.encoding.truncation,
                "limits": {name: getattr(limits, name) for name in names},
            }
        )

    async def health(self) -> Response:
        """Answer whether every backend is ready."""
        states = {name: worker.state for name, worker in self.workers.items()}
        bad = [state for state in states.values() if state != READY]
        status = 503 if bad else 200
        return _json({"status": bad[0] if bad else READY, "backends": states}, status)

    async def counters(self) -> Response:
        """Answer with the metrics."""
        return Response(self.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    def _worker(self, name: str | None) -> Worker:
        return self.workers[name or self.backends[0]]

    def _who(self, worker: Worker) -> dict[str, str]:
        return {"backend": worker.backend, "checkpoint": self.checkpoint}

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for one of the places of requests under way, but not for long."""
        try:
            await asyncio.wait_for(self._places.acquire(), HURRY)
        except asyncio.TimeoutError:
            raise Refused(
                503,
                f"{self.limits.max_connections:,} requests are under way, and there may be no "
                "more; send the request again after the seconds that Retry-After says",
                AGAIN,
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _read(self, request: Request, read: Callable[..., Asked]) -> tuple[Asked, Worker]:
        body = await read_body(request.receive, request.headers, self.limits, self._places.locked)
        asked = read(body, self.limits, self.backends)
        return asked, self._worker(asked.backend)

    async def _result(
        self, receive: Receive, worker: Worker, queue: Callable[[], Future[Any]]
    ) -> Any:
        """Queue a job and return what it gives; forget it if the client leaves, or time is up."""
        try:
            answer = asyncio.wrap_future(queue())
        except QueueFull as full:
            raise Refused(
                429,
                f"{full.waiting:,} pairs are waiting, and there is room for "
                f"{self.limits.max_queue:,}; send the request again after the seconds that "
                "Retry-After says",
                {"retry-after": str(full.retry_after)},
            ) from None
        except NotReady as error:
            raise _unready(error) from None
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait(
                (answer, leaving),
                timeout=self.limits.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answer.done():
                return _outcome(answer)
            if leaving.done():
                raise Refused(LEFT, "the client left")
            raise Refused(
                503,
                f"there was no answer within {self.limits.timeout:g} seconds; send fewer pairs, or "
                "try again later",
                AGAIN,
            )
        finally:
            leaving.cancel()
            answer.cancel()


def _outcome(answer: asyncio.Future[Any]) -> Any:
    """Return what a worker found, or why it found nothing."""
    try:
        return answer.result()
    except NotReady as error:
        raise _unready(error) from None
    except BERTNLIError as error:
        raise Refused(422, PATH.sub(r"\1", str(error))) from None
    except Exception:  # the worker has logged it
        raise Refused(500, "the model failed on this request; the server's log says why") from None


def _unready(error: NotReady) -> Refused:
    return Refused(503, f"{error}; see /health", AGAIN)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def explained(net: Any, pair: tuple[str, str]) -> str:
    """Return what a model says of a pair and where it looked, as an object of JSON.

    Args:
        net: a classifier, in the thread that owns it.
        pair: premise and hypothesis.
    """
    found = explain(net, *pair)
    words = {
        "label": found.label,
        "probabilities": found.probabilities,
        "baseline": found.baseline,
        "tokens": found.tokens,
        "segments": found.segments,
        "saliency": np.round(found.saliency, 6).tolist(),
        "unknown_share": round(found.unknown_share, 4),
        "is_cut": found.is_cut,
    }
    # A head at a time: no other thread runs while JSON is written, and these can be megabytes.
    blocks = (
        f"[{','.join(_text(head.tolist()) for head in block)}]"
        for block in np.round(found.attention, 4)
    )
    return f'{_text(words)[:-1]},"attention":[{",".join(blocks)}]}}'


def _text(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _response(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _json(content: Any, status: int = 200) -> Response:
    return _response(_text(content), status)


def create_app(
    workers: Mapping[str, Worker],
    limits: Limits,
    checkpoint: str,
    metrics: Metrics,
    hosts: Hosts | None = None,
) -> FastAPI:
    """Return the app; when it ends, the workers do what is queued, and end.

    Args:
        workers, limits, checkpoint, metrics: see `Service`.
        hosts: the names that are answered to; this machine's own unless others are given.
    """
    service = Service(workers, limits, checkpoint, metrics)
    metrics.watch(workers.values())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for worker in workers.values():
            await asyncio.to_thread(worker.stop, limits.timeout)

    app = FastAPI(
        title="bertnli",
        version=__version__,
        description="Natural language inference: does the hypothesis follow from the premise?",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_paths(app, service)
    _add_page(app)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_middleware(Gate, metrics=metrics, paths=PATHS, hosts=hosts or Hosts())
    return app


def _add_paths(app: FastAPI, service: Service) -> None:
    reading = (400, 403, 408, 413, 415, 422, 429, 500, 503)

    def body(several: bool) -> dict[str, Any]:
        return schemas.request_body(service.limits, service.backends, several)

    app.post(
        "/predict",
        summary="The class of one pair, or of several",
        response_model=schemas.PredictAnswer,
        responses=schemas.problems(*reading),
        openapi_extra=body(several=True),
    )(service.predict)
    app.post(
        "/explain",
        summary="What the model makes of each word of a pair",
        response_model=schemas.ExplainAnswer,
        responses=schemas.problems(*reading),
        openapi_extra=body(several=False),
    )(service.explain)
    app.get("/model", summary="What is served", response_model=schemas.ModelAnswer)(service.model)
    app.get(
        "/health",
        summary="Whether the server can answer",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Health, "description": "A backend cannot answer."}},
    )(service.health)
    app.get("/metrics", summary="Counters, for Prometheus", response_class=Response)(
        service.counters
    )


def _add_page(app: FastAPI) -> None:
    folder = resources.files("bertnli.serve") / "static"
    for name, kind in PAGE.items():
        path = "/" if name == "index.html" else f"/{name}"
        content = (folder / name).read_bytes()

        async def file(_: Request, content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

        app.add_route(path, file, methods=["GET"], include_in_schema=False)


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    response = _json({"error": refused.message}, refused.status)
    response.headers.update(refused.headers)
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    message = f"{what}: {error.detail}; /openapi.json says what there is"
    response = _json({"error": message}, error.status_code)
    response.headers.update(error.headers or {})
    methods = response.headers.get("allow", "").split(", ")
    if "GET" in methods:  # and then HEAD, see `Gate`
        response.headers["allow"] = ", ".join(sorted({*methods, "HEAD"}))
    return response
