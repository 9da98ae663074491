"""Training that goes on from a classifier: its output layer is kept where its classes match."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS
from bertnli.bert.parameters import initial_arrays
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.formats.convert import FORMATS

ORDERS = (LABELS, ("neutral", "Entailment", "contradiction"))
CONFIG = BERTConfig(200, 16, 24, 2, 2, 0.1, 40)


@pytest.fixture(scope="module")
def formats(tmp_path_factory, make_checkpoint):
    """Write a classifier in each format; return the folders by the names of the formats."""
    home = tmp_path_factory.mktemp("formats")
    for name, write in FORMATS.items():
        config = replace(CONFIG, embedding_norm=name == "huggingface")
        write(make_checkpoint(config, LABELS), home / name)
    return {path.name: path for path in home.iterdir()}


@pytest.mark.parametrize("format", FORMATS)
def test_a_classifier_goes_on_with_its_head(backend, formats, make_batch, format):
    """The output layer is kept for every format and every order of the classes."""
    trained = backend.load(formats[format], "cpu")
    assert trained.output_origin == "of the checkpoint"
    bert, _ = backend.load_pretrained_model(formats[format], dropout=0.0, devices="cpu")
    batch = make_batch(16, vocab_size=200)
    for labels in ORDERS:
        net = backend.BERTClassifier(bert, labels)
        assert net.output_origin == "of the checkpoint"
        columns = [[name.lower() for name in labels].index(name) for name in trained.labels]
        np.testing.assert_allclose(net.logits(batch)[:, columns], trained.logits(batch), atol=1e-6)


def test_where_the_head_is_new(backend, formats, tmp_path):
    def origin(path, *labels, kind="pretrained", **options):
        bert, _ = backend.load_pretrained_model(path, num_heads=num_heads, devices="cpu", kind=kind)
        net = backend.BERTClassifier(bert, labels or LABELS, **options)
        if bert.head is not None and len(bert.head.arrays["output.bias"]) == len(net.labels):
            kept = np.array_equal(net.arrays()["output.weight"], bert.head.arrays["output.weight"])
            assert kept == (net.output_origin == "of the checkpoint")
        return str(net.output_origin)

    num_heads = None
    assert origin(formats["bertnli"]) == "of the checkpoint"
    assert origin(formats["bertnli"], new_head=True) == "new: as asked for"
    assert origin(formats["bertnli"], "yes", "no").startswith("new: the checkpoint's classes are e")
    assert origin("bert.mini") == "new: the model comes without one"
    assert origin("bert.mini", kind="classifier") == "of the checkpoint"
    num_heads = 2
    shutil.copytree(formats["torch"], tmp_path / "nameless")
    (tmp_path / "nameless" / "config.json").unlink()
    nameless = "new: the checkpoint does not name its classes; to go on with it"
    assert origin(tmp_path / "nameless").startswith(nameless)


@pytest.mark.parametrize("kind", ["pretrained", "classifier"])
def test_a_new_head_does_not_resemble_the_trained_one(backend, kind):
    """Cosines of independent layers are below 0.2; the trained one started with seed 0."""
    trained = backend.load("bert.mini", "cpu").arrays()["output.weight"].ravel()
    bert, _ = backend.load_pretrained_model("bert.mini", devices="cpu", kind=kind)
    heads = []
    for seed in range(6):
        net = backend.BERTClassifier(bert, seed=seed, new_head=True)
        heads.append(net.arrays()["output.weight"].ravel())
    units = np.array([trained, *heads], np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert np.abs(np.triu(units @ units.T, 1)).max() < 0.25


def test_a_model_from_scratch_starts_as_ever(backend):
    """The first head has the start values of its seed; a second one after training has others."""
    corpus = bertnli.read("sample", "dev")
    vocab = build_vocab(corpus, 2)
    bert = backend.BERTModel(len(vocab), 16, 24, 2, 1, 0.1, 40, vocab=vocab, seed=5)
    net = backend.BERTClassifier(bert, seed=7)
    start = initial_arrays({"output.weight": (3, 16), "output.bias": (3,)}, 7)
    for name, array in start.items():
        np.testing.assert_array_equal(net.arrays()[name], array)
    data = PairDataset(corpus, 40, vocab, verbose=False)
    backend.Trainer(net, lr=1e-3, devices="cpu").fit(data, None, 1, 64, progress=False)
    second = backend.BERTClassifier(bert, seed=7)
    assert not np.allclose(second.arrays()["output.weight"], start["output.weight"], atol=0.05)


def test_the_command_says_which(formats, tmp_path, capsys):
    """With a learning rate near 0, a run that keeps the head scores as its checkpoint does."""

    def train(*options):
        output = tmp_path / str(len([*tmp_path.iterdir()]))
        argv = ["train", "--train", str(table), "--dev", str(table), "--output", str(output)]
        assert main([*argv, "--epochs", "1", "--lr", "1e-12", "--devices", "cpu", *options]) == 0
        out = capsys.readouterr().out
        (line,) = [line for line in out.splitlines() if line.startswith("output layer: ")]
        return line.removeprefix("output layer: "), float(out.split("dev acc ")[1][:5])

    corpus = bertnli.read("sample", "dev")
    rows = zip(corpus.premises, corpus.hypotheses, corpus.labels, strict=True)
    lines = [f"{p}\t{h}\t{corpus.label_names[i]}" for p, h, i in list(rows)[:30]]
    table = tmp_path / "pairs.tsv"
    table.write_text("\n".join(["sentence1\tsentence2\tgold_label", *lines]) + "\n")
    kept = train("--pretrained", "bert.mini")
    assert kept[0] == "of the checkpoint" and kept[1] > 0.6
    order = ["--labels", "neutral,contradiction,entailment"]
    assert train("--pretrained", "bert.mini", *order) == kept
    origin, accuracy = train("--pretrained", "bert.mini", "--new-head")
    assert origin == "new: as asked for" and accuracy < 0.55
    argv = ["train", "--train", "sample", "--output", str(tmp_path / "x"), "--new-head"]
    assert main(argv) == 2
    assert "(--new-head) is for pretrained" in capsys.readouterr().err
