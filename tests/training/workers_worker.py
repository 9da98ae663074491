"""Trains in as many processes as this script is started in; each process writes its results.

Arguments: the backend, the folder for the results, and settings of the trainer as JSON.
"""

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np

import bertnli
from bertnli.data.batches import batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab

#: 19 full batches, and one of a single pair, of which other processes get nothing.
NUM_PAIRS, BATCH_SIZE, STEPS = 134, 7, 20


@cache
def data():
    """Return the vocabulary, the training set and the dev set."""
    sample = bertnli.read("sample", "train")
    vocab = build_vocab(sample, 2)
    train = Corpus(*(column[:NUM_PAIRS] for column in sample), tokenized=False)
    sets = (train, bertnli.read("sample", "dev"))
    return vocab, *(PairDataset(corpus, 40, vocab, verbose=False) for corpus in sets)


def make_trainer(backend, encoder=(), **settings):
    """Return a trainer, its training set and its dev set; `encoder` are settings of its BERT."""
    nli = bertnli.get_backend(backend)
    vocab, train, dev = data()
    bert = nli.BERTModel(len(vocab), 16, 24, 2, 2, 0.0, 40, vocab=vocab, **dict(encoder))
    net = nli.BERTClassifier(bert)
    return nli.Trainer(net, **{"lr": 1e-3, "devices": "cpu", "seed": 5, **settings}), train, dev


def results(trainer, train, dev):
    """Return the first batch's gradients, and the losses, scores and weights of an epoch."""
    first = next(batches(train, BATCH_SIZE, seed=5, shuffle=True))
    arrays = {f"gradient/{name}": g for name, g in trainer.gradients(first, 0).items()}
    history = trainer.fit(train, dev, 1, BATCH_SIZE, progress=False)
    arrays["losses"] = np.array(history.step_losses)
    record = history.epochs[0]
    arrays["scores"] = np.array([record.train_accuracy, record.dev_loss, record.dev_accuracy])
    return {**arrays, **{f"weight/{name}": w for name, w in trainer.net.arrays().items()}}


if __name__ == "__main__":
    made = make_trainer(sys.argv[1], **json.loads(sys.argv[3]))
    workers = made[0].workers
    np.savez(Path(sys.argv[2]) / f"{workers.rank}-of-{workers.size}.npz", **results(*made))
