"""Folders and files as other tools, and wrappers of PyTorch, write them: opened, or refused."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bertnli
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.errors import CheckpointError, CheckpointWarning, ConfigError, DataError
from bertnli.formats import names
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.convert import FORMATS, convert, digests
from bertnli.formats.load import load_checkpoint, load_pretrained
from bertnli.formats.native import save_native
from bertnli.formats.params import write_params

Make = Callable[..., Checkpoint]
DEVLIN = BERTConfig(12, 8, 6, 2, 2, 0.1, 16, "gelu", True, 1e-12)
BOOK = BERTConfig(12, 8, 6, 2, 2, 0.1, 16)
NLI = ("entailment", "neutral", "contradiction")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Make) -> Path:
    """A Hugging Face folder of a classifier."""
    home = tmp_path_factory.mktemp("original")
    start = make_checkpoint(DEVLIN, NLI)
    save_native(home / "native", start.arrays, start.config, NLI, start.vocab)
    convert(home / "native", home / "hf", "huggingface")
    return home / "hf"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(original, tmp_path / "hf")
    return tmp_path / "hf"


def describe(folder: Path, **changes: Any) -> None:
    """Change entries of config.json; those that are None are taken out."""
    path = folder / "config.json"
    described = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


def as_pickle(folder: Path, rename: Callable[[str], str] = str, name: str = "") -> None:
    """Put a state dict in the place of the folder's weights."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    state = {rename(key): value for key, value in tensors.items()}
    torch.save(state, folder / (name or "pytorch_model.bin"))


# Class names


NAMED, NUMBERED = dict(enumerate(NLI)), {name: i for i, name in enumerate(NLI)}


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        ({i: f"LABEL_{i}" for i in range(3)}, NUMBERED),
        (NAMED, {f"LABEL_{i}": i for i in range(3)}),
        (NAMED, {name: str(i) for name, i in NUMBERED.items()}),
        (list(NLI), NUMBERED),
    ],
)
def test_names_of_either_side_are_taken(
    backend: Backend, folder: Path, ids: Any, labels: Any
) -> None:
    describe(folder, id2label=ids, label2id=labels)
    assert backend.load(folder).labels == NLI


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ({i: i for i in range(3)}, {str(i): i for i in range(3)}, "does not name its classes, and"),
        (NAMED, {**NUMBERED, "neutral": 0, "entailment": 1}, "contradict each other"),
        ({"0": "a", "1": "b"}, {"a": 0, "b": 1}, "3 classes, and 2 names"),
        ({"5": "a"}, None, "from 0"),
    ],
)
def test_where_names_are_none_or_wrong_the_given_ones_decide(
    backend: Backend,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    ids: Any,
    labels: Any,
    message: str,
) -> None:
    describe(folder, id2label=ids, label2id=labels)
    with pytest.raises(CheckpointError, match=f"(?s){message}.*--labels"):
        backend.load(folder)
    assert backend.load(folder, labels=["x", "y", "z"]).labels == ("x", "y", "z")
    bert, _ = backend.load_pretrained_model(folder)  # needs no names
    assert bert.config.num_hiddens == 8
    assert main(["info", str(folder)]) == 0
    argv = ["evaluate", str(folder), "sample", "--labels", ",".join(NLI)]
    assert main([*argv, "--backend", backend.name, "--devices", "cpu"]) == 0
    capsys.readouterr()


