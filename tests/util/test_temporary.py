"""Temporary folders of killed processes are removed; those of others stay."""

import json
import os
import platform
import subprocess
import sys

import processes
import pytest
from filelock import FileLock

from bertnli._util.temporary import NEW, OLD, clear_leftovers, is_temporary
from bertnli.cli import main
from bertnli.errors import CheckpointError
from bertnli.formats.folder import new_folder, replaced_file, replaced_folder

MARK = "bertnli.json"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_leftover(target, /, **mark):
    """Make what a killed process leaves; a test compares it with a real process."""
    home = target.with_name(f".{target.name}.0123456789abcdef.tmp")
    home.mkdir()
    (home / NEW).mkdir()
    (home / "lock").touch()
    values = {"format": "bertnli temporary folder", "target": target.name}
    (home / MARK).write_text(json.dumps({**values, "host": platform.node(), **mark}))
    return home


def test_folders_of_killed_processes_are_removed(tmp_path, leave_leftover):
    """The next process that writes anything in the folder removes them."""
    for target in ("a", "x" * 250):
        home = leave_leftover(tmp_path / target)
        assert is_temporary(home) and names(home) == [MARK, "lock", NEW]
    written = json.loads((home / MARK).read_text())
    made = make_leftover(tmp_path / "b")
    assert written == {**json.loads((made / MARK).read_text()), "target": "x" * 250}
    with replaced_file(tmp_path / "b") as new:
        assert names(tmp_path) == [new.parent.name]
        new.write_text("b")
    assert names(tmp_path) == ["b"]


def test_the_folder_of_a_live_process_stays(tmp_path):
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
        dead = make_leftover(tmp_path / "a")
        clear_leftovers(tmp_path, any_machine=True)
        (live,) = tmp_path.iterdir()
        assert live != dead and (live / NEW / "f").read_text() == "x"
        process.finish("\n")
        assert process.returncode == 0
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["f"]


def test_many_write_beside_each_other(tmp_path):
    make_leftover(tmp_path / "0")
    code = (
        "import sys; from pathlib import Path; from bertnli.formats.folder import *\n"
        "for i in range(30):\n"
        "    with replaced_folder(Path(sys.argv[1])) as new:\n"
        "        new.mkdir(); (new / 'f').write_text(str(i))\n"
    )
    command = [sys.executable, "-c", code]
    writers = [processes.Process([*command, str(tmp_path / str(i))]) for i in range(3)]
    for writer in writers:
        writer.finish()
        assert writer.returncode == 0
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["0", "1", "2"]
    assert {(tmp_path / name / "f").read_text() for name in "012"} == {"29"}


def test_a_folder_that_was_moved_aside_gets_its_name_back(tmp_path):
    """The process was killed between the two renames."""
    home = make_leftover(tmp_path / "best")
    (home / OLD).mkdir()
    (home / OLD / "f").write_text("old")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best"] and names(tmp_path / "best") == ["f"]
    home = make_leftover(tmp_path / "best")
    (home / OLD).mkdir()
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["best"] and names(tmp_path / "best") == ["f"]


def test_folders_of_other_machines_stay(tmp_path):
    """Locks may not work between machines. What was moved aside still gets its name back."""
    home = make_leftover(tmp_path / "best", host="another")
    (home / OLD).write_text("old")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [home.name, "best"] and names(home) == [MARK, "lock", NEW]
    clear_leftovers(tmp_path, any_machine=True)
    assert names(tmp_path) == ["best"]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    home = make_leftover(tmp_path / "best")

    def none(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", none)
    with replaced_file(tmp_path / "b") as new:
        new.write_text("b")
    assert names(tmp_path) == [home.name, "b"] and (home / NEW).is_dir()


@pytest.mark.parametrize("kind", ["no mark", "no lock", "another file", "a way out", "not ours"])
def test_a_folder_that_is_only_similar_stays(tmp_path, kind):
    mark = {"a way out": {"target": "../best"}, "not ours": {"format": "another tool"}}
    home = make_leftover(tmp_path / "best", **mark.get(kind, {}))
    (home / OLD).mkdir()
    if kind in ("no mark", "no lock"):
        (home / (MARK if kind == "no mark" else "lock")).unlink()
    elif kind == "another file":
        (home / "thesis.txt").write_text("mine")
    before = names(tmp_path), names(home)
    clear_leftovers(tmp_path, any_machine=True)
    assert (names(tmp_path), names(home)) == before


@pytest.mark.parametrize("files", [[], ["lock"], ["lock", MARK], [MARK]])
def test_a_process_killed_as_it_made_its_folder(tmp_path, files):
    """The folder is known, but not removed at once: its process may be about to write the mark."""
    home = tmp_path / ".state.0123456789abcdef.tmp"
    home.mkdir()
    for name in files:
        (home / name).touch()
    assert is_temporary(home)
    clear_leftovers(tmp_path)
    assert home.exists()
    os.utime(home, (0, 0))
    clear_leftovers(tmp_path)
    assert not home.exists()


def test_a_folder_is_complete_or_as_it_was(tmp_path):
    with replaced_folder(tmp_path / "a") as new:
        new.mkdir()
        (new / "f").write_text("1")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "a") as new:
        new.mkdir()
        raise RuntimeError
    assert names(tmp_path) == ["a"] and (tmp_path / "a" / "f").read_text() == "1"
    with pytest.raises(CheckpointError, match="cannot be"), new_folder(tmp_path / "b") as new:
        new.mkdir()
        (tmp_path / "b").mkdir()  # another process takes the name
        (tmp_path / "b" / "mine").write_text("mine")
    assert names(tmp_path) == ["a", "b"] and names(tmp_path / "b") == ["mine"]


def test_a_killed_convert(tmp_path):
    """It is killed before the rename; the next one removes its temporary folder."""
    code = (
        "import os, signal, sys; from bertnli.formats import folder\n"
        "folder.flush_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from bertnli.cli import main; main(sys.argv[1:])"
    )
    argv = ["convert", "bert.mini", str(tmp_path / "a"), "--to", "bertnli"]
    assert processes.run([sys.executable, "-c", code, *argv]).returncode == -9
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".a.")
    assert main(argv) == 0
    assert names(tmp_path) == ["a"]
