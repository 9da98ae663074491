"""A small classifier, its trainer and its data, for tests of runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import bertnli
from bertnli.backends.interface import Backend
from bertnli.data.dataset import PairDataset, build_vocab

#: 5 steps of an epoch, the last one smaller.
NUM_PAIRS, BATCH_SIZE, EPOCHS, STEPS = 75, 16, 3, 5
Arrays = dict[str, NDArray]


@lru_cache
def dataset(num_pairs: int = NUM_PAIRS) -> PairDataset:
    """The first pairs of the sample."""
    sample = bertnli.read("sample", "train")
    vocab = build_vocab(sample, 2)
    corpus = bertnli.Corpus(*(column[:num_pairs] for column in sample), tokenized=sample.tokenized)
    return PairDataset(corpus, 24, vocab, verbose=False)


def new_trainer(nli: Backend, seed: int = 3, **settings: Any) -> tuple[Any, PairDataset]:
    """A trainer of a small classifier with dropout, and its data."""
    data = dataset()
    bert: Any = nli.BERTModel(len(data.vocab), 8, 12, 2, 1, 0.2, 24, vocab=data.vocab)
    net: Any = nli.BERTClassifier(bert)
    options = {"lr": 3e-3, "schedule": "linear", "warmup": 0.2, **settings}
    return nli.Trainer(net, devices="cpu", seed=seed, **options), data


def fit(
    trainer: Any, data: Any, output: Path | None = None, epochs: int = EPOCHS, **options: Any
) -> bertnli.History:
    options = {"progress": False, **options}
    history: bertnli.History = trainer.fit(data, data, epochs, BATCH_SIZE, output=output, **options)
    return history


def before_step(trainer: Any, number: int, action: Callable[[], Any]) -> list[tuple[float, int]]:
    """Call a function before a step, counted from 1; return the rates and seeds of all steps."""
    honest, calls = trainer.train_step, []

    def train_step(batch: Any, lr: float, seed: int) -> Any:
        calls.append((lr, seed))
        if len(calls) == number:
            action()
        return honest(batch, lr, seed)

    trainer.train_step = train_step
    return calls


def signal_at(trainer: Any, number: int, signum: int = signal.SIGTERM) -> list[tuple[float, int]]:
    """Send this process a signal before a step."""
    return before_step(trainer, number, lambda: signal.raise_signal(signum))


def weights_of(folder: Path, backend: str) -> Arrays:
    arrays: Arrays = bertnli.load(folder, backend).arrays()
    return arrays


def assert_same_arrays(arrays: Arrays, expected: Arrays) -> None:
    """To the bit."""
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert array.tobytes() == arrays[name].tobytes(), name
