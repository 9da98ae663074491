"""Training that goes on from a classifier: its output layer is kept where its classes match."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS
from bertnli.bert.parameters import initial_arrays
from bertnli.cli import main
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.convert import FORMATS, convert

ORDERS = (LABELS, ("neutral", "Entailment", "contradiction"))


@pytest.fixture(scope="module")
def formats(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Checkpoint]
) -> dict[str, Path]:
    """A classifier in each format that names its classes: bert.mini's, where the format has it."""
    home = tmp_path_factory.mktemp("formats")
    for name in ("bertnli", "torch", "mxnet"):
        convert("bert.mini", home / name, name)
    config = BERTConfig(200, 16, 24, 2, 2, 0.1, 40, "gelu", True, 1e-12)
    FORMATS["huggingface"](make_checkpoint(config, LABELS), home / "huggingface")
    return {path.name: path for path in home.iterdir()}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("format", ["bertnli", "huggingface", "torch", "mxnet"])
@pytest.mark.parametrize("labels", ORDERS)
def test_a_classifier_goes_on_with_its_head(
    backend: Backend,
    formats: dict[str, Path],
    make_batch: Callable[..., Batch],
    format: str,
    labels: tuple[str, ...],
) -> None:
    """Of every format, in whatever order the classes are wanted."""
    bert, _ = backend.load_pretrained_model(formats[format], dropout=0.0, devices="cpu")
    net: Any = backend.BERTClassifier(bert, labels)
    assert net.output_origin == "of the checkpoint"
    whole: Any = backend.load(formats[format], "cpu")
    assert whole.output_origin == "of the checkpoint"
    columns = [[name.lower() for name in labels].index(name) for name in whole.labels]
    batch = make_batch(16, vocab_size=200)
    np.testing.assert_allclose(net.logits(batch)[:, columns], whole.logits(batch), atol=1e-6)


def test_where_the_head_is_new(backend: Backend, formats: dict[str, Path]) -> None:
    def origin(bert: Any, *labels: str, **options: Any) -> str:
        net: Any = backend.BERTClassifier(bert, labels or LABELS, **options)
        trained = bert.head is not None and len(bert.head.arrays["output.bias"]) == len(net.labels)
        if trained:
            weight = net.arrays()["output.weight"]
            kept = np.array_equal(weight, bert.head.arrays["output.weight"].astype(np.float32))
            assert kept == (net.output_origin == "of the checkpoint")
        found: str = net.output_origin
        return found

    bert, _ = backend.load_pretrained_model(formats["bertnli"], devices="cpu")
    assert origin(bert) == "of the checkpoint"
    assert origin(bert, new_head=True) == "new: as asked for"
    assert origin(bert, "yes", "no").startswith("new: the checkpoint's classes are entailment, ")
    (formats["torch"] / "config.json").rename(formats["torch"] / "config")
    try:
        bert, _ = backend.load_pretrained_model(formats["torch"], num_heads=4, devices="cpu")
    finally:
        (formats["torch"] / "config").rename(formats["torch"] / "config.json")
    assert origin(bert).startswith(
        "new: the checkpoint does not name its classes; to go on with it"
    )
    bert, _ = backend.load_pretrained_model("bert.mini", devices="cpu")
    assert origin(bert) == "new: the model comes without one"
    bert, _ = backend.load_pretrained_model("bert.mini", devices="cpu", kind="classifier")
    assert origin(bert) == "of the checkpoint"


