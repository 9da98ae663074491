"""The float64 referee against central differences and PyTorch's Adam; comparisons of arrays."""

import numpy as np
import pytest
import torch
from small_nets import batch_of, random_arrays

from bertnli import parity
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes
from bertnli.errors import DataError

SIZES = (13, 6, 10, 2, 2, 0.0, 9)
SMALL = BERTConfig(*SIZES)
KINDS = {
    "book": SMALL,
    "Devlin et al.": BERTConfig(*SIZES, "gelu", True, 1e-12),
    "tanh": BERTConfig(*SIZES, "gelu_tanh", False, 1e-6),
    "RoBERTa": BERTConfig(
        *SIZES, "gelu", True, num_segments=1, pair_segments=False, first_position=2
    ),
    "DistilBERT": BERTConfig(*SIZES, "gelu", True, num_segments=0, pooler_activation="relu"),
    "ELECTRA": BERTConfig(*SIZES, "gelu", True, embedding_size=4, pooler_activation="gelu"),
    "MPNet": BERTConfig(*SIZES, "gelu", True, num_segments=0, relative_buckets=32),
    "DeBERTa": BERTConfig(*SIZES, "gelu", True, num_segments=0, position_buckets=4),
}
BATCH = batch_of([7, 3, 1, 5], 7, vocab_size=13)


@pytest.mark.parametrize("valid", ["none", "of each pair", "of each query"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_central_differences(kind, valid):
    config, batch = KINDS[kind], BATCH
    arrays, rng = random_arrays(config, 0.5, seed=0), np.random.default_rng(2)
    by_query = rng.integers(0, 8, (4, 7))  # 0: no valid key
    lens = {"none": None, "of each pair": batch.valid_lens, "of each query": by_query}[valid]
    inputs = (batch.token_ids, batch.segments, lens)

    def mean_loss():
        logits = parity.forward(arrays, config, *inputs).logits
        return float(parity.losses(logits, batch.labels).mean())

    gradients = parity.gradients(arrays, config, *inputs, batch.labels)
    assert list(gradients) == list(arrays)
    step, tolerance = 1e-6, 2e-9 if config is SMALL else 5e-9
    for name, array in arrays.items():
        for index in {tuple(rng.integers(0, size) for size in array.shape) for _ in range(6)}:
            value = array[index]
            array[index] = value + step
            above = mean_loss()
            array[index] = value - step
            numeric = (above - mean_loss()) / (2 * step)
            array[index] = value
            # Two roundings of a loss near 1 over 2 * step: some 1e-10.
            assert abs(gradients[name][index] - numeric) < tolerance, name
        largest = np.abs(gradients[name]).max()
        cancels = parity.is_key_bias(name) and not config.position_buckets
        assert largest < 1e-15 if cancels else largest > 1e-4, name


def test_heads_are_computed_if_their_tensors_are_given():
    rng, batch = np.random.default_rng(0), BATCH
    bert = {name: rng.normal(size=shape) for name, shape in bert_shapes(SMALL).items()}
    positions = np.array([[0, 6]] * 4)
    pretrained = parity.forward(bert, SMALL, *batch.inputs(), positions)
    assert pretrained.mlm_logits.shape == (4, 2, 13)
    assert pretrained.nsp_logits.shape == (4, 2)
    assert pretrained.logits is None
    classifier = parity.forward(random_arrays(SMALL, 0.5), SMALL, *batch.inputs())
    assert classifier.mlm_logits is None and classifier.nsp_logits is None
    assert classifier.logits.shape == (4, 3)


def test_adam_is_that_of_torch():
    rng = np.random.default_rng(0)
    sizes = {"zero": 0.0, "1e-12": 1e-12, "1e-8": 1e-8, "1e-4": 1e-4, "1": 1.0}
    weights = {name: np.linspace(-2, 2, 5) for name in sizes}
    tensors = {name: torch.tensor(w, dtype=torch.float64) for name, w in weights.items()}
    optimizer = torch.optim.Adam(tensors.values(), lr=1e-3)
    moments = ({}, {})
    for step in range(1, 11):
        gradients = {name: size * rng.normal(size=5) for name, size in sizes.items()}
        weights = parity.adam_step(weights, gradients, *moments, step, lr=1e-3)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name], dtype=torch.float64)
        optimizer.step()
        for name, tensor in tensors.items():
            assert parity.max_abs_difference(weights[name], tensor.numpy()) < 1e-15


def test_losses_are_cross_entropies():
    logits = np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, -1000.0], [1000.0, 0.0, -1000.0]])
    assert parity.losses(logits, [1, 0, 2]) == pytest.approx([np.log(3), 0.0, 2000.0], abs=1e-12)


def test_differences():
    a, b = np.array([1.0, 2.0]), np.array([1.5, 4.0])
    assert parity.max_abs_difference(a, b) == 2.0
    assert parity.relative_difference(a, b) == 0.5
    assert parity.max_abs_difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    assert parity.relative_difference(a, np.zeros(2)) == np.inf
    assert parity.relative_difference(np.zeros(2), np.zeros(2)) == 0.0
    assert np.isnan(parity.max_abs_difference([np.nan, 0.0], [0.0, 0.0]))
    assert parity.compare_arrays({"x": a}, {"x": b}) == [parity.Difference("x", (2,), 2.0, 0.5)]
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        parity.max_abs_difference(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match=r"x is \(2,\).*\(3,\)"):
        parity.compare_arrays({"x": np.zeros(2)}, {"x": np.zeros(3)})
    with pytest.raises(DataError, match="a, b"):
        parity.compare_arrays({"a": a, "c": a}, {"b": a, "c": a})
