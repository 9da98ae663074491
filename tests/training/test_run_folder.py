"""What a run does to a folder: it removes and replaces only what a run wrote."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import new_trainer

from bertnli.errors import ConfigError
from bertnli.training.state import states

#: Names, like those of a run, of a user's own files and folders.
NAMES = (
    *("state", "state/step-12", "state/step-000000012", "state/notes", "state/.step-x", "best"),
    *("last", ".best.x", ".last.fm", ".best.0123456789abcdef.tmp", "metrics.jsonl", "curve.png"),
    *("diverged.npz", ".lock", ".metrics.jsonl.new", "config.json", "notes", "best/step-1"),
)
MINE = "the user's own text"
KINDS = st.sampled_from(["file", "folder", "link", "broken link", "checkpoint's names"])
MODES = {"plain": {}, "resume": {"resume": True}, "overwrite": {"overwrite": True}}
pytestmark = pytest.mark.usefixtures("no_pictures")


def fit(nli, output, epochs=1, **options):
    trainer, data = new_trainer(nli, schedule="constant", warmup=0.0)
    trainer.fit(data, data, epochs, 75, output=output, progress=False, **options)


def put(path, kind, elsewhere):
    """Make something of a user's at a path, if the path is free."""
    if not path.parent.is_dir() or path.parent.is_symlink() or os.path.lexists(path):
        return
    if kind == "file":
        path.write_text(MINE)
    elif "link" in kind:
        path.symlink_to(elsewhere if kind == "link" else elsewhere / "nothing")
    else:
        path.mkdir()
        files = ("config.json", "model.safetensors", "state.json")
        for name in ("mine",) if kind == "folder" else files:
            (path / name).write_text(MINE)


def content(folder):
    """Return the targets of a folder's links and the bytes of its files, by relative path."""

    def entry(path):
        if path.is_symlink():
            return os.readlink(path)
        return path.read_bytes() if path.is_file() else None

    return {str(path.relative_to(folder)): entry(path) for path in folder.rglob("*")}


@pytest.mark.parametrize("after_a_run", [False, True])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from([*MODES]),
    things=st.dictionaries(st.sampled_from(NAMES), KINDS, min_size=1, max_size=4),
)
def test_files_of_others_stay(backend, tmp_path, mode, after_a_run, things):
    """The run is refused, and changes nothing, or it trains beside them."""
    home, elsewhere, template = tmp_path / "run", tmp_path / "elsewhere", tmp_path / "template"
    shutil.rmtree(home, ignore_errors=True)
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "mine").write_text(MINE)
    home.mkdir()
    if after_a_run:
        if not template.is_dir():
            fit(backend, template, 2)
        shutil.copytree(template, home, dirs_exist_ok=True)
    run = content(home)
    for name in sorted(things):
        put(home / name, things[name], elsewhere)
    before = content(home)
    try:
        fit(backend, home, 2, **MODES[mode])
    except ConfigError:
        assert content(home) == before
    after = content(home)
    for name in before.keys() - run.keys():
        assert after.get(name, "gone") == before[name], name
    assert content(elsewhere) == {"mine": MINE.encode()}


def test_a_refusal_says_what_to_do(backend, tmp_path):
    run = tmp_path / "p"

    def refusals(*modes):
        for mode in modes:
            with pytest.raises(ConfigError) as refused:
                fit(backend, run, **MODES[mode])
            yield str(refused.value)

    (run / "state").mkdir(parents=True)
    (run / "state" / "notes.txt").write_text(MINE)
    for text in refusals(*MODES):
        assert f"{run / 'state'}: not written by a run" in text and "--" not in text
    shutil.rmtree(run)
    fit(backend, run)
    (text,) = refusals("plain")
    assert "(--resume)" in text and "(--overwrite)" in text
    (run / "best" / "notes.txt").write_text(MINE)
    for text in refusals(*MODES):
        assert f"{run / 'best' / 'notes.txt'}: not written by a run" in text
    (run / "best" / "notes.txt").unlink()
    shutil.rmtree(run / "state")
    (text,) = refusals("plain")
    assert "--resume" not in text and "(--overwrite)" in text
    shutil.copytree(run / "best", tmp_path / "q")
    shutil.rmtree(run)
    (tmp_path / "q").rename(run)
    for text in refusals(*MODES):
        assert "is a checkpoint, not a run's folder" in text


def test_an_overwritten_run_is_removed(backend, tmp_path):
    fit(backend, tmp_path, 3)
    np.savez(tmp_path / "diverged.npz", step=1, token_ids=np.zeros(3))
    fit(backend, tmp_path, 1, overwrite=True)
    assert [path.name for path in states(tmp_path / "state")] == ["step-000000001"]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_note_says_how_the_machine_differs(backend, tmp_path, capsys, monkeypatch):
    """The last bits of the weights depend on threads, processor and versions."""
    fit(backend, tmp_path)
    fit(backend, tmp_path, 2, resume=True)
    assert "note" not in capsys.readouterr().err
    info = backend.Trainer.Engine.backend_info
    other = {"threads": 77, "version": "9.9"}
    monkeypatch.setattr(backend.Trainer.Engine, "backend_info", lambda x: {**info(x), **other})
    fit(backend, tmp_path, 3, resume=True)
    note = capsys.readouterr().err
    assert "threads: 77 (was " in note and f"backend: {backend.name} 9.9 (was " in note
    assert "to rounding, not to the bit" in note
    fit(backend, tmp_path, 4, resume=True)
    assert "note" not in capsys.readouterr().err
