"""Trains in however many processes this was started in, and writes what came out.

Arguments: the backend, the folder for the results, and settings of the trainer as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bertnli
from bertnli.data.batches import batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab

#: 19 batches and one that four processes cannot share out; none is divisible by two or four.
NUM_PAIRS, BATCH_SIZE, STEPS = 136, 7, 20


def make_trainer(backend: str, dropout: float = 0.0, **settings: Any) -> tuple[Any, Any, Any]:
    """Return a trainer, its training and its dev set."""
    nli = bertnli.get_backend(backend)
    sample = bertnli.read("sample", "train")
    vocab = build_vocab(sample, 2)
    corpus = Corpus(*(column[:NUM_PAIRS] for column in sample), tokenized=False)
    bert: Any = nli.BERTModel(len(vocab), 16, 24, 2, 2, dropout, 40, vocab=vocab)
    net = nli.BERTClassifier(bert)
    sets = (
        PairDataset(rows, 40, vocab, verbose=False)
        for rows in (corpus, bertnli.read("sample", "dev"))
    )
    options = {"lr": 1e-3, "devices": "cpu", "seed": 5, **settings}
    return nli.Trainer(net, **options), *sets


def results(trainer: Any, train: Any, dev: Any) -> dict[str, Any]:
    """Return the gradients of the first batch, the losses of a run, its scores and weights."""
    first = next(batches(train, BATCH_SIZE, seed=5, shuffle=True))
    arrays = {f"gradient/{name}": g for name, g in trainer.gradients(first, 0).items()}
    history = trainer.fit(train, dev, 1, BATCH_SIZE, progress=False)
    arrays["losses"] = np.array(history.step_losses)
    record = history.epochs[0]
    assert record.dev_loss is not None and record.dev_accuracy is not None
    arrays["scores"] = np.array([record.train_accuracy, record.dev_loss, record.dev_accuracy])
    return {**arrays, **{f"weight/{name}": w for name, w in trainer.net.arrays().items()}}


if __name__ == "__main__":
    made = make_trainer(sys.argv[1], **json.loads(sys.argv[3]))
    rank, size = made[0].workers.rank, made[0].workers.size
    np.savez(Path(sys.argv[2]) / f"{rank}-of-{size}.npz", **results(*made))
