"""The endpoints of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from bertnli.errors import BERTNLIError
from bertnli.explain import explain
from bertnli.serve import schemas
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.middleware import CLIENT_LEFT, BodyLimit, Instrument
from bertnli.serve.worker import READY, Unavailable, Worker
from bertnli.version import __version__

RETRY = {"retry-after": "5"}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")
PROBLEMS: Any = {status: {"model": schemas.Problem} for status in (400, 408, 413, 422, 500, 503)}


@dataclass
class Service:
    """The functions that answer requests; see `create_app` for the arguments."""

    workers: Mapping[str, Worker]
    limits: Limits
    checkpoint: str
    metrics: Metrics

    async def predict(
        self, request: Request, body: schemas.PredictRequest
    ) -> schemas.PredictAnswer:
        """Predict the class of one pair or of several pairs."""
        pairs = self._checked(body.pairs if isinstance(body, schemas.PairsRequest) else [body])
        worker = self._worker(body.backend)
        predictions = await self._result(request, lambda: worker.predict(pairs))
        return schemas.PredictAnswer(
            backend=worker.backend,
            checkpoint=self.checkpoint,
            predictions=[schemas.Prediction(**vars(prediction)) for prediction in predictions],
        )

    async def explain(self, request: Request, body: schemas.PairRequest) -> Response:
        """Explain a prediction by each token's share in it and by the attention weights."""
        [pair] = self._checked([body])
        worker = self._worker(body.backend)
        compute = partial(_explained, pair, backend=worker.backend, checkpoint=self.checkpoint)
        content = await self._result(request, lambda: worker.call(compute))
        return Response(content, media_type="application/json")

    async def model(self) -> schemas.ModelAnswer:
        """Describe the model and the limits of requests."""
        worker = self._worker(None)
        return schemas.ModelAnswer(
            checkpoint=self.checkpoint,
            backends=list(self.workers),
            labels=list(worker.labels),
            blocks=worker.num_blks,
            heads=worker.num_heads,
            max_len=worker.encoding.max_len,
            truncation=worker.encoding.truncation,
            limits={n: getattr(self.limits, n) for n in ("max_pairs", "max_chars", "max_body")},
        )

    async def health(self, response: Response) -> schemas.Health:
        """Report whether all backends are ready; otherwise the status is 503."""
        states = {name: worker.state for name, worker in self.workers.items()}
        status = next((state for state in states.values() if state != READY), READY)
        response.status_code = 200 if status == READY else 503
        return schemas.Health(status=status, backends=states)

    async def prometheus(self) -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _worker(self, backend: str | None) -> Worker:
        names = list(self.workers)
        if backend not in (None, *names):
            raise HTTPException(422, f"backend: give one of {names}, or leave it out")
        return self.workers[backend or names[0]]

    def _checked(self, pairs: Sequence[schemas.Pair]) -> list[tuple[str, str]]:
        """Convert pairs to tuples, or refuse the request if they exceed the limits."""
        max_pairs, max_chars = self.limits.max_pairs, self.limits.max_chars
        if len(pairs) > max_pairs:
            raise HTTPException(422, f"a request may have {max_pairs:,} pairs (--max-pairs)")
        if any(len(sentence) > max_chars for p in pairs for sentence in (p.premise, p.hypothesis)):
            raise HTTPException(422, f"a sentence may have {max_chars:,} characters (--max-chars)")
        return [(pair.premise, pair.hypothesis) for pair in pairs]

    async def _result(self, request: Request, queue: Callable[[], Future[Any]]) -> Any:
        """Queue a job and return its result; cancel it if the client leaves or the time is up."""
        seconds = self.limits.timeout
        try:
            job = asyncio.wrap_future(queue())
            disconnect = asyncio.ensure_future(_disconnect(request))
            events = {job, disconnect}
            try:
                await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if job.done():
                    return job.result()
                if disconnect.done():
                    raise HTTPException(CLIENT_LEFT, "the client left")
                raise Unavailable(f"there was no answer within {seconds:g} seconds (--timeout)")
            finally:
                disconnect.cancel()
                job.cancel()
        except Unavailable as error:
            raise HTTPException(503, f"{error}; try again later", RETRY) from None
        except BERTNLIError as error:
            raise HTTPException(422, str(error)) from None


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explained(pair: tuple[str, str], net: Any, **names: Any) -> str:
    """Explain a pair in the model's thread; return the explanation and ``names`` as JSON."""
    explanation = explain(net, *pair)
    fields = {
        **vars(explanation),
        "attention": np.round(explanation.attention, 4).tolist(),
        "saliency": np.round(explanation.saliency, 6).tolist(),
    }
    return schemas.ExplainAnswer(**fields, **names).model_dump_json()


def create_app(
    workers: Mapping[str, Worker],
    limits: Limits,
    checkpoint: str,
    metrics: Metrics,
    hosts: Sequence[str] = LOCAL_HOSTS,
) -> FastAPI:
    """Create the web application of a checkpoint and its workers, one for each backend.

    The first worker answers requests that name no backend. ``hosts`` are the accepted values of the
    Host header; ``"*"`` accepts all.
    """
    # The pages of docs_url and redoc_url would load scripts from other hosts.
    app = FastAPI(title="bertnli", version=__version__, docs_url=None, redoc_url=None)
    service = Service(workers, limits, checkpoint, metrics)
    app.post("/predict", responses=PROBLEMS)(service.predict)
    app.post("/explain", responses=PROBLEMS, response_model=schemas.ExplainAnswer)(service.explain)
    app.get("/model")(service.model)
    app.get("/health", responses={503: {"model": schemas.Health}})(service.health)
    app.get("/metrics", response_class=Response)(service.prometheus)
    app.mount("/", StaticFiles(packages=[("bertnli.serve", "static")], html=True))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, limits=limits)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(Instrument, metrics=metrics)
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    """Answer a request that does not match the schemas with the first error."""
    assert isinstance(error, RequestValidationError)
    if "json" not in request.headers.get("content-type", ""):
        message = "send JSON, with the header Content-Type: application/json"
    else:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("single", "several"))
        message = f"{where}: {first['msg']}; /openapi.json describes requests"
    return JSONResponse({"error": message}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the model failed on this request; see the server's log"}, 500)
