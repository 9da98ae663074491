"""Pictures of what a backend computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertnli.backends.interface import Backend
from bertnli.cli import main


def test_a_confusion_matrix_is_drawn(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--backend", backend.name, "--devices", "cpu"]
    picture = tmp_path / "confusion.png"
    assert main(["evaluate", "bert.mini", "sample", *where, "--plot", str(picture)]) == 0
    assert "accuracy 0." in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    for options, said in (
        (["--plot", "confusion.bmp"], "writes .png, .pdf, .svg"),
        (["--plot", "c.png", "--report", str(tmp_path / "report")], "a report has the matrices"),
    ):
        assert main(["evaluate", "bert.mini", "sample", *where, *options]) == 2
        assert said in capsys.readouterr().err
