"""What cannot be written is said before any work: before a model is loaded or data are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bertnli._util.outputs import check_output_file, check_output_folder
from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.evaluation import write_report
from bertnli.training.history import EpochRecord, History

#: A finished epoch of a run.
RECORD = EpochRecord(1, 1, 1.0, 0.5, None, None, 1.0, 1.0, 0.0)
EPOCH = History([RECORD], [1.0]).to_lines()
#: Names that are not here, so that an error about them would come of work.
NOWHERE = "no-such-corpus"
COMMANDS = [
    (["evaluate", "no-such-model", NOWHERE, "--report", "{}"], "the report folder {} cannot be"),
    (["train", "--train", NOWHERE, "--output", "{}"], "the output folder {} cannot be used"),
    (
        ["train", "--train", NOWHERE, "--output", "x", "--tensorboard", "{}"],
        "the TensorBoard folder {}",
    ),
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


def error_of(capsys: pytest.CaptureFixture[str], argv: list[str], path: Path) -> str:
    """Return the one line of a command that must fail."""
    capsys.readouterr()
    assert main([word.format(path) for word in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("argv", "says"), COMMANDS, ids=[" ".join(c[0][:2]) for c in COMMANDS])
def test_a_folder_that_cannot_be_used(
    argv: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    paths = [tmp_path / "file" / "below", tmp_path / "file"]
    if Path("/proc").is_dir():  # where not even root makes a folder
        paths.append(Path("/proc/bertnli"))
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        paths += [tmp_path / "locked" / "x"]
    for path in paths:
        line = error_of(capsys, argv, path)
        if argv[0] in ("convert", "export") and path == tmp_path / "file":
            assert f"{path} exists" in line
        else:
            assert says.format(path) in line
            if (tmp_path / "file") in (path, path.parent):
                assert line.endswith(f": {tmp_path / 'file'} is a file; give a folder")
            else:
                assert str(path) in line.partition(": [Errno ")[2]
    assert (tmp_path / "file").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "locked"}


@pytest.mark.parametrize("argv", FIGURES, ids=" ".join)
def test_a_figure_that_cannot_be_written(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = argv[-2]
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    found = error_of(capsys, argv, tmp_path / "folder.png")
    assert f"{option}: {tmp_path / 'folder.png'} is a folder; name a file" in found
    for missing in (tmp_path / "none" / "a.png", tmp_path / "file" / "a.png"):
        assert f"{option}: there is no folder {missing.parent}" in error_of(capsys, argv, missing)
    if Path("/proc").is_dir():
        found = error_of(capsys, argv, Path("/proc/bertnli.png"))
        assert f"{option}: /proc/bertnli.png cannot be written: " in found


@pytest.mark.parametrize(
    "command", [["train", "--train", NOWHERE], ["pretrain", "--text", "no-such-text"]]
)
def test_an_earlier_run_is_said_before_data_are_read(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text(EPOCH)
    found = error_of(capsys, [*command, "--output", "{}"], tmp_path)
    assert f"{tmp_path} holds an earlier run; ask to replace it (--overwrite)" in found
    found = error_of(capsys, [*command, "--output", "{}", "--overwrite"], tmp_path)
    assert "no-such" in found


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "a" / "b", "report")
    check_output_folder(tmp_path, "report")
    check_output_file(tmp_path / "a.png", "--plot")
    assert not list(tmp_path.iterdir())
    check_output_folder("relative/to/here", "report")
    assert not Path("relative").exists()


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_page_of_somebody_s_is_no_report(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / name
    kept.write_text("mine")
    argv = ["evaluate", "no-such-model", NOWHERE, "--report", "{}"]
    assert f"{kept} is no report of bertnli, and left as it is" in error_of(capsys, argv, tmp_path)
    with pytest.raises(ConfigError, match="is no report"):
        write_report({}, tmp_path)
    assert kept.read_text() == "mine"


def test_a_report_in_python(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the report folder .*file cannot be used"):
        write_report({}, tmp_path / "file")
