"""The book's model by itself: what `bert` and `heads` compute without the rest of a backend."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_reference import check_gradients
from test_training import LR, check_step

from bertnli import parity
from bertnli.backends.interface import Backend
from bertnli.formats import names

PLAIN = ("bert", "heads")


class Plain:
    """A backend's classifier of `heads` alone, with the weights of another."""

    def __init__(self, nli: Backend, net: Any, folder: Path) -> None:
        heads: Any = importlib.import_module(f"bertnli.backends.{nli.name}.heads")
        self.net = heads.BERTClassifier(heads.BERTModel(net.config), len(net.labels))
        if nli.name == "torch":
            self.net.load_state_dict(net.state_dict())
        else:
            net.save_parameters(str(folder / "net.params"))
            self.net.load_parameters(str(folder / "net.params"))
        self.is_torch = nli.name == "torch"

    def arrays(self) -> dict[str, NDArray]:
        if self.is_torch:
            found = self.net.state_dict()
            return {names.from_torch(k): v.numpy().copy() for k, v in found.items()}
        found = self.net._collect_params_with_prefix()
        return {names.from_mxnet(k): v.data().asnumpy() for k, v in found.items()}


@pytest.fixture
def plain(backend: Backend, golden: Any, loop: Any, tmp_path: Path) -> Plain:
    with loop.scope():
        return Plain(backend, golden.net(backend), tmp_path)


def inputs(golden: Any, loop: Any) -> list[Any]:
    batch = golden.batch
    return [loop.tensor(array) for array in (batch.token_ids, batch.segments, batch.valid_lens)]


def test_its_logits_are_the_book_s(plain: Plain, golden: Any, loop: Any) -> None:
    with loop.scope():
        found = loop.array(plain.net(inputs(golden, loop)))
    assert parity.max_abs_difference(found, golden.values["logits"]) <= 1e-5


def test_its_gradients_are_the_book_s(plain: Plain, golden: Any, loop: Any) -> None:
    check_gradients(loop.gradients(plain.net, golden.batch), golden.grads, key_bias=2e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_it_trains_as_the_book_s(plain: Plain, golden: Any, loop: Any, steps: int) -> None:
    loop.train(plain.net, [golden.batch] * steps, LR)
    check_step(plain.arrays(), golden.steps[steps], golden.grads, threshold=1e-3, steps=steps)


def test_it_starts_by_itself(backend: Backend, golden: Any, loop: Any) -> None:
    """With the framework's own start values, and learns the batch by heart."""
    heads: Any = importlib.import_module(f"bertnli.backends.{backend.name}.heads")
    with loop.scope():
        net = heads.BERTClassifier(heads.BERTModel(golden.net(backend).config), 3)
        if backend.name == "mxnet":
            net.initialize()
    losses = loop.train(net, [golden.batch] * 60, 1e-3)
    assert np.isfinite(losses).all() and losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("module", PLAIN)
def test_it_knows_nothing_of_the_fast_path(backend: Backend, module: str) -> None:
    source = importlib.import_module(f"bertnli.backends.{backend.name}.{module}").__file__
    tree = ast.parse(Path(str(source)).read_text())
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {one.rpartition(".")[2] for one in imported if one.startswith("bertnli")}
    assert ours <= {"_framework", "bert", "config"}
