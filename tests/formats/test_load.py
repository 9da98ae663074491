"""Folders and files as frameworks and other tools write them: loaded, or refused with advice."""

import json
import pickle
import re
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
from bertnli.bert.config import BERTConfig
from bertnli.cli import main
from bertnli.errors import (
    BERTNLIError,
    CheckpointError,
    CheckpointWarning,
    ConfigError,
    DataError,
    DownloadError,
)
from bertnli.formats import names
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.convert import FORMATS, convert, digests
from bertnli.formats.load import load_checkpoint, load_classifier, load_pretrained
from bertnli.formats.native import save_native
from bertnli.formats.params import write_params

Make = Callable[..., Checkpoint]
DEVLIN = BERTConfig(12, 8, 6, 2, 2, 0.1, 16, "gelu", True, 1e-12)
BOOK = BERTConfig(12, 8, 6, 2, 2, 0.1, 16)
NLI = ("entailment", "neutral", "contradiction")
WEIGHTS, PICKLED, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory, make_checkpoint):
    """A Hugging Face folder of a classifier."""
    folder = tmp_path_factory.mktemp("original") / "hf"
    FORMATS["huggingface"](make_checkpoint(DEVLIN, NLI), folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy to change."""
    shutil.copytree(original, tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def book(tmp_path, fixtures, backend):
    """A copy of the book's pretrained model of a backend's tab."""
    shutil.copytree(fixtures / backend.name / "bert.tiny", tmp_path / "bert")
    return tmp_path / "bert"


def describe(folder, **changes):
    """Change entries of config.json; those that are None are taken out."""
    path = folder / "config.json"
    described = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


def as_pickle(folder, rename=str, name=PICKLED):
    """Put a state dict in the place of the folder's weights."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save({rename(key): value for key, value in tensors.items()}, folder / name)


def save_book(given, path, prefix=""):
    """Save parameters as the book's torch tab does, with the vocabulary beside them."""
    arrays = given.arrays.items()
    torch.save({prefix + names.to_torch(k): torch.from_numpy(a) for k, a in arrays}, path)
    given.vocab.save(path.parent / "vocab.json")


# The book's files


@pytest.mark.needs("mxnet")
def test_each_backend_loads_the_other_s_file(backend, fixtures):
    other = {"torch": "mxnet", "mxnet": "torch"}[backend.name]
    path = fixtures / other / "bert.tiny"
    bert, _ = backend.load_pretrained_model(path, num_heads=4)
    same, _ = bertnli.get_backend(other).load_pretrained_model(path, num_heads=4)
    assert digests(bert.arrays()) == digests(same.arrays())


@pytest.mark.parametrize("keep", [0, 1, 100, 50_000])
def test_cut_files_are_errors(book, keep):
    path = book / "pretrained.params"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"pretrained\.params"):
        load_pretrained(book, sizes={"num_heads": 4})


def test_the_book_s_vocabulary_must_fit_and_heads_are_not_guessed(book):
    with pytest.raises(ConfigError, match="num_heads"):
        load_pretrained(book)
    with pytest.raises(CheckpointError, match=r"shapes differ: .*Leave num_hiddens out"):
        load_pretrained(book, sizes={"num_heads": 4, "num_hiddens": 64})
    tokens = json.loads((book / "vocab.json").read_text())
    (book / "vocab.json").write_text(json.dumps(tokens[:-1]))
    with pytest.raises(CheckpointError, match="999 tokens, the model rows for 1,000"):
        load_pretrained(book, sizes={"num_heads": 4})
    (book / "vocab.json").write_text("[")
    with pytest.raises(DataError, match=r"vocab\.json"):
        load_pretrained(book, sizes={"num_heads": 4})


def test_a_registered_name_opens(backend, monkeypatch, tmp_path, fixtures):
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
    assert bert.config == BERTConfig(1000, 32, 64, 4, 2, 0.1, 512)


# Class names


NAMED, NUMBERED = dict(enumerate(NLI)), {name: i for i, name in enumerate(NLI)}


