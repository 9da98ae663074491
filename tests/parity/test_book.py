"""The book's model, `bert` and `heads`, without the rest of a backend."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from small_nets import plain_heads
from test_reference import check_gradients
from test_training import LR, check_step

from bertnli import parity
from bertnli.formats import names


@pytest.fixture
def plain(backend, golden, loop, tmp_path):
    """A classifier of `heads`, with the golden files' weights."""
    heads, net = plain_heads(backend), golden.net(backend)
    with loop.scope():
        plain = heads.BERTClassifier(heads.BERTModel(net.config), len(net.labels))
        if backend.name == "torch":
            plain.load_state_dict(net.state_dict())
        else:
            net.save_parameters(str(tmp_path / "net.params"))
            plain.load_parameters(str(tmp_path / "net.params"))
    return plain


def arrays_of(plain):
    """Return the tensors of a classifier of `heads` by their canonical names."""
    if hasattr(plain, "state_dict"):
        return {names.from_torch(k): v.numpy().copy() for k, v in plain.state_dict().items()}
    parameters = plain._collect_params_with_prefix()
    return {names.from_mxnet(k): v.data().asnumpy() for k, v in parameters.items()}


def test_logits_and_gradients_are_the_book_s(plain, golden, loop):
    with loop.scope():
        logits = loop.array(plain([*map(loop.tensor, golden.batch.inputs())]))
    assert parity.max_abs_difference(logits, golden.values["logits"]) <= 1e-5
    check_gradients(loop.gradients(plain, golden.batch), golden.grads, key_bias=2e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_training_steps_are_the_book_s(plain, golden, loop, steps):
    loop.train(plain, [golden.batch] * steps, LR)
    check_step(arrays_of(plain), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)


def test_it_learns_a_batch_from_the_framework_s_start_values(backend, golden, loop):
    heads = plain_heads(backend)
    loop.seed(0)
    with loop.scope():
        net = heads.BERTClassifier(heads.BERTModel(golden.net(backend).config), 3)
        if backend.name == "mxnet":
            net.initialize()
    losses = loop.train(net, [golden.batch] * 60, 1e-3)
    assert np.isfinite(losses).all() and losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("module", ["bert", "heads"])
def test_it_does_not_import_the_packed_path(backend, module):
    source = importlib.import_module(f"bertnli.backends.{backend.name}.{module}").__file__
    lines = Path(source).read_text().splitlines()
    imported = {line.split()[1].rpartition(".")[2] for line in lines if "from bertnli" in line}
    assert "config" in imported and imported <= {"_framework", "bert", "config", "positions"}
