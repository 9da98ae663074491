"""The thread that owns a model, and computes the pairs of several requests at a time."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol

from bertnli.errors import BERTNLIError
from bertnli.nets.classifier import Prediction
from bertnli.serve.limits import Limits
from bertnli.text.pairs import PairEncoding

LOGGER = logging.getLogger("bertnli.serve")
LOADING, READY, STOPPED, DEAD = "loading", "ready", "stopped", "dead"

Pair = tuple[str, str]


class QueueFull(Exception):
    """Too many pairs wait.

    The answer is 429: a 5xx would mean a fault, to alarms and to proxies that take servers out.

    Args:
        waiting: how many.
        retry_after: seconds after which they will have been computed, if all goes on as it did.
    """

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} pairs are waiting")
        self.waiting, self.retry_after = waiting, retry_after


class NotReady(Exception):
    """The worker is loading its model, or has ended."""


class Observer(Protocol):
    """Who is told what workers do."""

    def computed(self, backend: str, pairs: int, seconds: float) -> None:
        """A batch was computed."""

    def dropped(self, backend: str, pairs: int) -> None:
        """Pairs were not computed, for nobody waits for them any more."""


class _Job:
    """The pairs of a request, which may be computed in several batches."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.taken = 0
        self.answers: list[Prediction] = []
        self.future: Future[list[Prediction]] = Future()

    @property
    def left(self) -> int:
        return len(self.pairs) - self.taken


class _Call:
    """A function of the model that is computed alone; in the queue it counts as some pairs."""

    def __init__(self, function: Callable[[Any], Any], left: int) -> None:
        self.function, self.left = function, left
        self.future: Future[Any] = Future()