@pytest.mark.parametrize("kind", ["pretrained", "classifier"])
def test_a_new_head_does_not_resemble_the_trained_one(backend: Backend, kind: str) -> None:
    """Which was trained from start values of the seed 0: by chance, cosines are below 0.2."""
    trained = backend.load("bert.mini", "cpu").arrays()["output.weight"].ravel()
    bert, _ = backend.load_pretrained_model("bert.mini", devices="cpu", kind=kind)
    heads = []
    for seed in range(10):
        net: Any = backend.BERTClassifier(bert, seed=seed, new_head=True)
        heads.append(net.arrays()["output.weight"].ravel())
    units = np.array([trained, *heads], np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert np.abs(np.triu(units @ units.T, 1)).max() < 0.25


def test_a_new_head_is_the_same_on_both_backends(both: tuple[Backend, Backend]) -> None:
    heads = []
    for nli in both:
        bert, _ = nli.load_pretrained_model("bert.mini", devices="cpu")
        net: Any = nli.BERTClassifier(bert, seed=3)
        heads.append(net.arrays()["output.weight"])
    assert heads[0].tobytes() == heads[1].tobytes()


def test_a_model_from_scratch_starts_as_ever(backend: Backend) -> None:
    """And once it is trained, a second head differs from the first."""
    corpus = bertnli.read("sample", "dev")
    vocab = build_vocab(corpus, 2)
    bert: Any = backend.BERTModel(len(vocab), 16, 24, 2, 1, 0.1, 40, vocab=vocab, seed=5)
    net: Any = backend.BERTClassifier(bert, seed=7)
    start = initial_arrays({"output.weight": (3, 16), "output.bias": (3,)}, 7)
    for name, array in start.items():
        np.testing.assert_array_equal(net.arrays()[name], array)
    data = PairDataset(corpus, 40, vocab, verbose=False)
    backend.Trainer(net, lr=1e-3, devices="cpu").fit(data, None, 1, 64, progress=False)
    second: Any = backend.BERTClassifier(bert, seed=7)
    assert not np.allclose(second.arrays()["output.weight"], start["output.weight"], atol=0.05)


def test_the_command_says_which(
    backend: Backend, formats: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a rate of nothing, a run that goes on scores what its checkpoint does."""

    def train(*options: str) -> tuple[str, float]:
        output = tmp_path / str(len([*tmp_path.iterdir()]))
        argv = ["train", "--train", str(table), "--dev", str(table), "--output", str(output)]
        recipe = ["--epochs", "1", "--lr", "1e-12", "--backend", backend.name, "--devices", "cpu"]
        assert main([*argv, *recipe, *options]) == 0
        out = capsys.readouterr().out
        (line,) = [line for line in out.splitlines() if line.startswith("output layer: ")]
        accuracy = float(out.split("dev acc ")[1][:5])
        return line.removeprefix("output layer: "), accuracy

    corpus = bertnli.read("sample", "dev")
    rows = zip(corpus.premises, corpus.hypotheses, corpus.labels, strict=True)
    lines = [f"{p}\t{h}\t{corpus.label_names[i]}" for p, h, i in rows]
    table = tmp_path / "pairs.tsv"
    table.write_text("\n".join(["sentence1\tsentence2\tgold_label", *lines]) + "\n")
    whole: Any = backend.load("bert.mini", "cpu")
    score = backend.Trainer(whole, devices="cpu").evaluate(
        PairDataset(corpus, 128, whole.vocab, verbose=False)
    )
    kept = train("--pretrained", "bert.mini")
    assert kept == ("of the checkpoint", round(score.accuracy, 3)) and score.accuracy > 0.6
    assert train("--pretrained", str(formats["bertnli"])) == kept
    order = ["--labels", "neutral,contradiction,entailment"]
    assert train("--pretrained", "bert.mini", *order) == kept
    origin, accuracy = train("--pretrained", "bert.mini", "--new-head")
    assert origin == "new: as asked for" and accuracy < 0.55
    other = ["--label-map", "entailment=yes,neutral=no,contradiction=no", "--labels", "yes,no"]
    assert train("--pretrained", "bert.mini", *other)[0].startswith("new: the checkpoint's classes")
    argv = ["train", "--train", "sample", "--output", str(tmp_path / "x"), "--new-head"]
    assert main(argv) == 2
    assert "(--new-head) is for pretrained" in capsys.readouterr().err
