"""What a run does to a folder: only what a run wrote is ever removed or written over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import ConfigError
from bertnli.training.state import states

#: What a user may have under names like a run's, and what stands in each file.
NAMES = (
    *("state", "state/step-12", "state/step-000000012", "state/notes", "state/.step-x", "best"),
    *("last", ".best.x", ".last.fm", ".best.0123456789abcdef.tmp", "metrics.jsonl", "curve.png"),
    *("diverged.npz", ".lock", ".metrics.jsonl.new", "config.json", "notes", "best/step-1"),
)
MINE = "what somebody else wrote"
KINDS = st.sampled_from(["file", "folder", "link", "broken link", "checkpoint's names"])
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "resume": {"resume": True},
    "overwrite": {"overwrite": True},
}


def new_trainer(nli: Backend) -> tuple[Any, Any]:
    corpus = bertnli.Corpus.from_pairs([("a b", "c"), ("d", "e f")] * 4)
    corpus.labels[:] = [0, 1] * 4
    vocab = build_vocab(corpus, 1)
    bert: Any = nli.BERTModel(len(vocab), 8, 8, 1, 1, 0.1, 16, vocab=vocab)
    data = PairDataset(corpus, 16, vocab, verbose=False)
    return nli.Trainer(nli.BERTClassifier(bert), lr=1e-3, devices="cpu"), data


def fit(nli: Backend, output: Path, epochs: int = 1, **options: Any) -> Any:
    trainer, data = new_trainer(nli)
    return trainer.fit(data, data, epochs, 4, output=output, progress=False, **options)


def put(path: Path, kind: str, elsewhere: Path) -> None:
    """Put something of a user's under a name."""
    if not path.parent.is_dir() or path.parent.is_symlink() or os.path.lexists(path):
        return
    if kind == "file":
        path.write_text(MINE)
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text(MINE)
    elif kind == "checkpoint's names":
        path.mkdir()
        for name in ("config.json", "model.safetensors", "state.json"):
            (path / name).write_text(MINE)
    else:
        path.symlink_to(elsewhere if kind == "link" else elsewhere / "nothing")