@pytest.mark.parametrize(
    ("ids", "labels"),
    [({i: f"LABEL_{i}" for i in range(3)}, NUMBERED), (NAMED, {f"LABEL_{i}": i for i in range(3)})],
)
def test_names_of_either_side_are_taken(folder, ids, labels):
    describe(folder, id2label=ids, label2id=labels)
    assert load_classifier(folder).labels == NLI


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ({i: i for i in range(3)}, {str(i): i for i in range(3)}, "does not name its classes, and"),
        (NAMED, {**NUMBERED, "neutral": 0, "entailment": 1}, "contradict each other"),
        ({"0": "a", "1": "b"}, {"a": 0, "b": 1}, "3 classes, and 2 names"),
        ({"5": "a"}, None, "from 0"),
    ],
)
def test_where_names_are_none_or_wrong_the_given_ones_decide(folder, capsys, ids, labels, message):
    describe(folder, id2label=ids, label2id=labels)
    with pytest.raises(CheckpointError, match=f"(?s){message}.*--labels"):
        load_classifier(folder)
    assert load_classifier(folder, labels=["x", "y", "z"]).labels == ("x", "y", "z")
    assert load_pretrained(folder).config.num_hiddens == 8  # needs no names
    assert main(["info", str(folder)]) == 0
    if "2 names" in message:
        assert "2 names for 3 outputs; give the names" in capsys.readouterr().out
    for wrong in (["a", "a", "b"], ["a", " ", "b"]):
        with pytest.raises(ConfigError, match=r"\(--labels\) must be distinct"):
            load_checkpoint(folder, labels=wrong)


def test_the_encoder_alone_needs_no_classes(folder):
    describe(folder, problem_type="regression")
    assert load_pretrained(folder).labels is None
    with pytest.raises(CheckpointError, match="problem_type is 'regression'"):
        load_checkpoint(folder, NLI)


# Vocabularies


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_every_command_refuses_another_tokenizer(folder, tmp_path, file, capsys):
    described = json.loads((folder / file).read_text())
    described["tokenizer_class"] = "BertJapaneseTokenizer"
    (folder / file).write_text(json.dumps(described))
    path, new = str(folder), str(tmp_path / "new")
    for argv in (
        ["predict", path, "--pair", "A man.", "A dog."],
        ["train", "--train", "sample", "--pretrained", path, "--output", new],
        ["convert", path, new, "--to", "bertnli"],
        ["info", path],
        ["lengths", "--checkpoint", path, "sample"],
    ):
        assert main(argv) == 2, argv
        err = capsys.readouterr().err
        assert f"{file}: tokenizer_class is 'BertJapaneseTokenizer'" in err, argv
    assert not (tmp_path / "new").exists()


