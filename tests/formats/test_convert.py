"""Conversion: round trips over all formats, and the originals open what was written."""

import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import processes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.cli.checkpoints import Convert
from bertnli.errors import CheckpointError
from bertnli.formats.convert import FORMATS, convert, digests
from bertnli.formats.load import load_checkpoint
from bertnli.formats.names import to_mxnet, to_torch

CLASSES = ("yes", "no", "perhaps")
BOOK = BERTConfig(12, 8, 6, 2, 2, 0.1, 16)
DEVLIN = replace(BOOK, activation="gelu", embedding_norm=True, norm_eps=1e-12)


@st.composite
def models(draw):
    """Draw a model of any size, and an order of formats that can hold it."""
    heads = draw(st.integers(1, 3))
    norm = draw(st.booleans())
    config = BERTConfig(
        vocab_size=draw(st.integers(5, 30)),
        num_hiddens=heads * draw(st.integers(1, 4)),
        ffn_num_hiddens=draw(st.integers(1, 9)),
        num_heads=heads,
        num_blks=draw(st.integers(1, 11)),
        max_len=draw(st.integers(1, 20)),
        activation=draw(st.sampled_from(["relu", "gelu", "gelu_tanh"])),
        embedding_norm=norm,
        norm_eps=draw(st.sampled_from([1e-5, 1e-12, 3e-7])),
    )
    labels = draw(st.sampled_from([None, ("a", "b"), ("neutral", "Entailment", "é")]))
    formats = ["torch", "mxnet", "bertnli"] + ["huggingface"] * norm
    way = draw(st.lists(st.sampled_from(formats), min_size=1, max_size=4))
    return {"config": config, "labels": labels, "seed": draw(st.integers(0, 99)), "odd": True}, way


@pytest.mark.parametrize("count", [10, pytest.param(1000, marks=pytest.mark.long)])
def test_any_way_round_changes_nothing(tmp_path_factory, make_checkpoint, count):
    @settings(deadline=None, max_examples=count)
    @given(models())
    def check(drawn):
        model, way = drawn
        home, start = tmp_path_factory.mktemp("way"), make_checkpoint(**model)
        FORMATS["torch"](start, home / "0")
        folders = [home / str(i) for i in range(len(way) + 1)]
        for (source, target), to in zip(pairwise(folders), way, strict=True):
            convert(source, target, to)
        end = load_checkpoint(folders[-1])
        assert digests(end.arrays) == digests(start.arrays)
        assert (end.config, end.labels) == (start.config, start.labels)
        assert end.vocab.idx_to_token == start.vocab.idx_to_token
        assert {path.name for path in home.iterdir()} == {folder.name for folder in folders}
        shutil.rmtree(home)

    check()


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize("config", [BOOK, DEVLIN], ids=["book", "Devlin"])
@pytest.mark.parametrize("labels", [None, CLASSES], ids=["BERT", "classifier"])
def test_the_originals_open_what_was_written(tmp_path, make_checkpoint, config, labels):
    from bertnli.backends.mxnet._framework import mx

    start = make_checkpoint(config, labels, odd=True)
    for to in ("torch", "mxnet"):
        FORMATS[to](start, tmp_path / to)
    name = "pretrained.params" if labels is None else "classifier.params"
    state = torch.load(tmp_path / "torch" / name, weights_only=True)
    with mx.util.np_shape(True), mx.util.np_array(True):
        stored = mx.nd.load(str(tmp_path / "mxnet" / name))
    for rename, arrays in (
        (to_torch, {key: value.numpy() for key, value in state.items()}),
        (to_mxnet, {key: value.asnumpy() for key, value in stored.items()}),
    ):
        expected = {rename(key): array for key, array in start.arrays.items()}
        assert digests(arrays) == digests(expected)
    for nli in map(bertnli.get_backend, ("torch", "mxnet")):
        net = nli.BERTModel(**config.to_dict())
        net = net if labels is None else nli.BERTClassifier(net, labels)
        if nli.name == "torch":
            net.load_state_dict(state)
        else:
            with mx.util.np_shape(True), mx.util.np_array(True):
                net.load_parameters(str(tmp_path / "mxnet" / name))
        assert digests(net.arrays()) == digests(start.arrays)


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize(("framework", "other"), [("torch", "mxnet"), ("mxnet", "torch")])
def test_the_book_s_files_go_to_either_framework(tmp_path, fixtures, framework, other, capsys):
    source, target = str(fixtures / framework / "bert.tiny"), tmp_path / "target"
    argv = ["convert", source, str(target), "--to", other]
    assert main(argv) == 2
    assert "num_heads" in capsys.readouterr().err
    assert not target.exists()
    assert main([*argv, "--num-heads", "4"]) == 0
    out = capsys.readouterr().out
    assert "45 tensors, each with its source's hash" in out
    assert "in no file: num_heads=4): max abs difference 0\n" in out
    convert(target, tmp_path / "back", framework)
    start = load_checkpoint(source, num_heads=4)
    assert digests(load_checkpoint(tmp_path / "back").arrays) == digests(start.arrays)
    assert main(["info", str(target)]) == 0
    assert "pretrained model of the book" in capsys.readouterr().out