def content(folder: Path) -> dict[str, Any]:
    """What is in a folder: links, and the files' bytes."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("after_a_run", [False, True])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from([*MODES]),
    things=st.dictionaries(st.sampled_from(NAMES), KINDS, min_size=1, max_size=4),
)
def test_what_is_not_a_run_s_stays(
    backend: Backend, tmp_path: Path, mode: str, after_a_run: bool, things: dict[str, str]
) -> None:
    """Whether the run is refused, or trains beside it; a refused one has changed nothing."""
    home = tmp_path / "run"
    elsewhere = tmp_path / "elsewhere"
    shutil.rmtree(home, ignore_errors=True)
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "mine").write_text(MINE)
    home.mkdir()
    if after_a_run:
        template = tmp_path / "template"
        if not template.is_dir():
            fit(backend, template, 2)
        shutil.copytree(template, home, dirs_exist_ok=True)
    before = content(home)
    for name in sorted(things):
        put(home / name, things[name], elsewhere)
    all_of_it = content(home)
    theirs = {name: what for name, what in all_of_it.items() if name not in before}
    try:
        fit(backend, home, 2, **MODES[mode])
    except ConfigError:
        assert content(home) == all_of_it
    found = content(home)
    assert {name: found.get(name, "gone") for name in theirs} == theirs
    assert content(elsewhere) == {"mine": MINE.encode()}


def test_the_refusal_says_what_can_be_done(backend: Backend, tmp_path: Path) -> None:
    def refusal(**options: Any) -> str:
        with pytest.raises(ConfigError) as refused:
            fit(backend, tmp_path / "p", **options)
        return str(refused.value)

    (tmp_path / "p" / "state").mkdir(parents=True)
    (tmp_path / "p" / "state" / "notes.txt").write_text(MINE)
    for options in MODES.values():
        said = refusal(**options)
        assert str(tmp_path / "p" / "state") in said and "not written by a run" in said
        assert "--resume" not in said and "--overwrite" not in said
    shutil.rmtree(tmp_path / "p")
    fit(backend, tmp_path / "p")
    assert "(--resume)" in refusal() and "(--overwrite)" in refusal()
    (tmp_path / "p" / "best" / "notes.txt").write_text(MINE)
    for options in MODES.values():
        said = refusal(**options)
        assert f"{tmp_path / 'p' / 'best' / 'notes.txt'}: not written by a run" in said
    (tmp_path / "p" / "best" / "notes.txt").unlink()
    shutil.rmtree(tmp_path / "p" / "state")
    assert "--resume" not in refusal() and "(--overwrite)" in refusal()
    shutil.copytree(tmp_path / "p" / "best", tmp_path / "q")
    shutil.rmtree(tmp_path / "p")
    (tmp_path / "q").rename(tmp_path / "p")
    for options in MODES.values():
        assert "is a checkpoint, not a run's folder" in refusal(**options)


def test_what_stays_in_a_run_s_state_is_named(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(backend, tmp_path)
    (tmp_path / "state" / "notes.txt").write_text(MINE)
    (tmp_path / "state" / "step-7").mkdir()
    fit(backend, tmp_path, overwrite=True)
    assert (tmp_path / "state" / "notes.txt").read_text() == MINE
    said = capsys.readouterr().err
    assert str(tmp_path / "state" / "notes.txt") in said and "step-7: not of a run" in said
    assert [path.name for path in states(tmp_path / "state")] == ["step-000000002"]


def test_an_overwritten_run_is_gone(backend: Backend, tmp_path: Path) -> None:
    fit(backend, tmp_path, 3)
    np.savez(tmp_path / "diverged.npz", step=1, token_ids=np.zeros(3))
    fit(backend, tmp_path, 1, overwrite=True)
    assert [path.name for path in states(tmp_path / "state")] == ["step-000000002"]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("command", ["train", "pretrain"])
def test_the_commands_leave_what_is_not_theirs(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    output, text = tmp_path / "p", tmp_path / "text.txt"
    text.write_text("a b c\nd e f\n\ng h\ni j\n")
    for name in ("state", ".best.x", ".last.fm"):
        (output / name).mkdir(parents=True)
        (output / name / "mine").write_text(MINE)
    before = content(output)
    data = {"train": ["--train", "sample"], "pretrain": ["--text", str(text), "--min-freq", "1"]}
    sizes = ["--num-hiddens", "8", "--ffn-num-hiddens", "8", "--num-heads", "1", "--num-blks", "1"]
    where = ["--output", str(output), "--backend", backend.name, "--devices", "cpu", "--quiet"]
    for mode in ([], ["--resume"], ["--overwrite"]):
        assert main([command, *data[command], *sizes, *where, "--epochs", "1", *mode]) == 2
        assert f"{output / 'state'}: not written by a run" in capsys.readouterr().err
        assert content(output) == before
    shutil.rmtree(output / "state")
    assert main([command, *data[command], *sizes, *where, "--epochs", "1"]) == 0
    assert (output / ".best.x" / "mine").read_text() == MINE
    assert (output / ".last.fm" / "mine").read_text() == MINE


def test_a_run_elsewhere_says_what_differs(
    backend: Backend,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads, processor, versions: the last bits of the weights depend on them."""
    fit(backend, tmp_path)
    fit(backend, tmp_path, 2, resume=True)
    assert "note" not in capsys.readouterr().err
    engine: Any = backend.Trainer.Engine
    honest = engine.backend_info
    monkeypatch.setattr(
        engine, "backend_info", lambda self: {**honest(self), "threads": 77, "version": "9.9"}
    )
    fit(backend, tmp_path, 3, resume=True)
    said = capsys.readouterr().err
    assert "threads: 77 (was " in said and f"backend: {backend.name} 9.9 (was " in said
    assert "to rounding, not to the bit" in said
    fit(backend, tmp_path, 4, resume=True)
    assert "note" not in capsys.readouterr().err