class Worker:
    """A thread that loads a model, and alone uses it; MXNet's may be used from one thread only.

    Batches are fair: every request that waits gets an equal share of a batch, in the order of
    arrival, and what room is left goes to the first; so a long request is computed along with short
    ones that come after it. Calls take turns with batches.

    Args:
        backend: its name.
        load: returns the model; called in the thread.
        limits: ``max_batch``, ``max_wait``, ``max_queue`` and ``batching`` are looked at.
        observer: is told of each batch, in the thread.
    """

    def __init__(
        self,
        backend: str,
        load: Callable[[], Any],
        limits: Limits,
        observer: Observer,
    ) -> None:
        self.backend, self.state = backend, LOADING
        #: What there is to know of the model without touching it.
        self.labels: tuple[str, ...] = ()
        self.num_blks = self.num_heads = 0
        self.encoding = PairEncoding(0)
        self._load, self._limits, self._observer = load, limits, observer
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._calls: deque[_Call] = deque()
        self._under_way: list[_Job] | list[_Call] = []
        self._call_is_next = self._stopping = False
        self._pace = 0.001  # seconds for a pair, of late
        self._loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"bertnli-{backend}", daemon=True)

    def start(self) -> None:
        """Load the model, and return when it is ready; what loading raises is raised here."""
        self._thread.start()
        self._loaded.result()

    def stop(self, timeout: float | None = None) -> None:
        """Compute what waits, and end; return when that is done, or after so many seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    @property
    def waiting(self) -> int:
        """How many pairs wait; a call counts as a full batch."""
        with self._changed:
            return self._waiting()

    def predict(self, pairs: Sequence[Pair]) -> Future[list[Prediction]]:
        """Queue pairs; a future that is cancelled takes them out again.

        Raises:
            QueueFull: they have no room.
            NotReady: the model is not loaded, or the worker has ended.
        """
        job = _Job(pairs)
        self._queue(job)
        return job.future

    def call(self, function: Callable[[Any], Any]) -> Future[Any]:
        """Queue a function of the model; see `predict`."""
        call = _Call(function, min(self._limits.max_batch, self._limits.max_queue))
        self._queue(call)
        return call.future

    def _queue(self, job: _Job | _Call) -> None:
        with self._changed:
            if self.state != READY or self._stopping:
                state = "stopping" if self.state == READY else self.state
                raise NotReady(f"the {self.backend} worker is {state}")
            if self._waiting() + job.left > self._limits.max_queue:
                self._drop_abandoned()
            waiting = self._waiting()
            if waiting + job.left > self._limits.max_queue:
                seconds = math.ceil(waiting * self._pace)
                raise QueueFull(waiting, min(max(seconds, 1), 60))
            if isinstance(job, _Job):
                self._jobs.append(job)
            else:
                self._calls.append(job)
            self._changed.notify_all()

    def _waiting(self) -> int:
        return sum(job.left for queue in (self._jobs, self._calls) for job in queue)

    def _run(self) -> None:
        ended = DEAD
        try:
            net = self._load()
            self.labels = tuple(net.labels)
            self.num_blks, self.num_heads = net.config.num_blks, net.config.num_heads
            self.encoding = net.encoding
            self.state = READY
            self._loaded.set_result(None)
            while (work := self._next()) is not None:
                if isinstance(work, _Call):
                    self._under_way = [work]
                    self._answer(work, net)
                else:
                    self._under_way = [job for job, _ in work]
                    self._compute(work, net)
            ended = STOPPED
        except BaseException as error:
            if not self._loaded.done():
                self._loaded.set_exception(error)
            else:
                LOGGER.exception("the %s worker has died", self.backend)
        finally:
            self._end(ended)

    def _end(self, state: str) -> None:
        with self._changed:
            self.state = state
            abandoned = [*self._under_way, *self._jobs, *self._calls]
            self._jobs.clear()
            self._calls.clear()
        for job in abandoned:
            _settle(job.future, NotReady(f"the {self.backend} worker is {state}"))

    def _next(self) -> list[tuple[_Job, int]] | _Call | None:
        """Wait for something to compute: of some jobs so many pairs, or a call; None at the end."""
        with self._changed:
            while True:
                self._drop_abandoned()
                if self._calls and (self._call_is_next or not self._jobs):
                    self._call_is_next = False
                    return self._calls.popleft()
                if self._jobs:
                    self._call_is_next = True
                    self._wait_for_more()
                    if shares := self._shares():
                        return shares
                elif self._stopping:
                    return None
                else:
                    self._changed.wait()

    def _wait_for_more(self) -> None:
        if not self._limits.batching:
            return
        end = time.monotonic() + self._limits.max_wait
        while self._waiting() < self._limits.max_batch and not self._stopping:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)
        if self._limits.max_wait:
            self._drop_abandoned()

    def _shares(self) -> list[tuple[_Job, int]]:
        """Take the pairs of a batch from the jobs that wait."""
        if not self._jobs:
            return []
        room = self._limits.max_batch
        jobs = list(self._jobs) if self._limits.batching else [self._jobs[0]]
        shares = dict.fromkeys(jobs[:room], 0)
        equal = max(1, room // len(jobs))
        for most in (equal, room):
            for job in shares:
                more = min(most, job.left, room)
                job.taken += more
                shares[job] += more
                room -= more
        if not self._limits.batching:
            self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if job.left)
        return list(shares.items())

    def _drop_abandoned(self) -> None:
        """Forget what nobody waits for any more, and the rest of what has failed."""
        if any(job.future.done() for job in self._jobs):
            left = sum(job.left for job in self._jobs if job.future.cancelled())
            self._observer.dropped(self.backend, left)
            self._jobs = deque(job for job in self._jobs if not job.future.done())
        if any(call.future.done() for call in self._calls):
            self._calls = deque(call for call in self._calls if not call.future.done())

    def _compute(self, shares: list[tuple[_Job, int]], net: Any) -> None:
        """Compute a batch; a pair that makes the model fail costs its own request alone."""
        pairs = [pair for job, n in shares for pair in _next_pairs(job, n)]
        start = time.perf_counter()
        try:
            found = net.predict(pairs, batch_size=self._limits.max_batch)
        except Exception as error:
            if len(shares) > 1:
                for share in shares:
                    self._compute([share], net)
                return
            self._fail(shares[0][0].future, error)
            return
        seconds = time.perf_counter() - start
        self._pace += 0.2 * (seconds / len(pairs) - self._pace)
        self._observer.computed(self.backend, len(pairs), seconds)
        place = 0
        for job, n in shares:
            job.answers += found[place : place + n]
            place += n
            if len(job.answers) == len(job.pairs):
                _settle(job.future, job.answers)

    def _answer(self, call: _Call, net: Any) -> None:
        try:
            _settle(call.future, call.function(net))
        except Exception as error:
            self._fail(call.future, error)

    def _fail(self, future: Future, error: Exception) -> None:
        if not isinstance(error, BERTNLIError):  # whose message says all
            LOGGER.error("the %s model failed", self.backend, exc_info=error)
        _settle(future, error)


def _next_pairs(job: _Job, number: int) -> Sequence[Pair]:
    """Return the pairs after those that are answered."""
    return job.pairs[len(job.answers) : len(job.answers) + number]


def _settle(future: Future, result: Any) -> None:
    with suppress(InvalidStateError):  # cancelled meanwhile
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
