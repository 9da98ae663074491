"""The native checkpoint: what goes in comes out, and what is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, classifier_shapes, initial_arrays
from bertnli.errors import CheckpointError
from bertnli.formats import names
from bertnli.formats.load import load_checkpoint
from bertnli.formats.native import CONFIG, WEIGHTS, is_native, load_native, save_native
from bertnli.text.vocab import Vocab

TOKENS = ["<unk>", "<pad>", "<mask>", "<cls>", "<sep>", "dog", "café"]
SIZES = BERTConfig(len(TOKENS), 8, 12, 2, 1, 0.1, 16)
LABELS = ("neutral", "entailment", "contradiction")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrays = initial_arrays(classifier_shapes(SIZES, 3), seed=0)
    save_native(tmp_path / "net", arrays, SIZES, LABELS, Vocab.from_list(TOKENS))
    return tmp_path / "net"


def test_round_trip(folder: Path) -> None:
    checkpoint = load_native(folder)
    expected = initial_arrays(classifier_shapes(SIZES, 3), seed=0)
    assert checkpoint.config == SIZES
    assert checkpoint.labels == LABELS
    assert checkpoint.vocab.idx_to_token == TOKENS
    assert set(checkpoint.arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)


def test_saving_replaces_and_leaves_nothing_beside(folder: Path) -> None:
    arrays = initial_arrays(classifier_shapes(SIZES, 3), seed=1)
    save_native(folder, arrays, SIZES, LABELS, Vocab.from_list(TOKENS))
    np.testing.assert_array_equal(
        load_native(folder).arrays["output.weight"], arrays["output.weight"]
    )
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_others_may_read_it(folder: Path) -> None:
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1 and {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "vocab.json",
    }


@pytest.mark.parametrize("labels", [["a", "a", "b"], ["", "x", "y"], ["A", "b", " a "]])
def test_each_class_has_a_name_of_its_own(folder: Path, labels: list[str]) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels}))
    with pytest.raises(CheckpointError, match="each class a name"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_weights_are_floating_point_numbers(folder: Path, dtype: type) -> None:
    arrays = load_native(folder).arrays
    save_file({**arrays, "hidden.bias": arrays["hidden.bias"].astype(dtype)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"hidden\.bias"):
        load_checkpoint(folder)


def test_half_a_character_is_no_text(folder: Path) -> None:
    path = folder / CONFIG
    path.write_text(path.read_text().replace("neutral", "\\ud800"))
    with pytest.raises(CheckpointError, match="not a JSON file"):
        load_checkpoint(folder)
    path.write_text(path.read_text().replace("\\ud800", "\\ud83d\\ude00"))  # a whole one
    assert load_checkpoint(folder).labels == ("\U0001f600", "entailment", "contradiction")


def test_a_run_opens_at_its_best(folder: Path) -> None:
    run = folder.parent / "run"
    run.mkdir()
    assert not is_native(run)
    folder.rename(run / "last")
    assert load_native(run).path == run / "last"
    (run / "last").rename(run / "best")
    assert load_native(run).path == run / "best"


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("work of years")
    with pytest.raises(CheckpointError, match="left as it is"):
        save_native(tmp_path, {}, SIZES, LABELS, Vocab.from_list(TOKENS))
    assert (tmp_path / "thesis.txt").read_text() == "work of years"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, Vocab.FILE])
@pytest.mark.parametrize("cut", [0, 10])
def test_damaged_files_are_errors(folder: Path, name: str, cut: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="net"):
        load_native(folder)


def test_missing_and_foreign_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_native(tmp_path / "nowhere")
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**described, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        load_native(folder)
    (folder / CONFIG).write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="not a checkpoint of bertnli"):
        load_native(folder)


def test_vocabulary_of_another_size_is_an_error(folder: Path) -> None:
    Vocab.from_list(TOKENS[:-1]).save(folder / Vocab.FILE)
    with pytest.raises(CheckpointError, match="6 tokens"):
        load_native(folder)


def test_names_of_both_frameworks_are_the_books() -> None:
    assert names.to_torch("mlm.decoder.weight") == "mlm.mlp.3.weight"
    assert names.to_torch("hidden.bias") == "hidden.0.bias"
    assert names.to_mxnet("mlm.ln.bias") == "mlm.mlp.1.beta"
    assert names.to_mxnet("encoder.blks.1.addnorm2.ln.weight") == "encoder.blks.1.addnorm2.ln.gamma"


def test_names_go_there_and_back() -> None:
    for name in bert_shapes(SIZES) | classifier_shapes(SIZES, 3):
        assert names.from_torch(names.to_torch(name)) == name
        assert names.from_mxnet(names.to_mxnet(name)) == name