@pytest.mark.parametrize("labels", [CLASSES, None])
def test_float16_halves_the_size(backend, tmp_path, make_checkpoint, labels):
    start = make_checkpoint(DEVLIN, labels)
    FORMATS["bertnli"](start, tmp_path / "start")
    half = tmp_path / "half"
    convert(tmp_path / "start", half, "bertnli", dtype="float16")
    assert {array.dtype.str for array in load_checkpoint(half).arrays.values()} == {"<f2"}
    model = backend.load_pretrained_model(half)[0] if labels is None else backend.load(half)
    for name, array in model.arrays().items():
        assert np.array_equal(array, start.arrays[name].astype("f2").astype("f4")), name
    start.arrays["hidden.bias"][0] = 1e5
    FORMATS["bertnli"](start, tmp_path / "large")
    with pytest.raises(CheckpointError, match=r"hidden\.bias: numbers too large for float16"):
        convert(tmp_path / "large", tmp_path / "target", "bertnli", dtype="float16")


def test_what_cannot_be_converted_is_refused_and_nothing_is_written(
    tmp_path, make_checkpoint, monkeypatch
):
    source, target = tmp_path / "source", tmp_path / "target"
    FORMATS["torch"](make_checkpoint(BOOK, CLASSES), source)
    write = FORMATS["mxnet"]

    def lossy(given, folder):
        """Lose one bit of one value."""
        arrays = {name: array.copy() for name, array in given.arrays.items()}
        arrays["output.bias"].view(np.uint32)[1] ^= 1
        write(replace(given, arrays=arrays), folder)

    monkeypatch.setitem(FORMATS, "mxnet", lossy)
    for paths, to, message in (
        ((source, target), "huggingface", "normalises the sum"),
        ((source, source), "mxnet", "exists"),
        ((tmp_path / "none", target), "mxnet", "no such file"),
        ((source, target), "mxnet", r"differs in output\.bias"),
    ):
        refused(CheckpointError, message, convert, *paths, to)
    assert [*tmp_path.iterdir()] == [source]


WITHOUT_FRAMEWORKS = """
import sys
for name in ("torch", "mxnet", "transformers"):
    sys.modules[name] = None
from bertnli.formats.convert import convert
from pathlib import Path
home = Path(sys.argv[1])
convert(home / "source", home / "mxnet", "mxnet")
convert(home / "mxnet", home / "native", "bertnli")
try:
    convert(home / "native", home / "torch", "torch")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_only_the_target_s_package_is_needed(tmp_path, make_checkpoint):
    FORMATS["torch"](make_checkpoint(BOOK, CLASSES), tmp_path / "source")
    out = processes.run([sys.executable, "-c", WITHOUT_FRAMEWORKS, str(tmp_path)])
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("BackendError a state dict is written by PyTorch")


def test_the_first_example_of_the_help_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, _, examples = (Convert.__doc__ or "").partition("examples:\n")
    assert main(examples.splitlines()[0].split()[1:]) == 0
    assert "max abs difference 0" in capsys.readouterr().out
