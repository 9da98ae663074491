"""How pairs are cut to length is saved with the weights: every command and format cuts alike."""

import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from refusals import refused

import bertnli
from bertnli.cli import main, parse
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.convert import convert
from bertnli.formats.load import load_checkpoint
from bertnli.formats.native import CONFIG
from bertnli.formats.onnx import OnnxModel
from bertnli.nets.classifier import softmax
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import Worker
from bertnli.text.pairs import PairEncoding, truncated_lengths
from bertnli.text.subwords import SPECIAL, SubwordVocab
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

LABELS = ("entailment", "contradiction", "neutral")
WORDS = [f"w{i}" for i in range(60)]
POSITIONS = 220


def make_pairs(count):
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, n))) for n in (160, 120) * count]
    return list(zip(texts[::2], texts[1::2], strict=True))


PAIRS = make_pairs(12)


def make_net(nli, vocab, **sizes):
    """Make a classifier whose answers depend on every token."""
    small = {"num_hiddens": 16, "ffn_num_hiddens": 16, "num_heads": 2, "num_blks": 2, "dropout": 0}
    bert = nli.BERTModel(len(vocab), **small, max_len=POSITIONS, vocab=vocab, **sizes)
    net = nli.BERTClassifier(bert, LABELS)
    rng = np.random.default_rng(0)
    arrays = {n: a + rng.normal(0, 0.4, a.shape).astype("f") for n, a in net.arrays().items()}
    net.load_arrays(arrays, "the test")
    return net


@pytest.fixture(scope="module")
def net(backend):
    return make_net(backend, Vocab.from_list([*RESERVED_TOKENS, "<unk>", *WORDS]))


def probabilities(predictions):
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


def of_json(text):
    """Parse the probabilities in JSON lines."""
    lines = [json.loads(line)["probabilities"] for line in text.splitlines()]
    return np.array([list(line.values()) for line in lines])


def by_hand(net, how):
    """Compute the probabilities of the pairs, cut here, token by token."""
    result = []
    for a, b in ((premise.split(), hypothesis.split()) for premise, hypothesis in PAIRS):
        kept = truncated_lengths(len(a), len(b), how.max_len - 3, how.truncation)
        corpus = Corpus.from_pairs([(" ".join(a[: kept[0]]), " ".join(b[: kept[1]]))])
        batch = PairDataset(corpus, POSITIONS, net.vocab, verbose=False).batch(np.array([0]))
        result.append(softmax(net.logits(batch))[0])
    return np.array(result)


def served(argv, name):
    """Compute the probabilities of the pairs as `bertnli serve`'s worker does."""
    command = parse(["serve", *argv])
    worker = Worker(name, lambda: command.load(name), Limits(), Metrics())
    worker.start()
    try:
        return probabilities(worker.predict(PAIRS).result())
    finally:
        worker.stop(60)


