"""Temporary folders: those of killed processes go, those of live ones and of others stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from filelock import FileLock, Timeout

from bertnli._util import temporary
from bertnli._util.temporary import NEW, OLD, clear_leftovers, is_temporary, temporary_folder
from bertnli.cli import main
from bertnli.errors import CheckpointError
from bertnli.formats.folder import new_folder, replaced_file, replaced_folder

MARK = "bertnli.json"
Leave = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit_mark(home: Path, **values: str) -> None:
    mark = json.loads((home / MARK).read_text())
    (home / MARK).write_text(json.dumps({**mark, **values}))


def test_what_a_killed_process_left_goes(tmp_path: Path, leave_leftover: Leave) -> None:
    """With the next that writes in the folder, whatever it writes."""
    for target in ("a", "a", "x" * 250):
        home = leave_leftover(tmp_path / target)
        assert is_temporary(home) and names(home) == [MARK, "lock", NEW]
    with replaced_file(tmp_path / "b") as new:
        assert names(tmp_path) == [new.parent.name]
        new.write_text("b")
    assert names(tmp_path) == ["b"]


def test_what_a_live_process_owns_stays(tmp_path: Path, leave_leftover: Leave) -> None:
    code = (
        "import sys; from pathlib import Path; from bertnli.formats.folder import *\n"
        "with replaced_folder(Path(sys.argv[1])) as new:\n"
        "    new.mkdir(); (new / 'f').write_text('x'); print('ready', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    pipe = subprocess.PIPE
    with processes.Process(command, stdin=pipe, stdout=pipe) as process:
        assert process.line() == "ready\n"
        dead = leave_leftover(tmp_path / "a")
        clear_leftovers(tmp_path, any_machine=True)
        (live,) = tmp_path.iterdir()
        assert live != dead and (live / NEW / "f").read_text() == "x"
        process.finish("\n")
        assert process.returncode == 0
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["f"]


def test_many_write_beside_each_other(tmp_path: Path, leave_leftover: Leave) -> None:
    leave_leftover(tmp_path / "0")
    code = (
        "import sys; from pathlib import Path; from bertnli.formats.folder import *\n"
        "for i in range(30):\n"
        "    with replaced_folder(Path(sys.argv[1])) as new:\n"
        "        new.mkdir(); (new / 'f').write_text(str(i))\n"
    )
    command = [sys.executable, "-c", code]
    writers = [processes.Process([*command, str(tmp_path / str(i))]) for i in range(4)]
    for writer in writers:
        writer.finish()
    assert [writer.returncode for writer in writers] == [0] * 4
    assert names(tmp_path) == ["0", "1", "2", "3"]
    assert {(tmp_path / name / "f").read_text() for name in "0123"} == {"29"}


def test_what_was_moved_aside_gets_its_name_back(tmp_path: Path, leave_leftover: Leave) -> None:
    """A kill between the two renames leaves the old folder under no name."""
    home = leave_leftover(tmp_path / "best")
    (home / OLD).mkdir()
    (home / OLD / "f").write_text("old")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best"] and (tmp_path / "best" / "f").read_text() == "old"
    home = leave_leftover(tmp_path / "best")
    (home / OLD).mkdir()
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best"] and names(tmp_path / "best") == ["f"]


def test_those_of_other_machines_stay(tmp_path: Path, leave_leftover: Leave) -> None:
    """Their locks may not be seen here; but what is moved aside gets its name back."""
    home = leave_leftover(tmp_path / "best")
    edit_mark(home, host="another", boot="another")
    (home / OLD).write_text("old")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [home.name, "best"] and names(home) == [MARK, "lock", NEW]
    edit_mark(home, host=os.uname().nodename)  # this one, before it was started anew
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best"]
    edit_mark(leave_leftover(tmp_path / "best"), host="another", boot="another")
    clear_leftovers(tmp_path, any_machine=True)
    assert names(tmp_path) == ["best"]


def test_without_locks_nothing_is_removed(
    tmp_path: Path, leave_leftover: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = leave_leftover(tmp_path / "best")
    (home / OLD).write_text("old")

    def none(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", none)
    with replaced_file(tmp_path / "b") as new:
        new.write_text("b")
    assert names(tmp_path) == [home.name, "b", "best"] and (home / NEW).is_dir()


@pytest.mark.parametrize(
    "kind",
    ["no mark", "no lock", "another file", "another target", "a way out", "not ours", "link"],
)
def test_what_only_looks_like_one_stays(tmp_path: Path, leave_leftover: Leave, kind: str) -> None:
    home = leave_leftover(tmp_path / "best")
    (home / OLD).mkdir()
    if kind == "no mark":
        (home / MARK).unlink()
    elif kind == "no lock":
        (home / "lock").unlink()
    elif kind == "another file":
        (home / "thesis.txt").write_text("mine")
    elif kind == "another target":
        edit_mark(home, target="last")
    elif kind == "a way out":
        edit_mark(home, target="../best")
    elif kind == "not ours":
        edit_mark(home, format="another tool")
    else:
        (tmp_path / "elsewhere").mkdir()
        home = home.rename(tmp_path / "elsewhere" / home.name)
        (tmp_path / home.name).symlink_to(home)
    before = names(tmp_path), names(home)
    clear_leftovers(tmp_path, any_machine=True)
    assert (names(tmp_path), names(home)) == before


@pytest.mark.parametrize("files", [[], ["lock"], ["lock", MARK]])
def test_a_kill_while_it_is_made(tmp_path: Path, files: list[str]) -> None:
    """Or while it is removed: nothing is in it, and it goes."""
    home = tmp_path / ".best.0123456789abcdef.tmp"
    home.mkdir()
    for name in files:
        (home / name).write_text("")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_one_that_is_being_made_may_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be told from one that a kill left; its process then makes another."""
    honest, calls = temporary._locked, 0

    def beaten(home: Path) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            return honest(home)
        home.rmdir()
        raise Timeout(str(home)) if calls == 1 else FileNotFoundError

    monkeypatch.setattr(temporary, "_locked", beaten)
    with replaced_file(tmp_path / "a") as new:
        new.write_text("x")
    assert calls == 3 and names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", [".best.x", ".last.fm", ".best.0123456789abcdef.tmp", ".x.tmp"])
