"""A run's state on disk: damage is noticed, and only states are removed."""

import random
from dataclasses import asdict

import numpy as np
import pytest
from small_runs import assert_same_arrays

from bertnli.errors import CheckpointError
from bertnli.training.history import EpochRecord, History
from bertnli.training.state import (
    EpochProgress,
    TrainingState,
    load_state,
    remove_states,
    save_state,
    state_from_bytes,
    state_to_bytes,
    states,
)


def new_state(steps=40):
    rng = np.random.default_rng(steps)
    losses = [float(loss) for loss in rng.uniform(0.1, 2, steps)]
    record = EpochRecord(1, 20, losses[0], 0.5, losses[1], 0.625, 1234.5, 1.25, 0.5)
    progress = EpochProgress(steps - 20, float(sum(losses[20:])), 200.0, 512, 3.5)
    arrays = {
        "weights/hidden.weight": rng.normal(size=(8, 8)).astype(np.float32),
        "m/hidden.weight": rng.normal(size=(8, 8)).astype(np.float32),
        "step": np.array([steps]),
    }
    settings = {"lr": 1e-4, "labels": ["yes", "no"], "training set": "0a1b", "warmup": None}
    environment = {"threads": 2, "backend": "torch 2.6"}
    return TrainingState(settings, History([record], losses), progress, arrays, environment)


def assert_same(state, expected):
    result, expected = asdict(state), asdict(expected)
    assert_same_arrays(result.pop("arrays"), expected.pop("arrays"))
    assert result == expected


def test_a_state_is_read_back(tmp_path):
    state = new_state()
    save_state(tmp_path, state, 1)
    assert_same(load_state(tmp_path), state)
    assert_same(state_from_bytes(state_to_bytes(state)), state)
    assert state_from_bytes(state_to_bytes(None)) is None


@pytest.mark.parametrize("count", [50, pytest.param(2000, marks=pytest.mark.long)])
def test_flipped_bits_are_noticed(tmp_path, count):
    """Unless they change nothing, such as the letter case of 1e-05."""
    before, newest = new_state(20), new_state()
    save_state(tmp_path, before, 2)
    save_state(tmp_path, newest, 2)
    noticed = 0
    for file in sorted(states(tmp_path)[0].iterdir()):
        raw = file.read_bytes()
        for bit in random.Random(0).sample(range(8 * len(raw)), count):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            state = load_state(tmp_path)
            assert_same(state, before if state.step == before.step else newest)
            noticed += state.step == before.step
        file.write_bytes(raw)
    assert noticed > 1.9 * count


def test_if_all_states_are_damaged_it_is_an_error(tmp_path):
    save_state(tmp_path, new_state(), 1)
    file = next(tmp_path.glob("*/state.json"))
    file.write_text(file.read_text().replace('"steps": 20', '"steps": 21'))
    with pytest.raises(CheckpointError, match=r"all states .* are damaged.*state\.json"):
        load_state(tmp_path)


def test_only_states_are_removed(tmp_path):
    """Other things with such names stay, and are never replaced."""
    for steps in (20, 30, 40):
        save_state(tmp_path, new_state(steps), 3)
    (tmp_path / "step-000000030" / "notes.txt").write_text("mine")
    (tmp_path / "step-12").mkdir()
    (tmp_path / "step-12" / "state.json").write_text('{"format": "bertnli training state"}')
    (tmp_path / "step-000000010").symlink_to(tmp_path / "step-000000040")
    (tmp_path / "step-000000050").mkdir()
    (tmp_path / "step-000000050" / "state.json").write_text('{"of": "another program"}')
    assert [path.name for path in states(tmp_path)] == ["step-000000040", "step-000000020"]
    with pytest.raises(CheckpointError, match="step-000000050 is in the way"):
        save_state(tmp_path, new_state(50), 1)
    save_state(tmp_path, new_state(60), 1)
    remove_states(tmp_path)
    others = ["step-000000010", "step-000000030", "step-000000050", "step-12"]
    assert sorted(path.name for path in tmp_path.iterdir()) == others
    assert (tmp_path / "step-000000030" / "notes.txt").read_text() == "mine"
