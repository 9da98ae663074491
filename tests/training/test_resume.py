"""A run that is stopped, by whatever it is, goes on; here, on one machine, to the same bits."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from numpy.typing import NDArray

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import CheckpointError, ConfigError, TrainingError
from bertnli.formats import folder as folders
from bertnli.training.run import RunFolder
from bertnli.training.settings import NOTES, check_settings
from bertnli.training.state import load_state

#: Kills of each backend, here and in the long run.
FEW, MANY = 4, 100
EPOCHS, BATCH_SIZE = 3, 64


def new_trainer(nli: Backend, seed: int = 3, **settings: Any) -> tuple[Any, Any]:
    """A small classifier with dropout, its trainer, and the data."""
    corpus = bertnli.read("sample", "train")
    vocab = build_vocab(corpus, 2)
    bert: Any = nli.BERTModel(len(vocab), 16, 24, 2, 2, 0.2, 40, vocab=vocab)
    data = PairDataset(corpus, 40, vocab, verbose=False)
    net: Any = nli.BERTClassifier(bert)
    options = {"lr": 3e-3, "schedule": "linear", "warmup": 0.2, **settings}
    return nli.Trainer(net, devices="cpu", seed=seed, **options), data


def fit(trainer: Any, data: Any, output: Path | None, **options: Any) -> bertnli.History:
    found: bertnli.History = trainer.fit(
        data, data, EPOCHS, BATCH_SIZE, output=output, progress=False, **options
    )
    return found


@pytest.fixture(scope="module")
def whole(backend: Backend) -> tuple[bertnli.History, dict[str, NDArray]]:
    """What an uninterrupted run gives."""
    trainer, data = new_trainer(backend)
    return fit(trainer, data, None), trainer.net.arrays()


def timeless(history: bertnli.History) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in history.to_lines().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def assert_same(
    whole: tuple[bertnli.History, dict[str, NDArray]],
    history: bertnli.History,
    arrays: dict[str, NDArray],
) -> None:
    assert history.step_losses == whole[0].step_losses
    assert timeless(history) == timeless(whole[0])
    for name, array in whole[1].items():
        assert array.tobytes() == arrays[name].tobytes(), name


@pytest.mark.parametrize("at", [1, 12, 13, 14, 20])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_goes_on_after_a_signal(
    backend: Backend, whole: Any, tmp_path: Path, at: int, signum: int
) -> None:
    """Within an epoch, in its last step (of 13), while the dev set is scored, after it."""
    trainer, data = new_trainer(backend)
    step, calls = trainer.train_step, 0

    def signalled(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signum)
        return step(*arguments)

    trainer.train_step = signalled
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        fit(trainer, data, tmp_path)
    assert stopped.value.args == ((0,) if signum == signal.SIGTERM else ())
    assert calls == at
    again, data = new_trainer(backend)
    history = fit(again, data, tmp_path, resume=True)
    assert_same(whole, history, again.net.arrays())
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert lines == history.to_lines() and len(lines.splitlines()) == EPOCHS
    for name, array in bertnli.load(tmp_path / "last", backend.name).arrays().items():
        assert array.tobytes() == whole[1][name].tobytes()


def test_a_stop_while_the_dev_set_is_scored(backend: Backend, whole: Any, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    score = trainer.eval_step

    def signalled(batch: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return score(batch)

    trainer.eval_step = signalled
    with pytest.raises(SystemExit):
        fit(trainer, data, tmp_path)
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 13 and not state.history.epochs
    again, data = new_trainer(backend)
    assert_same(whole, fit(again, data, tmp_path, resume=True), again.net.arrays())


@pytest.mark.parametrize("when", ["save_state", "save_last", "_write_metrics"])
def test_a_kill_while_the_last_epoch_is_saved(
    backend: Backend, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Nothing is left to train, and all files are there all the same."""
    honest = getattr(RunFolder, when)

    def killed(self: RunFolder, *arguments: Any) -> None:
        if len(trainer_history(tmp_path)) == EPOCHS - (when == "save_state"):
            raise RuntimeError("killed")
        honest(self, *arguments)

    def trainer_history(run: Path) -> list[Any]:
        state = load_state(run / "state")
        return [] if state is None else state.history.epochs

    monkeypatch.setattr(RunFolder, when, killed)
    trainer, data = new_trainer(backend)
    with pytest.raises(RuntimeError, match="killed"):
        fit(trainer, data, tmp_path)
    monkeypatch.undo()
    (tmp_path / "curve.png").unlink(missing_ok=True)
    again, data = new_trainer(backend)
    assert_same(whole, fit(again, data, tmp_path, resume=True), again.net.arrays())
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == EPOCHS
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    for name, array in bertnli.load(tmp_path / "last", backend.name).arrays().items():
        assert array.tobytes() == whole[1][name].tobytes()


