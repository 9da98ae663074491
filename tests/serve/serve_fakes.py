"""A model without a framework. As a script: the command line, which loads that model."""

import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from zlib import crc32

from bertnli.bert.labels import LABELS
from bertnli.nets.classifier import Prediction
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import Worker
from bertnli.text.pairs import PairEncoding


def answer(pair):
    """Return a prediction that depends only on the pair."""
    weights = [1 + crc32(f"{label}/{pair[0]}/{pair[1]}".encode()) % 1000 for label in LABELS]
    probabilities = {name: w / sum(weights) for name, w in zip(LABELS, weights, strict=True)}
    return Prediction(max(probabilities, key=probabilities.get), probabilities)


class FakeNet:
    """Predicts by `answer`, records its batches, and waits while it is held."""

    labels = LABELS
    config = SimpleNamespace(num_blks=2, num_heads=4)
    encoding = PairEncoding(128)

    def __init__(self):
        self.batches, self.threads = [], set()
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def predict(self, pairs, batch_size, **_):
        self.threads.add(threading.get_ident())
        self.batches.append(list(pairs))
        self.entered.release()
        assert self.gate.wait(900)
        premises = [premise for premise, _ in pairs]
        if "slow" in premises:
            time.sleep(0.1)
        if "poison" in premises:
            raise RuntimeError("the model cannot bear this")
        if "death" in premises:
            raise SystemExit
        return [answer(pair) for pair in pairs]

    @contextmanager
    def held(self):
        """Let no batch end inside the context."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()


def started(net, metrics=None, backend="torch", **limits):
    """Return a worker that is ready."""
    worker = Worker(backend, lambda: net, Limits(**limits), metrics or Metrics())
    worker.start()
    return worker


def pairs_of(name, count):
    """Return pairs that occur under no other name."""
    return [(f"{name} {i}", "It is so.") for i in range(count)]


if __name__ == "__main__":
    from bertnli.cli import main
    from bertnli.cli.serve import Serve

    Serve.load = lambda *_: FakeNet()
    sys.exit(main())
