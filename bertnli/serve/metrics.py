"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def metric(kind: Any, name: str, text: str, *labels: str, **options: Any) -> Any:
            return kind(f"bertnli_{name}", text, labels, registry=self.registry, **options)

        self._requests = metric(Counter, "requests", "Requests.", "path", "status")
        self._seconds = metric(
            Histogram, "request_seconds", "Time of a request.", "path", buckets=SECONDS
        )
        self._pairs = metric(Counter, "pairs", "Pairs computed.", "backend")
        self._dropped = metric(
            Counter, "dropped_pairs", "Pairs whose client left before them.", "backend"
        )
        self._batches = metric(Histogram, "batch_pairs", "Batch size.", "backend", buckets=PAIRS)
        self._model_seconds = metric(
            Histogram, "batch_seconds", "Time of a batch in the model.", "backend", buckets=SECONDS
        )
        self._queue = metric(Gauge, "queue_pairs", "Pairs that wait.", "backend")
        self._up = metric(Gauge, "worker_up", "1 while the backend can answer.", "backend")

    def watch(self, backend: str, waiting: Callable[[], int], up: Callable[[], bool]) -> None:
        """Show a worker's queue and state, and its counters from 0."""
        self._queue.labels(backend).set_function(waiting)
        self._up.labels(backend).set_function(up)
        for metric in (self._pairs, self._dropped, self._batches, self._model_seconds):
            metric.labels(backend)

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
        """Count pairs that are not computed, since their client has left."""
        self._dropped.labels(backend).inc(pairs)

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
