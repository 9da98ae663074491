"""Sizes and settings, the learning rate's schedule, and the tensors' names and shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertnli.bert.config import PRESETS, BERTConfig, TrainingConfig
from bertnli.bert.parameters import (
    bert_shapes,
    check_shapes,
    classifier_shapes,
    infer_config,
    initial_arrays,
)
from bertnli.errors import CheckpointError, ConfigError

#: Settings that exclude `position_buckets`.
OTHERS = ("relative_buckets", "first_position", "embedding_size")
TINY = BERTConfig(20, 8, 12, 2, 2, 0.0, 16)


@pytest.mark.parametrize(
    "change",
    [
        *({"num_heads": 3}, {"dropout": 1.0}, {"num_blks": 0}, {"vocab_size": 2.5}, {"colour": 1}),
        {"position_buckets": 1},
        *({"position_buckets": 4, name: 32} for name in OTHERS),
    ],
)
def test_sizes(change):
    assert BERTConfig.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(ConfigError, match=next(iter(change))):
        BERTConfig.from_dict({**TINY.to_dict(), **change})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lr", 0), ("lr", float("nan")), ("lr", "1e-3"), ("num_epochs", 0), ("num_epochs", 1.5)),
        *(("batch_size", True), ("schedule", "cosine"), ("warmup", 1.5), ("seed", -1)),
        *(("layer_decay", 0), ("layer_decay", 1.1), ("clip_norm", float("inf"))),
        *(("weight_decay", -0.1), ("label_smoothing", 1.0), ("average", 1.5), ("patience", -1)),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ConfigError, match=name):
        TrainingConfig(**{name: value})


def test_linear_schedule_by_hand():
    config = TrainingConfig(1.0, schedule="linear", warmup=0.2)
    rates = [config.lr_at(step, 10) for step in range(10)]
    np.testing.assert_allclose(rates, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert {TrainingConfig(0.1).lr_at(step, 7) for step in range(7)} == {0.1}


@given(st.floats(0, 1), st.integers(1, 300))
def test_rates_are_positive_and_at_most_the_peak(warmup, total):
    config = TrainingConfig(0.5, schedule="linear", warmup=warmup)
    assert all(0 < config.lr_at(step, total) <= 0.5 for step in range(total))


def test_presets_are_the_book_s():
    assert BERTConfig(5, **PRESETS["bert.base"]) == BERTConfig(5, 768, 3072, 12, 12, 0.1, 512)
    assert BERTConfig(5, **PRESETS["bert.small"]) == BERTConfig(5, 256, 512, 4, 2, 0.1, 512)


def test_shapes_imply_the_sizes():
    arrays = initial_arrays(bert_shapes(TINY), seed=0)
    assert len(arrays) == 13 + 16 * TINY.num_blks  # the reference's number
    assert infer_config(arrays, TINY.num_heads, TINY.dropout, "here") == TINY
    with pytest.raises(CheckpointError, match=r"here.*not those of a BERT"):
        infer_config({"w": np.zeros(3)}, 2, 0.0, "here")


def test_wrong_shapes_are_named():
    arrays = initial_arrays(classifier_shapes(TINY, 3), seed=0)
    arrays["output.bias"] = np.zeros(4, np.float32)
    arrays["stray"] = arrays.pop("hidden.bias")
    with pytest.raises(CheckpointError) as caught:
        check_shapes(arrays, classifier_shapes(TINY, 3), "file")
    bias = "output.bias is (4,) in the file, (3,) in the model"
    for part in (bias, "missing: hidden.bias", "not in the model: stray"):
        assert part in str(caught.value)


def test_start_values_depend_only_on_seed_and_name():
    shapes = bert_shapes(TINY)
    arrays = initial_arrays(shapes, seed=3)
    name = "encoder.blks.1.ffn.dense2.weight"
    alone = initial_arrays({name: shapes[name]}, seed=3)[name]
    np.testing.assert_array_equal(alone, arrays[name])
    assert not np.array_equal(initial_arrays({name: shapes[name]}, seed=4)[name], alone)
    assert np.abs(alone).max() <= 1 / np.sqrt(12)
    assert arrays["encoder.token_embedding.weight"].std() == pytest.approx(0.02, rel=0.2)
    assert all((arrays[key] == 1).all() for key in shapes if key.endswith("ln.weight"))
    assert all((arrays[key] == 0).all() for key in shapes if key.endswith(".bias"))
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
