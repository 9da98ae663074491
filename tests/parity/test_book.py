"""The book's model by itself: what `bert` and `heads` compute without the rest of a backend."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from test_reference import check_gradients
from test_training import LR, check_step

from bertnli import parity
from bertnli.formats import names


class Plain:
    """A backend's classifier of `heads` alone, with the weights of another."""

    def __init__(self, nli, net, folder):
        heads = importlib.import_module(f"bertnli.backends.{nli.name}.heads")
        self.net = heads.BERTClassifier(heads.BERTModel(net.config), len(net.labels))
        if nli.name == "torch":
            self.net.load_state_dict(net.state_dict())
        else:
            net.save_parameters(str(folder / "net.params"))
            self.net.load_parameters(str(folder / "net.params"))
        self.is_torch = nli.name == "torch"

    def arrays(self):
        if self.is_torch:
            tensors = self.net.state_dict()
            return {names.from_torch(k): v.numpy().copy() for k, v in tensors.items()}
        parameters = self.net._collect_params_with_prefix()
        return {names.from_mxnet(k): v.data().asnumpy() for k, v in parameters.items()}


@pytest.fixture
def plain(backend, golden, loop, tmp_path):
    with loop.scope():
        return Plain(backend, golden.net(backend), tmp_path)


def test_its_logits_and_gradients_are_the_book_s(plain, golden, loop):
    with loop.scope():
        logits = loop.array(plain.net([*map(loop.tensor, golden.batch.inputs())]))
    assert parity.max_abs_difference(logits, golden.values["logits"]) <= 1e-5
    check_gradients(loop.gradients(plain.net, golden.batch), golden.grads, key_bias=2e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_it_trains_as_the_book_s(plain, golden, loop, steps):
    loop.train(plain.net, [golden.batch] * steps, LR)
    check_step(plain.arrays(), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)


def test_it_starts_by_itself(backend, golden, loop):
    """With the framework's own start values, and learns the batch by heart."""
    heads = importlib.import_module(f"bertnli.backends.{backend.name}.heads")
    with loop.scope():
        net = heads.BERTClassifier(heads.BERTModel(golden.net(backend).config), 3)
        if backend.name == "mxnet":
            net.initialize()
    losses = loop.train(net, [golden.batch] * 60, 1e-3)
    assert np.isfinite(losses).all() and losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("module", ["bert", "heads"])
def test_it_knows_nothing_of_the_fast_path(backend, module):
    source = importlib.import_module(f"bertnli.backends.{backend.name}.{module}").__file__
    lines = Path(source).read_text().splitlines()
    imported = {line.split()[1].rpartition(".")[2] for line in lines if "from bertnli" in line}
    assert "config" in imported and imported <= {"_framework", "bert", "config"}
