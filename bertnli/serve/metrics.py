"""The server's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one server; ``registry`` collects them for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def metric(kind: Any, name: str, text: str, *labels: str, **options: Any) -> Any:
            return kind(f"bertnli_{name}", text, labels, registry=self.registry, **options)

        seconds, pairs = {"buckets": SECONDS}, {"buckets": PAIRS}
        self.requests = metric(Counter, "requests", "Requests.", "path", "status")
        self.request_seconds = metric(
            Histogram, "request_seconds", "Time of a request.", "path", **seconds
        )
        self.pairs = metric(Counter, "pairs", "Pairs computed.", "backend")
        self.dropped_pairs = metric(
            Counter, "dropped_pairs", "Pairs whose client left before them.", "backend"
        )
        self.batch_pairs = metric(Histogram, "batch_pairs", "Batch size.", "backend", **pairs)
        self.batch_seconds = metric(
            Histogram, "batch_seconds", "Time of a batch in the model.", "backend", **seconds
        )
        self._queue = metric(Gauge, "queue_pairs", "Pairs that wait.", "backend")
        self._up = metric(Gauge, "worker_up", "1 while the backend can answer.", "backend")

    def watch(self, backend: str, waiting: Callable[[], int], up: Callable[[], bool]) -> None:
        """Add a worker; ``waiting`` counts its waiting pairs, ``up`` tells whether it is ready."""
        self._queue.labels(backend).set_function(waiting)
        self._up.labels(backend).set_function(up)
        for metric in (self.pairs, self.dropped_pairs, self.batch_pairs, self.batch_seconds):
            metric.labels(backend)  # which starts at 0