def test_every_step_can_be_gone_on_from(backend: Backend, whole: Any, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, tmp_path / "all", save_every=1, keep=1000)
    states = sorted((tmp_path / "all" / "state").iterdir())
    assert len(states) == 3 * 13
    for state in random.Random(0).sample(states, 3):
        run = tmp_path / state.name
        shutil.copytree(state, run / "state" / state.name)
        again, data = new_trainer(backend)
        assert_same(whole, fit(again, data, run, resume=True), again.net.arrays())


#: All that a recipe may turn on.
RECIPE = {
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "layer_decay": 0.8,
    "label_smoothing": 0.1,
    "average": 0.5,
    "patience": EPOCHS,
}


def test_a_run_with_a_recipe_goes_on(backend: Backend, tmp_path: Path) -> None:
    """From among the steps whose weights are averaged; the net, and last/, have the mean."""
    trainer, data = new_trainer(backend, **RECIPE)
    history = fit(trainer, data, tmp_path / "all", keep=EPOCHS)
    expected = history, trainer.net.arrays()
    run, state = tmp_path / "run", "state/step-000000026"
    shutil.copytree(tmp_path / "all" / state, run / state)
    again, data = new_trainer(backend, **RECIPE)
    assert_same(expected, fit(again, data, run, resume=True), again.net.arrays())
    last = bertnli.load(run / "last", backend.name).arrays()
    for name, array in expected[1].items():
        assert array.tobytes() == last[name].tobytes(), name
    with pytest.raises(ConfigError, match=r"average is 0\.4, and was 0\.5"):
        fit(*new_trainer(backend, **{**RECIPE, "average": 0.4}), run, resume=True)


def test_a_run_that_stopped_early_is_finished(backend: Backend, tmp_path: Path) -> None:
    settings = {"lr": 1e-9, "schedule": "constant", "warmup": 0.0, "patience": 1}
    trainer, data = new_trainer(backend, **settings)
    history = fit(trainer, data, tmp_path)
    assert len(history.epochs) == 2 and history.best.epoch == 1
    again, data = new_trainer(backend, **settings)
    assert fit(again, data, tmp_path, resume=True).step_losses == history.step_losses
    with pytest.raises(ConfigError, match="patience needs a dev set"):
        again.fit(data, None, EPOCHS, BATCH_SIZE)


