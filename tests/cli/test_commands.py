"""The command line end to end, on each backend."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import processes
import pytest

from bertnli.backends.interface import Backend
from bertnli.bert.labels import LABELS
from bertnli.cli import main

SENTENCES = {
    "entailment": "A {} rests.",
    "contradiction": "A {} is running fast.",
    "neutral": "A {} is happy.",
}
ANIMALS = ("dog", "cat", "horse", "bird", "cow", "child", "woman", "man")
SIZES = {
    "--num-hiddens": "16",
    "--ffn-num-hiddens": "32",
    "--num-heads": "2",
    "--num-blks": "2",
    "--max-positions": "24",
    "--min-freq": "1",
    "--batch-size": "8",
    "--dropout": "0",
    "--lr": "1e-2",
}
TINY = [*chain(*SIZES.items()), "--quiet"]


def write_table(path: Path, animals: tuple[str, ...]) -> Path:
    rows = [
        f"{label}\tA {animal} is asleep.\t{sentence.format(animal)}\n"
        for animal in animals
        for label, sentence in SENTENCES.items()
    ]
    path.write_text("gold_label\tsentence1\tsentence2\n" + "".join(rows))
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv, of 24 pairs and two bad rows, and dev.tsv, of 9 pairs."""
    folder = tmp_path_factory.mktemp("tables")
    train = write_table(folder / "train.tsv", ANIMALS)
    train.write_text(train.read_text() + "-\tA man.\tA dog.\nneutral\tone column too few\n")
    write_table(folder / "dev.tsv", ANIMALS[:3])
    return folder


@pytest.fixture
def own_data(tables: Path) -> list[str]:
    files = ["--train", str(tables / "train.tsv"), "--dev", str(tables / "dev.tsv")]
    return [*files, "--skip-bad-rows"]


