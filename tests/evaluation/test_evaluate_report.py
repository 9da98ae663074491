"""`bertnli evaluate` on several files and checkpoints, and its report, on each backend."""

import json
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


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Checkpoints of two seeds, the classes of the second in another order; and a two-way one."""
    folder = tmp_path_factory.mktemp("seeds")
    vocab = build_vocab(bertnli.read("sample", "train"), 2)
    config = BERTConfig(len(vocab), 16, 32, 2, 1, 0.0, 48)
    orders = (LABELS, ("neutral", "entailment", "contradiction"), TWO_WAY)
    for seed, labels in enumerate(orders):
        arrays = initial_arrays(classifier_shapes(config, len(labels)), seed)
        arrays = {name: 4 * array for name, array in arrays.items()}  # or all are nearly equal
        save_native(folder / f"seed{seed}", arrays, config, labels, vocab)
    return [str(folder / f"seed{seed}") for seed in range(3)]


@pytest.fixture
def where(backend):
    return ["--backend", backend.name, "--devices", "cpu"]


@pytest.fixture(scope="module")
def hans(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets") / "heuristics_evaluation_set.txt"
    rows = ["gold_label\tsentence1\tsentence2\theuristic"]
    for label in TWO_WAY:
        for heuristic in ("lexical_overlap", "subsequence"):
            rows.append(f"{label}\tThe cook saw the guard .\tThe guard ran .\t{heuristic}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def ran(capsys, *argv, status=0):
    capsys.readouterr()
    assert main(argv) == status, capsys.readouterr().err
    out, err = capsys.readouterr()
    return out, err


def test_logits_are_in_the_datasets_order(backend, seeds):
    net = backend.load(seeds[0], backend.as_devices("cpu"))
    dataset = PairDataset(bertnli.read("sample", "test"), 48, net.vocab, verbose=False)
    expected = net.logits(dataset.batch(np.arange(len(dataset))))
    trainer = backend.Trainer(net, devices="cpu")
    for model in (net, trainer):
        result = logits_of(model, dataset, batch_size=17)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_several_files_and_checkpoints_are_a_table(seeds, hans, where, capsys):
    sample = str(Path(bertnli.__file__).parent / "data" / "sample" / "dev.tsv")
    argv = ["evaluate", seeds[0], sample, hans, "--also", seeds[1], *where]
    scores = json.loads(ran(capsys, *argv, "--json")[0])
    assert [(one["checkpoint"], one["set"]) for one in scores] == [
        (seed, name) for seed in seeds[:2] for name in ("dev.tsv", "heuristics_evaluation_set.txt")
    ]
    assert scores[1]["labels"] == list(TWO_WAY)
    out = ran(capsys, *argv)[0]
    mean = (scores[0]["accuracy"] + scores[2]["accuracy"]) / 2
    sd = abs(scores[0]["accuracy"] - scores[2]["accuracy"]) / 2**0.5
    assert f"{mean:.4f}          {sd:.4f}" in out
    alone = json.loads(ran(capsys, "evaluate", seeds[1], "sample", *where, "--json")[0])
    assert alone["labels"] == ["neutral", "entailment", "contradiction"]
    assert alone["accuracy"] == scores[2]["accuracy"]


def report(capsys, folder, *argv):
    ran(capsys, "evaluate", *argv, "--report", str(folder))
    assert (folder / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    result = json.loads((folder / "report.json").read_text("utf-8"))
    return result


def test_a_report_of_several_seeds(seeds, where, tmp_path, capsys):
    argv = [seeds[0], "sample:test", "--also", seeds[1], *where, "--calibrate-on", "sample:dev"]
    result = report(capsys, tmp_path / "report", *argv)
    assert (result["format"], result["version"]) == ("bertnli-report", 1)
    one = result["sets"][0]
    assert one["name"] == "sample, test" and result["baseline"]["pairs"] == 780
    assert one["baseline"]["accuracy"]["accuracy"] > 0.4
    assert one["summary"]["accuracy"]["n"] == 2
    plain = ran(capsys, "evaluate", *argv[:-2], "--json")[0]
    for each, score in zip(one["checkpoints"], json.loads(plain), strict=True):
        assert each["accuracy"]["accuracy"] == score["accuracy"]
        assert each["loss"] == pytest.approx(score["loss"], abs=1e-6)
        assert each["scaled"] is not None


def test_a_report_of_files(seeds, hans, where, tmp_path, capsys):
    argv = [seeds[0], hans, *where, "--baseline-on", "sample:train"]
    one = report(capsys, tmp_path / "a", *argv)["sets"][0]
    assert (one["layout"], one["pairs"]) == ("HANS", 4)
    assert [row["name"] for row in one["breakdowns"][-1]["rows"]] == [
        "lexical_overlap",
        "subsequence",
    ]
    two = report(capsys, tmp_path / "b", seeds[2], hans, *where)["sets"][0]
    assert two["baseline"] is None and "--baseline-on" in two["baseline_missing"]
    assert two["labels"] == list(TWO_WAY)


def test_what_does_not_fit_is_said(seeds, hans, where, tmp_path, capsys):
    to = ["--report", str(tmp_path / "report")]
    sample = ["evaluate", seeds[0], "sample", *where]
    for argv, part in (
        ([*sample, "--calibrate-on", "sample:train"], "give --report DIR"),
        ([*sample, *to, "--json"], "report.json has them"),
        ([*sample, *to, "--calibrate-on", "sample:dev"], "has the same pairs"),
        ([*sample, *to, "--calibrate-on", "nowhere"], "nowhere"),
    ):
        assert part in ran(capsys, *argv, status=2)[1].splitlines()[-1]
    assert not (tmp_path / "report").exists()


def test_files_of_one_name_are_told_apart(where, seeds, hans, tmp_path, capsys):
    other = tmp_path / Path(hans).name
    other.write_text("".join(Path(hans).read_text().splitlines(keepends=True)[:2]))
    files = [hans, str(other)]
    out, _ = ran(capsys, "evaluate", seeds[0], *files, "--also", seeds[1], *where)
    means = out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[0] for line in means] == files


def test_of_merged_classes_no_other_order_is_proposed(where, seeds, tmp_path, capsys):
    files = []
    for few, many in (TWO_WAY, TWO_WAY[::-1]):  # nearly all of one are wrong
        rows = [f"A\tB\t{label}" for label in (few, *[many] * 13)]
        files.append(tmp_path / f"{many}.tsv")
        files[-1].write_text("\n".join(["sentence1\tsentence2\tgold_label", *rows]) + "\n")
    paths = list(map(str, files))
    for seed in (seeds[0], seeds[2]):  # three classes, and two of which it says always the same
        assert "another order" not in ran(capsys, "evaluate", seed, *paths, *where)[1]


def test_a_report_says_where_the_order_seems_to_be_another(where, tmp_path, capsys):
    sample = (Path(bertnli.__file__).parent / "data" / "sample" / "dev.tsv").read_text()
    turned = {"entailment": "neutral", "neutral": "contradiction", "contradiction": "entailment"}
    argv = [str(tmp_path / "set.tsv"), *where, "--report", str(tmp_path / "report")]
    for wrong in (False, True):
        lines = [line.split("\t") for line in sample.splitlines()]
        place = lines[0].index("gold_label")
        for line in lines[1:] if wrong else []:
            line[place] = turned[line[place]]
        (tmp_path / "set.tsv").write_text("\n".join("\t".join(line) for line in lines) + "\n")
        err = ran(capsys, "evaluate", "bert.mini", *argv)[1]
        page = (tmp_path / "report" / "report.html").read_text("utf-8")
        result = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
        note = result["sets"][0]["checkpoints"][0]["order"]
        assert ("may be in another order" in err) is ("in another order" in page) is wrong
        assert (note is not None) is wrong
