"""Folders and files as frameworks and other tools write them: loaded, or refused with advice."""

import json
import pickle
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from refusals import refused
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
from bertnli.formats.convert import FORMATS, convert, digests
from bertnli.formats.load import load_checkpoint, load_classifier, load_pretrained
from bertnli.formats.params import write_params

BOOK = BERTConfig(12, 8, 6, 2, 2, 0.1, 16)
DEVLIN = replace(BOOK, activation="gelu", embedding_norm=True, norm_eps=1e-12)
NLI = ("entailment", "neutral", "contradiction")
WEIGHTS, PICKLED, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"
LOADERS = (load_classifier, load_pretrained, load_checkpoint)


@pytest.fixture(scope="module")
def original(tmp_path_factory, make_checkpoint):
    """Write a Hugging Face folder of a classifier."""
    folder = tmp_path_factory.mktemp("original") / "hf"
    FORMATS["huggingface"](make_checkpoint(DEVLIN, NLI), folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """Copy the classifier's folder, for tests that change it."""
    shutil.copytree(original, tmp_path / "hf")
    return tmp_path / "hf"


def describe(folder, **changes):
    """Change entries of config.json; those that are None are removed."""
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


@pytest.fixture
def book(tmp_path, fixtures, backend):
    """Copy the book's pretrained model of a backend's tab."""
    shutil.copytree(fixtures / backend.name / "bert.tiny", tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.needs("mxnet")
def test_each_backend_loads_the_other_s_file(backend, fixtures):
    other = {"torch": "mxnet", "mxnet": "torch"}[backend.name]
    path = fixtures / other / "bert.tiny"
    bert, _ = backend.load_pretrained_model(path, num_heads=4)
    same, _ = bertnli.get_backend(other).load_pretrained_model(path, num_heads=4)
    assert digests(bert.arrays()) == digests(same.arrays())


def test_the_book_s_files_must_be_whole_and_fit(book):
    heads = {"num_heads": 4}
    refused(ConfigError, "num_heads", load_pretrained, book)
    wide = {**heads, "num_hiddens": 64}
    refused(
        CheckpointError, "shapes differ: .*Leave num_hiddens out", load_pretrained, book, sizes=wide
    )
    vocab = (book / "vocab.json").read_text()
    for text, error, message in (
        (
            json.dumps(json.loads(vocab)[:-1]),
            CheckpointError,
            "999 tokens, the model rows for 1,000",
        ),
        ("[", DataError, r"vocab\.json"),
    ):
        (book / "vocab.json").write_text(text)
        refused(error, message, load_pretrained, book, sizes=heads)
    (book / "vocab.json").write_text(vocab)
    content = (book / "pretrained.params").read_bytes()
    for size in (0, 1, 100, 50_000):
        (book / "pretrained.params").write_bytes(content[:size])
        refused(CheckpointError, r"pretrained\.params", load_pretrained, book, sizes=heads)


def test_a_registered_name_opens(backend, monkeypatch, tmp_path, fixtures):
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bertnli.hub.fetch.RETRY", 0)
    name = {"torch": "bert.tiny.torch.zip", "mxnet": "bert.tiny.zip"}[backend.name]
    hashes = json.loads((fixtures / "zips" / "sha1.json").read_text())
    backend.DATA_HUB["tiny"] = ("http://127.0.0.1:9/" + name, hashes[name])
    try:
        with pytest.raises(DownloadError) as caught:
            backend.load_pretrained_model("tiny", num_heads=4)
        (place,) = re.findall(r"put the file by hand at (\S+)", str(caught.value))
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fixtures / "zips" / name, place)
        bert, _ = backend.load_pretrained_model("tiny", num_heads=4)
    finally:
        del backend.DATA_HUB["tiny"]
    assert bert.config == BERTConfig(1000, 32, 64, 4, 2, 0.1, 512)


# Class names; `test_class_names` has more of them


NAMED, NUMBERED = dict(enumerate(NLI)), {name: i for i, name in enumerate(NLI)}


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
    refused(CheckpointError, f"(?s){message}.*--labels", load_classifier, folder)
    assert load_classifier(folder, labels=["x", "y", "z"]).labels == ("x", "y", "z")
    assert load_pretrained(folder).config.num_hiddens == 8  # needs no names
    assert main(["info", str(folder)]) == 0
    if "2 names" in message:
        assert "2 names for 3 outputs; give the names" in capsys.readouterr().out
    for wrong in (["a", "a", "b"], ["a", " ", "b"]):
        refused(ConfigError, r"\(--labels\) must be distinct", load_checkpoint, folder, wrong)


def test_the_encoder_alone_needs_no_classes(folder):
    describe(folder, problem_type="regression")
    assert load_pretrained(folder).labels is None
    refused(CheckpointError, "problem_type is 'regression'", load_checkpoint, folder, NLI)


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
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
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


# Tensors of other names


def test_google_s_folder_opens(folder):
    """bert_config.json, a state dict, and vocab.txt, as they were published in 2018."""
    expected = digests(load_classifier(folder).arrays)
    as_pickle(folder)
    described = json.loads((folder / "config.json").read_text())
    keys = "hidden_act hidden_dropout_prob hidden_size intermediate_size max_position_embeddings"
    keys += " num_attention_heads num_hidden_layers vocab_size type_vocab_size"
    google = json.dumps({key: described[key] for key in keys.split()})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(CheckpointError, "put that file beside it", load_classifier, folder, NLI)
    (folder / "bert_config.json").write_text("{")
    message = r"bert_config\.json: its JSON is cut off: .*Copy it"
    refused(CheckpointError, message, load_classifier, folder, NLI)
    (folder / "bert_config.json").write_text(google)
    checkpoint = load_classifier(folder, NLI)
    config = replace(DEVLIN, classifier_dropout=0.1)
    assert digests(checkpoint.arrays) == expected and checkpoint.config == config


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


def test_a_tensor_too_many_is_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "bert.extra.weight": torch.ones(2)}, folder / WEIGHTS)
    refused(
        CheckpointError,
        r"no encoder of its kind has the tensors bert\.extra",
        load_checkpoint,
        folder,
    )
    save_file({**tensors, "module.classifier.bias": torch.ones(3)}, folder / WEIGHTS)
    refused(CheckpointError, r"classifier\.bias twice", load_checkpoint, folder)