@pytest.fixture(scope="module")
def trained(backend: Backend, tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run, which has learned the tiny corpus by heart."""
    output = tmp_path_factory.mktemp(backend.name) / "run"
    files = ["--train", str(tables / "train.tsv"), "--dev", str(tables / "dev.tsv")]
    argv = ["train", *files, "--skip-bad-rows", *TINY, "--epochs", "20"]
    argv += ["--backend", backend.name, "--devices", "cpu", "--output", str(output)]
    assert main(argv) == 0
    return output / "last"


@pytest.fixture
def where(backend: Backend) -> list[str]:
    return ["--backend", backend.name, "--devices", "cpu"]


class Ran:
    """What a command printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
        capsys.readouterr()
        self.status = main(argv)
        self.out, self.err = capsys.readouterr()

    def error(self) -> str:
        """The one line of a command that failed."""
        assert self.status == 2
        return self.err.splitlines()[-1]


def test_train_tells_what_it_does(
    own_data: list[str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    argv = ["train", *own_data, *TINY[:-1], *where, "--output", str(output), "--epochs", "2"]
    ran = Ran(capsys, argv)
    assert ran.status == 0
    for part in ("24 pairs from", "1 (malformed), 1 (no gold label)", "9 pairs", "16 wide"):
        assert part in ran.out
    assert "epoch 1: loss " in ran.out
    assert "epoch 2: loss " in ran.out
    assert str(output / "best") in ran.out
    found = {str(path.relative_to(output)) for path in output.rglob("*.*")}
    for folder in ("best", "last"):
        assert {f"{folder}/{name}" for name in ("config.json", "model.safetensors")} <= found
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2

    assert "holds an earlier run" in Ran(capsys, argv).error()
    ran = Ran(capsys, [*argv, "--overwrite", "--quiet"])
    assert (ran.status, ran.out) == (0, "")


def test_train_says_so_where_a_run_reached_chance(
    own_data: list[str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {name: size for name, size in SIZES.items() if name not in ("--lr", "--batch-size")}
    start = ["train", *where, *chain(*sizes.items()), "--output", str(tmp_path / "run")]
    start += ["--overwrite", "--lr"]
    ran = Ran(capsys, [*start, "1e-6", "--train", "sample", "--epochs", "1", "--batch-size", "512"])
    assert ran.status == 0
    (warning,) = ran.err.splitlines()
    for part in (
        "warning: not significantly better than chance: dev accuracy 0.",
        "on 90 pairs",
        "always saying entailment scores 0.333",
        "a pretrained model (--pretrained bert.mini), more pairs than 780, a smaller --batch-size",
        "(2 steps were taken), or a higher --lr",
    ):
        assert part in warning
    assert Ran(capsys, [*start, "1e-6", *own_data, "--epochs", "1", "--quiet"]).err == ""
    learned = [*start, "1e-2", *own_data, "--epochs", "20", "--batch-size", "8"]
    assert Ran(capsys, learned).err == ""
    no_dev = own_data[: own_data.index("--dev")] + own_data[own_data.index("--dev") + 2 :]
    ran = Ran(capsys, [*start, "1e-6", *no_dev, "--epochs", "1"])
    assert "training accuracy 0." in ran.err and "on 24 pairs" in ran.err
    table = tmp_path / "one.tsv"
    table.write_text("gold_label\tsentence1\tsentence2\nneutral\tA dog rests.\tA cat.\n")
    ran = Ran(capsys, [*start, "1e-6", *no_dev, "--dev", str(table), "--epochs", "1"])
    assert ran.err == "warning: all 1 dev pairs are neutral: their accuracy says nothing\n"


def test_train_refuses_what_does_not_fit(
    own_data: list[str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", *own_data, *TINY, *where, "--output", str(tmp_path / "run")]
    assert "the model has 24 positions" in Ran(capsys, [*argv, "--max-len", "25"]).error()
    assert "does not divide" in Ran(capsys, [*argv, "--num-heads", "3"]).error()
    assert "unknown device" in Ran(capsys, [*argv, "--devices", "toaster"]).error()
    without = [option for option in argv if option != "--skip-bad-rows"]
    assert "train.tsv, line 27" in Ran(capsys, without).error()
    assert "a share to hold out is between 0 and 1" in Ran(capsys, [*argv, "--dev", "1.0"]).error()
    assert not (tmp_path / "run").exists()


def test_train_on_the_folder_of_snli(
    where: list[str],
    golden: Any,
    fixtures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(fixtures / "snli_1.0", tmp_path / "snli_1.0")
    (tmp_path / "snli_1.0/snli_1.0_test.txt").rename(tmp_path / "snli_1.0/snli_1.0_dev.txt")
    data = str(tmp_path / "snli_1.0")
    output = str(tmp_path / "run")
    argv = ["train", "--train", data, *TINY, *where, "--output", output, "--epochs", "1"]
    assert Ran(capsys, argv).status == 0
    ran = Ran(capsys, ["evaluate", output, data, *where, "--json"])
    assert json.loads(ran.out)["pairs"] == 8
    assert (
        "has no split 'test'" in Ran(capsys, ["evaluate", output, data, "--split", "test"]).error()
    )
    argv = ["train", "--train", data, *where, "--output", output, "--overwrite", "--epochs", "1"]
    argv += ["--pretrained", str(golden.zip), "--num-heads", "4"]
    for _ in range(2):  # the second takes the ids from the cache
        train, dev = Ran(capsys, argv).out.splitlines()[:2]
        assert train.endswith("1 (no gold label)") and dev.startswith("dev: 8 pairs from ")


def test_train_from_a_pretrained_model(
    own_data: list[str],
    backend: Backend,
    where: list[str],
    golden: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    argv = ["train", *own_data, *where, "--output", str(output), "--epochs", "1"]
    argv += ["--pretrained", str(golden.zip)]
    assert "give num_heads" in Ran(capsys, argv).error()
    wrong = [*argv, "--num-heads", "4", "--num-hiddens", "64"]
    assert "encoder" in Ran(capsys, wrong).error()
    assert "--min-freq" in Ran(capsys, [*argv, "--num-heads", "4", "--min-freq", "2"]).error()
    assert Ran(capsys, [*argv, "--num-heads", "4"]).status == 0
    described = json.loads(Ran(capsys, ["info", str(output), "--json"]).out)
    assert described["model"]["num_hiddens"] == 32
    assert described["vocabulary"] == 1000


def test_ctrl_c_saves_the_weights_and_says_where(
    own_data: list[str],
    backend: Backend,
    where: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = backend.Trainer.train_step  # type: ignore[attr-defined]

    def interrupted_step(*args: Any) -> Any:
        result = step(*args)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(backend.Trainer, "train_step", interrupted_step)
    output = tmp_path / "run"
    ran = Ran(capsys, ["train", *own_data, *TINY, *where, "--output", str(output)])
    assert ran.status == 130
    where_now = f"the weights are in {output / 'last'}; --resume goes on"
    assert ran.err == f"interrupted; {where_now}\nbertnli train: interrupted\n"
    monkeypatch.undo()
    predict = ["predict", str(output), *where, "--pair", "A dog.", "A cat."]
    assert Ran(capsys, predict).status == 0


def test_evaluate(
    trained: Path, tables: Path, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", str(trained), str(tables / "dev.tsv"), *where]
    ran = Ran(capsys, argv)
    assert ran.status == 0
    assert ran.out.startswith("accuracy 1.0000, loss ")
    assert "9 pairs from" in ran.err
    found = json.loads(Ran(capsys, [*argv, "--json", "--batch-size", "2"]).out)
    assert found["accuracy"] == 1
    assert found["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert "is one table without splits" in Ran(capsys, [*argv, "--split", "dev"]).error()


def test_evaluate_with_other_names_and_columns(
    trained: Path, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"neutral": 0, "contradiction": 1, "entailment": 2}
    rows = [
        {"p": f"A {animal} is asleep.", "h": sentence.format(animal), "y": numbers[label]}
        for animal in ANIMALS
        for label, sentence in SENTENCES.items()
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--premise-column", "p", "--hypothesis-column", "h", "--label-column", "y"]
    argv = ["evaluate", str(trained), str(path), *columns, *where, "--json"]
    mapped = [*argv, "--label-map", "0=neutral,1=contradiction,2=entailment"]
    assert json.loads(Ran(capsys, mapped).out)["accuracy"] == 1
    assert "its classes are numbers" in Ran(capsys, argv).error()


def test_a_run_of_one_backend_is_scored_alike_on_all(
    trained: Path, both: tuple[Backend, Backend], tables: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["evaluate", str(trained), str(tables / "dev.tsv"), "--json"]
    scores = [json.loads(Ran(capsys, [*argv, "--backend", b.name]).out) for b in both]
    assert scores[0]["confusion"] == scores[1]["confusion"]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], abs=1e-5)


def test_predict_two_sentences(
    trained: Path, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", str(trained), *where, "--pair", "A dog is asleep.", "A dog rests."]
    label, *numbers = Ran(capsys, argv).out.rstrip("\n").split("\t")
    assert label == "entailment"
    assert [number.partition("=")[0] for number in numbers] == list(LABELS)
    assert sum(float(number.partition("=")[2]) for number in numbers) == pytest.approx(1, abs=1e-3)


def many_pairs() -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of three lengths, mixed, and the class of each."""
    pairs, labels = [], []
    for i in range(50):
        animal, label = ANIMALS[i % len(ANIMALS)], LABELS[i * i // 5 % 3]
        pairs.append((f"A {animal} is asleep.", SENTENCES[label].format(animal)))
        labels.append(label)
    return pairs, labels


@pytest.mark.parametrize("batch_size", [7, 64])
def test_predict_keeps_the_order_of_a_file(
    trained: Path,
    where: list[str],
    batch_size: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs, labels = many_pairs()
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    argv = ["predict", str(trained), str(path), *where]
    ran = Ran(capsys, [*argv, "--json", "--batch-size", str(batch_size)])
    assert ran.status == 0
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert [(one["premise"], one["hypothesis"]) for one in found] == pairs
    assert [one["label"] for one in found] == labels
    for one in found:
        assert list(one["probabilities"]) == list(LABELS)
        assert max(one["probabilities"], key=one["probabilities"].get) == one["label"]


def test_long_sets_have_a_line_now_and_then(
    trained: Path,
    where: list[str],
    tables: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dev, rate = tables / "dev.tsv", r"[\d,.]+ pairs/s"
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{a}\t{b}\n" for a, b in many_pairs()[0]))
    evaluate = ["evaluate", str(trained), str(dev), "--batch-size", "4", *where]
    predict = ["predict", str(trained), str(pairs), *where]
    report = [*evaluate, "--report", str(tmp_path / "report")]
    scored = [f"{dev}: {n} of 9 pairs, {rate}, about \\d+ s left" for n in (4, 8, 9)]
    commands = ((evaluate, scored), (report, scored), (predict, [f"{pairs}: 50 pairs, {rate}"]))
    for argv, lines in commands:
        assert not re.search(rate, Ran(capsys, argv).err)  # it takes less than half a minute
        monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
        said = Ran(capsys, argv).err.splitlines()
        found = [line for line in said if re.search(rate, line)]
        assert len(found) == len(lines) and all(map(re.fullmatch, lines, found)), found
        monkeypatch.undo()


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_predict_from_standard_input(
    trained: Path,
    where: list[str],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs, labels = many_pairs()
    lines = {
        "tsv": [f"{a}\t{b}\n" for a, b in pairs],
        "jsonl": [json.dumps({"premise": a, "hypothesis": b}) + "\n" for a, b in pairs],
    }[form]
    argv = ["predict", str(trained), *where, "--batch-size", "8"]

    def feed(lines: list[str]) -> None:
        data = io.BufferedReader(io.BytesIO("".join(lines).encode()))  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))

    feed(lines)
    ran = Ran(capsys, argv)
    assert ran.status == 0
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == labels

    # Everything before a bad line is still answered.
    feed([*lines[:20], "neither\n", *lines[20:]])
    ran = Ran(capsys, argv)
    assert "standard input, line 21: " in ran.error()
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == labels[:20]


def test_predict_answers_a_pipe_pair_by_pair(trained: Path, where: list[str]) -> None:
    """Each answer is there before the next pair is written; an empty last line is none."""
    command = [sys.executable, "-m", "bertnli", "predict", str(trained), *where]
    pairs, labels = many_pairs()
    pipe = subprocess.PIPE
    with processes.Process(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        for pair, label in zip(pairs[:5], labels[:5], strict=True):
            process.stdin.write("\t".join(pair) + "\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(f"{label}\t")
        process.stdin.write("neither\n\n")
        process.stdin.close()
        process.stdin = None
        out, err = process.finish()
        assert out == "" and "standard input, line 6: " in err and process.returncode == 2


def test_predict_leaves_bad_rows_out(
    trained: Path, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, labels = many_pairs()
    lines = ["\t".join(pair) + "\n" for pair in pairs]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join([*lines[:20], "neither\n", *lines[20:], "\n"]))
    argv = ["predict", str(trained), *where]
    assert "line 21: " in Ran(capsys, [*argv, str(path)]).error()
    ran = Ran(capsys, [*argv, "--skip-bad-rows", str(path)])
    assert ran.status == 0 and "line 21: " in ran.err and "left out" in ran.err
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == labels


#: What a set of two classes, and one of three, calls each of the three.
SPELLINGS = {
    "two": {"entailment": "yes", "contradiction": "no", "neutral": "no"},
    "three": {"entailment": "0", "contradiction": "2", "neutral": "1"},
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_two_classes_and_three_in_every_command(
    kind: str,
    backend: Backend,
    trained: Path,
    where: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A checkpoint of two classes on a set of three, and the reverse, by --label-map."""
    path = write_table(tmp_path / "set.tsv", ANIMALS)
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    path.write_text("".join("\t".join([SPELLINGS[kind][row[0]], *row[1:]]) + "\n" for row in rows))
    columns = ["--no-header", "--label-column", "1", "--premise-column", "2"]
    columns += ["--hypothesis-column", "3", "--label-map"]
    to_two = {"entailment": "entailment", "contradiction": "non-entailment"}
    to_two["neutral"] = "non-entailment"
    two = ",".join(sorted({f"{SPELLINGS[kind][name]}={to_two[name]}" for name in LABELS}))
    three = ",".join(f"{SPELLINGS['three'][name]}={name}" for name in LABELS)
    run = tmp_path / "two"
    argv = ["train", "--train", str(path), *columns, two, *TINY, *where, "--epochs", "20"]
    assert Ran(capsys, [*argv, "--output", str(run)]).status == 0
    for model, mapped in ((run / "last", two), (trained, two if kind == "two" else three)):
        for argv in (
            ["evaluate", str(model), str(path), *where, "--json"],
            ["lengths", str(path), "--checkpoint", str(model)],
        ):
            ran = Ran(capsys, [*argv, *columns, mapped])
            assert ran.status == 0, ran.err
            if argv[0] == "evaluate":
                assert json.loads(ran.out)["accuracy"] == 1
    labels = Ran(capsys, ["predict", str(run), *where, "--pair", "A dog.", "A dog rests."]).out
    assert {"entailment=", "non-entailment="} <= {p.rstrip("0123456789.") for p in labels.split()}


def test_missing_checkpoint(
    where: list[str], tmp_path: Path, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none")
    argv = ["predict", missing, *where, "--pair", "A dog.", "A cat."]
    assert "no such file or folder" in Ran(capsys, argv).error()
    argv = ["evaluate", missing, str(tables / "dev.tsv"), *where]
    assert "no such file or folder" in Ran(capsys, argv).error()


def test_info_of_a_pretrained_model(golden: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(Ran(capsys, ["info", str(golden.zip), "--json", "--tensors"]).out)
    assert set(found["files"]) == {"pretrained.params", "vocab.json"}
    assert found["vocabulary"] == 1000
    assert found["format"] == "pretrained model of the book"
    assert found["model"]["num_hiddens"] == 32
    assert "num_heads" not in found["model"]  # no file tells it
    assert found["tensors"]["mlm.decoder.weight"]["shape"] == [1000, 32]


def test_another_order_of_the_classes_is_noticed(
    trained: Path, tables: Path, where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The names of a checkpoint are changed as if somebody had mistaken their order."""
    header, *rows = (tables / "dev.tsv").read_text().splitlines()
    (tmp_path / "twice.tsv").write_text("\n".join([header, *rows, *rows]) + "\n")
    scored = [str(tmp_path / "twice.tsv"), *where, "--json"]
    ran = Ran(capsys, ["evaluate", str(trained), *scored])
    assert "another order" not in ran.err
    right = json.loads(ran.out)["accuracy"]
    wrong = tmp_path / "wrong"
    shutil.copytree(trained, wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["labels"] = [*config["labels"][1:], config["labels"][0]]
    (wrong / "config.json").write_text(json.dumps(config))
    ran = Ran(capsys, ["evaluate", str(wrong), *scored])
    assert json.loads(ran.out)["accuracy"] < right - 0.1
    assert f"in the order {','.join(LABELS)} the accuracy would be {right:.4f}" in ran.err


def test_precision(
    trained: Path, tables: Path, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """auto says what it took and why; bf16 works, or is refused with the reason."""
    pair = ["--pair", "A dog is asleep.", "A dog is running fast."]
    plain = Ran(capsys, ["predict", str(trained), *where, *pair])
    assert "precision" not in plain.err
    auto = Ran(capsys, ["predict", str(trained), *where, "--precision", "auto", *pair])
    assert auto.out.split("\t")[0] == plain.out.split("\t")[0]
    assert "precision: " in auto.err
    scored = ["evaluate", str(trained), str(tables / "dev.tsv"), *where]
    ran = Ran(capsys, [*scored, "--precision", "bf16", "--json"])
    if "mxnet" in where:
        assert "MXNet 1.9.1 has no bfloat16" in ran.error()
        return
    exact = Ran(capsys, [*scored, "--json"])
    assert json.loads(ran.out)["accuracy"] == json.loads(exact.out)["accuracy"]
    assert json.loads(ran.out)["loss"] != json.loads(exact.out)["loss"]
