"""Outputs that cannot be written are refused before a model is loaded or data are read."""

import os
from pathlib import Path

import pytest

from bertnli._util.outputs import check_output_file, check_output_folder
from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.evaluation import write_report
from bertnli.training.history import EpochRecord, History

#: A corpus that does not exist, so that an error about it would come of work.
NOWHERE = "no-such-corpus"
TRAIN = ["train", "--train", NOWHERE]
FOLDERS = [
    (["evaluate", "no-such-model", NOWHERE, "--report", "{}"], "the report folder {} cannot be"),
    ([*TRAIN, "--output", "{}"], "the output folder {} cannot be used"),
    ([*TRAIN, "--output", "x", "--tensorboard", "{}"], "the TensorBoard folder {}"),
    (["pretrain", "--text", "no-such-text", "--output", "{}"], "the output folder {} cannot be"),
    (["demo", "--output", "{}"], "the output folder {} cannot be used"),
    (["download", "SNLI", "--folder", "{}"], "the download folder {} cannot be used"),
    (["convert", "no-such-model", "{}", "--to", "torch"], "{} cannot be written"),
    (["export", "no-such-model", "{}", "--format", "onnx"], "{} cannot be written"),
]
FIGURES = [
    ["evaluate", "no-such-model", NOWHERE, "--plot", "{}"],
    ["lengths", NOWHERE, "--plot", "{}"],
    ["explain", "a", "b", "--checkpoint", "no-such-model", "--plot", "{}"],
    ["parity", "no-such-model", "--plot", "{}"],
    ["curve", "no-such-run", "--output", "{}"],
]


def error_of(capsys, argv, path):
    """Return the one line of a command that must fail."""
    capsys.readouterr()
    assert main([word.format(path) for word in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("argv", "message"), FOLDERS, ids=[" ".join(c[0][:2]) for c in FOLDERS])
def test_a_folder_that_cannot_be_used(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    below = tmp_path / "file" / "below"
    line = error_of(capsys, argv, below)
    assert message.format(below) in line
    assert line.endswith(f": {tmp_path / 'file'} is a file; give a folder")
    if Path("/proc").is_dir():  # where not even root makes a folder
        line = error_of(capsys, argv, Path("/proc/bertnli"))
        assert "/proc/bertnli" in line.partition(": [Errno ")[2]
    assert (tmp_path / "file").read_text() == "kept"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("argv", FIGURES, ids=" ".join)
def test_a_figure_that_cannot_be_written(argv, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    line = error_of(capsys, argv, tmp_path / "folder.png")
    assert f"{argv[-2]}: {tmp_path / 'folder.png'} is a folder; name a file" in line
    missing = tmp_path / "none" / "a.png"
    assert f"{argv[-2]}: there is no folder {missing.parent}" in error_of(capsys, argv, missing)
    if Path("/proc").is_dir():
        line = error_of(capsys, argv, Path("/proc/bertnli.png"))
        assert f"{argv[-2]}: /proc/bertnli.png cannot be written: " in line


@pytest.mark.parametrize("command", [TRAIN, ["pretrain", "--text", "no-such-text"]])
def test_an_earlier_run_is_found_before_data_are_read(command, tmp_path, capsys):
    epoch = History([EpochRecord(1, 1, 1.0, 0.5, None, None, 1.0, 1.0, 0.0)], [1.0])
    (tmp_path / "metrics.jsonl").write_text(epoch.to_lines())
    line = error_of(capsys, [*command, "--output", "{}"], tmp_path)
    assert f"{tmp_path} holds an earlier run; ask to replace it (--overwrite)" in line
    assert "no-such" in error_of(capsys, [*command, "--output", "{}", "--overwrite"], tmp_path)


def test_nothing_is_left_behind(tmp_path):
    check_output_folder(tmp_path / "a" / "b", "report")
    check_output_folder(tmp_path, "report")
    check_output_file(tmp_path / "a.png", "--plot")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_file_that_is_no_report_is_kept(tmp_path, name, capsys):
    kept = tmp_path / name
    kept.write_text("mine")
    argv = ["evaluate", "no-such-model", NOWHERE, "--report", "{}"]
    assert f"{kept} is no report of bertnli, and left as it is" in error_of(capsys, argv, tmp_path)
    with pytest.raises(ConfigError, match="is no report"):
        write_report({}, tmp_path)
    assert kept.read_text() == "mine"
