"""A run's state on disk: what is damaged is noticed, and only states are removed."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from bertnli.errors import CheckpointError
from bertnli.training.environment import describe_differences, differences
from bertnli.training.history import EpochRecord, History
from bertnli.training.state import (
    EpochProgress,
    TrainingState,
    load_state,
    remove_states,
    save_state,
    states,
)

#: Bits that are flipped in each file of a state, here and in the long run.
FEW, MANY = 100, 2000


def new_state(steps: int = 40) -> TrainingState:
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


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    ours, theirs = asdict(found), asdict(expected)
    arrays, others = ours.pop("arrays"), theirs.pop("arrays")
    assert ours == theirs and {*arrays} == {*others}
    for name, array in others.items():
        assert arrays[name].dtype == array.dtype and arrays[name].tobytes() == array.tobytes()


def flip_bits(folder: Path, count: int) -> int:
    """Flip bits of each file of the newest state, one at a time; return how many were noticed."""
    before, newest = new_state(20), new_state()
    save_state(folder, before, 2)
    save_state(folder, newest, 2)
    noticed = 0
    for file in sorted(states(folder)[0].iterdir()):
        whole = file.read_bytes()
        for bit in random.Random(0).sample(range(8 * len(whole)), count):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            found = load_state(folder)
            assert found is not None
            fell_back = found.step == before.step
            assert_same(found, before if fell_back else newest)
            noticed += fell_back
        file.write_bytes(whole)
    return noticed


def test_a_state_comes_back(tmp_path: Path) -> None:
    state = new_state()
    save_state(tmp_path, state, 1)
    found = load_state(tmp_path)
    assert found is not None
    assert_same(found, state)


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    """In either file; or they change nothing, as in the letter case of 1e-05."""
    assert flip_bits(tmp_path, FEW) > 1.9 * FEW


@pytest.mark.long
def test_four_thousand_flipped_bits_are_noticed(tmp_path: Path) -> None:
    assert flip_bits(tmp_path, MANY) > 1.9 * MANY


def test_no_state_is_whole(tmp_path: Path) -> None:
    save_state(tmp_path, new_state(), 1)
    file = next(tmp_path.glob("*/state.json"))
    file.write_text(file.read_text().replace('"steps": 20', '"steps": 21'))
    with pytest.raises(CheckpointError, match=r"no state .* is whole.*state\.json is damaged"):
        load_state(tmp_path)


def test_only_states_are_removed(tmp_path: Path) -> None:
    """Others of such names stay, and are never written over."""
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


def test_what_differs_between_two_machines() -> None:
    before = {"threads": 1, "backend": "torch 2.6", "processes": 1}
    assert differences(before, dict(before)) == []
    found = differences(before, {**before, "threads": 2, "variables": "MKL_CBWR=AVX2"})
    assert found == ["threads: 2 (was 1)", "variables: MKL_CBWR=AVX2 (was none)"]
    assert "to rounding, not to the bit" in describe_differences(found)
    assert differences(before, {**before, "processes": 2}) == ["processes: 2 (was 1)"]