def test_a_vocabulary_cut_short_is_a_warning(make_checkpoint, tmp_path, capsys):
    """Fewer than 128 rows to spare are usual: tools fill up to a multiple."""
    folder = tmp_path / "hf"
    FORMATS["huggingface"](make_checkpoint(replace(DEVLIN, vocab_size=384), NLI), folder)
    (folder / "tokenizer.json").unlink()
    lines = (folder / "vocab.txt").read_text().splitlines(keepends=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tokens in (384, 257, 377):
            (folder / "vocab.txt").write_text("".join(lines[:tokens]))
            load_checkpoint(folder)
    for tokens in (7, 200, 256):
        (folder / "vocab.txt").write_text("".join(lines[:tokens]))
        with pytest.warns(CheckpointWarning, match=f"{tokens} tokens, the model rows for 384; if"):
            load_checkpoint(folder)
    assert main(["info", str(folder)]) == 0
    assert "problems: " in capsys.readouterr().out


def test_a_damaged_vocabulary_is_an_error(folder):
    (folder / "special_tokens_map.json").write_text("[")
    with pytest.raises(DataError, match=r"special_tokens_map\.json"):
        load_checkpoint(folder)


# Tensors of other names


def test_google_s_folder_opens(folder):
    """bert_config.json, a state dict, and vocab.txt, as they were published in 2018."""
    expected = digests(load_classifier(folder).arrays)
    as_pickle(folder)
    described = json.loads((folder / "config.json").read_text())
    keys = ("hidden_act", "hidden_dropout_prob", "hidden_size", "intermediate_size")
    keys += ("max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size")
    google = {key: described[key] for key in (*keys, "type_vocab_size")}
    (folder / "bert_config.json").write_text(json.dumps(google))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    checkpoint = load_classifier(folder, NLI)
    assert digests(checkpoint.arrays) == expected and checkpoint.config == DEVLIN
    (folder / "bert_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"bert_config\.json: its JSON is cut off: .*Copy it"):
        load_classifier(folder, NLI)
    (folder / "bert_config.json").unlink()
    with pytest.raises(CheckpointError, match="put that file beside it"):
        load_classifier(folder, NLI)


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod.", "model.", "model.module."])
@pytest.mark.parametrize("kind", ["bin", "safetensors", "ours"])
def test_wrappers_names_are_taken_off(folder, tmp_path, make_checkpoint, prefix, kind):
    path, expected = folder, digests(load_checkpoint(folder).arrays)
    if kind == "bin":
        as_pickle(folder, lambda name: prefix + name.replace("encoder.", "encoder._orig_mod."))
    elif kind == "safetensors":
        tensors = load_file(folder / WEIGHTS)
        save_file({prefix + name: value for name, value in tensors.items()}, folder / WEIGHTS)
    else:
        start = make_checkpoint(BOOK, NLI)
        path, expected = tmp_path / "net.pt", digests(start.arrays)
        save_book(start, path, prefix)
    assert digests(load_checkpoint(path, NLI, num_heads=2).arrays) == expected


def test_the_same_name_with_and_without_a_wrapper_is_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "module.classifier.bias": torch.ones(3)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"classifier\.bias twice"):
        load_checkpoint(folder)


def test_the_file_that_was_named_is_read(folder):
    """And not another one of the same folder; a single one of any name is the folder's."""
    bias = load_checkpoint(folder).arrays["output.bias"]
    tensors = load_file(folder / WEIGHTS)
    other = {name: value + 1 for name, value in tensors.items()}
    save_file(other, folder / "other.safetensors")
    torch.save(other, folder / PICKLED)
    for name, added in ((WEIGHTS, 0), ("other.safetensors", 1), (PICKLED, 1)):
        assert np.array_equal(load_checkpoint(folder / name).arrays["output.bias"], bias + added)
    for name in ("other.safetensors", PICKLED):
        (folder / name).unlink()
    as_pickle(folder, name="best.pt")
    assert np.array_equal(load_checkpoint(folder).arrays["output.bias"], bias)
    (folder / "more.pth").touch()
    with pytest.raises(CheckpointError, match=r"several files.*best\.pt, .*more\.pth"):
        load_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pt has the tensors of a model of transfor"):
        load_checkpoint(folder / "best.pt")


def test_parameters_of_a_net_from_such_a_folder(both, folder, tmp_path):
    """No shape tells their activation: they open beside the folder's config.json alone."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "tokenizer.json", alone)
    net: Any = both[1].load(folder)
    net.save_parameters(str(alone / "net.params"))
    with pytest.raises(CheckpointError, match=r"encoder\.ln.*put the config\.json"):
        load_classifier(alone / "net.params", NLI, 2)
    shutil.copy(folder / "config.json", alone)
    # The names in config.json are of the folder's own weights, and perhaps of other classes.
    with pytest.raises(CheckpointError, match="does not name its classes"):
        load_classifier(alone / "net.params")
    with pytest.raises(CheckpointError, match="2 heads by its description, and not 4"):
        load_classifier(alone / "net.params", NLI, 4)
    again = both[0].load(alone / "net.params", labels=NLI)
    assert again.config == net.config
    assert digests(again.arrays()) == digests(net.arrays())


def test_the_book_s_parameters_do_not_take_another_description(folder, make_checkpoint):
    save_book(make_checkpoint(BOOK, NLI), folder / "net.pt")
    with pytest.raises(ConfigError, match="give num_heads"):
        load_checkpoint(folder / "net.pt", NLI)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra", "deberta-v2"])
def test_models_of_other_types(folder, kind):
    """Whatever their tensors are called, and whether config.json is beside them."""
    prefix = kind.partition("-")[0]
    describe(folder, model_type=kind)
    as_pickle(folder, lambda name: name.replace("bert.", f"{prefix}.", 1))
    for path in (folder, folder / PICKLED):
        with pytest.raises(CheckpointError, match=f"type '{kind}', and only 'bert' .*MiniLM"):
            load_classifier(path)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=f"a model of type '{prefix}'"):
        load_classifier(folder / PICKLED, NLI)


# Shards


def sharded(folder, safe):
    """Have transformers write the folder's model in several files; return the index."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="2KB", safe_serialization=safe)
    index: dict[str, Any] = json.loads(next(folder.glob("*.index.json")).read_text())
    assert len({*index["weight_map"].values()}) > 2
    return index


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_read(folder, safe):
    expected = digests(load_checkpoint(folder).arrays)
    index = sharded(folder, safe)
    shard = next(iter(index["weight_map"].values()))  # which stands for all, as the index does
    for path in (folder, folder / shard, next(folder.glob("*.index.json"))):
        assert digests(load_checkpoint(path).arrays) == expected


def test_shards_that_are_missing_or_lie_are_named(folder):
    places = sharded(folder, True)["weight_map"]
    first, *others = dict.fromkeys(places.values())
    (folder.parent / first).write_bytes((folder / first).read_bytes())

    def refused(message, weight_map):
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    refused(r"00001.*bert\.pooler\.extra", {**places, "bert.pooler.extra.weight": first})
    refused("missing: model-9", {**places, "classifier.bias": "model-9.safetensors"})
    for outside in (5, f"../{first}", str(folder.parent / first), "a\\b", "a\0b", "x" * 300):
        refused("not the name of a file beside it", {**places, "classifier.bias": outside})
    for other in {first, others[-1]} - {places["classifier.bias"]}:
        refused(r"classifier\.bias", {**places, "classifier.bias": other})
    for wrong in ([], {}, None):
        refused(r"index\.json", wrong)
    (folder / others[0]).unlink()
    refused(f"missing: {others[0]}", places)
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"model-0.*not the .index.json"):
        load_checkpoint(folder)


