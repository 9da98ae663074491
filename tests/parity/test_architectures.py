"""In what BERTs differ: activation, normalised embeddings, epsilon. The referee is NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bertnli import parity
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import classifier_shapes
from bertnli.data.batches import Batch
from bertnli.errors import ConfigError

SIZES = (50, 32, 64, 4, 3, 0.0, 20)
KINDS = {
    "Devlin et al.": BERTConfig(*SIZES, "gelu", True, 1e-12),
    "gelu alone": BERTConfig(*SIZES, "gelu", False, 1e-5),
    "tanh": BERTConfig(*SIZES, "gelu_tanh", True, 1e-6),
    "norm alone": BERTConfig(*SIZES, "relu", True, 1e-3),
}


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest) -> BERTConfig:
    return KINDS[request.param]


def batch() -> Batch:
    rng = np.random.default_rng(0)
    shape = (6, 20)
    return Batch(
        rng.integers(0, 50, shape).astype(np.int32),
        rng.integers(0, 2, shape).astype(np.int32),
        np.array([20, 3, 1, 7, 12, 7], np.int32),
        rng.integers(0, 3, 6).astype(np.int32),
    )


def random_arrays(config: BERTConfig) -> dict[str, NDArray]:
    rng = np.random.default_rng(1)
    return {
        name: rng.normal(float(name.endswith("ln.weight")), 0.2, shape).astype(np.float32)
        for name, shape in classifier_shapes(config, 3).items()
    }


def classifier(nli: Backend, config: BERTConfig) -> Any:
    net = nli.BERTClassifier(nli.BERTModel(**config.to_dict()))
    net.load_arrays(random_arrays(config), "the test")
    return net


def test_logits_and_gradients_are_the_referee_s(backend: Backend, config: BERTConfig) -> None:
    net, given = classifier(backend, config), batch()
    inputs = (given.token_ids, given.segments, given.valid_lens)
    expected = parity.forward(net.arrays(), config, *inputs)
    assert parity.max_abs_difference(net.logits(given), expected.logits) <= 1e-5
    found = backend.Trainer(net, devices="cpu").gradients(given, 0)
    gradients = parity.gradients(net.arrays(), config, *inputs, given.labels)
    assert set(found) == set(gradients)
    for name, gradient in gradients.items():
        apart = parity.max_abs_difference(found[name], gradient)
        assert apart <= 2e-5 * max(1.0, np.abs(gradient).max()), name


def test_the_encoder_is_the_referee_s(backend: Backend, loop: Any, config: BERTConfig) -> None:
    net, given = classifier(backend, config), batch()
    arrays = (given.token_ids, given.segments, given.valid_lens)
    with loop.scope():
        encoded = loop.array(net.encoder(*(loop.tensor(array) for array in arrays)))
    expected = parity.forward(net.arrays(), config, *arrays).encoded
    assert parity.max_abs_difference(encoded, expected) <= 1e-5


def test_training_steps_are_the_same_on_both(
    both: tuple[Backend, Backend], config: BERTConfig
) -> None:
    trainers = [nli.Trainer(classifier(nli, config), devices="cpu") for nli in both]
    rows = parity.run_both(*trainers, [batch()] * 20, lr=1e-3)
    assert max(row.absolute for row in rows) <= 1e-4
    assert rows[-1].our_loss < 0.8 * rows[0].our_loss


def test_the_referee_s_gradients_are_central_differences(config: BERTConfig) -> None:
    arrays = {name: array.astype(np.float64) for name, array in random_arrays(config).items()}
    given = batch()
    inputs = (given.token_ids, given.segments, given.valid_lens)

    def mean_loss() -> float:
        logits = parity.forward(arrays, config, *inputs).logits
        assert logits is not None
        return float(parity.losses(logits, given.labels).mean())

    gradients = parity.gradients(arrays, config, *inputs, given.labels)
    rng = np.random.default_rng(2)
    for name, array in arrays.items():
        index = tuple(rng.integers(0, size) for size in array.shape)
        before, step = array[index], 1e-6
        array[index] = before + step
        above = mean_loss()
        array[index] = before - step
        numeric = (above - mean_loss()) / (2 * step)
        array[index] = before
        assert abs(numeric - gradients[name][index]) < 5e-9, name


def test_dropout_follows_normalised_embeddings(backend: Backend, loop: Any) -> None:
    places = [
        loop.dropout_layers(backend.BERTModel(*SIZES, embedding_norm=norm).encoder)
        for norm in (False, True)
    ]
    assert places[1] - places[0] == {"dropout"}


@pytest.mark.parametrize(
    "wrong", [{"activation": "swish"}, {"norm_eps": 0.0}, {"norm_eps": 1}, {"embedding_norm": 1}]
)
def test_settings_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BERTConfig(*SIZES, **wrong)
