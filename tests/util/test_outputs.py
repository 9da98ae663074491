"""Outputs that cannot be written are refused before a model is loaded or data are read."""

import os
from pathlib import Path

import pytest

from bertnli._util.outputs import check_output_file, check_output_folder
from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.evaluation import write_report
from bertnli.training.history import EpochRecord, History

TRAIN = "train --train no-such-corpus"
EVALUATE = "evaluate no-such-model no-such-corpus"
FOLDERS = [
    (f"{EVALUATE} --report {{}}", "the report folder {} cannot be"),
    (f"{TRAIN} --output {{}}", "the output folder {} cannot be used"),
    (f"{TRAIN} --output x --tensorboard {{}}", "the TensorBoard folder {}"),
    ("pretrain --text no-such-text --output {}", "the output folder {} cannot be"),
    ("demo --output {}", "the output folder {} cannot be used"),
    ("download SNLI --folder {}", "the download folder {} cannot be used"),
    ("convert no-such-model {} --to torch", "{} cannot be written"),
    ("export no-such-model {} --format onnx", "{} cannot be written"),
]
FIGURES = [
    f"{EVALUATE} --plot {{}}",
    "lengths no-such-corpus --plot {}",
    "explain a b --checkpoint no-such-model --plot {}",
    "parity no-such-model --plot {}",
    "curve no-such-run --output {}",
]


def error_of(capsys, line, path):
    """Return the one line on stderr of a command that must fail."""
    capsys.readouterr()
    assert main([word.format(path) for word in line.split()]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    return error


@pytest.mark.parametrize(("line", "message"), FOLDERS)
def test_a_folder_that_cannot_be_used(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    below = tmp_path / "file" / "below"
    error = error_of(capsys, line, below)
    assert message.format(below) in error
    assert error.endswith(f": {tmp_path / 'file'} is a file; give a folder")
    if Path("/proc").is_dir():  # in which not even root can make a folder
        error = error_of(capsys, line, Path("/proc/bertnli"))
        assert "/proc/bertnli" in error.partition(": [Errno ")[2]
    assert (tmp_path / "file").read_text() == "kept" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("line", FIGURES)
def test_a_figure_that_cannot_be_written(line, tmp_path, capsys):
    option, missing = line.split()[-2], tmp_path / "none" / "a.png"
    (tmp_path / "folder.png").mkdir()
    error = error_of(capsys, line, tmp_path / "folder.png")
    assert f"{option}: {tmp_path / 'folder.png'} is a folder; name a file" in error
    assert f"{option}: there is no folder {missing.parent}" in error_of(capsys, line, missing)
    if Path("/proc").is_dir():
        error = error_of(capsys, line, Path("/proc/bertnli.png"))
        assert f"{option}: /proc/bertnli.png cannot be written: " in error


@pytest.mark.parametrize("command", [TRAIN, "pretrain --text no-such-text"])
def test_an_earlier_run_is_noticed_before_data_are_read(command, tmp_path, capsys):
    epoch = History([EpochRecord(1, 1, 1.0, 0.5, None, None, 1.0, 1.0, 0.0)], [1.0])
    (tmp_path / "metrics.jsonl").write_text(epoch.to_lines())
    error = error_of(capsys, f"{command} --output {{}}", tmp_path)
    assert f"{tmp_path} holds an earlier run; ask to replace it (--overwrite)" in error
    assert "no-such" in error_of(capsys, f"{command} --output {{}} --overwrite", tmp_path)


def test_the_checks_leave_no_files(tmp_path):
    check_output_folder(tmp_path / "a" / "b", "report")
    check_output_folder(tmp_path, "report")
    check_output_file(tmp_path / "a.png", "--plot")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_file_that_is_no_report_is_kept(tmp_path, name, capsys):
    kept = tmp_path / name
    kept.write_text("mine")
    error = error_of(capsys, f"{EVALUATE} --report {{}}", tmp_path)
    assert f"{kept} is no report of bertnli, and left as it is" in error
    with pytest.raises(ConfigError, match="is no report"):
        write_report({}, tmp_path)
    assert kept.read_text() == "mine"
