"""Summaries of sources, as a call and as a command."""

import json

import pytest

import bertnli
from bertnli.cli import main

TRAIN = """premise\thypothesis\tlabel
A dog runs.\tAn animal moves.\tentailment
A dog runs.\tAn animal moves.\tentailment
A dog runs.\tAn animal moves.\tneutral
A cat sleeps.\tA cat is asleep.\tentailment
A cat sleeps.\tA cat runs.\tcontradiction
A cow.\tA horse.\t-
A cow.
"""
DEV = """premise\thypothesis\tlabel
A cat sleeps.\tA cat runs.\tcontradiction
A bird sings loudly.\tA bird sings.\tentailment
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.tsv").write_text(TRAIN)
    (tmp_path / "set" / "dev.tsv").write_text(DEV)
    return tmp_path / "set"


def test_what_is_counted(folder):
    result = bertnli.summarize(folder, on_error="skip")
    train, dev = result.sets
    assert (train.rows, train.pairs, train.skipped) == (7, 5, {"malformed": 1, "no gold label": 1})
    assert train.classes == {"entailment": 3, "contradiction": 1, "neutral": 1}
    assert (train.duplicates, train.contradictory, train.premises) == (1, 1, 2)
    assert (dev.duplicates, dev.contradictory, dev.premises) == (0, 0, 2)
    assert train.unit == "words" and dev.cut is None and dev.unknown_share is None
    assert (dev.longest, dev.mean) == (9, 8.5)
    assert dev.first[0] == ("A cat sleeps.", "A cat runs.", "contradiction")
    assert result.shared == [{"sets": [train.name, dev.name], "premises": 1, "pairs": 1}]
    text = str(result)
    for part in ("5 pairs of 7 rows", "entailment 3 (60.0%)", "repeated pairs: 1", "1 (malformed)"):
        assert part in text
    assert text.endswith("share 1 premises and 1 pairs")


def test_tokens_of_a_model(folder):
    (dev,) = bertnli.summarize(folder, split="dev", checkpoint="bert.mini", max_len=9).sets
    assert dev.unit == "tokens" and dev.unknown_share is not None and dev.unknown_share < 0.2
    assert dev.longest == 9 and dev.cut == 2
    rare = [("zxqv zxqv", "qqq", "neutral")]
    (result,) = bertnli.summarize(rare, checkpoint="bert.mini").sets
    assert result.unknown_share == 0.5  # three of six, for three are special


def test_sources_of_other_kinds():
    rows = [("A dog.", "A cat."), ("A dog.", "A cow.")]
    result = bertnli.summarize({"train": rows, "validation": rows[:1]}, labelled=False)
    assert [part.name for part in result.sets] == ["train", "dev"]
    assert [part.classes["-"] for part in result.sets] == [2, 1] and result.shared[0]["pairs"] == 1
    assert result.sets[0].lengths.tolist() == [6, 6]
    (nothing,) = bertnli.summarize([("a b", "c", "-")]).sets
    assert (nothing.rows, nothing.pairs, nothing.longest) == (1, 0, 0) and nothing.first == []


def test_the_command(folder, tmp_path, capsys):
    assert main(["data", str(folder), "--skip-bad-rows"]) == 0
    assert "no gold label" in capsys.readouterr().out
    picture = tmp_path / "data.png"
    argv = ["data", "--json", str(folder / "dev.tsv"), "sample:dev", "--plot", str(picture)]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert [part["pairs"] for part in result["sets"]] == [2, 90] and result["shared"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")
