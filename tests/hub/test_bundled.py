"""The model that comes with bertnli: no network, no file of the user's."""

import json
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli.cli import main
from bertnli.data.dataset import PairDataset

PAIRS = [
    ("A man is asleep.", "A man is awake."),
    ("Two dogs are running on the beach.", "Animals are outdoors."),
    ("A woman is playing the guitar on a stage.", "A woman is making music."),
    ("A boy in a red shirt is eating an apple.", "Nobody is eating."),
    ("A girl is reading.", "A girl is reading about the history of Rome."),
]
LABELS = ["contradiction", "entailment", "entailment", "contradiction", "neutral"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)


def test_the_readme_and_the_page_greet_with_it(backend, capsys):
    """The README's answers are the command's, and the page's examples are classified right."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"\$ \.venv/bin/bertnli (predict .*)\n(.*)\n", text)
    assert len(examples) == 2
    for command, printed in examples:
        assert main([*shlex.split(command), "--backend", backend.name]) == 0
        label, *numbers = capsys.readouterr().out.rstrip("\n").split("\t")
        expected_label, *expected = (part.split("=") for part in printed.split("\t"))
        assert [label] == expected_label
        for number, (name, value) in zip(numbers, expected, strict=True):
            assert number.startswith(f"{name}=")
            assert float(number.partition("=")[2]) == pytest.approx(float(value), abs=1.1e-4)
    page = (Path(bertnli.__file__).parent / "serve/static/page.js").read_text(encoding="utf-8")
    block = page.partition("const EXAMPLES = [")[2].partition("];")[0]
    examples = re.findall(r'\["(.*)", "(.*)"\],', block)
    answers = bertnli.load("bert.mini", backend.name).predict(examples)
    right = ["contradiction", "entailment", "neutral", "entailment", "contradiction", "neutral"]
    assert [answer.label for answer in answers] == right


def test_both_backends_say_the_same(both):
    corpus = bertnli.read("sample", "test")
    logits = []
    for nli in both:
        net = bertnli.load("bert.mini", nli.name)
        data = PairDataset(corpus, 64, net.vocab, verbose=False)
        logits.append(net.logits(data.batch(np.arange(len(data)))))
    assert (logits[0].argmax(1) == logits[1].argmax(1)).all()
    assert np.abs(logits[0] - logits[1]).max() < 2e-5


def test_fine_tuning_starts_from_what_was_pretrained(backend):
    bert, vocab = backend.load_pretrained_model("bert.mini", num_hiddens=128, num_blks=3)
    arrays = bert.arrays()
    assert arrays["encoder.token_embedding.weight"].shape == (len(vocab), 128)
    assert arrays["mlm.decoder.weight"].shape == (len(vocab), 128)
    classifier: Any = bertnli.load("bert.mini", backend.name)
    name = "encoder.blks.0.ffn.dense1.weight"
    assert not np.array_equal(classifier.arrays()[name], arrays[name])


def test_a_folder_of_the_same_name_goes_before(backend, tmp_path, monkeypatch):
    net = bertnli.load("bert.mini", backend.name)
    mine = backend.BERTClassifier(backend.load_pretrained_model("bert.mini")[0], ["yes", "no"])
    monkeypatch.chdir(tmp_path)
    mine.save("bert.mini")
    assert bertnli.load("bert.mini", backend.name).labels == ("yes", "no")
    assert net.labels == bertnli.LABELS


def test_it_is_small():
    folder = Path(bertnli.__file__).parent / "models"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model.safetensors", "vocab.json", "README.md"}
    assert sum(path.stat().st_size for path in files) < 6_000_000


@pytest.mark.parametrize("name", ["xnli.dev.tsv", "xnli.dev.jsonl"])
def test_empty_parses_are_no_empty_sentences(name, tmp_path):
    """In the columns of XNLI's files, and of tables written for GLUE's MNLI."""
    header = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "genre"]
    header += ["sentence1", "sentence2"]
    rows = [[label, "", "", "letters", *pair] for label, pair in zip(LABELS, PAIRS, strict=True)]
    lines = ["\t".join(row) for row in (header, *rows)]
    if name.endswith("jsonl"):
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    assert bertnli.read(tmp_path / name).pairs() == {*PAIRS}