def test_states_move_between_backends(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    """Begun on one framework and ended on the other, a run learns the same, but for rounding."""
    for ours, theirs in (both, both[::-1]):
        run = tmp_path / ours.name
        trainer, data = new_trainer(ours)
        trainer.net.encoder.config  # the same sizes on both  # noqa: B018
        step, calls = trainer.train_step, 0

        def stopped(*arguments: Any, step: Any = step) -> Any:
            nonlocal calls
            calls += 1
            if calls == 20:
                signal.raise_signal(signal.SIGTERM)
            return step(*arguments)

        trainer.train_step = stopped
        with pytest.raises(SystemExit):
            fit(trainer, data, run)
        before = trainer.engine.optimizer_arrays()
        other, data = new_trainer(theirs)
        state = load_state(run / "state")
        assert state is not None
        other.engine.load_optimizer_arrays(state.arrays)
        after = other.engine.optimizer_arrays()
        assert {*before} == {*after}
        for name, array in before.items():
            assert array.tobytes() == after[name].tobytes(), name
        assert len(fit(other, data, run, resume=True).epochs) == EPOCHS


def test_a_damaged_state_is_left_out(
    backend: Backend, whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, tmp_path, save_every=5, keep=3)
    *_, before, newest = sorted((tmp_path / "state").iterdir())
    for damage in ("flip", "cut", "gone"):
        path = newest / "tensors.safetensors"
        raw = bytearray(path.read_bytes())
        if damage == "flip":
            raw[len(raw) // 2] ^= 4
        path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else raw)
        if damage == "gone":
            (newest / "state.json").unlink()
        state = load_state(tmp_path / "state")
        assert state is not None and f"step-{state.step:09d}" == before.name
        assert "the state before it is taken" in capsys.readouterr().err
    again, data = new_trainer(backend)
    assert_same(whole, fit(again, data, tmp_path, resume=True), again.net.arrays())
    for path in (tmp_path / "state").iterdir():
        (path / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no state"):
        fit(*new_trainer(backend), tmp_path, resume=True)


def test_only_so_many_states_are_kept(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, tmp_path, save_every=4, keep=2)
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["step-000000038", "step-000000039"]


def test_what_changed_is_said_and_not_a_hash(backend: Backend, tmp_path: Path) -> None:
    corpus = bertnli.read("sample", "train")
    fewer = bertnli.Corpus(*(column[:90] for column in corpus), tokenized=corpus.tokenized)

    def start(data: Any, min_freq: int, max_len: int = 40, dev: Any = None) -> None:
        vocab = build_vocab(data, min_freq)
        bert: Any = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.0, 40, vocab=vocab)
        sets = [PairDataset(one, max_len, vocab, verbose=False) for one in (data, dev or corpus)]
        trainer = backend.Trainer(backend.BERTClassifier(bert), devices="cpu")
        trainer.fit(*sets, 1, 64, output=tmp_path, resume=True, progress=False)

    def refused(*args: Any, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            start(*args, **options)
        assert not re.search("[0-9a-f]{40}", str(caught.value))
        return str(caught.value)

    start(corpus, 2)
    before, after = len(build_vocab(corpus, 2)), len(build_vocab(corpus, 5))
    said = f"settings: the vocabulary has {after:,} tokens, and had {before:,}: min_freq "
    assert f"{said}(--min-freq) is 5, and was 2. Give the same as before" in refused(corpus, 5)
    said = refused(fewer, 2)
    assert f"the training set is another: it has 90 pairs, and had {len(corpus[0])}" in said
    assert "the training data changed" in said
    said = refused(corpus, 2, dev=fewer)
    assert f"the dev set is another: it has 90 pairs, and had {len(corpus[0])}. Give" in said
    assert "its max_len (--max-len) is 20, and was 40" in refused(corpus, 2, max_len=20)
    turned = bertnli.Corpus(*(column[::-1] for column in corpus), tokenized=corpus.tokenized)
    assert "the training set is another: other pairs, labels or order, or" in refused(turned, 2)


def test_a_state_without_notes_goes_on() -> None:
    """Of a run of an earlier version."""
    now = {"vocab_size": 387, "training set": "a", NOTES: {"min_freq": 5}}
    check_settings(now, {"vocab_size": 387, "training set": "a"})
    with pytest.raises(ConfigError) as caught:
        check_settings(now, {"vocab_size": 779, "training set": "b"})
    assert "387 tokens, and had 779: min_freq (--min-freq) or the training data" in str(
        caught.value
    )
    with pytest.raises(ConfigError, match="no dev set, and there was one"):
        check_settings({"dev set": None}, {"dev set": "a"})


def test_other_settings_are_refused(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    fit(trainer, data, tmp_path)
    with pytest.raises(ConfigError, match=r"lr is 0\.01, and was 0\.003"):
        fit(*new_trainer(backend, lr=0.01), tmp_path, resume=True)
    with pytest.raises(ConfigError, match="seed is 4, and was 3"):
        fit(*new_trainer(backend, seed=4), tmp_path, resume=True)
    trainer, data = new_trainer(backend)
    less = PairDataset(bertnli.read("sample", "dev"), 40, trainer.net.vocab, verbose=False)
    with pytest.raises(ConfigError, match="training set"):
        fit(trainer, less, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="an earlier run"):
        fit(trainer, data, tmp_path)
    for name in ("state", "metrics.jsonl"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match="no state/ to go on from"):
        fit(trainer, data, tmp_path, resume=True)
    loader: Any = [data]
    with pytest.raises(ConfigError, match="cannot be resumed"):
        trainer.fit(loader, output=tmp_path, resume=True)
    for wrong in ({"keep": 0}, {"save_every": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            fit(trainer, data, tmp_path / "new", **wrong)


def test_more_epochs_can_be_asked_for(backend: Backend, tmp_path: Path) -> None:
    settings = {"schedule": "constant", "warmup": 0.0}
    trainer, data = new_trainer(backend, **settings)
    expected = trainer.fit(data, None, 3, BATCH_SIZE, progress=False)
    arrays = trainer.net.arrays()
    for epochs in (1, 3):
        trainer, data = new_trainer(backend, **settings)
        options = {"output": tmp_path, "resume": True, "progress": False}
        history = trainer.fit(data, None, epochs, BATCH_SIZE, **options)
    assert_same((expected, arrays), history, trainer.net.arrays())


def test_a_loss_that_is_no_number_stops_the_run(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    step, calls = trainer.train_step, 0

    def broken(batch: Any, lr: float, seed: int) -> Any:
        nonlocal calls
        calls += 1
        return step(batch, float("nan") if calls == 7 else lr, seed)

    trainer.train_step = broken
    with pytest.raises(TrainingError, match=r"loss of step 8 is nan.*diverged\.npz"):
        fit(trainer, data, tmp_path, save_every=3)
    with np.load(tmp_path / "diverged.npz") as found:
        assert int(found["step"]) == 7 and found["token_ids"].shape[0] == BATCH_SIZE
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 6
    assert all(np.isfinite(array).all() for array in state.arrays.values())


def test_a_full_disk_leaves_the_state_before(
    backend: Backend, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, data = new_trainer(backend)
    calls = 0
    honest = folders.flush_to_disk

    def full(path: Path) -> None:
        nonlocal calls
        calls += path.name == "tensors.safetensors"
        if calls == 3:
            raise OSError(28, "No space left on device")
        honest(path)

    monkeypatch.setattr(folders, "flush_to_disk", full)
    with pytest.raises(CheckpointError, match="No space left"):
        fit(trainer, data, tmp_path, save_every=4)
    monkeypatch.undo()
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 8
    again, data = new_trainer(backend)
    assert_same(whole, fit(again, data, tmp_path, resume=True), again.net.arrays())


# Kills


def command(backend: Backend, output: Path) -> list[str]:
    sizes = ["--num-hiddens", "16", "--ffn-num-hiddens", "24", "--num-heads", "2"]
    options = ["--min-freq", "2", "--batch-size", "64", "--lr", "3e-3", "--epochs", "4"]
    where = ["--backend", backend.name, "--devices", "cpu", "--output", str(output)]
    argv = ["train", "--train", "sample", *sizes, *options, "--schedule", "linear", *where]
    return [sys.executable, "-m", "bertnli", *argv, "--resume", "--save-every", "1", "--quiet"]


def run_killed(backend: Backend, output: Path, kills: int, seed: int) -> int:
    """Start a run again and again, killed at random moments, until it has ended; how often it was
    killed while it trained."""
    moment = random.Random(seed)
    killed = 0
    while True:
        process = processes.Process(command(backend, output), stderr=subprocess.PIPE)
        if killed < kills:
            state = output / "state"
            seen = sorted(state.iterdir()) if state.is_dir() else []
            while process.poll() is None:
                if state.is_dir() and sorted(state.iterdir()) != seen:
                    break
                time.sleep(0.002)
            # From its first step on; a state is being written most of the time.
            time.sleep(moment.uniform(0, 0.15))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
        _, err = process.finish()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, err
            return killed


def check_kills(backend: Backend, home: Path, runs: int, kills: int) -> None:
    env_threads = os.environ.get("OMP_NUM_THREADS")
    done = processes.run(command(backend, home / "whole"))
    assert done.returncode == 0, done.stderr
    expected = bertnli.load(home / "whole" / "last", backend.name).arrays()
    metrics = (home / "whole" / "metrics.jsonl").read_text().splitlines()
    killed = 0
    run = 0
    while killed < kills:
        output = home / str(run)
        killed += run_killed(backend, output, min(runs, kills - killed), run)
        run += 1
        for which in ("last", "best"):
            found = bertnli.load(output / which, backend.name).arrays()
            if which == "last":
                for name, array in expected.items():
                    assert array.tobytes() == found[name].tobytes(), (run, name)
        lines = (output / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == len(metrics) == 4
        for line, other in zip(lines, metrics, strict=True):
            ours, theirs = json.loads(line), json.loads(other)
            assert ours["train_loss"] == theirs["train_loss"]
            assert ours["dev_accuracy"] == theirs["dev_accuracy"]
        left = {path.name for path in output.iterdir()}
        assert left == {"best", "last", "state", "metrics.jsonl", "curve.png", ".lock"}
        shutil.rmtree(output)
    assert os.environ.get("OMP_NUM_THREADS") == env_threads


def test_a_killed_run_goes_on(backend: Backend, tmp_path: Path) -> None:
    check_kills(backend, tmp_path, FEW, FEW)


@pytest.mark.long
def test_a_run_killed_a_hundred_times_goes_on(backend: Backend, tmp_path: Path) -> None:
    check_kills(backend, tmp_path, 10, MANY)


def test_the_command_s_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "--train", "sample", "--output", str(tmp_path)]
    for wrong in ("0", "10x", "-1", "1.5h"):
        with pytest.raises(SystemExit):
            main([*argv, "--save-every", wrong])
        assert "neither like 500 nor like 30s" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--resume", "--overwrite"])


def test_two_runs_in_one_folder(backend: Backend, tmp_path: Path) -> None:
    """The second is refused while the first trains, and may go on after it."""
    trainer, data = new_trainer(backend)
    other, _ = new_trainer(backend)
    refused = 0

    def intrude(record: bertnli.EpochRecord) -> None:
        nonlocal refused
        with pytest.raises(ConfigError, match="another process is training into"):
            fit(other, data, tmp_path, overwrite=True)
        refused += 1

    fit(trainer, data, tmp_path, on_epoch=intrude)
    assert refused == EPOCHS
    assert len(fit(other, data, tmp_path, resume=True).epochs) == EPOCHS
