"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bertnli.serve.worker import READY, Worker

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "bertnli_requests",
            "Requests by path and by status; 499 is a client that left before its answer.",
            ("path", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "bertnli_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._pairs = Counter(
            "bertnli_pairs", "Pairs computed.", ("backend",), registry=self.registry
        )
        self._dropped = Counter(
            "bertnli_dropped_pairs",
            "Pairs not computed, for their client had left.",
            ("backend",),
            registry=self.registry,
        )
        self._batches = Histogram(
            "bertnli_batch_pairs",
            "Pairs computed at a time.",
            ("backend",),
            buckets=PAIRS,
            registry=self.registry,
        )
        self._model_seconds = Histogram(
            "bertnli_batch_seconds",
            "Time that the model takes for a batch.",
            ("backend",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._queue = Gauge(
            "bertnli_queue_pairs",
            "Pairs that wait; an explanation counts as a full batch.",
            ("backend",),
            registry=self.registry,
        )
        self._up = Gauge(
            "bertnli_worker_up",
            "Whether a backend's worker can answer.",
            ("backend",),
            registry=self.registry,
        )

    def watch(self, workers: Iterable[Worker]) -> None:
        """Show the queues of workers, and whether they are ready."""
        for worker in workers:
            self._queue.labels(worker.backend).set_function(partial(_waiting, worker))
            self._up.labels(worker.backend).set_function(partial(_up, worker))
            for metric in (self._pairs, self._dropped, self._batches, self._model_seconds):
                metric.labels(worker.backend)  # there, at 0, from the start

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def computed(self, backend: str, pairs: int, seconds: float) -> None:
        """Count a batch."""
        self._pairs.labels(backend).inc(pairs)
        self._batches.labels(backend).observe(pairs)
        self._model_seconds.labels(backend).observe(seconds)

    def dropped(self, backend: str, pairs: int) -> None:
        """Count pairs that nobody waits for any more."""
        self._dropped.labels(backend).inc(pairs)

    def page(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self.registry)


def _waiting(worker: Worker) -> float:
    return worker.waiting


def _up(worker: Worker) -> float:
    return worker.state == READY
