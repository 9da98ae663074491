"""The referee against the definition of a derivative, and against PyTorch's Adam in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bertnli import parity
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, classifier_shapes
from bertnli.data.batches import Batch
from bertnli.errors import DataError
from bertnli.training.engine import StepResult

SMALL = BERTConfig(
    vocab_size=13, num_hiddens=6, ffn_num_hiddens=10, num_heads=2, num_blks=2, max_len=9
)


def random_arrays(config: BERTConfig, seed: int = 0) -> dict[str, NDArray]:
    """A classifier whose every tensor, biases too, is far from its start value."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(1.0 if name.endswith("ln.weight") else 0.0, 0.5, shape)
        for name, shape in classifier_shapes(config, 3).items()
    }


def small_batch() -> Batch:
    rng = np.random.default_rng(1)
    ids, segments = rng.integers(0, 13, (4, 7)), rng.integers(0, 2, (4, 7))
    return Batch(ids, segments, np.array([7, 3, 1, 5]), np.array([0, 2, 1, 2]))


def limits(kind: str, batch: Batch) -> NDArray | None:
    if kind == "none":
        return None
    if kind == "of each query":
        return np.random.default_rng(2).integers(0, 8, (4, 7))  # 0: no valid key
    return batch.valid_lens


@pytest.mark.parametrize("kind", ["none", "of each pair", "of each query"])
def test_gradients_are_the_central_differences(kind: str) -> None:
    batch, arrays = small_batch(), random_arrays(SMALL)
    inputs = (batch.token_ids, batch.segments, limits(kind, batch))

    def mean_loss() -> float:
        found = parity.forward(arrays, SMALL, *inputs)
        assert found.logits is not None
        return float(parity.losses(found.logits, batch.labels).mean())

    grads = parity.gradients(arrays, SMALL, *inputs, batch.labels)
    assert list(grads) == list(arrays)
    step = 1e-6
    for name, array in arrays.items():
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step
            above = mean_loss()
            array[index] = value - step
            below = mean_loss()
            array[index] = value
            numeric[index] = (above - below) / (2 * step)
        # Two roundings of a loss near 1 over 2 * step: some 1e-10.
        assert parity.max_abs_difference(grads[name], numeric) < 2e-9, name
        if parity.is_key_bias(name):
            assert np.abs(grads[name]).max() < 1e-15
        else:
            assert np.abs(grads[name]).max() > 1e-4, name


def test_heads_are_computed_if_their_tensors_are_there() -> None:
    rng = np.random.default_rng(0)
    bert = {name: rng.normal(size=shape) for name, shape in bert_shapes(SMALL).items()}
    batch = small_batch()
    inputs = (SMALL, batch.token_ids, batch.segments, batch.valid_lens)
    positions = np.array([[0, 6]] * 4)
    pretrained = parity.forward(bert, *inputs, positions)
    assert pretrained.mlm_logits is not None
    assert pretrained.nsp_logits is not None
    assert pretrained.mlm_logits.shape == (4, 2, 13)
    assert pretrained.nsp_logits.shape == (4, 2)
    assert pretrained.logits is None
    assert parity.forward(bert, *inputs).mlm_logits is None
    classifier = parity.forward(random_arrays(SMALL), *inputs, positions)
    assert classifier.mlm_logits is None
    assert classifier.nsp_logits is None
    assert classifier.logits is not None
    assert classifier.logits.shape == (4, 3)


def test_padding_changes_nothing_but_itself() -> None:
    batch, arrays = small_batch(), random_arrays(SMALL)
    found = parity.forward(arrays, SMALL, batch.token_ids, batch.segments, batch.valid_lens)
    ids = np.where(np.arange(7) < batch.valid_lens[:, None], batch.token_ids, 12)
    padded = parity.forward(arrays, SMALL, ids, batch.segments, batch.valid_lens)
    for row, length in enumerate(batch.valid_lens):
        ours, theirs = found.encoded[row, :length], padded.encoded[row, :length]
        assert parity.max_abs_difference(ours, theirs) < 1e-14


def test_adam_is_that_of_torch(gradient_sequence: list[dict[str, NDArray]]) -> None:
    weights = {name: np.linspace(-2, 2, g.size) for name, g in gradient_sequence[0].items()}
    tensors = {name: torch.tensor(w, dtype=torch.float64) for name, w in weights.items()}
    optimizer = torch.optim.Adam(tensors.values(), lr=1e-3)
    m: dict[str, NDArray] = {}
    v: dict[str, NDArray] = {}
    for step, grads in enumerate(gradient_sequence, start=1):
        weights = parity.adam_step(weights, grads, m, v, step, lr=1e-3)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name], dtype=torch.float64)
        optimizer.step()
        for name, tensor in tensors.items():
            assert parity.max_abs_difference(weights[name], tensor.numpy()) < 1e-15


@pytest.fixture
def gradient_sequence() -> list[dict[str, NDArray]]:
    rng = np.random.default_rng(0)
    sizes = {"zero": 0.0, "1e-12": 1e-12, "1e-8": 1e-8, "1e-4": 1e-4, "1": 1.0}
    return [{name: size * rng.normal(size=5) for name, size in sizes.items()} for _ in range(10)]


def test_losses_are_cross_entropies() -> None:
    logits = np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, -1000.0], [1000.0, 0.0, -1000.0]])
    assert parity.losses(logits, [1, 0, 2]) == pytest.approx([np.log(3), 0.0, 2000.0], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder.blks.0.attention.W_k.bias", True),
        ("encoder.blks.11.attention.W_k.bias", True),
        ("encoder.blks.0.attention.W_k.weight", False),
        ("encoder.blks.0.attention.W_q.bias", False),
        ("output.bias", False),
    ],
)
def test_key_bias(name: str, expected: bool) -> None:
    assert parity.is_key_bias(name) is expected


def test_differences() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.5, 4.0])
    assert parity.max_abs_difference(a, b) == 2.0
    assert parity.relative_difference(a, b) == 0.5
    assert parity.max_abs_difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    assert parity.relative_difference(a, np.zeros(2)) == np.inf
    assert parity.relative_difference(np.zeros(2), np.zeros(2)) == 0.0
    assert np.isnan(parity.max_abs_difference([np.nan, 0.0], [0.0, 0.0]))
    (row,) = parity.compare_arrays({"x": a}, {"x": b})
    assert row == parity.Difference("x", (2,), 2.0, 0.5)


def test_what_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        parity.max_abs_difference(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match=r"x is \(2,\).*\(3,\)"):
        parity.compare_arrays({"x": np.zeros(2)}, {"x": np.zeros(3)})
    with pytest.raises(DataError, match="a, b"):
        parity.compare_arrays(
            {"a": np.zeros(2), "c": np.zeros(2)}, {"b": np.zeros(2), "c": np.zeros(2)}
        )


def test_run_both_takes_the_same_steps() -> None:
    class Steps:
        def __init__(self, loss: float) -> None:
            self.loss = loss
            self.taken: list[tuple[float, int]] = []

        def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
            self.taken.append((lr, seed))
            return StepResult([(self.loss * len(batch), 0)])

    ours, theirs = Steps(1.0), Steps(1.25)
    rows = parity.run_both(ours, theirs, [small_batch()] * 2, lr=0.1, seed=7)
    assert ours.taken == theirs.taken == [(0.1, 7), (0.1, 8)]
    assert [row.step for row in rows] == [0, 1]
    assert [(row.our_loss, row.their_loss, row.absolute) for row in rows] == [(1.0, 1.25, 0.25)] * 2
