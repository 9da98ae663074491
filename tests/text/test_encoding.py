"""How pairs are cut to length travels with the weights, to every command and format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main, parse
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.convert import convert
from bertnli.formats.huggingface import read_encoding
from bertnli.formats.native import CONFIG
from bertnli.formats.onnx import OnnxModel
from bertnli.nets.classifier import softmax
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import Worker
from bertnli.text.pairs import TRUNCATIONS, PairEncoding, truncated_lengths
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.text.wordpiece import SPECIAL, WordPieceVocab

LABELS = ("entailment", "contradiction", "neutral")
WORDS = [f"w{i}" for i in range(60)]
POSITIONS = 220


def sentence(rng: random.Random, longest: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))


def make_pairs(count: int) -> list[tuple[str, str]]:
    rng = random.Random(1)
    return [(sentence(rng, 160), sentence(rng, 120)) for _ in range(count)]


PAIRS = make_pairs(12)


def make_net(nli: Backend, vocab: Vocab, **sizes: Any) -> Any:
    """Return a classifier whose answers depend on every token."""
    small = {"num_hiddens": 16, "ffn_num_hiddens": 16, "num_heads": 2, "num_blks": 2, "dropout": 0}
    bert = nli.BERTModel(len(vocab), **small, max_len=POSITIONS, vocab=vocab, **sizes)
    net = nli.BERTClassifier(bert, LABELS)
    rng = np.random.default_rng(0)
    net.load_arrays(
        {name: a + rng.normal(0, 0.4, a.shape).astype("f") for name, a in net.arrays().items()},
        "the test",
    )
    return net


@pytest.fixture(scope="module")
def net(backend: Backend) -> Any:
    return make_net(backend, Vocab.from_list([*RESERVED_TOKENS, "<unk>", *WORDS]))


def rows(predictions: list[Any]) -> NDArray[np.float64]:
    return np.array([list(one.probabilities.values()) for one in predictions])


def json_rows(text: str) -> NDArray[np.float64]:
    lines = [json.loads(line)["probabilities"] for line in text.splitlines()]
    return np.array([list(one.values()) for one in lines])


def by_hand(net: Any, how: PairEncoding) -> NDArray[np.float64]:
    """Return the probabilities of the pairs, cut here, token by token."""
    result = []
    for premise, hypothesis in PAIRS:
        a, b = premise.split(), hypothesis.split()
        if len(a) + len(b) > how.max_len - 3:
            kept = truncated_lengths(len(a), len(b), how.max_len - 3, how.truncation)
            a, b = a[: kept[0]], b[: kept[1]]
        corpus = Corpus.from_pairs([(" ".join(a), " ".join(b))])
        batch = PairDataset(corpus, POSITIONS, net.vocab, verbose=False).batch(np.array([0]))
        result.append(softmax(net.logits(batch))[0])
    return np.array(result)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """The pairs as a file without labels, and as one with the labels of the most probable class."""
    file = tmp_path / "pairs.tsv"
    lines = ["\t".join(pair) for pair in PAIRS]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file, tmp_path / "labelled.tsv"


def by_worker(argv: list[str], name: str, work: Callable[[Worker], Any]) -> Any:
    """Return what the thread of `bertnli serve` answers."""
    command: Any = parse(["serve", *argv])
    worker = Worker(name, lambda: command.load(name), Limits(), Metrics())
    worker.start()
    try:
        return work(worker)
    finally:
        worker.stop(60)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("max_len", [16, 128, 200])
def test_every_command_cuts_as_in_training(
    backend: Backend,
    net: Any,
    tables: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    max_len: int,
    truncation: str,
) -> None:
    how = PairEncoding(max_len, truncation)
    net.encoding = how
    folder, (file, labelled) = str(tmp_path / "net"), tables
    net.save(folder)
    expected = by_hand(net, how)
    cut = sum(len(a.split()) + len(b.split()) > max_len - 3 for a, b in PAIRS)
    chosen = ["--backend", backend.name, "--devices", "cpu"]

    def same(result: Any) -> None:
        assert np.abs(np.array(result) - expected).max() <= 1e-5
        assert np.array_equal(np.argmax(result, 1), expected.argmax(1))

    loaded = backend.load(folder, "cpu")
    assert loaded.encoding == how
    predictions = loaded.predict(PAIRS)
    same(rows(predictions))
    assert sum(one.is_cut for one in predictions) == cut

    assert main(["predict", folder, str(file), "--json", *chosen]) == 0
    out, err = capsys.readouterr()
    same(json_rows(out))
    assert (f"{cut} of {len(PAIRS)} pairs had more than {max_len} tokens" in err) == (cut > 0)

    lines = [f"{LABELS[i]}\t{a}\t{b}" for i, (a, b) in zip(expected.argmax(1), PAIRS, strict=True)]
    labelled.write_text("\n".join(["gold_label\tsentence1\tsentence2", *lines]), encoding="utf-8")
    assert main(["evaluate", folder, str(labelled), "--json", *chosen]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["accuracy"] == 1.0
    own = -np.log(expected.max(1)).mean()
    assert json.loads(out)["loss"] == pytest.approx(own, abs=1e-5)
    assert f"{cut} of {len(PAIRS)} pairs have more than {max_len} tokens" in err
    report = str(tmp_path / "report")
    argv = ["evaluate", folder, str(labelled), "--report", report, *chosen]
    assert main(argv) == 0
    result = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert result["checkpoints"][0]["max_len"] == max_len
    scored = result["sets"][0]["checkpoints"][0]
    assert (scored["cut"], scored["loss"]) == (cut, pytest.approx(own, abs=1e-5))

    same(
        rows(by_worker(["--checkpoint", folder], backend.name, lambda w: w.predict(PAIRS).result()))
    )

    capsys.readouterr()
    assert main(["explain", *PAIRS[0], "--checkpoint", folder, "--steps", "1", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert list(explained["probabilities"].values()) == pytest.approx(expected[0], abs=1e-5)

    exported = tmp_path / "exported"
    argv = ["export", folder, str(exported), "--format", "onnx", "--check", str(labelled)]
    assert main(argv) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out
    model = onnx.load(str(exported / "model.onnx"))
    facts = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    dataset = PairDataset(
        Corpus.from_pairs(PAIRS),
        facts["encoding"]["max_len"],
        Vocab.from_list(json.loads((exported / "vocab.json").read_text(encoding="utf-8"))),
        truncation=facts["encoding"]["truncation"],
        verbose=False,
    )
    graph = OnnxModel(exported / "model.onnx")
    same(softmax(graph.outputs(dataset.batch(np.arange(len(PAIRS))))[0]))


def test_an_option_overrides_what_travels(
    backend: Backend,
    net: Any,
    tables: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    net.encoding = PairEncoding(200)
    net.save(tmp_path / "net")
    other = PairEncoding(20, "ratio")
    expected = by_hand(net, other)
    options = ["--max-len", "20", "--truncation", "ratio"]
    argv = ["--checkpoint", str(tmp_path / "net"), *options]
    assert main(["predict", *argv[1:], str(tables[0]), "--json"]) == 0
    assert np.abs(json_rows(capsys.readouterr().out) - expected).max() <= 1e-5
    served = by_worker(argv, backend.name, lambda worker: worker.predict(PAIRS).result())
    assert np.abs(rows(served) - expected).max() <= 1e-5
    result = net.predict(PAIRS, max_len=20, truncation="ratio")
    assert np.abs(rows(result) - expected).max() <= 1e-5
    for wrong in (net.predict, lambda pairs, **given: net.explain(*pairs[0], **given)):
        with pytest.raises(ConfigError, match=f"give {POSITIONS} or less"):
            wrong(PAIRS, max_len=POSITIONS + 1)


@pytest.mark.parametrize("to", ["bertnli", "torch", "mxnet"])
def test_it_travels_to_every_format(backend: Backend, net: Any, tmp_path: Path, to: str) -> None:
    net.encoding = PairEncoding(77, "ratio")
    net.save(tmp_path / "net")
    convert(tmp_path / "net", tmp_path / "there", to)
    assert backend.load(tmp_path / "there", "cpu").encoding == PairEncoding(77, "ratio")


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_it_travels_to_hugging_face_and_back(
    backend: Backend, tmp_path: Path, truncation: str
) -> None:
    pieces = WordPieceVocab.from_pieces([*SPECIAL.values(), *WORDS])
    net = make_net(backend, pieces, embedding_norm=True, activation="gelu", norm_eps=1e-12)
    net.encoding = PairEncoding(100, truncation)
    net.save(tmp_path / "net")
    convert(tmp_path / "net", tmp_path / "hf", "huggingface")
    assert backend.load(tmp_path / "hf", "cpu").encoding == net.encoding
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer.model_max_length == 100
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    inputs = tokenizer(
        *map(list, zip(*PAIRS, strict=True)), padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        theirs = softmax(model(**inputs).logits.numpy())
    apart = np.abs(rows(net.predict(PAIRS)) - theirs).max()
    if truncation == "longest_first":
        assert apart <= 1e-5
    else:  # the pairs show the difference
        assert apart > 1e-4


def test_a_folder_of_hugging_face_brings_its_own(tmp_path: Path) -> None:
    def result(**settings: Any) -> PairEncoding:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        return read_encoding(tmp_path, 512)

    assert read_encoding(tmp_path, 512) == PairEncoding(512, "longest_first")
    assert result(model_max_length=128) == PairEncoding(128, "longest_first")
    assert result(model_max_length=1e30).max_len == result().max_len == 512
    assert result(model_max_length=256.0, pair_truncation="book") == PairEncoding(256, "book")
    wrongs = (
        {"model_max_length": 0},
        {"model_max_length": "128"},
        {"model_max_length": True},
        {"truncation_side": "left"},
        {"pair_truncation": "middle"},
    )
    for wrong in wrongs:
        name = next(iter(wrong))[-8:]
        with pytest.raises(CheckpointError, match=rf"tokenizer_config.json: .*{name}"):
            result(**wrong)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 40))
def test_longest_first_is_the_rule_of_tokenizers(a: int, b: int, room: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(room, strategy="longest_first")
    ids = tokenizer.encode(" ".join("a" * a), " ".join("b" * b)).ids
    assert truncated_lengths(a, b, room, "longest_first") == (ids.count(0), ids.count(1))


@pytest.mark.parametrize("by_loader", [False, True])
def test_training_takes_it_from_the_training_set(backend: Backend, by_loader: bool) -> None:
    corpus = bertnli.read("sample", "test")
    vocab = build_vocab(corpus, 1)
    net = make_net(backend, vocab)
    train = backend.SNLIBERTDataset(corpus, 24, vocab, truncation="ratio", verbose=False)
    assert net.encoding == PairEncoding(128)
    data: Any = train
    if by_loader:
        data = loader_of(backend, train)
    trainer = backend.Trainer(net, devices="cpu")
    trainer.fit(data, num_epochs=1, batch_size=64, progress=False)
    assert net.encoding == PairEncoding(24, "ratio")


def loader_of(backend: Backend, train: Any) -> Any:
    if backend.name == "torch":
        return torch.utils.data.DataLoader(train, 64)
    from mxnet import gluon

    return gluon.data.DataLoader(train, 64)


def test_the_command_trains_and_scores_long_pairs(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deciding words stand after 140 others: cut at 128 tokens they are not seen."""
    rng = random.Random(1)
    for name, count in (("train", 120), ("dev", 40)):
        lines = ["sentence1\tsentence2\tgold_label"]
        for _ in range(count):
            which = rng.randrange(2)
            filler = " ".join(rng.choices(WORDS[:9], k=140))
            colour = " ".join([("red", "blue")[which]] * 6)
            lines.append(f"{filler} {colour}\tthe colour\t{LABELS[which]}")
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run, dev = str(tmp_path / "run"), str(tmp_path / "dev.tsv")
    sizes = ["--num-hiddens", "16", "--ffn-num-hiddens", "16", "--num-heads", "2"]
    steps = ["--batch-size", "12", "--lr", "1e-2", "--epochs", "8", "--max-len", "200"]
    data = ["--train", str(tmp_path / "train.tsv"), "--dev", dev, "--num-blks", "1"]
    chosen = ["--backend", backend.name, "--devices", "cpu"]
    argv = ["train", *data, *sizes, *steps, *chosen, "--min-freq", "1", "--output", run]
    assert main([*argv, "--quiet", "--dropout", "0"]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, dev, "--json", *chosen]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    assert main(["evaluate", run, dev, "--json", *chosen, "--max-len", "128"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["accuracy"] < 0.8
    assert "40 of 40 pairs have more than 128 tokens and were cut" in err


def test_a_checkpoint_that_says_nothing_sensible_is_refused(net: Any, tmp_path: Path) -> None:
    net.save(tmp_path / "net")
    path = tmp_path / "net" / CONFIG
    described = json.loads(path.read_text(encoding="utf-8"))
    for wrong in (7, {}, {"max_len": POSITIONS + 1, "truncation": "book"}, {"max_len": 9}):
        path.write_text(json.dumps({**described, "encoding": wrong}), encoding="utf-8")
        with pytest.raises(CheckpointError, match="encoding"):
            bertnli.load(tmp_path / "net")
    del described["encoding"]
    path.write_text(json.dumps(described), encoding="utf-8")
    assert bertnli.load(tmp_path / "net").encoding == PairEncoding(128)


def test_words_that_the_model_does_not_know_are_said(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ("一个男人在睡觉。", "😀")
    (result,) = bertnli.load("bert.mini", backend.name, "cpu").predict([pair])
    assert result.unknown_share > 0.8
    chosen = ["--backend", backend.name, "--devices", "cpu"]
    assert main(["predict", "bert.mini", "--pair", *pair, *chosen]) == 0
    assert "does not know" in capsys.readouterr().err
    assert (
        main(
            [
                "predict",
                "bert.mini",
                "--pair",
                "A man is asleep.",
                "A man is awake.",
                *chosen,
                "--json",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["unknown_share"] == 0.0 and err == ""
    assert main(["explain", *pair, *chosen, "--steps", "1"]) == 0
    assert "does not know" in capsys.readouterr().err
    file = tmp_path / "pairs.tsv"
    file.write_text("A man sleeps.\tHe rests.\n" + "\t".join(pair) + "\n", encoding="utf-8")
    assert main(["predict", "bert.mini", str(file), *chosen]) == 0
    assert "1 of 2 pairs (the first: pair 2)" in capsys.readouterr().err
    argv = ["--checkpoint", "bert.mini"]
    (served,) = by_worker(argv, backend.name, lambda worker: worker.predict([pair]).result())
    assert served.unknown_share == result.unknown_share