# What nothing can check


def test_a_proof_says_what_was_given(tmp_path, make_checkpoint, capsys):
    save_book(make_checkpoint(BOOK, NLI), tmp_path / "net.pt")
    source, given = str(tmp_path / "net.pt"), ["--num-heads", "4", "--labels", ",".join(NLI)]
    for argv, claim in (
        (["convert", source, str(tmp_path / "a"), "--to", "mxnet"], "max abs difference 0"),
        (["export", source, str(tmp_path / "b"), "--format", "onnx"], "float64 referee"),
        (["parity", source, "--steps", "1"], "verdict: they agree"),
    ):
        assert main([*argv, *given]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if claim in line)
        assert "not checked" in line and "num_heads=4" in line and ", ".join(NLI) in line
    assert main(["info", source]) == 0
    assert "unknown: num_heads" in capsys.readouterr().out
    # What the files tell is checked.
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "c"), "--to", "mxnet"]) == 0
    assert "max abs difference 0\n" in capsys.readouterr().out


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("to", FORMATS)
def test_weights_that_are_no_numbers_are_refused(tmp_path, make_checkpoint, to, value):
    start = make_checkpoint(DEVLIN, NLI)
    start.arrays["encoder.blks.1.ffn.dense1.weight"][2, 3:5] = value  # type: ignore[index]
    FORMATS[to](start, tmp_path / "there")
    wrong = r"values are NaN, infinite.*encoder\.blks\.1\.ffn\.dense1\.weight \(2 of 48\)"
    for load in (load_classifier, load_pretrained, load_checkpoint):
        with pytest.raises(CheckpointError, match=wrong):
            load(tmp_path / "there")
    assert main(["info", str(tmp_path / "there")]) == 2


def test_numbers_beyond_float32_are_refused_but_not_of_an_unused_head(folder):
    tensors = {name: value.double() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    assert np.isfinite(bertnli.load(folder, "torch").arrays()["output.bias"]).all()
    tensors["classifier.bias"][1] = 1e200
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"beyond float32: output\.bias \(1 of 3\)"):
        load_checkpoint(folder)
    assert load_pretrained(folder).config == DEVLIN


# What is not what it should be, and what to do


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 4}, "hidden_size is 4, and 8 by the tensors"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, and 2 by the tensors"),
        ({"vocab_size": 13}, "vocab_size is 13, and 12 by the tensors"),
        ({"max_position_embeddings": 8}, "max_position_embeddings is 8, and 16 by the tensors"),
    ],
)
def test_sizes_of_another_model(folder, changes, message):
    describe(folder, **changes)
    for load in (load_classifier, load_pretrained, load_checkpoint):
        with pytest.raises(CheckpointError, match=rf"config\.json is not of the.*: {message}\. P"):
            load(folder)
    assert main(["info", str(folder)]) == 2


@pytest.mark.parametrize("to", ["bertnli", "torch", "mxnet"])
def test_sizes_of_another_model_in_our_own_folders(tmp_path, make_checkpoint, to):
    FORMATS[to](make_checkpoint(BOOK, NLI), tmp_path / to)
    describe(tmp_path / to, model={**BOOK.to_dict(), "num_hiddens": 4})
    with pytest.raises(CheckpointError, match="num_hiddens is 4, and 8 by the tensors"):
        load_checkpoint(tmp_path / to)


