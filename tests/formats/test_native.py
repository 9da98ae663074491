"""The native checkpoint: what goes in comes out, and what is damaged is named."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from safetensors.numpy import load_file, save_file

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import classifier_shapes, initial_arrays
from bertnli.errors import BERTNLIError, CheckpointError
from bertnli.formats.load import load_checkpoint
from bertnli.formats.native import CONFIG, WEIGHTS, save_native
from bertnli.text.vocab import Vocab

TOKENS = ["<unk>", "<pad>", "<mask>", "<cls>", "<sep>", "dog", "café"]
SIZES = BERTConfig(len(TOKENS), 8, 12, 2, 1, 0.1, 16)
LABELS = ("neutral", "entailment", "contradiction")


def save(folder, seed=0):
    arrays = initial_arrays(classifier_shapes(SIZES, 3), seed)
    save_native(folder, arrays, SIZES, LABELS, Vocab.from_list(TOKENS))
    return arrays


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "net")
    return tmp_path / "net"


def test_round_trip_and_replacement(folder):
    for seed in (0, 1):
        expected = save(folder, seed)
        checkpoint = load_checkpoint(folder)
        assert (checkpoint.config, checkpoint.labels) == (SIZES, LABELS)
        assert checkpoint.vocab.idx_to_token == TOKENS
        assert {*checkpoint.arrays} == {*expected}
        for name, array in expected.items():
            np.testing.assert_array_equal(checkpoint.arrays[name], array)
    assert [path.name for path in folder.parent.iterdir()] == ["net"]
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, Vocab.FILE}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # others may read all


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"labels": labels}, "each class a name") for labels in ([*"aab"], ["", "x", "y"])),
        ({"labels": ["A", "b", " a "]}, "each class a name"),
        ({"version": 99}, "version 99"),
        ({"labels": ["\ud800", "b", "c"]}, "not a JSON file"),  # half a character
    ],
)
def test_wrong_descriptions_are_errors(folder, changes, message):
    described = {**json.loads((folder / CONFIG).read_text()), **changes}
    (folder / CONFIG).write_text(json.dumps(described))
    refused(CheckpointError, message, load_checkpoint, folder)


def test_any_character_may_be_in_a_name(folder):
    text = (folder / CONFIG).read_text().replace("neutral", "\\ud83d\\ude00")
    (folder / CONFIG).write_text(text)
    assert load_checkpoint(folder).labels == ("\U0001f600", "entailment", "contradiction")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_weights_are_floating_point_numbers(folder, dtype):
    arrays = load_checkpoint(folder).arrays
    save_file({**arrays, "hidden.bias": arrays["hidden.bias"].astype(dtype)}, folder / WEIGHTS)
    refused(CheckpointError, r"hidden\.bias", load_checkpoint, folder)


def test_a_run_opens_at_its_best(folder):
    run = folder.parent / "run"
    run.mkdir()
    refused(CheckpointError, "holds no checkpoint", load_checkpoint, run)
    folder.rename(run / "last")
    assert load_checkpoint(run).source == str(run / "last")
    (run / "last").rename(run / "best")
    assert load_checkpoint(run).source == str(run / "best")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    save(tmp_path / "ours")
    for folder in (tmp_path, tmp_path / "ours"):
        (folder / "thesis.txt").write_text("work of years")
        refused(CheckpointError, "left as it is", save, folder)
        assert (folder / "thesis.txt").read_text() == "work of years"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, Vocab.FILE])
@pytest.mark.parametrize("size", [0, 10])
def test_files_that_are_cut_off_are_errors(folder, name, size):
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    refused(BERTNLIError, "net", load_checkpoint, folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_weights_are_refused_or_those_that_safetensors_reads(folder, damage, data):
    save(folder)
    (folder / WEIGHTS).write_bytes(damage(data, (folder / WEIGHTS).read_bytes()))
    try:
        arrays = load_checkpoint(folder).arrays
    except CheckpointError:
        return
    expected = load_file(folder / WEIGHTS)
    assert {*arrays} == {*expected}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array.reshape(-1), expected[name].reshape(-1))
