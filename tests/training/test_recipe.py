"""Recipes: their settings, rates of tensors, smoothed labels and soft targets."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import bertnli
from bertnli.bert.config import RECIPES, TrainingConfig
from bertnli.cli import parse
from bertnli.cli.parser import arguments
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.packing import split_by_length
from bertnli.errors import ConfigError, DataError
from bertnli.training.optimizer import tensor_rates
from bertnli.training.sets import smoothed


def test_explicit_settings_replace_those_of_a_recipe():
    assert TrainingConfig.of_recipe("book", lr=None) == TrainingConfig()
    best = TrainingConfig.of_recipe("best", lr=2e-5, clip_norm=0.0, patience=None)
    assert best.lr == 2e-5 and best.clip_norm == 0.0 and best.patience == 0
    assert best.weight_decay == RECIPES["best"]["weight_decay"] > 0
    with pytest.raises(ConfigError, match=r"recipe is 'worst'; it is one of .*best"):
        TrainingConfig.of_recipe("worst")


def test_options_of_the_command():
    line = "train --output x --train y --recipe best --clip-norm 0 --layer-decay 0.9 --patience 2"
    training = parse([*line.split(), "--epochs", "3", "--seed", "7"]).training
    given = {"clip_norm": 0.0, "layer_decay": 0.9, "patience": 2, "num_epochs": 3, "seed": 7}
    config = TrainingConfig.of_recipe(training.recipe, **arguments(training.settings))
    assert config == TrainingConfig(**{**RECIPES["best"], **given})


def test_rates_of_tensors_by_hand():
    config = TrainingConfig(weight_decay=0.01, layer_decay=0.5)
    expected = {
        "encoder.pos_embedding": (1 / 8, 0.01),
        "encoder.token_embedding.weight": (1 / 8, 0.01),
        "encoder.ln.weight": (1 / 8, 0.0),
        "encoder.ln.bias": (1 / 8, 0.0),
        "encoder.blks.0.attention.W_q.weight": (1 / 4, 0.01),
        "encoder.blks.0.attention.W_q.bias": (1 / 4, 0.0),
        "encoder.blks.1.addnorm2.ln.weight": (1 / 2, 0.0),
        "encoder.blks.1.ffn.dense2.weight": (1 / 2, 0.01),
        "hidden.weight": (1.0, 0.01),
        "output.bias": (1.0, 0.0),
        "mlm.ln.weight": (1.0, 0.0),
        "mlm.decoder.weight": (1.0, 0.01),
    }
    assert tensor_rates(expected, config, num_blks=2) == expected
    assert {*tensor_rates(expected, TrainingConfig(), 2).values()} == {(1.0, 0.0)}


@given(st.floats(0, 1), st.integers(1, 300))
def test_the_last_steps_are_averaged(average, total):
    config = TrainingConfig(average=average)
    steps = [step for step in range(total) if config.averages_at(step, total)]
    assert steps == [*range(total - len(steps), total)]
    assert len(steps) == (max(1, round(average * total)) if average else 0)


def test_smoothed_labels_by_hand(make_batch):
    batch = make_batch(6)
    targets = smoothed(batch, 0.3, 3).targets
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, 0.1 + 0.7 * (batch.labels[:, None] == range(3)), rtol=1e-6)
    teacher = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32)
    targets = smoothed(replace(batch, targets=teacher), 0.3, 3).targets
    np.testing.assert_allclose(targets, 0.1 + 0.7 * teacher, rtol=1e-6)
    assert smoothed(batch, 0.0, 3) is batch
    with pytest.raises(DataError, match="label ids from -1 to -1"):
        smoothed(replace(batch, labels=np.full(6, -1, np.int32)), 0.3, 3)


@dataclass(frozen=True)
class WithPlaces(Batch):
    """A batch with one more array."""

    places: NDArray[np.int32] | None = None


def test_parts_of_a_batch_keep_targets_and_arrays_of_subclasses(make_batch):
    plain = make_batch(9)
    targets = np.eye(9, dtype=np.float32)
    batch = WithPlaces(**{**vars(plain), "targets": targets}, places=np.arange(9, dtype=np.int32))
    parts = [batch[2:5], batch[np.array([7, 0])], *split_by_length(batch, 40)]
    assert len(parts) > 4
    for part in parts:
        assert isinstance(part, WithPlaces)
        np.testing.assert_array_equal(part.targets.argmax(1), part.places)
        np.testing.assert_array_equal(part.labels, plain.labels[part.places])
    assert plain[1:3].targets is None


def test_targets_of_a_dataset():
    corpus = bertnli.read("sample", "dev")
    plain = PairDataset(corpus, 24, build_vocab(corpus, 1), verbose=False)
    targets = np.random.default_rng(0).dirichlet(np.ones(3), len(plain)).astype(np.float32)
    data = plain.with_targets(targets)
    reverse = plain.with_targets(targets[::-1])
    assert plain.targets is None and len({x.digest() for x in (plain, data, reverse)}) == 3
    batch = data.batch(np.array([5, 2]))
    np.testing.assert_array_equal(batch.targets, targets[[5, 2]])
    ids = np.array([2, 0, 1], np.int32)  # the new id of each class
    other = batch.relabelled(ids)
    np.testing.assert_array_equal(other.labels, ids[batch.labels])
    np.testing.assert_array_equal(other.targets[:, ids], batch.targets)
    with pytest.raises(DataError, match=r"targets are \(3, 3\), and must be"):
        plain.with_targets(targets[:3])
    with pytest.raises(DataError, match="of 1 pairs are no probabilities"):
        plain.with_targets(np.concatenate([targets[:-1], [[0.5, 0.5, np.nan]]]))
