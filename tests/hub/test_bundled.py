"""The model that comes with bertnli: no network, no file of the user's."""

import re
import shlex
import socket
from pathlib import Path

import pytest

import bertnli
from bertnli.cli import main

HOME = Path(bertnli.__file__).parent


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
        (label, *numbers), (expected_label, *expected) = (
            [part.split("=") for part in line.rstrip("\n").split("\t")]
            for line in (capsys.readouterr().out, printed)
        )
        assert label == expected_label
        for (name, number), (expected_name, value) in zip(numbers, expected, strict=True):
            assert name == expected_name and abs(float(number) - float(value)) <= 1.1e-4
    page = (HOME / "serve/static/page.js").read_text(encoding="utf-8")
    block = page.partition("const EXAMPLES = [")[2].partition("];")[0]
    examples = re.findall(r'\["(.*)", "(.*)"\],', block)
    answers = bertnli.load("bert.mini", backend.name).predict(examples)
    right = ["contradiction", "entailment", "neutral", "entailment", "contradiction", "neutral"]
    assert [answer.label for answer in answers] == right


def test_a_folder_of_the_same_name_goes_before(backend, tmp_path, monkeypatch):
    assert bertnli.load("bert.mini", backend.name).labels == bertnli.LABELS
    other = backend.BERTClassifier(backend.load_pretrained_model("bert.mini")[0], ["yes", "no"])
    monkeypatch.chdir(tmp_path)
    other.save("bert.mini")
    assert bertnli.load("bert.mini", backend.name).labels == ("yes", "no")


def test_it_is_small():
    files = [path for path in (HOME / "models").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"model.safetensors", "vocab.json", "README.md"}
    assert sum(path.stat().st_size for path in files) < 6_000_000