def test_missing_tensors_are_no_matter_of_sizes(folder):
    tensors = load_file(folder / WEIGHTS)
    for name in ("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.bias"):
        save_file({key: t for key, t in tensors.items() if key != name}, folder / WEIGHTS)
        with pytest.raises(CheckpointError, match=r"tensors missing: .*\. Copy it anew from where"):
            load_checkpoint(folder)


def test_folders_of_checkpoints_are_named(original, tmp_path):
    home = tmp_path / "trainer"
    (home / "logs").mkdir(parents=True)
    for step in (200, 1000):
        shutil.copytree(original, home / f"checkpoint-{step}")
    shutil.copy(original / "config.json", home)  # as its save_pretrained leaves it
    named = f"that do: {home / 'checkpoint-200'}, {home / 'checkpoint-1000'}$"
    with pytest.raises(CheckpointError, match=f"holds no checkpoint itself: give .*{named}"):
        load_checkpoint(home)


def test_a_file_of_a_checkpoint_is_not_its_folder(folder, tmp_path, capsys):
    (tmp_path / "note.txt").write_text("hello")
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "zip", folder))
    archive.write_bytes(archive.read_bytes()[:-200])
    for path, end in (
        (folder / "config.json", f"nor a file of parameters; give the folder, {folder}\n"),
        (tmp_path / "note.txt", "nor a file of parameters\n"),
        (archive, "Copy it anew from where it came from\n"),
    ):
        assert main(["predict", str(path), "--pair", "A.", "B."]) == 2
        assert capsys.readouterr().err.endswith(end)


@pytest.mark.parametrize("name", [WEIGHTS, PICKLED, "net.params", "tokenizer.json"])
def test_a_pointer_of_git_lfs(folder, name):
    if name == PICKLED:
        (folder / WEIGHTS).unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
    (folder / name).write_text(pointer)
    path = folder / name if name == "net.params" else folder
    with pytest.raises(BERTNLIError, match=f"{name}: a pointer of git-lfs.*`git l"):
        load_checkpoint(path, NLI, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (PICKLED, b"<!DOCTYPE html><html>Not found</html>", "torch.save: a page of HTML"),
        (PICKLED, bytes(range(7, 250)), "no file of torch.save: it begins with b'"),
        (PICKLED, b"", "no file of torch.save: it begins with b''"),
        (PICKLED, pickle.dumps([1, 2, 3]), "not a file of torch.save"),
        (WEIGHTS, b"<!DOCTYPE html><html>Not found</html>", "no file of safetensors"),
        (WEIGHTS, b"hello, world", "no file of safetensors"),
    ],
)
def test_what_are_no_tensors(folder, name, content, message):
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{message}.*\. Copy it anew from where it came"):
        load_checkpoint(folder)


def test_parameters_alone_are_told_all_that_is_missing(tmp_path, make_checkpoint):
    start = make_checkpoint(BOOK, NLI)
    path = tmp_path / "net.params"
    write_params(path, {names.to_mxnet(name): a for name, a in start.arrays.items()})
    vocab, labels, heads = "no vocab.json beside it", "does not name its classes", "give num_heads"
    with pytest.raises(CheckpointError, match=f"{vocab}.* Also: .*{labels}.* Also: {heads}"):
        load_classifier(path)
    with pytest.raises(CheckpointError, match=f"{vocab}.* Also: {heads}"):
        load_pretrained(path)
    start.vocab.save(tmp_path / "vocab.json")
    with pytest.raises(CheckpointError, match=f"{labels}.* Also: {heads}"):
        load_classifier(path)
    with pytest.raises(ConfigError, match=f"^{heads}"):
        load_classifier(path, NLI)
    assert load_classifier(path, NLI, 2).labels == NLI


def test_a_run_is_named_by_its_best(tmp_path, make_checkpoint):
    start = make_checkpoint(BOOK, NLI)
    save_native(tmp_path / "runs" / "mine" / "best", start.arrays, BOOK, NLI, start.vocab)
    with pytest.raises(CheckpointError, match=f"folders that do: {tmp_path / 'runs' / 'mine'}$"):
        load_checkpoint(tmp_path / "runs")
    convert(tmp_path / "runs" / "mine", tmp_path / "copy", "mxnet")
