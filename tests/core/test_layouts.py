"""Published layouts, of sentences written for these tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bertnli.data.layouts import TABLE, read_labelled
from bertnli.errors import ConfigError, DataError
from bertnli.labels import LABELS, TWO_WAY

COMMON = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse"]
COMMON += ["sentence2_parse", "sentence1", "sentence2"]
ANNOTATORS = [f"label{i}" for i in range(1, 6)]
SNLI = [*COMMON, "captionID", "pairID", *ANNOTATORS]
MULTINLI = [*COMMON, "promptID", "pairID", "genre", *ANNOTATORS]
HANS = [*COMMON, "pairID", "heuristic", "subcase", "template"]
SICK = ["pair_ID", "sentence_A", "sentence_B", "entailment_label", "relatedness_score"]
SICK += ["entailment_AB", "entailment_BA", "sentence_A_original", "sentence_B_original"]
SICK += ["sentence_A_dataset", "sentence_B_dataset", "SemEval_set"]
SEMEVAL = ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"]

FIRST = {
    "sentence1_binary_parse": "( ( The baker ) ( sings . ) )",
    "sentence2_binary_parse": "( Someone ( sings . ) )",
    "sentence1": "The baker sings.",
    "sentence2": "Someone sings.",
    "sentence_A": "The baker is singing",
    "sentence_B": "Someone is singing",
}


def write(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> Path:
    """Write rows as a table or as JSON lines; what a row lacks is taken from FIRST."""
    filled = [{name: row.get(name, FIRST.get(name, "")) for name in columns} for row in rows]
    if ".jsonl" in path.name:
        text = "".join(json.dumps(row) + "\n" for row in filled)
    else:
        lines = [columns, *(row.values() for row in filled)]
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_snli(tmp_path: Path, name: str) -> None:
    rows = [{"gold_label": label} for label in ("neutral", "-", "contradiction")]
    found = read_labelled(write(tmp_path / name, SNLI, rows))
    assert found.layout == "SNLI" and not found.groups
    assert found.corpus.premises == ["The baker sings ."] * 2
    assert found.corpus.tokenized and found.corpus.label_names == LABELS
    assert [LABELS[label] for label in found.corpus.labels] == ["neutral", "contradiction"]
    assert found.corpus.skipped == {"no gold label": 1}


@pytest.mark.parametrize("name", ["multinli_1.0_dev_matched.txt", "x.jsonl"])
def test_multinli_has_genres(tmp_path: Path, name: str) -> None:
    rows = [
        {"gold_label": "entailment", "genre": "letters"},
        {"gold_label": "-", "genre": "fiction"},
        {"gold_label": "neutral", "genre": "fiction"},
    ]
    found = read_labelled(write(tmp_path / name, MULTINLI, rows))
    assert found.layout == "MultiNLI"
    assert found.groups == {"genre": ["letters", "fiction"]}  # not of the row that was left out
    assert found.corpus.hypotheses == ["Someone sings ."] * 2


@pytest.mark.parametrize("name", ["heuristics_evaluation_set.txt", "x.jsonl"])
def test_hans_is_two_way(tmp_path: Path, name: str) -> None:
    rows = [
        {"gold_label": "non-entailment", "heuristic": "subsequence"},
        {"gold_label": "entailment", "heuristic": "lexical_overlap"},
    ]
    found = read_labelled(write(tmp_path / name, HANS, rows))
    assert found.layout == "HANS" and found.corpus.label_names == TWO_WAY
    assert found.corpus.labels == [1, 0]
    assert found.groups == {"heuristic": ["subsequence", "lexical_overlap"]}


def test_sick_in_one_file_has_parts(tmp_path: Path) -> None:
    parts = ["TRAIN", "TRIAL", "TEST", "TEST"]
    labels = ["NEUTRAL", "ENTAILMENT", "CONTRADICTION", "NEUTRAL"]
    rows = [
        {"entailment_label": label, "SemEval_set": part, "sentence_A": f"The baker {part}"}
        for label, part in zip(labels, parts, strict=True)
    ]
    path = write(tmp_path / "SICK.txt", SICK, rows)
    found = read_labelled(path)
    assert found.layout == "SICK" and found.groups == {"SemEval_set": parts}
    assert not found.corpus.tokenized
    assert [LABELS[label].upper() for label in found.corpus.labels] == labels
    test = read_labelled(path, split="test")
    assert test.corpus.premises == ["The baker TEST"] * 2
    assert read_labelled(path, split="dev").corpus.premises == ["The baker TRIAL"]


def test_sick_of_semeval(tmp_path: Path) -> None:
    rows = [{"entailment_judgment": "CONTRADICTION"}]
    path = write(tmp_path / "SICK_test_annotated.txt", SEMEVAL, rows)
    found = read_labelled(path)
    assert (found.layout, found.groups) == ("SICK", {})
    assert [LABELS[label] for label in found.corpus.labels] == ["contradiction"]
    with pytest.raises(ConfigError, match="a file has no splits"):
        read_labelled(path, split="test")


def test_bad_rows_have_a_line_or_are_counted(tmp_path: Path) -> None:
    rows = [{"gold_label": "maybe", "genre": "x"}, {"gold_label": "neutral", "genre": "y"}]
    path = write(tmp_path / "a.txt", MULTINLI, rows)
    with pytest.raises(DataError, match=r"a\.txt, line 2: label 'maybe' is none of"):
        read_labelled(path)
    found = read_labelled(path, on_error="skip")
    assert found.groups == {"genre": ["y"]} and found.corpus.skipped == {"malformed": 1}
    lines = write(tmp_path / "b.jsonl", MULTINLI, [{"gold_label": "neutral", "genre": 7}])
    with pytest.raises(DataError, match="line 1: 'genre' is 7; a string is expected"):
        read_labelled(lines)


def own(path: Path, *labels: str) -> Path:
    """Write a table of one's own, in `read_pairs`'s columns."""
    columns = ["gold_label", "sentence1", "sentence2"]
    return write(path, columns, [{"gold_label": label} for label in labels])


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    order = ("neutral", "entailment", "contradiction")
    found = read_labelled(own(tmp_path / "a.tsv", "entailment", "neutral"), labels=order)
    assert found.layout == TABLE and found.corpus.premises == ["The baker sings."] * 2
    assert found.corpus.label_names == order and found.corpus.labels == [1, 0]
    given = read_labelled(write(tmp_path / "snli.txt", SNLI, [{"gold_label": "neutral"}]),
                          premise="sentence1", hypothesis="sentence2")  # fmt: skip
    assert given.layout == TABLE and given.corpus.premises == ["The baker sings."]
    with pytest.raises(DataError, match="no such file"):
        read_labelled(tmp_path / "none.tsv")


@pytest.mark.parametrize("no", ["non-entailment", "not_entailment", "Not Entailment"])
def test_a_two_way_table_of_ones_own(tmp_path: Path, no: str) -> None:
    path = own(tmp_path / "rte.tsv", no, "entailment")
    found = read_labelled(path).corpus
    assert (found.label_names, found.labels) == (TWO_WAY, [1, 0])
    two = read_labelled(path, labels=("not_entailment", "entailment")).corpus
    assert (two.label_names, two.labels) == (("not_entailment", "entailment"), [0, 1])
    numbers = own(tmp_path / "n.tsv", "1", "0")
    meaning = {"0": "entailment", "1": no}
    assert read_labelled(numbers, label_map=meaning).corpus.labels == [1, 0]
    with pytest.raises(DataError, match="1 pairs of the class non-entailment, and 1 of neutral"):
        read_labelled(own(tmp_path / "mixed.tsv", no, "neutral"))
    with pytest.raises(DataError, match="is none of"):
        read_labelled(path, labels=("yes", "no"))
    yes = {"1": "entailment", no: "contradiction"}
    assert read_labelled(path, label_map=yes).corpus.labels == [1, 0]
    with pytest.raises(DataError, match=r"label '0' is neither in label_map .*\['1', "):
        read_labelled(numbers, label_map=yes)


def test_the_digest_is_that_of_the_pairs(tmp_path: Path) -> None:
    a, b = (own(tmp_path / name, "neutral", "entailment") for name in ("a.tsv", "b.jsonl"))
    assert read_labelled(a).digest() == read_labelled(b).digest()
    c = write(tmp_path / "c.txt", SNLI, [{"gold_label": "neutral"}])
    assert read_labelled(c).digest() != read_labelled(a).digest()
