"""Pretraining runs: what they learn, write, go on from, and refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import assert_same_arrays

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import build_text_vocab, read_text
from bertnli.errors import ConfigError, DataError
from bertnli.formats.load import load_pretrained
from bertnli.text.wordpiece import WordPieceVocab


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentences that come with bertnli, a pair a document."""
    premises, hypotheses, _ = bertnli.read("sample", "train")
    path = tmp_path_factory.mktemp("text") / "sample.txt"
    pairs = zip(premises[:300], hypotheses[:300], strict=True)
    path.write_text("\n\n".join(f"{a}\n{b}" for a, b in pairs), encoding="utf-8")
    return path


def options(text: Path, output: Path, backend: str, *more: str) -> list[str]:
    sizes = ["--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2"]
    return [
        *("pretrain", "--text", str(text), "--output", str(output), "--backend", backend, *sizes),
        *("--devices", "cpu", "--batch-size", "32", "--lr", "3e-3", "--max-len", "40", *more),
    ]


@pytest.mark.needs("mxnet")
def test_a_run_learns_and_fine_tuning_starts_from_it(
    backend: Backend, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", "mxnet" if backend.name == "torch" else "torch"
    more = ("--dev-text", str(text_file), "--epochs", "4", "--dropout", "0", "--min-freq", "2")
    assert main(options(text_file, run, backend.name, *more)) == 0
    out = capsys.readouterr().out
    assert "600 sentences" in out and "300 examples an epoch" in out
    model = load_pretrained(run)
    assert not model.started  # heads and all
    nli = bertnli.get_backend(other)
    bert, vocab = nli.load_pretrained_model(run, devices="cpu", dropout=0.0)
    data = PretrainingSet(read_text(text_file), 40, vocab)
    net: Any = nli.BERTForPretraining(bert)
    score = nli.Trainer(net, devices="cpu").evaluate(data)
    fresh: Any = nli.BERTModel(**model.config.to_dict(), vocab=vocab)
    before = nli.Trainer(nli.BERTForPretraining(fresh), devices="cpu").evaluate(data)
    assert score.mlm_loss < before.mlm_loss - 0.5
    assert f"dev acc {score.accuracy:.3f}" in out.splitlines()[-1]
    assert main(["info", str(run)]) == 0
    assert "bertnli pretrained model" in capsys.readouterr().out
    fine = tmp_path / "fine"
    start = ["train", "--train", "sample", "--pretrained", str(run), "--output", str(fine)]
    assert main([*start, "--epochs", "1", "--backend", other, "--devices", "cpu", "--quiet"]) == 0
    assert bertnli.load(fine, other).labels == bertnli.LABELS


def test_masked_words_alone_leave_the_rest_as_it_was(
    backend: Backend, text_file: Path, tmp_path: Path
) -> None:
    more = ("--epochs", "1", "--tasks", "mlm", "--word-pieces", "300", "--whole-words", "--quiet")
    assert main(options(text_file, tmp_path / "run", backend.name, *more)) == 0
    model = load_pretrained(tmp_path / "run")
    assert type(model.vocab) is WordPieceVocab and len(model.vocab) == 300
    start = backend.BERTModel(**model.config.to_dict()).arrays()
    for name, array in start.items():
        moved = not np.array_equal(array, model.arrays[name])
        assert moved != name.startswith(("hidden.", "nsp.")), name


def test_a_stopped_run_goes_on_to_the_same_bits(
    backend: Backend, text_file: Path, tmp_path: Path
) -> None:
    def fit(output: Path, epochs: int, **more: Any) -> tuple[Any, Any]:
        vocab = build_text_vocab(read_text(text_file), 2)
        bert: Any = backend.BERTModel(len(vocab), 16, 24, 2, 2, 0.2, 40, vocab=vocab)
        data = PretrainingSet(read_text(text_file), 40, vocab)
        net: Any = backend.BERTForPretraining(bert)
        trainer = backend.Trainer(net, lr=3e-3, devices="cpu")
        return net, trainer.fit(data, None, epochs, 64, output=output, progress=False, **more)

    expected, history = fit(tmp_path / "uninterrupted", 2)
    fit(tmp_path / "run", 1)
    net, again = fit(tmp_path / "run", 2, resume=True)
    assert again.step_losses == history.step_losses
    assert_same_arrays(net.arrays(), expected.arrays())


def test_what_is_not_trained_is_saved_as_it_is_by_then(backend: Backend, tmp_path: Path) -> None:
    vocab = build_vocab(bertnli.read("sample", "dev"), 2)
    bert: Any = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.0, 16, vocab=vocab)
    net = backend.BERTForPretraining(bert, next_sentence=False)
    assert {*net.arrays()} == {*net.shapes()}
    bert.load_arrays({name: array + 1 for name, array in bert.arrays().items()}, "")
    net.save(tmp_path / "net")
    saved = load_pretrained(tmp_path / "net").arrays
    for name, array in bert.arrays().items():
        assert np.array_equal(saved[name], array), name


def test_sets_of_the_other_kind_are_refused(backend: Backend, text_file: Path) -> None:
    corpus = bertnli.read("sample", "train")
    text = read_text(text_file)
    vocab = build_vocab(corpus, 2)
    bert: Any = backend.BERTModel(len(vocab), 16, 24, 2, 1, 0.0, 40, vocab=vocab)
    pairs = PairDataset(corpus, 40, vocab, verbose=False)
    masked = PretrainingSet(text, 40, vocab)
    pretraining = backend.Trainer(backend.BERTForPretraining(bert), devices="cpu")
    with pytest.raises(DataError, match="takes a PretrainingSet"):
        pretraining.fit(pairs)
    with pytest.raises(DataError, match="next_sentence"):
        pretraining.fit(PretrainingSet(text, 40, vocab, next_sentence=False))
    with pytest.raises(ConfigError, match="has no classes"):
        pretraining.fit([((np.ones((1, 5)),) * 3, np.ones(1))])
    with pytest.raises(ConfigError, match="only a classifier"):
        pretraining.predict([("a", "b")])
    with pytest.raises(DataError, match="no labelled pairs"):
        backend.Trainer(backend.BERTClassifier(bert), devices="cpu").fit(masked)


def test_options_that_do_not_go_together(
    text_file: Path, tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, why in (
        (("--truncation", "ratio"), "--truncation is for labelled pairs"),
        (("--pretrained", str(fixtures / "torch" / "bert.tiny"), "--min-freq", "2"), "brings its"),
        (("--word-pieces", "20"), "word pieces are fewer"),
        (("--mask-rate", "1.5"), "between 0 and 1"),
    ):
        assert main(options(text_file, tmp_path / "run", "torch", *more)) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
