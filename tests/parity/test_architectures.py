"""In what BERTs differ: activation, normalised embeddings, epsilon. The referee is NumPy's."""

import numpy as np
import pytest

from bertnli import parity
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import classifier_shapes
from bertnli.data.batches import Batch

SIZES = (50, 32, 64, 4, 3, 0.0, 20)
KINDS = {
    "Devlin et al.": BERTConfig(*SIZES, "gelu", True, 1e-12),
    "gelu alone": BERTConfig(*SIZES, "gelu", False, 1e-5),
    "tanh": BERTConfig(*SIZES, "gelu_tanh", True, 1e-6),
    "norm alone": BERTConfig(*SIZES, "relu", True, 1e-3),
}


@pytest.fixture(params=KINDS)
def config(request):
    return KINDS[request.param]


def random_batch():
    rng = np.random.default_rng(0)
    ids, segments = rng.integers(0, 50, (6, 20)), rng.integers(0, 2, (6, 20))
    lens, labels = np.array([20, 3, 1, 7, 12, 7]), rng.integers(0, 3, 6)
    return Batch(*(array.astype(np.int32) for array in (ids, segments, lens, labels)))


def classifier(nli, config):
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.normal(float(name.endswith("ln.weight")), 0.2, shape).astype(np.float32)
        for name, shape in classifier_shapes(config, 3).items()
    }
    net = nli.BERTClassifier(nli.BERTModel(**config.to_dict()))
    net.load_arrays(arrays, "the test")
    return net


def test_a_model_is_the_referee_s(backend, loop, config):
    net, batch = classifier(backend, config), random_batch()
    arrays, inputs = net.arrays(), batch.inputs()
    expected = parity.forward(arrays, config, *inputs)
    with loop.scope():
        encoded = loop.array(net.encoder(*(loop.tensor(array) for array in inputs)))
    assert parity.max_abs_difference(encoded, expected.encoded) <= 1e-5
    assert parity.max_abs_difference(net.logits(batch), expected.logits) <= 1e-5
    computed = backend.Trainer(net, devices="cpu").gradients(batch, 0)
    gradients = parity.gradients(arrays, config, *inputs, batch.labels)
    assert set(computed) == set(gradients)
    for name, gradient in gradients.items():
        apart = parity.max_abs_difference(computed[name], gradient)
        assert apart <= 2e-5 * max(1.0, np.abs(gradient).max()), name


def test_training_steps_are_the_same_on_both(both, config):
    trainers = [nli.Trainer(classifier(nli, config), devices="cpu") for nli in both]
    rows = parity.run_both(*trainers, [random_batch()] * 20, lr=1e-3)
    assert max(row.absolute for row in rows) <= 1e-4
    assert rows[-1].our_loss < 0.8 * rows[0].our_loss


def test_dropout_follows_normalised_embeddings(backend, loop):
    places = [
        loop.dropout_layers(backend.BERTModel(*SIZES, embedding_norm=norm).encoder)
        for norm in (False, True)
    ]
    assert places[1] - places[0] == {"dropout"}
