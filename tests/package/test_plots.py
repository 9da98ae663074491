"""Figures, and the commands that draw them."""

import json

import numpy as np
import pytest

import bertnli
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.packing import padding_cost
from bertnli.errors import DataError
from bertnli.nets.metrics import Metrics
from bertnli.plots import MAX_POINTS, plot_confusion, plot_curves, plot_lengths, plot_progress
from bertnli.training.history import EpochRecord, History, read_history

PNG = b"\x89PNG"


def history(epochs, dev=True, start=1.1):
    records = []
    for epoch in range(1, epochs + 1):
        scores = (start / epoch + 0.1, 1 - 0.5 / epoch) if dev else (None, None)
        train = (start / epoch, 1 - 0.6 / epoch)
        records.append(EpochRecord(epoch, 10 * epoch, *train, *scores, 9.0, 1.0, 1.0))
    return History(records, [start / (1 + i / 10) for i in range(10 * epochs)])


def written(folder, run):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(run.to_lines())
    return folder


def test_a_history_is_read_back(tmp_path):
    for run in (history(3), history(2, dev=False)):
        folder = written(tmp_path / str(len(run.epochs)), run)
        assert read_history(folder).epochs == run.epochs
        assert read_history(folder / "metrics.jsonl").epochs == run.epochs


@pytest.mark.parametrize("line", ["", "[]", '{"epoch": 1}', "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    folder = written(tmp_path / "run", history(1))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not an epoch's record"):
        read_history(folder)


def test_curves_of_one_run_are_the_book_s():
    (axes,) = plot_curves({"": history(3)}).axes
    assert [line.get_label() for line in axes.lines] == ["train loss", "train acc", "dev acc"]
    assert axes.lines[0].get_ydata() == pytest.approx([1.1, 0.55, 1.1 / 3])
    assert axes.lines[2].get_xdata().tolist() == [1, 2, 3]
    assert len(plot_curves({"": history(3, dev=False)}).axes[0].lines) == 2


def test_curves_of_several_runs_share_a_figure():
    runs = {"torch": history(3), "mxnet": history(5, start=1.2), "third": history(2, dev=False)}
    figure = plot_curves(runs)
    loss, accuracy = figure.axes
    for axes in (loss, accuracy):
        drawn = [line for line in axes.lines if len(line.get_xdata())]
        assert len(drawn) == 5  # the run without a dev set has one line
        assert {len(line.get_xdata()) for line in drawn} == {3, 5, 2}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(runs)
    colours = [line.get_color() for line in loss.lines if len(line.get_xdata())]
    assert colours[0] == colours[1] != colours[2] == colours[3] != colours[4]


def test_a_long_run_is_drawn_with_few_points():
    run = history(2)
    run.step_losses = [1.0, 3.0] * 5 * MAX_POINTS
    (axes,) = plot_progress(run, "a title").axes
    assert axes.lines[0].get_ydata() == pytest.approx(np.full(MAX_POINTS, 2.0))
    assert axes.lines[1].get_xdata().tolist() == [10, 20] and axes.get_title() == "a title"
    assert not plot_progress(History()).axes[0].lines


def test_a_confusion_matrix_has_counts_and_shares():
    metrics = Metrics(("yes", "no"), np.array([[8, 2], [0, 0]]), 0.3)
    axes = plot_confusion({"one": metrics, "two": metrics}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["8\n80%", "2\n20%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["yes", "no"]
    assert axes.get_title() == "one\naccuracy 80.0% of 10 pairs"


def test_costs_of_padding_are_computed_and_drawn():
    corpus = bertnli.read("sample", "train")
    data = PairDataset(corpus, 40, build_vocab(corpus, 2), verbose=False)
    cost = padding_cost(data, 64)
    assert (cost.tokens, cost.to_max_len) == (data.lengths.sum(), len(data) * 40)
    order = np.random.default_rng([0, 0]).permutation(len(data))
    batches = [data.lengths[order[i : i + 64]] for i in range(0, len(data), 64)]
    assert cost.to_longest == sum(len(batch) * batch.max() for batch in batches)
    assert cost.tokens < cost.computed <= 1.07 * cost.tokens
    assert cost.computed < cost.to_longest < cost.to_max_len
    figure = plot_lengths(data.lengths, cost)
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == len(data)
    widths = [bar.get_width() for bar in right.patches[:3]]
    assert widths == [cost.to_max_len, cost.to_longest, cost.computed]
    assert left.get_xlabel() and left.get_ylabel() and right.get_xlabel()
    figure.canvas.draw()
    bars = [bar.get_window_extent() for bar in right.patches]
    labels = [text.get_window_extent() for text in right.texts]
    assert len(labels) == 3
    assert not any(label.overlaps(bar) for label in labels for bar in bars)
    assert min(min(abs(label.y0 - bar.y1) for bar in bars) for label in labels) >= 2  # pixels


def test_lengths(tmp_path, capsys):
    picture = tmp_path / "lengths.svg"
    assert main(["lengths", "sample", "--plot", str(picture), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["pairs"] == 90 and values["longest"] <= values["max_len"] == 128
    assert values["tokens"] == pytest.approx(values["mean"] * 90)
    assert "<svg" in picture.read_text()
    assert main(["lengths", "sample", "--split", "train", "--max-len", "12"]) == 0
    printed = capsys.readouterr().out
    assert "780 pairs from" in printed and "all padded to 12 tokens" in printed


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Make folders of runs below the current folder."""
    monkeypatch.chdir(tmp_path)
    for name, epochs in (("one", 2), ("two", 3), ("empty", 0)):
        written(tmp_path / name, history(epochs))
    return tmp_path


@pytest.mark.parametrize("line", ["one", "one two", "one two --names first,second"])
def test_curve(runs, capsys, line):
    assert main(["curve", *line.split(), "-o", "curves.png"]) == 0
    assert capsys.readouterr().out == "wrote curves.png\n"
    assert (runs / "curves.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none", "none is no run's folder"),
        ("one one", "given twice"),
        ("one --names a,b", "2 names for 1 runs"),
        ("one -o curve.jpg", "writes .png, .pdf, .svg"),
        ("empty", "no finished epoch yet"),
    ],
)
def test_a_curve_that_cannot_be_drawn(runs, capsys, line, message):
    assert main(["curve", *line.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.needs("torch")
def test_evaluate_draws_the_confusion_matrix(tmp_path, capsys):
    argv = ["evaluate", "bert.mini", "sample", "--backend", "torch", "--devices", "cpu"]
    picture = tmp_path / "confusion.png"
    assert main([*argv, "--plot", str(picture)]) == 0
    assert "accuracy 0." in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)
    for options, message in (
        (["--plot", "confusion.bmp"], "writes .png, .pdf, .svg"),
        (["--plot", "c.png", "--report", str(tmp_path / "report")], "a report has the matrices"),
    ):
        assert main([*argv, *options]) == 2
        assert message in capsys.readouterr().err
