"""The native checkpoint: what goes in comes out, and what is damaged is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, classifier_shapes, initial_arrays
from bertnli.errors import BERTNLIError, CheckpointError
from bertnli.formats import names
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


@pytest.mark.parametrize("labels", [["a", "a", "b"], ["", "x", "y"], ["A", "b", " a "]])
def test_each_class_has_a_name_of_its_own(folder, labels):
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels}))
    with pytest.raises(CheckpointError, match="each class a name"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_weights_are_floating_point_numbers(folder, dtype):
    arrays = load_checkpoint(folder).arrays
    save_file({**arrays, "hidden.bias": arrays["hidden.bias"].astype(dtype)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"hidden\.bias"):
        load_checkpoint(folder)


def test_half_a_character_is_no_text(folder):
    path = folder / CONFIG
    path.write_text(path.read_text().replace("neutral", "\\ud800"))
    with pytest.raises(CheckpointError, match="not a JSON file"):
        load_checkpoint(folder)
    path.write_text(path.read_text().replace("\\ud800", "\\ud83d\\ude00"))  # a whole one
    assert load_checkpoint(folder).labels == ("\U0001f600", "entailment", "contradiction")


def test_a_run_opens_at_its_best(folder):
    run = folder.parent / "run"
    run.mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(run)
    folder.rename(run / "last")
    assert load_checkpoint(run).source == str(run / "last")
    (run / "last").rename(run / "best")
    assert load_checkpoint(run).source == str(run / "best")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("work of years")
    with pytest.raises(CheckpointError, match="left as it is"):
        save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "work of years"
    save(tmp_path / "ours")
    (tmp_path / "ours" / "thesis.txt").write_text("everything")
    with pytest.raises(CheckpointError, match="left as it is"):
        save(tmp_path / "ours")
    assert (tmp_path / "ours" / "thesis.txt").read_text() == "everything"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, Vocab.FILE])
@pytest.mark.parametrize("cut", [0, 10])
def test_damaged_files_are_errors(folder, name, cut):
    path = folder / name
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BERTNLIError, match="net"):
        load_checkpoint(folder)


def test_other_versions_and_sizes_are_errors(folder):
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**described, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(folder)
    (folder / CONFIG).write_text(json.dumps(described))
    Vocab.from_list(TOKENS[:-1]).save(folder / Vocab.FILE)
    with pytest.raises(CheckpointError, match="6 tokens"):
        load_checkpoint(folder)


def test_names_are_the_book_s_and_go_there_and_back():
    assert names.to_torch("mlm.decoder.weight") == "mlm.mlp.3.weight"
    assert names.to_torch("hidden.bias") == "hidden.0.bias"
    assert names.to_mxnet("mlm.ln.bias") == "mlm.mlp.1.beta"
    assert names.to_mxnet("encoder.blks.1.addnorm2.ln.weight") == "encoder.blks.1.addnorm2.ln.gamma"
    for name in bert_shapes(SIZES) | classifier_shapes(SIZES, 3):
        assert names.from_torch(names.to_torch(name)) == name
        assert names.from_mxnet(names.to_mxnet(name)) == name