@pytest.mark.parametrize(("max_len", "truncation"), [(16, "longest_first"), (128, "ratio")])
def test_every_command_cuts_as_in_training(backend, net, tmp_path, capsys, max_len, truncation):
    net.encoding = how = PairEncoding(max_len, truncation)
    folder, file, labelled = (str(tmp_path / name) for name in ("net", "pairs.tsv", "labelled.tsv"))
    net.save(folder)
    expected = by_hand(net, how)
    cut = sum(len(a.split()) + len(b.split()) > max_len - 3 for a, b in PAIRS)
    loss = pytest.approx(-np.log(expected.max(1)).mean(), abs=1e-5)
    Path(file).write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")
    rows = zip(expected.argmax(1), PAIRS, strict=True)
    lines = [f"{LABELS[i]}\t{a}\t{b}\n" for i, (a, b) in rows]
    Path(labelled).write_text("gold_label\tsentence1\tsentence2\n" + "".join(lines))
    device = ["--backend", backend.name, "--devices", "cpu"]

    def run(*argv):
        assert main([*argv]) == 0
        return capsys.readouterr()

    loaded = backend.load(folder, "cpu")
    predictions = loaded.predict(PAIRS)
    assert loaded.encoding == how and sum(pair.is_cut for pair in predictions) == cut
    answers = [probabilities(predictions), served(["--checkpoint", folder], backend.name)]
    capsys.readouterr()

    out, err = run("predict", folder, file, "--json", *device)
    answers.append(of_json(out))
    assert f"{cut} of {len(PAIRS)} pairs had more than {max_len} tokens" in err

    out, err = run("evaluate", folder, labelled, "--json", *device)
    assert (json.loads(out)["accuracy"], json.loads(out)["loss"]) == (1.0, loss)
    assert f"{cut} of {len(PAIRS)} pairs have more than {max_len} tokens" in err
    run("evaluate", folder, labelled, "--report", str(tmp_path / "report"), *device)
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    scored = report["sets"][0]["checkpoints"][0]
    assert report["checkpoints"][0]["max_len"] == max_len
    assert (scored["cut"], scored["loss"]) == (cut, loss)

    argv = ["explain", *PAIRS[0], "--checkpoint", folder, "--steps", "1", "--json", *device]
    explained = json.loads(run(*argv).out)["probabilities"]
    assert list(explained.values()) == pytest.approx(expected[0], abs=1e-5)

    exported = tmp_path / "exported"
    argv = ["export", folder, str(exported), "--format", "onnx", "--check", labelled]
    assert "accuracy 1.0000" in run(*argv).out
    model = onnx.load(str(exported / "model.onnx"))
    facts = {prop.key: json.loads(prop.value) for prop in model.metadata_props}["encoding"]
    vocab = Vocab.load(exported / "vocab.json")
    dataset = PairDataset(Corpus.from_pairs(PAIRS), vocab=vocab, verbose=False, **facts)
    batch = dataset.batch(np.arange(len(PAIRS)))
    answers.append(softmax(OnnxModel(exported / "model.onnx").outputs(batch)[0]))
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_an_option_overrides_the_saved_encoding(backend, net, tmp_path, capsys):
    net.encoding = PairEncoding(200)
    net.save(tmp_path / "net")
    expected = by_hand(net, PairEncoding(20, "ratio"))
    argv = [str(tmp_path / "net"), "--max-len", "20", "--truncation", "ratio"]
    assert main(["predict", argv[0], "--pair", *PAIRS[0], "--json", *argv[1:]]) == 0
    np.testing.assert_allclose(of_json(capsys.readouterr().out), expected[:1], atol=1e-5)
    np.testing.assert_allclose(served(["--checkpoint", *argv], backend.name), expected, atol=1e-5)
    predictions = net.predict(PAIRS, max_len=20, truncation="ratio")
    np.testing.assert_allclose(probabilities(predictions), expected, atol=1e-5)
    refused(ConfigError, f"give {POSITIONS} or less", net.predict, PAIRS, max_len=POSITIONS + 1)
    refused(ConfigError, f"give {POSITIONS} or less", net.explain, *PAIRS[0], max_len=POSITIONS + 1)


def test_every_format_keeps_it(net, tmp_path):
    net.encoding = PairEncoding(77, "ratio")
    net.save(tmp_path / "net")
    for to in ("bertnli", "torch", "mxnet"):
        convert(tmp_path / "net", tmp_path / to, to)
        assert load_checkpoint(tmp_path / to).encoding == PairEncoding(77, "ratio")


