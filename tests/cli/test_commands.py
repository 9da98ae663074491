"""The command line end to end, on each backend."""

import io
import json
import re
import signal
import subprocess
import sys

import processes
import pytest

from bertnli.bert.labels import LABELS
from bertnli.cli import main

SENTENCES = {
    "entailment": "A {} rests.",
    "contradiction": "A {} is running fast.",
    "neutral": "A {} is happy.",
}
ANIMALS = ("dog", "cat", "horse", "bird", "cow", "child", "woman", "man")
SIZES = "--num-hiddens 16 --ffn-num-hiddens 32 --num-heads 2 --num-blks 2 --max-positions 24"
TINY = f"{SIZES} --min-freq 1 --batch-size 8 --dropout 0 --lr 1e-2".split()
pytestmark = pytest.mark.usefixtures("no_pictures")


def write_table(path, animals):
    rows = [
        f"{label}\tA {animal} is asleep.\t{sentence.format(animal)}\n"
        for animal in animals
        for label, sentence in SENTENCES.items()
    ]
    path.write_text("gold_label\tsentence1\tsentence2\n" + "".join(rows))
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with train.tsv, of 24 pairs and two bad rows, and dev.tsv, of 9 pairs."""
    folder = tmp_path_factory.mktemp("tables")
    train = write_table(folder / "train.tsv", ANIMALS)
    train.write_text(train.read_text() + "-\tA man.\tA dog.\nneutral\tone column too few\n")
    write_table(folder / "dev.tsv", ANIMALS[:3])
    return folder


@pytest.fixture(scope="module")
def data(tables):
    files = ["--train", str(tables / "train.tsv"), "--dev", str(tables / "dev.tsv")]
    return [*files, "--skip-bad-rows"]


@pytest.fixture(scope="module")
def trained(backend, data, tmp_path_factory):
    """The last checkpoint of a run, which has learned the tiny corpus by heart."""
    output = tmp_path_factory.mktemp(backend.name) / "run"
    argv = ["train", *data, *TINY, "--epochs", "20", "--quiet", "--output", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertnli.History.plot", lambda self, path: path.touch())
        assert main([*argv, "--backend", backend.name, "--devices", "cpu"]) == 0
    return output / "last"


@pytest.fixture
def run(backend, capsys):
    """A function that runs a command, which must end with a status; returns its output."""

    def run(*argv, status=0):
        capsys.readouterr()
        words = [*map(str, argv), "--backend", backend.name, "--devices", "cpu"]
        result, captured = main(words), capsys.readouterr()
        assert result == status, captured.err
        return captured

    return run


def test_train(run, data, tmp_path):
    output = tmp_path / "run"
    argv = ["train", *data, *TINY, "--output", output, "--epochs", "2"]
    out = run(*argv).out
    for part in ("24 pairs from", "1 (malformed), 1 (no gold label)", "9 pairs", "16 wide"):
        assert part in out
    assert "epoch 1: loss " in out and "epoch 2: loss " in out and str(output / "best") in out
    assert (output / "best" / "config.json").exists() and (output / "last").is_dir()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2
    assert "holds an earlier run" in run(*argv, status=2).err
    assert run(*argv, "--overwrite", "--quiet").out == ""


def test_a_run_that_reached_chance_is_a_warning(run, data, tmp_path):
    start = ["train", *TINY, "--output", tmp_path / "run", "--overwrite", "--epochs", "1"]
    start += ["--lr", "1e-6"]  # replaces TINY's, with a note
    warning = run(*start, "--train", "sample", "--batch-size", "512").err.splitlines()[-1]
    for part in (
        "warning: not significantly better than chance: dev accuracy 0.",
        "on 90 pairs",
        "always saying entailment scores 0.333",
        "a pretrained model (--pretrained bert.mini), more pairs than 780, a smaller --batch-size",
        "(2 steps were taken), or a higher --lr",
    ):
        assert part in warning
    assert "warning" not in run(*start, *data, "--quiet").err
    train = [data[0], data[1], data[-1]]
    err = run(*start, *train).err
    assert "training accuracy 0." in err and "on 24 pairs" in err
    table = tmp_path / "one.tsv"
    table.write_text("gold_label\tsentence1\tsentence2\nneutral\tA dog rests.\tA cat.\n")
    err = run(*start, *train, "--dev", table).err
    assert "warning: all 1 dev pairs are neutral: their accuracy says nothing\n" in err


def test_wrong_options_of_train_are_refused(run, data, tmp_path):
    argv = ["train", *data[:2], *TINY, "--output", tmp_path / "run"]
    for more, message in (
        (["--skip-bad-rows", "--max-len", "25"], "the model has 24 positions"),
        (["--skip-bad-rows", "--num-heads", "3"], "does not divide"),
        (["--skip-bad-rows", "--dev", "1.0"], "a share to hold out is between 0 and 1"),
        ([], "train.tsv, line 27"),
    ):
        assert message in run(*argv, *more, status=2).err
    assert not (tmp_path / "run").exists()


def test_train_from_a_pretrained_model(run, data, golden, tmp_path):
    output = tmp_path / "run"
    argv = ["train", *data, "--output", output, "--epochs", "1", "--pretrained", golden.zip]
    assert "give num_heads" in run(*argv, status=2).err
    argv += ["--num-heads", "4"]
    assert "num_hiddens" in run(*argv, "--num-hiddens", "64", status=2).err
    assert "--min-freq" in run(*argv, "--min-freq", "2", status=2).err
    run(*argv)
    config = json.loads((output / "best" / "config.json").read_text())["model"]
    assert config["num_hiddens"] == 32 and config["vocab_size"] == 1000


def test_ctrl_c_saves_the_weights(run, data, backend, tmp_path, monkeypatch):
    train_step = backend.Trainer.train_step

    def interrupted(*args):
        result = train_step(*args)
        signal.raise_signal(signal.SIGINT)
        return result

    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(backend.Trainer, "train_step", interrupted)
        err = run("train", *data, *TINY, "--quiet", "--output", output, status=130).err
    place = f"the weights are in {output / 'last'}; --resume goes on"
    assert err == f"interrupted; {place}\nbertnli train: interrupted\n"
    run("predict", output, "--pair", "A dog.", "A cat.")


def test_evaluate(run, backend, trained, both, tables, capsys):
    """Both backends score a run alike, whichever one trained it."""
    argv = ["evaluate", trained, tables / "dev.tsv"]
    captured = run(*argv)
    assert captured.out.startswith("accuracy 1.0000, loss ") and "9 pairs from" in captured.err
    scores = json.loads(run(*argv, "--json", "--batch-size", "2").out)
    assert scores["accuracy"] == 1
    assert scores["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert "is one table without splits" in run(*argv, "--split", "dev", status=2).err
    other = next(nli.name for nli in both if nli is not backend)
    assert main([*map(str, argv), "--json", "--backend", other]) == 0
    others = json.loads(capsys.readouterr().out)
    assert scores["confusion"] == others["confusion"]
    assert scores["loss"] == pytest.approx(others["loss"], abs=1e-5)


def many_pairs():
    """Return pairs of three lengths, mixed, and the class of each."""
    pairs, labels = [], []
    for i in range(50):
        animal, label = ANIMALS[i % len(ANIMALS)], LABELS[i * i // 5 % 3]
        pairs.append((f"A {animal} is asleep.", SENTENCES[label].format(animal)))
        labels.append(label)
    return pairs, labels


PAIRS, PAIR_LABELS = many_pairs()
ROWS = [f"{a}\t{b}\n" for a, b in PAIRS]


def test_predictions_are_in_the_order_of_the_file(run, trained, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join([*ROWS[:20], "neither\n", *ROWS[20:], "\n"]))
    argv = ["predict", trained, path, "--json", "--batch-size", "7", "--skip-bad-rows"]
    captured = run(*argv)
    assert "line 21: " in captured.err and "left out" in captured.err
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert [(answer["premise"], answer["hypothesis"]) for answer in answers] == PAIRS
    assert [answer["label"] for answer in answers] == PAIR_LABELS
    for answer in answers:
        assert list(answer["probabilities"]) == list(LABELS)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert max(answer["probabilities"], key=answer["probabilities"].get) == answer["label"]


def test_progress_of_long_sets_is_shown(run, trained, tables, tmp_path, monkeypatch):
    dev, rate = tables / "dev.tsv", r"[\d,.]+ pairs/s"
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(ROWS))
    evaluate = ["evaluate", trained, dev, "--batch-size", "4"]
    assert not re.search(rate, run(*evaluate).err)  # it takes less than half a minute
    monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
    scored = [f"{dev}: {n} of 9 pairs, {rate}, about \\d+ s left" for n in (4, 8, 9)]
    predicted = [f"{pairs}: 50 pairs, {rate}"]
    for argv, expected in ((evaluate, scored), (["predict", trained, pairs], predicted)):
        lines = [line for line in run(*argv).err.splitlines() if re.search(rate, line)]
        assert len(lines) == len(expected) and all(map(re.fullmatch, expected, lines)), lines


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_predict_from_standard_input(run, trained, form, monkeypatch):
    lines = ROWS
    if form == "jsonl":
        lines = [json.dumps({"premise": a, "hypothesis": b}) + "\n" for a, b in PAIRS]

    def answers(lines, status=0):
        data = io.BufferedReader(io.BytesIO("".join(lines).encode()))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
        captured = run("predict", trained, "--batch-size", "8", status=status)
        return [line.split("\t")[0] for line in captured.out.splitlines()], captured.err

    assert answers(lines)[0] == PAIR_LABELS
    first, err = answers([*lines[:20], "neither\n", *lines[20:]], status=2)
    assert first == PAIR_LABELS[:20] and "standard input, line 21: " in err


@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_predict_answers_a_pipe_pair_by_pair(trained):
    """Each answer is printed before the next pair is written; an empty last line is no pair."""
    command = [sys.executable, "-m", "bertnli", "predict", str(trained), "--backend", "torch"]
    pipe = subprocess.PIPE
    with processes.Process(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        for row, label in list(zip(ROWS, PAIR_LABELS, strict=True))[:5]:
            process.stdin.write(row)
            process.stdin.flush()
            assert process.stdout.readline().startswith(f"{label}\t")
        process.stdin.write("neither\n\n")
        process.stdin.close()
        process.stdin = None
        out, err = process.finish()
        assert out == "" and "standard input, line 6: " in err and process.returncode == 2


def test_two_classes_and_three_by_label_map(run, trained, tmp_path):
    """A set of two classes, for a checkpoint of the same two and for one of three."""
    path = write_table(tmp_path / "set.tsv", ANIMALS)
    spelling = {"entailment": "yes", "contradiction": "no", "neutral": "no"}
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    path.write_text("".join("\t".join([spelling[row[0]], *row[1:]]) + "\n" for row in rows))
    columns = ["--no-header", "--label-column", "1"]
    columns += ["--premise-column", "2", "--hypothesis-column", "3"]
    columns += ["--label-map", "yes=entailment,no=non-entailment"]
    output = tmp_path / "two"
    run("train", "--train", path, *columns, *TINY, "--epochs", "10", "--output", output)
    for model in (output / "last", trained):
        scores = json.loads(run("evaluate", model, path, *columns, "--json").out)
        assert scores["accuracy"] == 1
        assert main(["lengths", str(path), "--checkpoint", str(model), *columns]) == 0
    out = run("predict", output, "--pair", "A dog.", "A dog rests.").out
    assert re.search(r"(?<!-)\bentailment=", out) and "non-entailment=" in out


def test_precision(run, backend, trained, tables):
    """auto prints its choice and the reason; bf16 works, or is refused with the reason."""
    argv = ["predict", trained, "--pair", "A dog is asleep.", "A dog is running fast."]
    plain, auto = run(*argv), run(*argv, "--precision", "auto")
    assert auto.out.split("\t")[0] == plain.out.split("\t")[0]
    assert "precision" not in plain.err and "precision: " in auto.err
    scored = ["evaluate", trained, tables / "dev.tsv", "--json"]
    if backend.name == "mxnet":
        assert "no bfloat16" in run(*scored, "--precision", "bf16", status=2).err
        return
    half, exact = (json.loads(run(*scored, "--precision", p).out) for p in ("bf16", "fp32"))
    assert half["accuracy"] == exact["accuracy"] and half["loss"] != exact["loss"]
