"""Pictures, and the commands that draw them: what is on a figure, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bertnli
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.padding import padding_cost
from bertnli.errors import DataError
from bertnli.nets.metrics import Metrics
from bertnli.plots import MAX_POINTS, plot_confusion, plot_curves, plot_lengths, plot_progress
from bertnli.training.history import EpochRecord, History, read_history


def history(epochs: int, dev: bool = True, start: float = 1.1) -> History:
    records = []
    for epoch in range(1, epochs + 1):
        scores = (start / epoch + 0.1, 1 - 0.5 / epoch) if dev else (None, None)
        records.append(
            EpochRecord(epoch, 10 * epoch, start / epoch, 1 - 0.6 / epoch, *scores, 9.0, 1.0, 1.0)
        )
    return History(records, [start / (1 + i / 10) for i in range(10 * epochs)])


def written(folder: Path, found: History) -> str:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(found.to_lines())
    return str(folder)


def test_a_run_is_read_back(tmp_path: Path) -> None:
    found = history(3)
    folder = written(tmp_path / "run", found)
    assert read_history(folder).epochs == found.epochs
    assert read_history(Path(folder) / "metrics.jsonl").epochs == found.epochs
    without = history(2, dev=False)
    assert read_history(written(tmp_path / "two", without)).epochs == without.epochs


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"epoch": 1}', "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    folder = written(tmp_path / "run", history(1))
    with (Path(folder) / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not an epoch's record"):
        read_history(folder)


def test_curves_of_one_run_are_the_book_s() -> None:
    figure = plot_curves({"": history(3)})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["train loss", "train acc", "dev acc"]
    assert axes.lines[0].get_ydata() == pytest.approx([1.1, 0.55, 1.1 / 3])
    assert axes.lines[2].get_xdata().tolist() == [1, 2, 3]
    assert len(plot_curves({"": history(3, dev=False)}).axes[0].lines) == 2


def test_curves_of_several_runs_share_a_picture() -> None:
    runs = {"torch": history(3), "mxnet": history(5, start=1.2), "third": history(2, dev=False)}
    figure = plot_curves(runs)
    loss, accuracy = figure.axes
    for axes in (loss, accuracy):
        drawn = [line for line in axes.lines if len(line.get_xdata())]
        assert len(drawn) == 5  # no dev set, no line
        assert {len(line.get_xdata()) for line in drawn} == {3, 5, 2}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(runs)
    colours = [line.get_color() for line in loss.lines if len(line.get_xdata())]
    assert colours[0] == colours[1] != colours[2] == colours[3] != colours[4]


def test_a_long_run_under_way_is_drawn_with_few_points() -> None:
    found = history(2)
    found.step_losses = [1.0, 3.0] * 5 * MAX_POINTS
    (axes,) = plot_progress(found, "a title").axes
    steps = axes.lines[0]
    assert len(steps.get_xdata()) == MAX_POINTS
    assert steps.get_ydata() == pytest.approx(np.full(MAX_POINTS, 2.0))
    assert axes.lines[1].get_xdata().tolist() == [10, 20]
    assert axes.get_title() == "a title"
    assert not plot_progress(History()).axes[0].lines


def test_a_confusion_matrix_has_counts_and_shares() -> None:
    metrics = Metrics(("yes", "no"), np.array([[8, 2], [0, 0]]), 0.3)
    figure = plot_confusion({"one": metrics, "two": metrics})
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["8\n80%", "2\n20%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["yes", "no"]
    assert axes.get_title() == "one\naccuracy 80.0% of 10 pairs"


def test_what_padding_costs_by_hand() -> None:
    corpus = bertnli.read("sample", "train")
    data = PairDataset(corpus, 40, build_vocab(corpus, 2), verbose=False)
    cost = padding_cost(data, 64)
    assert cost.tokens == data.lengths.sum()
    assert cost.to_max_len == len(data) * 40
    order = np.random.default_rng([0, 0]).permutation(len(data))
    batches = [data.lengths[order[i : i + 64]] for i in range(0, len(data), 64)]
    assert cost.to_longest == sum(len(batch) * batch.max() for batch in batches)
    assert cost.tokens < cost.computed <= 1.07 * cost.tokens
    assert cost.computed < cost.to_longest < cost.to_max_len
    left, right = plot_lengths(data.lengths, cost).axes
    assert sum(bar.get_height() for bar in left.patches) == len(data)
    assert [bar.get_width() for bar in right.patches[:3]] == [
        cost.to_max_len,
        cost.to_longest,
        cost.computed,
    ]


def test_every_axis_has_a_label_and_no_label_touches_a_bar() -> None:
    corpus = bertnli.read("sample", "train")
    data = PairDataset(corpus, 40, build_vocab(corpus, 2), verbose=False)
    metrics = Metrics(("yes", "no"), np.array([[8, 2], [0, 0]]), 0.3)
    lengths = plot_lengths(data.lengths, padding_cost(data, 64))
    for figure in (
        plot_curves({"": history(3)}),
        plot_progress(history(3)),
        plot_confusion({"one": metrics}),
    ):
        for axes in figure.axes:
            assert axes.get_xlabel() and axes.get_ylabel()
    left, right = lengths.axes
    assert left.get_xlabel() and left.get_ylabel() and right.get_xlabel()  # bars have names
    lengths.canvas.draw()
    bars = [bar.get_window_extent() for bar in right.patches]
    labels = [text.get_window_extent() for text in right.texts]
    assert len(labels) == 3
    assert not any(label.overlaps(bar) for label in labels for bar in bars)
    gaps = [min(abs(label.y0 - bar.y1) for bar in bars) for label in labels]
    assert min(gaps) >= 2  # pixels


def test_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "lengths.svg"
    assert main(["lengths", "sample", "--plot", str(picture), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 90 and found["longest"] <= found["max_len"] == 128
    assert found["tokens"] == pytest.approx(found["mean"] * 90)
    assert "<svg" in picture.read_text()
    assert main(["lengths", "sample", "--split", "train", "--max-len", "12"]) == 0
    said = capsys.readouterr().out
    assert "780 pairs from" in said and "all padded to 12 tokens" in said


def test_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one", history(2))
    two = written(tmp_path / "two", history(3))
    picture = tmp_path / "curves.png"
    for argv in ([one], [one, two], [one, two, "--names", "first, second"]):
        picture.unlink(missing_ok=True)
        assert main(["curve", *argv, "-o", str(picture)]) == 0
        assert capsys.readouterr().out == f"wrote {picture}\n"
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["none"], "none is no run's folder"),
        (["one", "one"], "given twice"),
        (["one", "--names", "a,b"], "2 names for 1 runs"),
        (["one", "-o", "curve.jpg"], "writes .png, .pdf, .svg"),
        (["one", "-o", "no/curve.png"], "there is no folder no"),
        (["empty"], "no finished epoch yet"),
    ],
)
def test_a_curve_that_cannot_be_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "one", history(2))
    written(tmp_path / "empty", History())
    assert main(["curve", *argv]) == 2
    assert said in capsys.readouterr().err
