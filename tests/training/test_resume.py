"""A run that was stopped or killed resumes; on one machine, to the same bits."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from small_runs import (
    BATCH_SIZE,
    EPOCHS,
    STEPS,
    Arrays,
    assert_same_arrays,
    before_step,
    dataset,
    fit,
    new_trainer,
    signal_at,
    weights_of,
)

import bertnli
from bertnli.backends.interface import Backend
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import CheckpointError, ConfigError, TrainingError
from bertnli.formats import folder as folders
from bertnli.training.checks import check_settings, differences
from bertnli.training.history import CURVE_MARK, read_history
from bertnli.training.run import RunFolder
from bertnli.training.state import load_state

#: Kills of each backend, by day and in the long run.
FEW, MANY = 1, 100
#: History and weights of a run.
Result = tuple[bertnli.History, Arrays]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves take longer to draw than these runs to train."""
    monkeypatch.setattr(bertnli.History, "plot", lambda self, path: path.write_text(CURVE_MARK))


@pytest.fixture(scope="module")
def uninterrupted(backend: Backend) -> Result:
    trainer, data = new_trainer(backend)
    return fit(trainer, data), trainer.net.arrays()


def timeless(history: bertnli.History) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in history.to_lines().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def assert_resumes(nli: Backend, run: Path, expected: Result, **settings: Any) -> None:
    """A new trainer goes on with a run, which ends as expected."""
    trainer, data = new_trainer(nli, **settings)
    history = fit(trainer, data, run, resume=True)
    assert history.step_losses == expected[0].step_losses
    assert timeless(history) == timeless(expected[0])
    assert_same_arrays(trainer.net.arrays(), expected[1])
    assert_same_arrays(weights_of(run / "last", nli.name), expected[1])
    assert (run / "metrics.jsonl").read_text() == history.to_lines()


@pytest.mark.parametrize("at", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS - 2])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_goes_on_after_a_signal(
    backend: Backend, uninterrupted: Result, tmp_path: Path, at: int, signum: int
) -> None:
    """The step under way ends, and no other begins: the first, the last of an epoch, others."""
    trainer, data = new_trainer(backend)
    handler = signal.getsignal(signum)
    calls = signal_at(trainer, at, signum)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        fit(trainer, data, tmp_path)
    assert stopped.value.args == ((0,) if signum == signal.SIGTERM else ())
    assert len(calls) == at and signal.getsignal(signum) is handler
    assert_same_arrays(weights_of(tmp_path / "last", backend.name), trainer.net.arrays())
    assert_resumes(backend, tmp_path, uninterrupted)


def test_a_stop_while_the_dev_set_is_scored(
    backend: Backend, uninterrupted: Result, tmp_path: Path
) -> None:
    trainer, data = new_trainer(backend)
    honest = trainer.eval_step
    trainer.eval_step = lambda batch: (signal.raise_signal(signal.SIGTERM), honest(batch))[1]
    with pytest.raises(SystemExit):
        fit(trainer, data, tmp_path)
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == STEPS and not state.history.epochs
    assert_resumes(backend, tmp_path, uninterrupted)