def test_the_file_that_was_named_is_read(folder):
    """A path of a file means that file; a folder may have a single file of any name."""
    bias = load_checkpoint(folder).arrays["output.bias"]
    other = {name: value + 1 for name, value in load_file(folder / WEIGHTS).items()}
    save_file(other, folder / "other.safetensors")
    torch.save(other, folder / PICKLED)
    for name, added in ((WEIGHTS, 0), ("other.safetensors", 1), (PICKLED, 1)):
        assert np.array_equal(load_checkpoint(folder / name).arrays["output.bias"], bias + added)
    for name in ("other.safetensors", PICKLED):
        (folder / name).unlink()
    as_pickle(folder, name="best.pt")
    assert np.array_equal(load_checkpoint(folder).arrays["output.bias"], bias)
    (folder / "more.pth").touch()
    refused(CheckpointError, r"several files.*best\.pt, .*more\.pth", load_checkpoint, folder)
    (folder / "config.json").unlink()
    refused(
        CheckpointError,
        r"best\.pt has the tensors of a model of transfor",
        load_checkpoint,
        folder / "best.pt",
    )


def test_parameters_of_a_net_from_such_a_folder(both, folder, tmp_path, make_checkpoint):
    """They open only beside the folder's config.json: no shape tells their activation."""
    path = tmp_path / "alone" / "net.params"
    path.parent.mkdir()
    shutil.copy(folder / "tokenizer.json", path.parent)
    net = both[1].load(folder)
    net.save_parameters(str(path))
    refused(CheckpointError, r"encoder\.ln.*put the config\.json", load_classifier, path, NLI, 2)
    shutil.copy(folder / "config.json", path.parent)
    # The names in config.json are of the folder's own weights, and perhaps of other classes.
    refused(CheckpointError, "does not name its classes", load_classifier, path)
    refused(CheckpointError, "2 heads by its description, and not 4", load_classifier, path, NLI, 4)
    again = both[0].load(path, labels=NLI)
    assert again.config == net.config
    assert digests(again.arrays()) == digests(net.arrays())
    # The book's parameters do not take such a description.
    save_book(make_checkpoint(BOOK, NLI), folder / "net.pt")
    refused(ConfigError, "give num_heads", load_checkpoint, folder / "net.pt", NLI)


