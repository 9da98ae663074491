"""Pretraining runs: what they learn, write, resume from, and refuse."""

import numpy as np
import pytest
from small_runs import assert_same_arrays

import bertnli
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import build_text_vocab, read_text
from bertnli.errors import ConfigError, DataError
from bertnli.formats.load import load_pretrained
from bertnli.text.subwords import SubwordVocab


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    """A file with the bundled sentences; the two sentences of a pair are a document."""
    premises, hypotheses, _ = bertnli.read("sample", "train")
    path = tmp_path_factory.mktemp("text") / "sample.txt"
    pairs = zip(premises[:300], hypotheses[:300], strict=True)
    path.write_text("\n\n".join(f"{a}\n{b}" for a, b in pairs), encoding="utf-8")
    return path


def pretrain(text, output, backend, more, status=0):
    line = f"pretrain --text {text} --output {output} --backend {backend} --devices cpu {more}"
    sizes = "--num-hiddens 16 --ffn-num-hiddens 24 --num-heads 2 --max-len 40"
    assert main([*line.split(), *sizes.split(), "--batch-size", "32", "--lr", "3e-3"]) == status


@pytest.mark.needs("mxnet")
@pytest.mark.usefixtures("no_pictures")
def test_a_run_learns_and_is_fine_tuned(backend, text_file, tmp_path, capsys):
    run, other = tmp_path / "run", "mxnet" if backend.name == "torch" else "torch"
    more = f"--dev-text {text_file} --epochs 4 --dropout 0 --min-freq 2"
    pretrain(text_file, run, backend.name, more)
    out = capsys.readouterr().out
    assert "600 sentences" in out and "300 examples an epoch" in out
    model = load_pretrained(run)
    assert not model.started  # the heads were saved, too
    nli = bertnli.get_backend(other)
    bert, vocab = nli.load_pretrained_model(run, devices="cpu", dropout=0.0)
    data = PretrainingSet(read_text(text_file), 40, vocab)
    score = nli.Trainer(nli.BERTForPretraining(bert), devices="cpu").evaluate(data)
    fresh = nli.BERTModel(**model.config.to_dict(), vocab=vocab)
    before = nli.Trainer(nli.BERTForPretraining(fresh), devices="cpu").evaluate(data)
    assert score.mlm_loss < before.mlm_loss - 0.5
    assert f"dev acc {score.accuracy:.3f}" in out.splitlines()[-1]
    assert main(["info", str(run)]) == 0
    assert "bertnli pretrained model" in capsys.readouterr().out
    line = f"train --train sample --pretrained {run} --output {tmp_path / 'fine'} --quiet"
    assert main([*line.split(), "--epochs", "1", "--backend", other, "--devices", "cpu"]) == 0
    assert bertnli.load(tmp_path / "fine", other).labels == bertnli.LABELS


def test_only_the_masked_word_task_trains_only_its_tensors(backend, text_file, tmp_path):
    more = "--epochs 1 --tasks mlm --word-pieces 300 --whole-words --quiet"
    pretrain(text_file, tmp_path / "run", backend.name, more)
    model = load_pretrained(tmp_path / "run")
    assert type(model.vocab) is SubwordVocab and len(model.vocab) == 300
    for name, array in backend.BERTModel(**model.config.to_dict()).arrays().items():
        moved = not np.array_equal(array, model.arrays[name])
        assert moved != name.startswith(("hidden.", "nsp.")), name


def test_a_stopped_run_resumes_to_the_same_bits(backend, text_file, tmp_path):
    def fit(output, epochs, **more):
        vocab = build_text_vocab(read_text(text_file), 2)
        data = PretrainingSet(read_text(text_file), 40, vocab)
        net = backend.BERTForPretraining(
            backend.BERTModel(len(vocab), 16, 24, 2, 2, 0.2, 40, vocab=vocab)
        )
        trainer = backend.Trainer(net, lr=3e-3, devices="cpu")
        return net, trainer.fit(data, None, epochs, 64, output=output, progress=False, **more)

    expected, history = fit(tmp_path / "uninterrupted", 2)
    fit(tmp_path / "run", 1)
    net, again = fit(tmp_path / "run", 2, resume=True)
    assert again.step_losses == history.step_losses
    assert_same_arrays(net.arrays(), expected.arrays())


def test_tensors_that_are_not_trained_are_saved_as_they_are_then(backend, tmp_path):
    vocab = build_vocab(bertnli.read("sample", "dev"), 2)
    bert = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.0, 16, vocab=vocab)
    net = backend.BERTForPretraining(bert, next_sentence=False)
    assert {*net.arrays()} == {*net.shapes()}
    bert.load_arrays({name: array + 1 for name, array in bert.arrays().items()}, "")
    net.save(tmp_path / "net")
    assert_same_arrays(load_pretrained(tmp_path / "net").arrays, bert.arrays())


def test_data_of_the_other_task_are_refused(backend, text_file):
    corpus, text = bertnli.read("sample", "train"), read_text(text_file)
    vocab = build_vocab(corpus, 2)
    bert = backend.BERTModel(len(vocab), 16, 24, 2, 1, 0.0, 40, vocab=vocab)
    pretraining = backend.Trainer(backend.BERTForPretraining(bert), devices="cpu")
    with pytest.raises(DataError, match="takes a PretrainingSet"):
        pretraining.fit(PairDataset(corpus, 40, vocab, verbose=False))
    with pytest.raises(DataError, match="next_sentence"):
        pretraining.fit(PretrainingSet(text, 40, vocab, next_sentence=False))
    with pytest.raises(ConfigError, match="has no classes"):
        pretraining.fit([((np.ones((1, 5)),) * 3, np.ones(1))])
    with pytest.raises(ConfigError, match="only a classifier"):
        pretraining.predict([("a", "b")])
    with pytest.raises(DataError, match="no labelled pairs"):
        classifier = backend.BERTClassifier(bert)
        backend.Trainer(classifier, devices="cpu").fit(PretrainingSet(text, 40, vocab))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--truncation ratio", "--truncation is for labelled pairs"),
        ("--pretrained {}/torch/bert.tiny --min-freq 2", "brings its"),
        ("--word-pieces 20", "word pieces are fewer"),
        ("--mask-rate 1.5", "between 0 and 1"),
    ],
)
def test_wrong_options_are_refused(text_file, tmp_path, fixtures, capsys, more, message):
    pretrain(text_file, tmp_path / "run", "torch", more.format(fixtures), status=2)
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()