@pytest.mark.parametrize("when", ["save_state", "_save_after_state", "_write_metrics"])
def test_a_kill_while_the_last_epoch_is_saved(
    backend: Backend,
    uninterrupted: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """Nothing is left to train, and all files are written all the same."""
    honest = getattr(RunFolder, when)

    def killed(self: RunFolder, *arguments: Any) -> None:
        state = load_state(tmp_path / "state")
        epochs = 0 if state is None else len(state.history.epochs)
        if epochs == EPOCHS - (when == "save_state"):
            raise RuntimeError("killed")
        honest(self, *arguments)

    monkeypatch.setattr(RunFolder, when, killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(*new_trainer(backend), tmp_path)
    monkeypatch.setattr(RunFolder, when, honest)
    (tmp_path / "curve.png").unlink(missing_ok=True)
    assert_resumes(backend, tmp_path, uninterrupted)
    assert (tmp_path / "curve.png").is_file()


def test_every_step_can_be_gone_on_from(
    backend: Backend, uninterrupted: Result, tmp_path: Path
) -> None:
    fit(*new_trainer(backend), tmp_path / "all", save_every=1, keep=1000)
    states = sorted((tmp_path / "all" / "state").iterdir())
    assert len(states) == EPOCHS * STEPS
    for state in random.Random(0).sample(states, 3):
        run = tmp_path / state.name
        shutil.copytree(state, run / "state" / state.name)
        assert_resumes(backend, run, uninterrupted)


#: Everything that a recipe may turn on.
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
    run, state = tmp_path / "run", f"state/step-{2 * STEPS:09d}"
    shutil.copytree(tmp_path / "all" / state, run / state)
    assert_resumes(backend, run, (history, trainer.net.arrays()), **RECIPE)


def test_a_run_that_stopped_early_is_finished(backend: Backend, tmp_path: Path) -> None:
    settings = {"lr": 1e-9, "schedule": "constant", "warmup": 0.0, "patience": 1}
    history = fit(*new_trainer(backend, **settings), tmp_path)
    assert len(history.epochs) == 2 and history.best.epoch == 1
    again, data = new_trainer(backend, **settings)
    assert fit(again, data, tmp_path, resume=True).step_losses == history.step_losses
    with pytest.raises(ConfigError, match="patience needs a dev set"):
        again.fit(data, None, EPOCHS, BATCH_SIZE)


def test_states_move_between_backends(both: tuple[Backend, Backend], tmp_path: Path) -> None:
    """Begun on one framework and ended on the other, a run learns the same, but for rounding."""
    for first, second in (both, both[::-1]):
        run = tmp_path / first.name
        trainer, data = new_trainer(first)
        signal_at(trainer, 2 * STEPS + 2)
        with pytest.raises(SystemExit):
            fit(trainer, data, run)
        other, data = new_trainer(second)
        state = load_state(run / "state")
        assert state is not None
        other.engine.load_optimizer_arrays(state.arrays)
        arrays = other.engine.optimizer_arrays()
        assert_same_arrays(arrays, trainer.engine.optimizer_arrays())
        assert len(fit(other, data, run, resume=True).epochs) == EPOCHS


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_state_is_left_out(
    backend: Backend,
    uninterrupted: Result,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    fit(*new_trainer(backend), tmp_path, save_every=4, keep=3)
    *_, before, newest = sorted((tmp_path / "state").iterdir())
    path = newest / "tensors.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else raw)
    if damage == "gone":
        (newest / "state.json").unlink()
    state = load_state(tmp_path / "state")
    assert state is not None and f"step-{state.step:09d}" == before.name
    assert "the state before it is taken" in capsys.readouterr().err
    assert_resumes(backend, tmp_path, uninterrupted)
    for path in (tmp_path / "state").glob("*/tensors.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"all states .* are damaged"):
        fit(*new_trainer(backend), tmp_path, resume=True)


def test_only_the_last_states_are_kept(backend: Backend, tmp_path: Path) -> None:
    fit(*new_trainer(backend), tmp_path, save_every=4, keep=2)
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["step-000000014", "step-000000015"]


def test_what_changed_is_named_and_not_a_hash(backend: Backend, tmp_path: Path) -> None:
    corpus = bertnli.read("sample", "dev")

    def start(rows: Any, min_freq: int = 2, max_len: int = 24, dev: bool = True) -> None:
        data = bertnli.Corpus(*(column[rows] for column in corpus), tokenized=corpus.tokenized)
        vocab = build_vocab(corpus, min_freq)
        bert: Any = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.0, 24, vocab=vocab)
        train_set = PairDataset(data, max_len, vocab, verbose=False)
        trainer = backend.Trainer(backend.BERTClassifier(bert), devices="cpu")
        options = {"output": tmp_path, "resume": True, "progress": False}
        trainer.fit(train_set, train_set if dev else None, 1, 64, **options)

    everything, total = slice(None), len(corpus[0])
    start(everything)
    sizes = [len(build_vocab(corpus, min_freq)) for min_freq in (5, 2)]
    for arguments, words in (
        ([everything, 5], "vocab_size: {} (was {})".format(*sizes)),
        ([everything, 5], "min_freq (--min-freq): 5 (was 2)"),
        ([slice(60)], f"training set's examples: 60 (was {total})"),
        ([everything, 2, 16], "training set's max_len (--max-len): 16 (was 24)"),
        ([slice(None, None, -1)], "the training set has other examples, labels, order"),
        ([everything, 2, 24, False], "the dev set is missing"),
    ):
        with pytest.raises(ConfigError) as caught:
            start(*arguments)  # type: ignore[arg-type]
        assert words in str(caught.value) and len(str(caught.value)) < 600
        assert not any(len(word) >= 40 for word in str(caught.value).split())


def test_other_settings_are_refused(backend: Backend, tmp_path: Path) -> None:
    fit(*new_trainer(backend), tmp_path, epochs=1)
    options = {"epochs": 1, "resume": True}
    with pytest.raises(ConfigError, match=r"lr: 0\.01 \(was 0\.003\).*seed: 4 \(was 3\)"):
        fit(*new_trainer(backend, seed=4, lr=0.01), tmp_path, **options)
    trainer, data = new_trainer(backend)
    with pytest.raises(ConfigError, match="training set has other"):
        fit(trainer, dataset(40), tmp_path, **options)
    with pytest.raises(ConfigError, match="an earlier run"):
        fit(trainer, data, tmp_path)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(ConfigError, match="no state/ to go on from"):
        fit(trainer, data, tmp_path, **options)
    loader: Any = [data]
    with pytest.raises(ConfigError, match="cannot be resumed"):
        trainer.fit(loader, output=tmp_path, resume=True)
    for wrong in ({"keep": 0}, {"save_every": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            fit(trainer, data, tmp_path / "new", **wrong)


def test_notes_alone_are_no_difference() -> None:
    now = {"lr": 1.0, "training set": "a", "notes": {"min_freq": 5}}
    check_settings(now, {**now, "notes": {}})
    assert differences({"threads": 1}, {"threads": 2, "variables": "MKL_CBWR=AVX2"}) == [
        "threads: 2 (was 1)",
        "variables: MKL_CBWR=AVX2 (was none)",
    ]


def test_more_epochs_can_be_asked_for(backend: Backend, tmp_path: Path) -> None:
    settings = {"schedule": "constant", "warmup": 0.0}
    trainer, data = new_trainer(backend, **settings)
    expected = fit(trainer, data), trainer.net.arrays()
    fit(*new_trainer(backend, **settings), tmp_path, epochs=1)
    assert_resumes(backend, tmp_path, expected, **settings)


def test_a_loss_that_is_no_number_stops_the_run(backend: Backend, tmp_path: Path) -> None:
    trainer, data = new_trainer(backend)
    honest, calls = trainer.train_step, 0

    def broken(batch: Any, lr: float, seed: int) -> Any:
        nonlocal calls
        calls += 1
        return honest(batch, float("nan") if calls == 8 else lr, seed)

    trainer.train_step = broken
    with pytest.raises(TrainingError, match=r"loss of step 9 is nan.*diverged\.npz"):
        fit(trainer, data, tmp_path, save_every=2)
    with np.load(tmp_path / "diverged.npz") as batch:
        assert int(batch["step"]) == 8 and batch["token_ids"].shape[0] == BATCH_SIZE
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 7
    assert all(np.isfinite(array).all() for array in state.arrays.values())


def test_a_full_disk_leaves_the_state_before(
    backend: Backend, uninterrupted: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = folders.flush_to_disk, 0

    def full(path: Path) -> None:
        nonlocal calls
        calls += path.name == "tensors.safetensors"
        if calls == 4:
            raise OSError(28, "No space left on device")
        honest(path)

    monkeypatch.setattr(folders, "flush_to_disk", full)
    with pytest.raises(CheckpointError, match="No space left"):
        fit(*new_trainer(backend), tmp_path, save_every=3)
    monkeypatch.setattr(folders, "flush_to_disk", honest)
    state = load_state(tmp_path / "state")
    assert state is not None and state.step == 8
    assert_resumes(backend, tmp_path, uninterrupted)


def test_two_runs_in_one_folder(backend: Backend, tmp_path: Path) -> None:
    """The second is refused while the first trains, and may go on after it."""
    trainer, data = new_trainer(backend)
    other, _ = new_trainer(backend)
    refused = 0

    def intrude() -> None:
        nonlocal refused
        with pytest.raises(ConfigError, match="another process is training into"):
            fit(other, data, tmp_path, overwrite=True)
        refused += 1

    before_step(trainer, 2, intrude)
    fit(trainer, data, tmp_path)
    assert refused == 1
    assert len(fit(other, data, tmp_path, resume=True).epochs) == EPOCHS


def test_the_command_s_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "--train", "sample", "--output", str(tmp_path)]
    for wrong in ("0", "10x", "-1", "1.5h"):
        with pytest.raises(SystemExit):
            main([*argv, "--save-every", wrong])
        assert "neither like 500 nor like 30s" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--resume", "--overwrite"])


# Kills


def command(backend: Backend, output: Path) -> list[str]:
    sizes = ["--num-hiddens", "8", "--ffn-num-hiddens", "12", "--num-heads", "2"]
    options = ["--min-freq", "2", "--batch-size", "64", "--lr", "3e-3", "--epochs", "2"]
    where = ["--backend", backend.name, "--devices", "cpu", "--output", str(output)]
    argv = ["train", "--train", "sample", *sizes, *options, "--schedule", "linear", *where]
    return [sys.executable, "-m", "bertnli", *argv, "--resume", "--save-every", "1", "--quiet"]


def run_killed(backend: Backend, output: Path, moments: Iterator[float]) -> int:
    """Start a run again and again, killed at some moments, until it ends; return the kills."""
    killed = 0
    while True:
        moment = next(moments, None)
        process = processes.Process(command(backend, output), stderr=subprocess.PIPE)
        if moment is not None:
            state = output / "state"
            before = sorted(state.iterdir()) if state.is_dir() else []
            while process.poll() is None:
                if state.is_dir() and sorted(state.iterdir()) != before:
                    break
                time.sleep(0.002)
            # From its first step on; most of the time, a state is being written.
            time.sleep(moment)
            if process.poll() is None:
                process.kill()
                killed += 1
        _, err = process.finish()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, err
            return killed


def check_kills(backend: Backend, home: Path, kills_of_a_run: int, kills: int) -> None:
    done = processes.run(command(backend, home / "uninterrupted"))
    assert done.returncode == 0, done.stderr
    expected = weights_of(home / "uninterrupted" / "last", backend.name)
    records = read_history(home / "uninterrupted")
    rng, killed = random.Random(0), 0
    while killed < kills:
        output = home / "run"
        count = min(kills_of_a_run, kills - killed)
        killed += run_killed(backend, output, iter([rng.uniform(0, 0.15) for _ in range(count)]))
        assert_same_arrays(weights_of(output / "last", backend.name), expected)
        assert weights_of(output / "best", backend.name).keys() == expected.keys()
        assert timeless(read_history(output)) == timeless(records)
        left = {path.name for path in output.iterdir()}
        assert left == {"best", "last", "state", "metrics.jsonl", "curve.png", ".lock"}
        shutil.rmtree(output)


def test_a_killed_run_goes_on(backend: Backend, tmp_path: Path) -> None:
    check_kills(backend, tmp_path, FEW, FEW)


@pytest.mark.long
def test_a_run_killed_a_hundred_times_goes_on(backend: Backend, tmp_path: Path) -> None:
    check_kills(backend, tmp_path, 10, MANY)
