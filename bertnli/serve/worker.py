"""A thread that owns a model and computes the pairs of concurrent requests in one batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bertnli.nets.classifier import Prediction
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.text.pairs import PairEncoding

LOADING, READY, STOPPED, DEAD = "loading", "ready", "stopped", "dead"

Pair = tuple[str, str]


class Unavailable(Exception):
    """Raised if the worker is loading its model, has ended, or has a full queue."""


@dataclass(eq=False)
class _Job:
    """A request's pairs, of which ``size`` are not yet computed; or a function of the model."""

    size: int
    pairs: Sequence[Pair] = ()
    function: Callable[[Any], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    answers: list[Prediction] = field(default_factory=list)


_Batch = list[tuple[_Job, Pair]]


class Worker:
    """A thread that loads a model and alone uses it, as MXNet requires.

    A batch takes one pair of each waiting request in turn until it is full, so that a long request
    does not delay short ones. Function calls take turns with batches.

    Args:
        backend: the name of the backend.
        load: a function that returns the model; it is called in the thread.
        limits: the limits of the server.
        metrics: the metrics of the server.
    """

    def __init__(
        self, backend: str, load: Callable[[], Any], limits: Limits, metrics: Metrics
    ) -> None:
        self.backend, self.state = backend, LOADING
        self.labels: Sequence[str] = ()
        self.num_blks = self.num_heads = 0
        self.encoding = PairEncoding(0)
        self._load, self._limits, self._metrics = load, limits, metrics
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._pending: set[Future[Any]] = set()
        self._stopping = False
        self._loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"bertnli-{backend}", daemon=True)
        metrics.watch(backend, lambda: self.waiting, lambda: self.state == READY)

    def start(self) -> None:
        """Start the thread and wait until the model is loaded; errors of ``load`` are raised."""
        self._thread.start()
        self._loaded.result()

    def stop(self, timeout: float | None = None) -> None:
        """End the thread after the queued jobs, and wait for it at most ``timeout`` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    @property
    def waiting(self) -> int:
        """Number of queued pairs; a queued function counts as a full batch."""
        with self._changed:
            return sum(job.size for job in self._jobs)

    def predict(self, pairs: Sequence[Pair]) -> Future[list[Prediction]]:
        """Queue pairs, or raise `Unavailable`; cancelling the future removes them."""
        return self._queue(_Job(len(pairs), pairs))

    def call(self, function: Callable[[Any], Any]) -> Future[Any]:
        """Queue a function to call with the model, or raise `Unavailable`."""
        size = min(self._limits.max_batch, self._limits.max_queue)
        return self._queue(_Job(size, function=function))

    def _queue(self, job: _Job) -> Future[Any]:
        with self._changed:
            if self.state != READY or self._stopping:
                state = "stopping" if self.state == READY else self.state
                raise Unavailable(f"the {self.backend} worker is {state}")
            if self.waiting + job.size > self._limits.max_queue:
                raise Unavailable(
                    f"{self.waiting:,} pairs are waiting, and the queue has room for "
                    f"{self._limits.max_queue:,} (--max-queue)"
                )
            self._jobs.append(job)
            self._pending.add(job.future)
            self._changed.notify_all()

        def remove(future: Future[Any]) -> None:
            self._pending.discard(future)
            if not future.cancelled() and future.exception() is None:
                return  # without the lock, for which the model's thread would wait
            with self._changed:
                if job in self._jobs:
                    self._jobs.remove(job)
                    dropped = job.size if future.cancelled() else 0
                    self._metrics.dropped_pairs.labels(self.backend).inc(dropped)

        job.future.add_done_callback(remove)
        return job.future

    def _run(self) -> None:
        state = DEAD
        try:
            net = self._load()
            self.labels, self.encoding = net.labels, net.encoding
            self.num_blks, self.num_heads = net.config.num_blks, net.config.num_heads
            self.state = READY
            self._loaded.set_result(None)
            while work := self._next():
                if isinstance(work, _Job):
                    self._answer(work, net)
                else:
                    self._compute(work, net)
            state = STOPPED
        except BaseException as error:
            if self._loaded.done():
                raise  # threading prints it
            self._loaded.set_exception(error)
        finally:
            with self._changed:
                self.state = state
                futures = list(self._pending)
            for future in futures:
                _settle(future, Unavailable(f"the {self.backend} worker is {state}"))

    def _next(self) -> _Batch | _Job | None:
        """Wait for the next batch or function; return None when the worker is to end."""
        limits = self._limits
        with self._changed:
            while not (self._stopping and not self._jobs):
                self._changed.wait_for(lambda: self._jobs or self._stopping)
                self._changed.wait_for(
                    lambda: self.waiting >= limits.max_batch or self._stopping, limits.max_wait
                )
                if self._jobs:  # not cancelled meanwhile
                    return self._take()
        return None

    def _take(self) -> _Batch | _Job:
        """Take a function or a batch out of the queue; without batching, a batch has one job."""
        if self._jobs[0].function is not None:
            return self._jobs.popleft()
        calls = [job for job in self._jobs if job.function is not None]
        requests = [job for job in self._jobs if job.function is None]
        count = len(requests) if self._limits.batching else 1
        jobs, batch = deque(requests[:count]), _Batch()
        while jobs and len(batch) < self._limits.max_batch:
            job = jobs.popleft()
            batch.append((job, job.pairs[-job.size]))
            job.size -= 1
            if job.size:
                jobs.append(job)
        self._jobs = deque([*calls[:1], *requests[count:], *jobs, *calls[1:]])
        return batch

    def _compute(self, batch: _Batch, net: Any) -> None:
        """Compute a batch; if the model fails, compute each request alone, to find the bad one."""
        start = time.perf_counter()
        jobs = dict.fromkeys(job for job, _ in batch)
        try:
            predictions = net.predict([pair for _, pair in batch], batch_size=len(batch))
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._compute([item for item in batch if item[0] is job], net)
            else:
                _settle(batch[0][0].future, error)
            return
        seconds, metrics = time.perf_counter() - start, self._metrics
        metrics.pairs.labels(self.backend).inc(len(batch))
        metrics.batch_pairs.labels(self.backend).observe(len(batch))
        metrics.batch_seconds.labels(self.backend).observe(seconds)
        for (job, _), prediction in zip(batch, predictions, strict=True):
            job.answers.append(prediction)
        for job in jobs:
            if len(job.answers) == len(job.pairs):
                _settle(job.future, job.answers)

    def _answer(self, call: _Job, net: Any) -> None:
        assert call.function is not None
        try:
            _settle(call.future, call.function(net))
        except Exception as error:
            _settle(call.future, error)


def _settle(future: Future[Any], outcome: Any) -> None:
    with suppress(InvalidStateError):  # cancelled meanwhile
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
