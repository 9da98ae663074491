"""Random classifiers and batches for tests of numbers."""

import importlib

import numpy as np

from bertnli.bert.parameters import classifier_shapes
from bertnli.data.batches import Batch


def with_options(config, **changes):
    """Return a BERT's sizes with some changed."""
    return type(config)(**{**config.to_dict(), **changes})


def classifier(nli, config, seed=0):
    """Make a classifier with its start values."""
    return nli.BERTClassifier(nli.BERTModel(**config.to_dict(), seed=seed), seed=seed)


def random_arrays(config, scale, seed=1):
    """Draw a classifier's tensors, in float64; all, also the biases, are far from start values."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(float(name.endswith("ln.weight")), scale, shape)
        for name, shape in classifier_shapes(config, 3).items()
    }


def random_classifier(nli, config, scale=0.2):
    """Make a classifier of `random_arrays`."""
    net = classifier(nli, config)
    arrays = random_arrays(config, scale)
    net.load_arrays({name: array.astype(np.float32) for name, array in arrays.items()}, "the test")
    return net


def batch_of(lengths, width=40, vocab_size=1000, seed=0):
    """Draw pairs of random tokens with given lengths; the padding is random as well."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocab_size, (len(lengths), width))
    segments, labels = rng.integers(0, 2, ids.shape), rng.integers(0, 3, len(lengths))
    arrays = (ids, segments, np.array(lengths), labels)
    return Batch(*(array.astype(np.int32) for array in arrays))


def plain_heads(nli):
    """Return a backend's module `heads`, the book's model without the packed path."""
    return importlib.import_module(f"bertnli.backends.{nli.name}.heads")
