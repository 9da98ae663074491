"""`bertnli evaluate` on several files and checkpoints, and its report, on each backend."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.bert.parameters import classifier_shapes, initial_arrays
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.evaluation import logits_of
from bertnli.formats.native import save_native

SAMPLE = Path(bertnli.__file__).parent / "data" / "sample" / "dev.tsv"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Checkpoints of two seeds, the second with another order of classes; and a two-way one."""
    folder = tmp_path_factory.mktemp("seeds")
    vocab = build_vocab(bertnli.read("sample", "train"), 2)
    config = BERTConfig(len(vocab), 16, 32, 2, 1, 0.0, 48)
    orders = (LABELS, ("neutral", "entailment", "contradiction"), TWO_WAY)
    for seed, labels in enumerate(orders):
        arrays = initial_arrays(classifier_shapes(config, len(labels)), seed)
        arrays = {name: 4 * array for name, array in arrays.items()}  # so that logits differ
        save_native(folder / f"seed{seed}", arrays, config, labels, vocab)
    return [str(folder / f"seed{seed}") for seed in range(3)]


@pytest.fixture(scope="module")
def hans(tmp_path_factory):
    """A file of four pairs in HANS's layout."""
    path = tmp_path_factory.mktemp("sets") / "heuristics_evaluation_set.txt"
    rows = ["gold_label\tsentence1\tsentence2\theuristic"]
    for label in TWO_WAY:
        for heuristic in ("lexical_overlap", "subsequence"):
            rows.append(f"{label}\tThe cook saw the guard .\tThe guard ran .\t{heuristic}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def evaluate(backend, capsys):
    """A function that runs `bertnli evaluate`; returns stdout and stderr."""

    def run(*argv, status=0):
        capsys.readouterr()
        words = ["evaluate", *map(str, argv), "--backend", backend.name, "--devices", "cpu"]
        result, captured = main(words), capsys.readouterr()
        assert result == status, captured.err
        return captured

    return run


def read_report(folder):
    assert (folder / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    return json.loads((folder / "report.json").read_text("utf-8"))


def test_logits_are_in_the_order_of_the_dataset(backend, seeds):
    net = backend.load(seeds[0], backend.as_devices("cpu"))
    dataset = PairDataset(bertnli.read("sample", "test"), 48, net.vocab, verbose=False)
    expected = net.logits(dataset.batch(np.arange(len(dataset))))
    for model in (net, backend.Trainer(net, devices="cpu")):
        np.testing.assert_allclose(logits_of(model, dataset, batch_size=17), expected, atol=1e-5)


def test_a_table_of_several_files_and_checkpoints(evaluate, seeds, hans):
    argv = [seeds[0], SAMPLE, hans, "--also", seeds[1]]
    scores = json.loads(evaluate(*argv, "--json").out)
    assert [(score["checkpoint"], score["set"]) for score in scores] == [
        (seed, name) for seed in seeds[:2] for name in ("dev.tsv", "heuristics_evaluation_set.txt")
    ]
    assert scores[1]["labels"] == list(TWO_WAY)
    mean = (scores[0]["accuracy"] + scores[2]["accuracy"]) / 2
    sd = abs(scores[0]["accuracy"] - scores[2]["accuracy"]) / 2**0.5
    assert f"{mean:.4f}          {sd:.4f}" in evaluate(*argv).out
    alone = json.loads(evaluate(seeds[1], "sample", "--json").out)
    assert alone["labels"] == ["neutral", "entailment", "contradiction"]
    assert alone["accuracy"] == scores[2]["accuracy"]


def test_a_report_of_several_seeds(evaluate, seeds, tmp_path):
    argv = [seeds[0], "sample:test", "--also", seeds[1]]
    evaluate(*argv, "--calibrate-on", "sample:dev", "--report", tmp_path)
    report = read_report(tmp_path)
    assert (report["format"], report["version"]) == ("bertnli-report", 1)
    (result,) = report["sets"]
    assert result["name"] == "sample, test" and report["baseline"]["pairs"] == 780
    assert result["baseline"]["accuracy"]["accuracy"] > 0.4
    assert result["summary"]["accuracy"]["n"] == 2
    scores = json.loads(evaluate(*argv, "--json").out)
    for each, score in zip(result["checkpoints"], scores, strict=True):
        assert each["accuracy"]["accuracy"] == score["accuracy"]
        assert each["loss"] == pytest.approx(score["loss"], abs=1e-6)
        assert each["scaled"] is not None


def test_a_report_of_files(evaluate, seeds, hans, tmp_path):
    evaluate(seeds[0], hans, "--baseline-on", "sample:train", "--report", tmp_path / "a")
    (result,) = read_report(tmp_path / "a")["sets"]
    assert (result["layout"], result["pairs"]) == ("HANS", 4)
    rows = [row["name"] for row in result["breakdowns"][-1]["rows"]]
    assert rows == ["lexical_overlap", "subsequence"]
    evaluate(seeds[2], hans, "--report", tmp_path / "b")
    (result,) = read_report(tmp_path / "b")["sets"]
    assert result["baseline"] is None and "--baseline-on" in result["baseline_missing"]
    assert result["labels"] == list(TWO_WAY)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--calibrate-on", "sample:train"], "give --report DIR"),
        (["--report", "{}", "--json"], "report.json has them"),
        (["--report", "{}", "--calibrate-on", "sample:dev"], "has the same pairs"),
        (["--report", "{}", "--calibrate-on", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_refused(evaluate, seeds, tmp_path, argv, message):
    argv = [word.format(tmp_path / "report") for word in argv]
    error = evaluate(seeds[0], "sample", *argv, status=2).err
    assert message in error.splitlines()[-1] and not (tmp_path / "report").exists()


def test_files_of_the_same_name_are_told_apart(evaluate, seeds, hans, tmp_path):
    other = tmp_path / Path(hans).name
    other.write_text("".join(Path(hans).read_text().splitlines(keepends=True)[:2]))
    out = evaluate(seeds[0], hans, other, "--also", seeds[1]).out
    means = out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[0] for line in means] == [hans, str(other)]


def test_no_other_order_of_merged_classes_is_proposed(evaluate, seeds, tmp_path):
    files = []
    for few, many in (TWO_WAY, TWO_WAY[::-1]):  # nearly all answers of one class are wrong
        rows = [f"A\tB\t{label}" for label in (few, *[many] * 13)]
        files.append(tmp_path / f"{many}.tsv")
        files[-1].write_text("\n".join(["sentence1\tsentence2\tgold_label", *rows]) + "\n")
    for seed in (seeds[0], seeds[2]):
        assert "another order" not in evaluate(seed, *files).err


@pytest.mark.parametrize("wrong", [False, True])
def test_a_suspected_order_of_the_classes_is_reported(evaluate, tmp_path, wrong):
    order = ("entailment", "neutral", "contradiction", "entailment")
    turned = dict(pairwise(order)) if wrong else {}
    lines = [line.split("\t") for line in SAMPLE.read_text().splitlines()]
    place = lines[0].index("gold_label")
    for line in lines:
        line[place] = turned.get(line[place], line[place])
    (tmp_path / "set.tsv").write_text("\n".join("\t".join(line) for line in lines) + "\n")
    err = evaluate("bert.mini", tmp_path / "set.tsv", "--report", tmp_path / "report").err
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    note = read_report(tmp_path / "report")["sets"][0]["checkpoints"][0]["order"]
    assert ("may be in another order" in err) is ("in another order" in page) is wrong
    assert (note is not None) is wrong