@pytest.mark.parametrize("truncation", ["book", "longest_first"])
def test_transformers_cuts_alike(backend, tmp_path, truncation):
    pieces = SubwordVocab.from_pieces([*SPECIAL.values(), *WORDS])
    net = make_net(backend, pieces, embedding_norm=True, activation="gelu", norm_eps=1e-12)
    net.encoding = PairEncoding(100, truncation)
    net.save(tmp_path / "net")
    convert(tmp_path / "net", tmp_path / "hf", "huggingface")
    assert load_checkpoint(tmp_path / "hf").encoding == net.encoding
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    columns = map(list, zip(*PAIRS, strict=True))
    inputs = tokenizer(*columns, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = softmax(model(**inputs).logits.numpy())
    difference = np.abs(probabilities(net.predict(PAIRS)) - expected).max()
    # The book's rule differs, and the pairs show it.
    assert difference <= 1e-5 if truncation == "longest_first" else difference > 1e-4
    if truncation == "book":
        return
    for settings, encoding in (  # what its tokenizer's file may say
        ({"model_max_length": 128}, PairEncoding(128, "longest_first")),
        ({"model_max_length": 1e30}, PairEncoding(POSITIONS, "longest_first")),
        ({}, PairEncoding(POSITIONS, "longest_first")),
        ({"model_max_length": 256.0 / 2, "pair_truncation": "book"}, PairEncoding(128, "book")),
        ({"model_max_length": "128"}, "model_max_length"),
        ({"truncation_side": "left"}, "truncation_side"),
    ):
        (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps(settings))
        if isinstance(encoding, PairEncoding):
            assert load_checkpoint(tmp_path / "hf").encoding == encoding
        else:
            with pytest.raises(CheckpointError, match=f"tokenizer_config.json: .*{encoding}"):
                load_checkpoint(tmp_path / "hf")


def test_training_takes_it_from_the_training_set(backend):
    corpus = bertnli.read("sample", "test")
    net = make_net(backend, build_vocab(corpus, 1))
    trainer = backend.Trainer(net, devices="cpu")
    for max_len, make in ((16, lambda data: data), (24, backend_loader(backend))):
        options = {"truncation": "ratio", "verbose": False}
        data = backend.SNLIBERTDataset(corpus, max_len, net.vocab, **options)
        trainer.fit(make(data), num_epochs=1, batch_size=64, progress=False)
        assert net.encoding == PairEncoding(max_len, "ratio")


def backend_loader(backend):
    """Return a function that makes a framework's own loader of a data set."""
    if backend.name == "torch":
        return lambda data: torch.utils.data.DataLoader(data, 64)
    from mxnet import gluon

    return lambda data: gluon.data.DataLoader(data, 64)


def test_the_command_trains_with_it_and_saves_it(tmp_path):
    words = "--num-hiddens 16 --ffn-num-hiddens 16 --num-heads 2 --num-blks 1 --epochs 1 --quiet"
    argv = ["train", "--train", "sample:dev", "--output", str(tmp_path / "run"), *words.split()]
    assert main([*argv, "--max-len", "33", "--truncation", "ratio"]) == 0
    assert load_checkpoint(tmp_path / "run").encoding == PairEncoding(33, "ratio")


def test_a_wrong_encoding_is_refused(net, tmp_path):
    net.save(tmp_path / "net")
    path = tmp_path / "net" / CONFIG
    described = json.loads(path.read_text(encoding="utf-8"))
    for wrong in (7, {"max_len": POSITIONS + 1, "truncation": "book"}, None):
        path.write_text(json.dumps({**described, "encoding": wrong}), encoding="utf-8")
        refused(CheckpointError, "encoding", load_checkpoint, tmp_path / "net")
    del described["encoding"]
    path.write_text(json.dumps(described), encoding="utf-8")
    assert bertnli.load(tmp_path / "net").encoding == PairEncoding(128)


def test_unknown_words_are_reported(backend, tmp_path, capsys):
    pair, device = ("一个男人在睡觉。", "😀"), ["--backend", backend.name, "--devices", "cpu"]
    [prediction] = bertnli.load("bert.mini", backend.name, "cpu").predict([pair])
    assert prediction.unknown_share > 0.8
    assert main(["explain", *pair, *device, "--steps", "1"]) == 0
    assert "does not know" in capsys.readouterr().err
    file = tmp_path / "pairs.tsv"
    file.write_text("A man sleeps.\tHe rests.\n" + "\t".join(pair) + "\n", encoding="utf-8")
    assert main(["predict", "bert.mini", str(file), *device]) == 0
    assert "1 of 2 pairs (the first: pair 2)" in capsys.readouterr().err