def test_names_alone_mean_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name / NEW).mkdir(parents=True)
    (tmp_path / name / OLD).mkdir()
    with temporary_folder(tmp_path / "best"):
        pass
    assert names(tmp_path) == [name] and names(tmp_path / name) == [NEW, OLD]


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    with replaced_folder(tmp_path / "a") as new:
        new.mkdir()
        (new / "f").write_text("1")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "a") as new:
        new.mkdir()
        raise RuntimeError
    assert names(tmp_path) == ["a"] and (tmp_path / "a" / "f").read_text() == "1"


def test_a_new_folder_takes_nobody_s_place(tmp_path: Path) -> None:
    """Not even where the name was free when it was begun."""
    with (
        pytest.raises(CheckpointError, match="cannot be written"),
        new_folder(tmp_path / "a") as new,
    ):
        new.mkdir()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine").write_text("mine")
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["mine"]


def test_a_killed_convert(tmp_path: Path) -> None:
    """Killed when all is written and nothing renamed; the next one removes what it left."""
    code = (
        "import os, signal, sys; from bertnli.formats import folder\n"
        "folder.flush_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from bertnli.cli import main; main(sys.argv[1:])"
    )
    argv = ["convert", "bert.mini", "TARGET", "--to", "bertnli"]
    for target in ("a", "b"):
        argv[2] = str(tmp_path / target)
        done = processes.run([sys.executable, "-c", code, *argv])
        assert done.returncode == -9
        assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(f".{target}.")
    assert main(argv) == 0
    assert names(tmp_path) == ["b"]
