"""A small classifier, its trainer and its data, for tests of runs."""

import signal
from functools import lru_cache

import bertnli
from bertnli.data.dataset import PairDataset, build_vocab

#: An epoch has 5 steps; the last batch is smaller.
NUM_PAIRS, BATCH_SIZE, EPOCHS, STEPS = 75, 16, 3, 5


@lru_cache
def dataset(num_pairs=NUM_PAIRS):
    """Return the first pairs of the bundled sample, encoded."""
    sample = bertnli.read("sample", "train")
    vocab = build_vocab(sample, 2)
    corpus = bertnli.Corpus(*(column[:num_pairs] for column in sample), tokenized=sample.tokenized)
    return PairDataset(corpus, 24, vocab, verbose=False)


def new_trainer(nli, seed=3, encoder=(), **settings):
    """Return a trainer of a small classifier with dropout, and its data.

    `encoder` has further settings of its BERT.
    """
    data, sizes = dataset(), (8, 12, 2, 1, 0.2, 24)
    bert = nli.BERTModel(len(data.vocab), *sizes, vocab=data.vocab, **dict(encoder))
    net = nli.BERTClassifier(bert)
    options = {"lr": 3e-3, "schedule": "linear", "warmup": 0.2, **settings}
    return nli.Trainer(net, devices="cpu", seed=seed, **options), data


def fit(trainer, data, output=None, epochs=EPOCHS, **options):
    """Train with the data as training and dev set; return the history."""
    options = {"progress": False, **options}
    return trainer.fit(data, data, epochs, BATCH_SIZE, output=output, **options)


def before_step(trainer, number, action):
    """Call a function before a step (from 1); return the list of all steps' rates and seeds."""
    train_step, calls = trainer.train_step, []

    def patched(batch, lr, seed):
        calls.append((lr, seed))
        if len(calls) == number:
            action()
        return train_step(batch, lr, seed)

    trainer.train_step = patched
    return calls


def signal_at(trainer, number, signum=signal.SIGTERM):
    """Send this process a signal before a step; return what `before_step` does."""
    return before_step(trainer, number, lambda: signal.raise_signal(signum))


def weights_of(folder, backend):
    return bertnli.load(folder, backend).arrays()


def assert_same_arrays(arrays, expected):
    """Compare tensors bit by bit."""
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert array.dtype == arrays[name].dtype and array.tobytes() == arrays[name].tobytes(), name
