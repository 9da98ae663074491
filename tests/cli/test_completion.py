"""Completion, by the shell itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import processes
import pytest

from bertnli.cli import COMMANDS, main
from bertnli.cli.completion import SHELLS

#: What bash does when Tab is pressed after these words.
PRESS_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
complete -p bertnli > /dev/null || exit 3
function=$(complete -p bertnli | sed -E 's/.*-F ([^ ]+).*/\\1/')
"$function" bertnli "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    return path


def completed(script: Path, *words: str, cwd: Path | None = None) -> set[str]:
    command = ["bash", "--norc", "-c", PRESS_TAB, "bash", str(script), "bertnli", *words]
    done = processes.run(command, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def test_bash_completes_commands(script: Path) -> None:
    assert completed(script, "") >= {*COMMANDS}
    assert completed(script, "do") == {"doctor", "download"}


def test_bash_completes_options_and_choices(script: Path) -> None:
    found = completed(script, "train", "--")
    assert {"--output", "--tensorboard", "--pretrained", "--resume"} <= found
    assert completed(script, "train", "--tens") == {"--tensorboard"}
    assert completed(script, "train", "--backend", "") == {"torch", "mxnet"}
    assert completed(script, "completion", "") >= {*SHELLS}


def test_bash_completes_files(script: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    (folder / "runs").mkdir(parents=True)
    (folder / "rows.tsv").write_text("")
    assert completed(script, "train", "--train", "r", cwd=folder) >= {"rows.tsv"}
    found = completed(script, "train", "--output", "r", cwd=folder)
    assert "runs" in found and "rows.tsv" not in found
    assert completed(script, "info", "r", cwd=folder) >= {"runs", "rows.tsv"}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "bertnli" in text and "tensorboard" in text
    program = shutil.which(shell)
    if program is not None and shell in ("bash", "zsh"):  # is it of the language at all
        done = processes.run([program, "-n"], text)
        assert done.returncode == 0, done.stderr


def test_without_shtab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'pip install "bertnli[completion]"' in capsys.readouterr().err
