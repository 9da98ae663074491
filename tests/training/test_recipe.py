"""Recipes: what they set, what they make of tensors and classes, and soft targets on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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
from bertnli.training.history import EpochRecord, History
from bertnli.training.optimizer import tensor_rates
from bertnli.training.sets import smoothed


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": -0.1},
        {"clip_norm": float("inf")},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"label_smoothing": 1.0},
        {"average": 1.5},
        {"patience": -1},
    ],
)
def test_what_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        TrainingConfig(**change)


def test_what_a_recipe_sets() -> None:
    assert TrainingConfig.of_recipe("book", lr=None) == TrainingConfig()
    best = TrainingConfig.of_recipe("best", lr=2e-5, clip_norm=0.0, patience=None)
    assert best.lr == 2e-5 and best.clip_norm == 0.0 and best.patience == 0
    assert best.weight_decay == RECIPES["best"]["weight_decay"] > 0
    with pytest.raises(ConfigError, match=r"recipe is 'worst'; it is one of .*best"):
        TrainingConfig.of_recipe("worst")


def test_the_command_s_options() -> None:
    def config(argv: list[str]) -> TrainingConfig:
        command: Any = parse(["train", "--output", "x", "--train", "y", *argv])
        return TrainingConfig.of_recipe(
            command.training.recipe, **arguments(command.training.settings)
        )

    assert config([]) == TrainingConfig()
    argv = ["--recipe", "best", "--clip-norm", "0", "--layer-decay", "0.9", "--patience", "2"]
    argv += ["--epochs", "3", "--seed", "7"]
    given = {"clip_norm": 0.0, "layer_decay": 0.9, "patience": 2, "num_epochs": 3, "seed": 7}
    assert config(argv) == TrainingConfig(**{**RECIPES["best"], **given})


def test_rates_of_tensors_by_hand() -> None:
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
def test_the_steps_that_are_averaged_are_the_last(average: float, total: int) -> None:
    config = TrainingConfig(average=average)
    steps = [step for step in range(total) if config.averages_at(step, total)]
    assert steps == [*range(total - len(steps), total)]
    assert len(steps) == (max(1, round(average * total)) if average else 0)


def test_smoothing_by_hand(make_batch: Callable[..., Batch]) -> None:
    batch = make_batch(6)
    targets = smoothed(batch, 0.3, 3).targets
    assert targets is not None and targets.dtype == np.float32
    np.testing.assert_allclose(targets, 0.1 + 0.7 * (batch.labels[:, None] == range(3)), rtol=1e-6)
    teacher = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32)
    targets = smoothed(replace(batch, targets=teacher), 0.3, 3).targets
    np.testing.assert_allclose(targets, 0.1 + 0.7 * teacher, rtol=1e-6)
    assert smoothed(batch, 0.0, 3) is batch
    with pytest.raises(DataError, match="label ids from -1 to -1"):
        smoothed(replace(batch, labels=np.full(6, -1, np.int32)), 0.3, 3)


@dataclass(frozen=True)
class WithPlaces(Batch):
    """A batch that carries one array more."""

    places: NDArray[np.int32] | None = None


def test_a_pair_s_arrays_stay_together(make_batch: Callable[..., Batch]) -> None:
    """Whatever takes some of a batch's pairs takes their targets along, and what a subclass has."""
    plain = make_batch(9)
    places = np.arange(9, dtype=np.int32)
    targets = np.eye(9, dtype=np.float32)
    batch = WithPlaces(**{**vars(plain), "targets": targets}, places=places)
    parts = [batch[2:5], batch[np.array([7, 0])], *split_by_length(batch, 40)]
    assert len(parts) > 4
    for part in parts:
        assert isinstance(part, WithPlaces) and part.targets is not None
        np.testing.assert_array_equal(part.targets.argmax(1), part.places)
        np.testing.assert_array_equal(part.labels, plain.labels[part.places])
    assert plain[1:3].targets is None


def sample(targets: NDArray | None = None) -> PairDataset:
    corpus = bertnli.read("sample", "dev")
    data = PairDataset(corpus, 24, build_vocab(corpus, 1), verbose=False)
    return data if targets is None else data.with_targets(targets)


def test_targets_of_a_dataset() -> None:
    plain = sample()
    targets = np.random.default_rng(0).dirichlet(np.ones(3), len(plain)).astype(np.float32)
    data = sample(targets)
    assert plain.targets is None and data.digest() != plain.digest()
    assert sample(targets[::-1]).digest() != data.digest()
    batch = data.batch(np.array([5, 2]))
    np.testing.assert_array_equal(batch.targets, targets[[5, 2]])
    ids = np.array([2, 0, 1], np.int32)  # class 0 becomes 2, and so on
    other = batch.relabelled(ids)
    for pair in range(2):
        assert other.labels[pair] == ids[batch.labels[pair]]
        for old, new in enumerate(ids):
            assert other.targets[pair, new] == batch.targets[pair, old]  # type: ignore[index]
    with pytest.raises(DataError, match=r"targets are \(3, 3\), and must be"):
        plain.with_targets(targets[:3])
    with pytest.raises(DataError, match="of 1 pairs are no probabilities"):
        plain.with_targets(np.concatenate([targets[:-1], [[0.5, 0.5, np.nan]]]))


@pytest.mark.parametrize(
    ("accuracies", "patience", "stalled"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),  # no better
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.6, 0.6, 0.4], 2, True),
        ([0.5, 0.4, 0.3], 0, False),
    ],
)
def test_when_a_run_has_stalled(accuracies: list[float], patience: int, stalled: bool) -> None:
    records = [
        EpochRecord(i, i, 1.0, 0.5, 1.0, accuracy, 1.0, 1.0, 1.0)
        for i, accuracy in enumerate(accuracies, 1)
    ]
    assert History(records).has_stalled(patience) is stalled
