"""Each framework's own files: the formats that open, and what is refused."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli.backends.interface import Backend
from bertnli.errors import CheckpointError, ConfigError, DataError, DownloadError


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tmp_path: Path, fixtures: Path, backend: Backend) -> Path:
    """A writable copy of the fixture's model."""
    shutil.copytree(fixtures / backend.name / "bert.tiny", tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("new_format", [True, False])
def test_both_torch_formats_open(tmp_path: Path, fixtures: Path, new_format: bool) -> None:
    import torch

    source = fixtures / "torch" / "bert.tiny"
    state = torch.load(source / "pretrained.params", weights_only=True)
    torch.save(state, tmp_path / "pretrained.params", _use_new_zipfile_serialization=new_format)
    shutil.copy(source / "vocab.json", tmp_path)
    bert, vocab = bertnli.get_backend("torch").load_pretrained_model(tmp_path, num_heads=4)
    assert len(vocab) == 1000
    for name, tensor in bert.state_dict().items():
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("new_format", [True, False])
def test_pickled_code_is_not_run(tmp_path: Path, fixtures: Path, new_format: bool) -> None:
    import torch

    path = tmp_path / "pretrained.params"
    torch.save(
        {"w": torch.zeros(2), "x": Hostile(tmp_path / "ran")},
        path,
        _use_new_zipfile_serialization=new_format,
    )
    shutil.copy(fixtures / "torch" / "bert.tiny" / "vocab.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"pretrained\.params"):
        bertnli.get_backend("torch").load_pretrained_model(tmp_path, num_heads=4)
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"pretrained\.params"):
        bertnli.get_backend("torch").load_pretrained_model(tmp_path, num_heads=4)
    assert not (tmp_path / "ran").exists()


@pytest.mark.needs("mxnet")
def test_each_backend_opens_the_other_s_file(backend: Backend, fixtures: Path) -> None:
    other = {"torch": "mxnet", "mxnet": "torch"}[backend.name]
    bert, _ = backend.load_pretrained_model(fixtures / other / "bert.tiny", num_heads=4)
    own, _ = bertnli.get_backend(other).load_pretrained_model(
        fixtures / other / "bert.tiny", num_heads=4
    )
    for name, array in own.arrays().items():
        np.testing.assert_array_equal(bert.arrays()[name], array)


@pytest.mark.parametrize("keep", [0, 1, 100, 50_000])
def test_cut_files_are_errors(folder: Path, backend: Backend, keep: int) -> None:
    path = folder / "pretrained.params"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"pretrained\.params"):
        backend.load_pretrained_model(folder, num_heads=4)


def test_missing_files_are_named(folder: Path, backend: Backend) -> None:
    (folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match=r"no vocab\.json"):
        backend.load_pretrained_model(folder, num_heads=4)


def test_vocabulary_of_another_size_is_an_error(folder: Path, backend: Backend) -> None:
    tokens = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(tokens[:-1]))
    with pytest.raises(CheckpointError, match=r"token_embedding.*\(1000, 32\).*\(999, 32\)"):
        backend.load_pretrained_model(folder, num_heads=4)
    (folder / "vocab.json").write_text("[")
    with pytest.raises(DataError, match=r"vocab\.json"):
        backend.load_pretrained_model(folder, num_heads=4)


def test_number_of_heads_is_not_guessed(folder: Path, backend: Backend) -> None:
    with pytest.raises(ConfigError, match="num_heads"):
        backend.load_pretrained_model(folder)


def test_a_registered_name_opens(
    folder: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fixtures: Path
) -> None:
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "cache"))
    name = {"torch": "bert.tiny.torch.zip", "mxnet": "bert.tiny.zip"}[backend.name]
    hashes = json.loads((fixtures / "zips" / "sha1.json").read_text())
    backend.DATA_HUB["tiny"] = ("http://127.0.0.1:9/" + name, hashes[name])
    try:
        with pytest.raises(DownloadError) as refused:
            backend.load_pretrained_model("tiny", num_heads=4)
        (place,) = re.findall(r"put the file by hand at (\S+)", str(refused.value))
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fixtures / "zips" / name, place)
        bert, _ = backend.load_pretrained_model("tiny", num_heads=4)
    finally:
        del backend.DATA_HUB["tiny"]
    assert bert.config == bertnli.BERTConfig(1000, 32, 64, 4, 2, 0.1, 512)


@pytest.mark.needs("mxnet")
def test_each_framework_reads_what_our_models_save_its_way(tmp_path: Path) -> None:
    import torch

    sizes = (20, 8, 12, 2, 1, 0.0, 16)
    bert = bertnli.get_backend("torch").BERTModel(*sizes, seed=1)
    torch.save(bert.state_dict(), tmp_path / "state.pt")
    copy = bertnli.get_backend("torch").BERTModel(*sizes, seed=2)
    copy.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    bert_mx = bertnli.get_backend("mxnet").BERTModel(*sizes, seed=1)
    bert_mx.save_parameters(str(tmp_path / "bert.params"))
    copy_mx = bertnli.get_backend("mxnet").BERTModel(*sizes, seed=2)
    copy_mx.load_parameters(str(tmp_path / "bert.params"))
    for name, array in bert.arrays().items():
        for other in (copy, bert_mx, copy_mx):
            np.testing.assert_array_equal(other.arrays()[name], array)