def test_the_encoder_alone_needs_no_classes(folder: Path) -> None:
    describe(folder, problem_type="regression")
    assert load_pretrained(folder).labels is None
    with pytest.raises(CheckpointError, match="problem_type is 'regression'"):
        load_checkpoint(folder, NLI)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_every_command_refuses_another_tokenizer(
    folder: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described = json.loads((folder / file).read_text())
    described["tokenizer_class"] = "BertJapaneseTokenizer"
    (folder / file).write_text(json.dumps(described))
    path, new = str(folder), str(tmp_path / "new")
    for argv in (
        ["predict", path, "--pair", "A man.", "A dog."],
        ["evaluate", path, "sample"],
        ["explain", "--checkpoint", path, "A man.", "A dog."],
        ["train", "--train", "sample", "--pretrained", path, "--output", new],
        ["convert", path, new, "--to", "bertnli"],
        ["export", path, new, "--format", "onnx"],
        ["parity", path],
        ["info", path],
        ["lengths", "--checkpoint", path, "sample"],
        ["serve", "--checkpoint", path],
    ):
        assert main(argv) == 2, argv
        err = capsys.readouterr().err
        assert f"{file}: tokenizer_class is 'BertJapaneseTokenizer'" in err, argv
    assert not (tmp_path / "new").exists()


def test_a_vocabulary_cut_short_is_said(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows to spare up to a multiple of 8 to 128 are usual, and nothing is said of them."""
    start = make_checkpoint(replace(DEVLIN, vocab_size=384), NLI)
    FORMATS["huggingface"](start, tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    vocab = tmp_path / "hf" / "vocab.txt"
    lines = vocab.read_text().splitlines(keepends=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path / "hf")
        for tokens in (257, 321, 353, 369, 377):
            vocab.write_text("".join(lines[:tokens]))
            load_checkpoint(tmp_path / "hf")
    vocab.write_text("".join(lines[:200]))
    with pytest.warns(CheckpointWarning, match="has 200 tokens, the model rows for 384; if the"):
        load_checkpoint(tmp_path / "hf")
    assert main(["predict", str(tmp_path / "hf"), "--pair", "w1", "w2"]) == 0
    assert "bertnli predict: " in capsys.readouterr().err.partition("the vocabulary has 200")[0]
    assert main(["info", str(tmp_path / "hf")]) == 0
    assert "problems: " in capsys.readouterr().out


@pytest.mark.parametrize(("tokens", "rows"), [(60, 66), (7, 66), (7, 128), (300, 1000)])
def test_rows_that_no_tool_fills_up(
    make_checkpoint: Make, tmp_path: Path, tokens: int, rows: int
) -> None:
    FORMATS["huggingface"](make_checkpoint(replace(DEVLIN, vocab_size=rows), NLI), tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    vocab = tmp_path / "hf" / "vocab.txt"
    vocab.write_text("".join(vocab.read_text().splitlines(keepends=True)[:tokens]))
    says = f"the vocabulary has {tokens} tokens, the model rows for {rows:,}; if the list is cut"
    with pytest.warns(CheckpointWarning, match=says):
        load_checkpoint(tmp_path / "hf")


def test_names_for_another_number_of_classes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(folder, id2label={"0": "yes", "1": "no"}, label2id={"yes": 0, "no": 1})
    assert main(["info", str(folder)]) == 0
    assert "2 names for 3 outputs; give the names" in capsys.readouterr().out
    for wrong in ("a,a,b", "a, ,b"):
        labels = [name.strip() for name in wrong.split(",")]
        with pytest.raises(ConfigError, match=r"\(--labels\) do not give each class a name"):
            load_checkpoint(folder, labels=labels)


# Weights of other names


def test_google_s_folder_opens(backend: Backend, folder: Path) -> None:
    """bert_config.json, a state dict, and vocab.txt, as they were published in 2018."""
    expected = digests(backend.load(folder).arrays())
    as_pickle(folder)
    described = json.loads((folder / "config.json").read_text())
    own = ("hidden_act", "hidden_dropout_prob", "hidden_size", "intermediate_size")
    own += ("max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size")
    google = {key: described[key] for key in (*own, "type_vocab_size")}
    (folder / "bert_config.json").write_text(json.dumps(google))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    net = backend.load(folder, labels=NLI)
    assert digests(net.arrays()) == expected
    assert net.config == DEVLIN
    (folder / "bert_config.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=r"bert_config\.json: its JSON is cut off: .*Copy it anew"
    ):
        backend.load(folder, labels=NLI)
    (folder / "bert_config.json").unlink()
    with pytest.raises(CheckpointError, match="put that file beside it"):
        backend.load(folder, labels=NLI)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model.module."],
)
@pytest.mark.parametrize("kind", ["bin", "safetensors", "ours"])
def test_wrappers_names_are_taken_off(
    folder: Path, tmp_path: Path, make_checkpoint: Make, prefix: str, kind: str
) -> None:
    path, expected = folder, digests(load_checkpoint(folder).arrays)
    if kind == "bin":
        as_pickle(folder, lambda name: prefix + name)
    elif kind == "safetensors":
        tensors = load_file(folder / WEIGHTS)
        save_file({prefix + name: value for name, value in tensors.items()}, folder / WEIGHTS)
    else:
        start = make_checkpoint(BOOK, NLI)
        start.vocab.save(tmp_path / "vocab.json")
        state = {prefix + name: torch.from_numpy(a) for name, a in start.arrays.items()}
        state = {name.replace("hidden.", "hidden.0."): value for name, value in state.items()}
        path, expected = tmp_path / "net.pt", digests(start.arrays)
        torch.save(state, path)
    assert digests(load_checkpoint(path, NLI, num_heads=2).arrays) == expected


def test_a_part_that_was_compiled_is_found(folder: Path) -> None:
    expected = digests(load_checkpoint(folder).arrays)
    as_pickle(folder, lambda name: name.replace("encoder.", "encoder._orig_mod."))
    assert digests(load_checkpoint(folder).arrays) == expected


def test_the_same_name_with_and_without_a_wrapper_is_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "module.classifier.bias": torch.ones(3)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"classifier\.bias twice"):
        load_checkpoint(folder)


def test_a_state_dict_of_any_name_opens_by_its_path(backend: Backend, folder: Path) -> None:
    expected = digests(backend.load(folder).arrays())
    as_pickle(folder, name="best.pt")
    with pytest.raises(CheckpointError, match=r"neither.*best\.pt"):
        backend.load(folder)
    assert digests(backend.load(folder / "best.pt").arrays()) == expected
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pt has the tensors of a model of transfor"):
        backend.load(folder / "best.pt")


def test_the_file_that_was_named_is_read(folder: Path) -> None:
    """And not another one of the same folder."""
    tensors = load_file(folder / WEIGHTS)
    other = {name: value + 1 for name, value in tensors.items()}
    save_file(other, folder / "other.safetensors")
    torch.save(other, folder / "pytorch_model.bin")
    whole = load_checkpoint(folder).arrays["output.bias"]
    for name in ("other.safetensors", "pytorch_model.bin"):
        assert np.array_equal(load_checkpoint(folder / name).arrays["output.bias"], whole + 1)
    assert np.array_equal(load_checkpoint(folder / WEIGHTS).arrays["output.bias"], whole)


# Nets of ours that came from such a folder


def saved_as(nli: Backend, net: Any, path: Path) -> Path:
    """Save a net's parameters as its framework does."""
    if nli.name == "torch":
        torch.save(net.state_dict(), path.with_suffix(".pt"))
        return path.with_suffix(".pt")
    net.save_parameters(str(path.with_suffix(".params")))
    return path.with_suffix(".params")


def test_parameters_of_a_net_from_such_a_folder(
    both: tuple[Backend, Backend], folder: Path, tmp_path: Path
) -> None:
    """No shape tells their activation: they open beside the folder's config.json alone."""
    mine, other = both
    net = mine.load(folder)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "tokenizer.json", alone)
    path = saved_as(mine, net, alone / "net")
    with pytest.raises(CheckpointError, match=r"encoder\.ln.*activation.*Put the config\.json"):
        other.load(path, labels=NLI, num_heads=2)
    shutil.copy(folder / "config.json", alone)
    # The names in config.json are of the folder's own weights, and perhaps of other classes.
    with pytest.raises(CheckpointError, match="does not name its classes"):
        other.load(path)
    with pytest.raises(CheckpointError, match="2 heads by its description, and not 4"):
        other.load(path, labels=NLI, num_heads=4)
    found = other.load(path, labels=NLI)
    assert found.config == net.config
    assert digests(found.arrays()) == digests(net.arrays())


def test_the_book_s_parameters_do_not_take_another_description(
    folder: Path, make_checkpoint: Make
) -> None:
    start = make_checkpoint(BOOK, NLI)
    state = {
        name.replace("hidden.", "hidden.0."): torch.from_numpy(a)
        for name, a in start.arrays.items()
    }
    torch.save(state, folder / "net.pt")
    with pytest.raises(ConfigError, match="give num_heads"):
        load_checkpoint(folder / "net.pt", NLI)


def test_a_whole_net_is_refused_with_what_to_save(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = bertnli.load(folder, "torch")
    torch.save(net, folder / "net.pt")
    assert main(["predict", str(folder / "net.pt"), "--pair", "A.", "B."]) == 2
    assert "torch.save(net.state_dict(), path)" in capsys.readouterr().err


# Shards


def sharded(folder: Path, kind: str) -> dict[str, Any]:
    """Have transformers write the folder's model in several files; return the index."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    safe = kind == "safetensors"
    model.save_pretrained(folder, max_shard_size="2KB", safe_serialization=safe)
    name = INDEX if safe else "pytorch_model.bin.index.json"
    index: dict[str, Any] = json.loads((folder / name).read_text())
    assert len({*index["weight_map"].values()}) > 2
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read(backend: Backend, folder: Path, kind: str) -> None:
    expected = digests(backend.load(folder).arrays())
    index = sharded(folder, kind)
    assert digests(backend.load(folder).arrays()) == expected
    for name in index["weight_map"].values():  # each stands for all
        assert digests(load_checkpoint(folder / name).arrays) == expected
        break
    assert len(load_checkpoint(next(folder.glob("*.index.json"))).arrays) == len(expected)


def test_shards_that_are_missing_or_lie_are_named(folder: Path) -> None:
    index = sharded(folder, "safetensors")
    places = index["weight_map"]
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"model-0.*and not the .index.json"):
        load_checkpoint(folder)
    first = places["bert.embeddings.word_embeddings.weight"]

    def refused(message: str, **weight_map: Any) -> None:
        changed = {"weight_map": {**places, **weight_map}}
        (folder / INDEX).write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    lost = {"bert.pooler.extra.weight": first}
    refused(r"00001.*lacks.*bert\.pooler\.extra\.weight", **lost)
    refused("lacks model-9.safetensors, of", **{"classifier.bias": "model-9.safetensors"})
    refused("is in 5, which is not the name", **{"classifier.bias": 5})
    (folder.parent / first).write_bytes((folder / first).read_bytes())
    for outside in (f"../{first}", str(folder.parent / first), "..", "a\\b", "a\0b", "x" * 300):
        refused("not the name of a file beside it|lacks ..,", **{"classifier.bias": outside})
    other = next(place for place in places.values() if place != first)
    refused("has, though|lacks", **{"classifier.bias": first, "classifier.weight": other})
    for text in ("{}", '{"weight_map": []}', "[", '{"weight_map": {}}'):
        (folder / INDEX).write_text(text)
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load_checkpoint(folder)
    (folder / INDEX).write_text(json.dumps(index))
    tensors = load_file(folder / other)
    save_file({**tensors, "classifier.bias": torch.ones(3)}, folder / other)
    with pytest.raises(CheckpointError, match=r"classifier\.bias"):
        load_checkpoint(folder)
    save_file(tensors, folder / other)
    (folder / other).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {other}, of"):
        load_checkpoint(folder)


# What nothing can check


def test_a_proof_says_what_was_given(
    tmp_path: Path, make_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    start = make_checkpoint(BOOK, NLI)
    start.vocab.save(tmp_path / "vocab.json")
    state = {
        name.replace("hidden.", "hidden.0."): torch.from_numpy(a)
        for name, a in start.arrays.items()
    }
    torch.save(state, tmp_path / "net.pt")
    source, given = str(tmp_path / "net.pt"), ["--num-heads", "4", "--labels", ",".join(NLI)]
    for argv, claim in (
        (["convert", source, str(tmp_path / "a"), "--to", "mxnet"], "max abs difference 0"),
        (["export", source, str(tmp_path / "b"), "--format", "onnx"], "float64 referee"),
        (["parity", source, "--steps", "1"], "verdict: they agree"),
    ):
        assert main([*argv, *given]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if claim in line)
        assert "not checked" in line
        assert "num_heads=4" in line
        assert "entailment, neutral, contradiction" in line
    assert main(["parity", source, *given, "--steps", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["given"][0] == "num_heads=4"
    assert main(["info", source]) == 0
    assert "unknown: num_heads" in capsys.readouterr().out
    # What the files tell is checked.
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "c"), "--to", "mxnet"]) == 0
    assert "max abs difference 0\n" in capsys.readouterr().out


# Values that are no numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("to", ["bertnli", "huggingface", "torch", "mxnet"])
def test_weights_that_are_no_numbers_are_refused(
    backend: Backend, tmp_path: Path, make_checkpoint: Make, to: str, value: float
) -> None:
    from bertnli.formats.convert import FORMATS

    start = make_checkpoint(DEVLIN, NLI)
    start.arrays["encoder.blks.1.ffn.dense1.weight"][2, 3:5] = value  # type: ignore[index]
    FORMATS[to](start, tmp_path / "there")
    wrong = r"values are NaN, infinite.*encoder\.blks\.1\.ffn\.dense1\.weight \(2 of 48\)"
    for opened in (backend.load, backend.load_pretrained_model, load_checkpoint):
        with pytest.raises(CheckpointError, match=wrong):
            opened(tmp_path / "there")
    with pytest.raises(CheckpointError, match=wrong):
        convert(tmp_path / "there", tmp_path / "copy", "mxnet")
    for argv in (
        ["info", str(tmp_path / "there")],
        ["export", str(tmp_path / "there"), str(tmp_path / "copy"), "--format", "onnx"],
    ):
        assert main(argv) == 2
    net = backend.BERTClassifier(backend.BERTModel(**DEVLIN.to_dict()), NLI)
    with pytest.raises(CheckpointError, match=wrong):
        net.load_arrays(start.arrays, "the user's")


def test_numbers_beyond_float32_are_refused(folder: Path) -> None:
    tensors = {name: value.double() for name, value in load_file(folder / WEIGHTS).items()}
    assert np.isfinite(bertnli.load(folder, "torch").arrays()["output.bias"]).all()
    tensors["classifier.bias"][1] = 1e200
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"beyond float32: output\.bias \(1 of 3\)"):
        load_checkpoint(folder)


def test_a_head_that_is_left_out_is_not_judged(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["classifier.bias"][1] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    assert load_pretrained(folder).config == DEVLIN
    with pytest.raises(CheckpointError, match=r"output\.bias"):
        load_checkpoint(folder)


def test_a_damaged_vocabulary_is_an_error(folder: Path) -> None:
    (folder / "special_tokens_map.json").write_text("[")
    with pytest.raises(DataError, match=r"special_tokens_map\.json"):
        load_checkpoint(folder)


# What is not what it should be, and what to do


def test_sizes_of_another_model(backend: Backend, folder: Path) -> None:
    """The user gave none, and so is not asked to give others."""
    for changes, says in (
        ({"hidden_size": 4}, "hidden_size is 4, and 8 by the tensors"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, and 2 by the tensors"),
        ({"intermediate_size": 99}, "intermediate_size is 99, and 6 by the tensors"),
        ({"vocab_size": 13}, "vocab_size is 13, and 12 by the tensors"),
        ({"max_position_embeddings": 8}, "max_position_embeddings is 8, and 16 by the tensors"),
    ):
        before = (folder / "config.json").read_text()
        describe(folder, **changes)
        for opened in (backend.load, backend.load_pretrained_model, load_checkpoint):
            with pytest.raises(CheckpointError, match=rf"config\.json is not of the.*: {says}\. P"):
                opened(folder)
        assert main(["info", str(folder)]) == 2
        (folder / "config.json").write_text(before)


def test_sizes_of_another_model_in_our_own_folders(tmp_path: Path, make_checkpoint: Make) -> None:
    start = make_checkpoint(BOOK, NLI)
    for to in ("bertnli", "torch", "mxnet"):
        FORMATS[to](start, tmp_path / to)
        path = tmp_path / to / "config.json"
        described = json.loads(path.read_text())
        described["model"]["num_hiddens"] = 4
        path.write_text(json.dumps(described))
        with pytest.raises(CheckpointError, match="num_hiddens is 4, and 8 by the tensors"):
            load_checkpoint(tmp_path / to)


def test_missing_tensors_are_no_matter_of_sizes(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    for name in ("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.bias"):
        save_file({key: t for key, t in tensors.items() if key != name}, folder / WEIGHTS)
        with pytest.raises(CheckpointError, match=r"tensors missing: .*\. Copy it anew from where"):
            load_checkpoint(folder)
    block = "bert.encoder.layer.1."
    save_file({k: t for k, t in tensors.items() if not k.startswith(block)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="num_hidden_layers is 2, and 1 by the tensors"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "deberta-v2"])
def test_models_of_other_types(backend: Backend, folder: Path, kind: str) -> None:
    """Whatever their tensors are called, and whether config.json is beside them."""
    prefix = kind.partition("-")[0]
    describe(folder, model_type=kind)
    as_pickle(folder, lambda name: name.replace("bert.", f"{prefix}.", 1))
    says = f"a model of type '{kind}', and only 'bert' is computed here: .*MiniLM"
    for path in (folder, folder / "pytorch_model.bin"):
        for opened in (backend.load, backend.load_pretrained_model):
            with pytest.raises(CheckpointError, match=says.replace(kind, f"({kind}|{prefix})")):
                opened(path)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=f"a model of type '{prefix}'"):
        backend.load(folder / "pytorch_model.bin", labels=NLI)


def test_folders_of_checkpoints_are_named(
    original: Path, tmp_path: Path, make_checkpoint: Make
) -> None:
    home = tmp_path / "trainer"
    (home / "logs").mkdir(parents=True)
    for step in (200, 1000):
        shutil.copytree(original, home / f"checkpoint-{step}")
    named = f"folders that do: {home / 'checkpoint-200'}, {home / 'checkpoint-1000'}$"
    with pytest.raises(CheckpointError, match=f"holds no checkpoint itself; give .*{named}"):
        load_checkpoint(home)
    shutil.copy(original / "config.json", home)  # as its save_pretrained leaves it
    with pytest.raises(CheckpointError, match=rf"neither .*pytorch_model\.bin; give .*{named}"):
        load_checkpoint(home)
    runs = tmp_path / "runs"
    start = make_checkpoint(BOOK, NLI)
    save_native(runs / "mine" / "best", start.arrays, BOOK, NLI, start.vocab)
    with pytest.raises(CheckpointError, match=f"folders that do: {runs / 'mine'}$"):
        load_checkpoint(runs)


def test_a_file_of_a_checkpoint_is_not_its_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note.txt").write_text("hello")
    for name in ("config.json", "vocab.txt", "tokenizer.json"):
        assert main(["predict", str(folder / name), "--pair", "A.", "B."]) == 2
        said = capsys.readouterr().err
        assert said.endswith(f"nor a file of parameters; give the folder, {folder}\n")
    assert main(["predict", str(tmp_path / "note.txt"), "--pair", "A.", "B."]) == 2
    said = capsys.readouterr().err
    assert said.endswith("nor a file of parameters\n") and "--file" not in said
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", folder))
    archive.write_bytes(archive.read_bytes()[:-200])
    assert main(["predict", str(archive), "--pair", "A.", "B."]) == 2
    said = capsys.readouterr().err
    assert said.endswith("is a zip archive that is cut off. Copy it anew from where it came from\n")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin", "net.params", "tokenizer.json"])
def test_a_pointer_of_git_lfs(folder: Path, name: str) -> None:
    if name == "pytorch_model.bin":
        (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(POINTER)
    path = folder / name if name == "net.params" else folder
    with pytest.raises((CheckpointError, DataError), match=f"{name}: a pointer of git-lfs.*`git l"):
        load_checkpoint(path, NLI, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>Not found</html>", "no file of torch.save: a page of HTML"),
        (bytes(range(7, 250)), "no file of torch.save: it begins with b'"),
        (b"", "no file of torch.save: it begins with b''"),
        (pickle.dumps([1, 2, 3]), "not a file of torch.save"),
    ],
)
def test_what_is_no_state_dict(folder: Path, content: bytes, says: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{says}.*\. Copy it anew from where it came from$"):
        load_checkpoint(folder)
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds a list, where a dictionary of tensors is"):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>Not found</html>", b"hello, world"])
def test_what_is_no_safetensors(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no file of safetensors: .*Copy it anew"):
        load_checkpoint(folder)


def test_parameters_alone_are_told_all_that_is_missing(
    backend: Backend, tmp_path: Path, make_checkpoint: Make
) -> None:
    start = make_checkpoint(BOOK, NLI)
    path = tmp_path / "net.params"
    write_params(path, {names.to_mxnet(name): a for name, a in start.arrays.items()})
    vocab, labels, heads = "no vocab.json beside it", "does not name its classes", "give num_heads"
    with pytest.raises(CheckpointError, match=f"{vocab}.* Also: .*{labels}.* Also: {heads}"):
        backend.load(path)
    with pytest.raises(CheckpointError, match=f"{vocab}.* Also: {heads}"):
        backend.load(path, labels=NLI)
    with pytest.raises(CheckpointError, match=f"{vocab}.* Also: {heads}"):
        backend.load_pretrained_model(path)
    start.vocab.save(tmp_path / "vocab.json")
    with pytest.raises(CheckpointError, match=f"{labels}.* Also: {heads}"):
        backend.load(path)
    with pytest.raises(ConfigError, match=f"^{heads}"):
        backend.load(path, labels=NLI)
    assert backend.load(path, labels=NLI, num_heads=2).labels == NLI
