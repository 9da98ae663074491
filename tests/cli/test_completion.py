"""Completion, by the shell itself."""

import sys

import processes
import pytest

from bertnli.cli import COMMANDS, SHELLS, main

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


def script(shell, capsys):
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def test_bash_completes(tmp_path, capsys):
    path = tmp_path / "completion.bash"
    path.write_text(script("bash", capsys))
    (tmp_path / "here" / "runs").mkdir(parents=True)
    (tmp_path / "here" / "rows.tsv").write_text("")

    def completed(line):
        words = ["bertnli", *line.split(" ")]
        command = ["bash", "--norc", "-c", PRESS_TAB, "bash", str(path), *words]
        done = processes.run(command, cwd=tmp_path / "here")
        assert done.returncode == 0, done.stderr
        return {line.strip() for line in done.stdout.splitlines() if line.strip()}

    assert completed("") >= {*COMMANDS}
    assert completed("do") == {"doctor", "download"}
    assert {"--output", "--tensorboard", "--pretrained", "--resume"} <= completed("train --")
    assert completed("train --backend ") == {"torch", "mxnet"}
    assert completed("completion ") >= {*SHELLS}
    assert completed("train --train r") >= {"rows.tsv"}
    folders = completed("train --output r")
    assert "runs" in folders and "rows.tsv" not in folders
    assert completed("info r") >= {"runs", "rows.tsv"}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell, capsys):
    text = script(shell, capsys)
    assert "bertnli" in text and "tensorboard" in text


def test_without_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'pip install "bertnli[completion]"' in capsys.readouterr().err