@pytest.mark.parametrize("kind", ["albert", "xlnet", "bart", "longformer"])
def test_models_of_other_types(folder, kind):
    """They are refused by name, with and without a config.json beside them."""
    describe(folder, model_type=kind)
    as_pickle(folder, lambda name: name.replace("bert.", f"{kind}.", 1))
    for path in (folder, folder / PICKLED):
        refused(
            CheckpointError, f"type '{kind}', .*only the types bert, rob", load_classifier, path
        )
    (folder / "config.json").unlink()
    refused(CheckpointError, f"a model of type '{kind}'", load_classifier, folder / PICKLED, NLI)


# Shards


def sharded(folder, safe):
    """Have transformers write the folder's model in several files; return the index."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="2KB", safe_serialization=safe)
    index = json.loads(next(folder.glob("*.index.json")).read_text())
    assert len({*index["weight_map"].values()}) > 2
    return index


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_read(folder, safe):
    expected = digests(load_checkpoint(folder).arrays)
    index = sharded(folder, safe)
    shard = next(iter(index["weight_map"].values()))  # stands for all, as the index does
    for path in (folder, folder / shard, next(folder.glob("*.index.json"))):
        assert digests(load_checkpoint(path).arrays) == expected


def test_shards_that_are_missing_or_lie_are_named(folder):
    places = sharded(folder, True)["weight_map"]
    first, *others = dict.fromkeys(places.values())
    (folder.parent / first).write_bytes((folder / first).read_bytes())

    def check(message, weight_map):
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        refused(CheckpointError, message, load_checkpoint, folder)

    check(r"00001.*bert\.pooler\.extra", {**places, "bert.pooler.extra.weight": first})
    check("missing: model-9", {**places, "classifier.bias": "model-9.safetensors"})
    for outside in (5, f"../{first}", str(folder.parent / first), "a\\b", "a\0b", "x" * 300):
        check("not the name of a file beside it", {**places, "classifier.bias": outside})
    for other in {first, others[-1]} - {places["classifier.bias"]}:
        check(r"classifier\.bias", {**places, "classifier.bias": other})
    for wrong in ([], {}, None):
        check(r"index\.json", wrong)
    (folder / others[0]).unlink()
    check(f"missing: {others[0]}", places)
    (folder / INDEX).unlink()
    refused(CheckpointError, r"model-0.*not the .index.json", load_checkpoint, folder)


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


@pytest.mark.parametrize("to", FORMATS)
def test_weights_that_are_no_numbers_are_refused(tmp_path, make_checkpoint, to):
    start = make_checkpoint(DEVLIN, NLI)
    start.arrays["encoder.blks.1.ffn.dense1.weight"][2, 3:5] = np.nan, np.inf
    FORMATS[to](start, tmp_path / "there")
    wrong = r"values are NaN, infinite.*encoder\.blks\.1\.ffn\.dense1\.weight \(2 of 48\)"
    for load in LOADERS:
        refused(CheckpointError, wrong, load, tmp_path / "there")
    assert main(["info", str(tmp_path / "there")]) == 2


def test_numbers_beyond_float32_are_refused_but_not_of_an_unused_head(folder):
    tensors = {name: value.double() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    assert np.isfinite(bertnli.load(folder, "torch").arrays()["output.bias"]).all()
    tensors["classifier.bias"][1] = 1e200
    save_file(tensors, folder / WEIGHTS)
    refused(CheckpointError, r"beyond float32: output\.bias \(1 of 3\)", load_checkpoint, folder)
    assert load_pretrained(folder).config == DEVLIN


# What is not what it should be, and what to do


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("hidden_size", 4, 8),
        ("num_hidden_layers", 3, 2),
        ("vocab_size", 13, 12),
        ("max_position_embeddings", 8, 16),
    ],
)
def test_sizes_of_another_model(folder, name, wrong, right):
    describe(folder, **{name: wrong})
    message = rf"config\.json is not of the.*: {name} is {wrong}, and {right} by the tensors\. P"
    for load in LOADERS:
        refused(CheckpointError, message, load, folder)
    assert main(["info", str(folder)]) == 2


@pytest.mark.parametrize("to", ["bertnli", "torch", "mxnet"])
def test_sizes_of_another_model_in_our_own_folders(tmp_path, make_checkpoint, to):
    FORMATS[to](make_checkpoint(BOOK, NLI), tmp_path / to)
    describe(tmp_path / to, model={**BOOK.to_dict(), "num_hiddens": 4})
    refused(
        CheckpointError, "num_hiddens is 4, and 8 by the tensors", load_checkpoint, tmp_path / to
    )


def test_missing_tensors_are_no_matter_of_sizes(folder):
    tensors = load_file(folder / WEIGHTS)
    for name in ("bert.pooler.dense.bias", "bert.embeddings.LayerNorm.bias"):
        save_file({key: t for key, t in tensors.items() if key != name}, folder / WEIGHTS)
        refused(
            CheckpointError,
            r"tensors missing: .*\. Copy it anew from where",
            load_checkpoint,
            folder,
        )


def test_folders_of_checkpoints_are_named(original, tmp_path, make_checkpoint):
    home = tmp_path / "trainer"
    (home / "logs").mkdir(parents=True)
    for step in (200, 1000):
        shutil.copytree(original, home / f"checkpoint-{step}")
    shutil.copy(original / "config.json", home)  # as its save_pretrained leaves it
    named = f"that do: {home / 'checkpoint-200'}, {home / 'checkpoint-1000'}$"
    refused(CheckpointError, f"holds no checkpoint itself: give .*{named}", load_checkpoint, home)
    run = tmp_path / "runs" / "mine"  # a run is named, and not its best
    (run / "best").parent.mkdir(parents=True)
    FORMATS["bertnli"](make_checkpoint(BOOK, NLI), run / "best")
    refused(CheckpointError, f"folders that do: {run}$", load_checkpoint, tmp_path / "runs")
    convert(run, tmp_path / "copy", "mxnet")


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
    refused(BERTNLIError, f"{name}: a pointer of git-lfs.*`git l", load_checkpoint, path, NLI, 2)


COPY = r".*\. Copy it anew from where it came"


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        (
            PICKLED,
            b"<!DOCTYPE html>Not found",
            CheckpointError,
            f"torch.save: a page of HTML{COPY}",
        ),
        (PICKLED, bytes(range(7, 250)), CheckpointError, f"torch.save: it begins with b'{COPY}"),
        (PICKLED, b"", CheckpointError, f"no file of torch.save: it begins with b''{COPY}"),
        (PICKLED, pickle.dumps([1, 2]), CheckpointError, f"not a file of torch.save{COPY}"),
        (WEIGHTS, b"<!DOCTYPE html>Not found", CheckpointError, f"no file of safetensors{COPY}"),
        (WEIGHTS, b"hello, world", CheckpointError, f"no file of safetensors{COPY}"),
        ("special_tokens_map.json", b"[", DataError, r"special_tokens_map\.json"),
    ],
)
def test_damaged_files_are_named(folder, name, content, error, message):
    if name == PICKLED:
        (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    refused(error, message, load_checkpoint, folder)


@pytest.mark.parametrize("npz", [False, True])
def test_parameters_alone_are_told_all_that_is_missing(tmp_path, make_checkpoint, npz):
    start = make_checkpoint(BOOK, NLI)
    path = tmp_path / "net.params"
    write_params(path, {names.to_mxnet(name): a for name, a in start.arrays.items()}, npz=npz)
    vocab, labels, heads = "no vocab.json beside it", "does not name its classes", "give num_heads"
    refused(CheckpointError, f"{vocab}.* Also: .*{labels}.* Also: {heads}", load_classifier, path)
    refused(CheckpointError, f"{vocab}.* Also: {heads}", load_pretrained, path)
    start.vocab.save(tmp_path / "vocab.json")
    refused(CheckpointError, f"{labels}.* Also: {heads}", load_classifier, path)
    refused(ConfigError, f"^{heads}", load_classifier, path, NLI)
    assert load_classifier(path, NLI, 2).labels == NLI
