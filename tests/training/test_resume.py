"""A stopped or killed run resumes; on one machine, to the same bits."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import processes
import pytest
from every_setting import ARCHITECTURE, DROPOUTS
from small_runs import (
    BATCH_SIZE,
    EPOCHS,
    STEPS,
    assert_same_arrays,
    before_step,
    dataset,
    fit,
    new_trainer,
    signal_at,
    weights_of,
)

import bertnli
from bertnli.cli import main
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import CheckpointError, ConfigError, TrainingError
from bertnli.formats import folder as folders
from bertnli.training.history import read_history
from bertnli.training.run import RunFolder
from bertnli.training.state import load_state

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def uninterrupted(backend):
    """History and weights of a run that nothing interrupts."""
    trainer, data = new_trainer(backend)
    return fit(trainer, data), trainer.net.arrays()


def timeless(history):
    """Return the records of a history without wall times."""
    lines = [json.loads(line) for line in history.to_lines().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def assert_resumes(nli, run, expected, **settings):
    """Resume a run with a new trainer, and compare with the expected history and weights."""
    trainer, data = new_trainer(nli, **settings)
    history = fit(trainer, data, run, resume=True)
    assert history.step_losses == expected[0].step_losses
    assert timeless(history) == timeless(expected[0])
    assert_same_arrays(trainer.net.arrays(), expected[1])
    assert_same_arrays(weights_of(run / "last", nli.name), expected[1])
    assert (run / "metrics.jsonl").read_text() == history.to_lines()


@pytest.mark.parametrize(
    ("at", "signum"),
    [
        (1, signal.SIGINT),
        (STEPS, signal.SIGTERM),
        (STEPS + 1, signal.SIGINT),
        (2 * STEPS - 2, signal.SIGTERM),
    ],
)
def test_a_run_resumes_after_a_signal(backend, uninterrupted, tmp_path, at, signum):
    """The current step ends, and no other begins; the signal's handler is restored."""
    trainer, data = new_trainer(backend)
    handler = signal.getsignal(signum)
    calls = signal_at(trainer, at, signum)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped:
        fit(trainer, data, tmp_path)
    assert stopped.value.args == ((0,) if signum == signal.SIGTERM else ())
    assert len(calls) == at and signal.getsignal(signum) is handler
    assert_same_arrays(weights_of(tmp_path / "last", backend.name), trainer.net.arrays())
    assert_resumes(backend, tmp_path, uninterrupted)


def test_a_run_resumes_after_a_signal_during_evaluation(backend, uninterrupted, tmp_path):
    trainer, data = new_trainer(backend)
    eval_step = trainer.eval_step
    trainer.eval_step = lambda batch: (signal.raise_signal(signal.SIGTERM), eval_step(batch))[1]
    with pytest.raises(SystemExit):
        fit(trainer, data, tmp_path)
    state = load_state(tmp_path / "state")
    assert state.step == STEPS and not state.history.epochs
    assert_resumes(backend, tmp_path, uninterrupted)


@pytest.mark.parametrize("when", ["save_state", "_save_after_state", "_write_metrics"])
def test_a_kill_while_the_last_epoch_is_saved(backend, uninterrupted, tmp_path, monkeypatch, when):
    """Nothing is left to train, but all files are written."""
    method = getattr(RunFolder, when)

    def killed(self, *arguments):
        state = load_state(tmp_path / "state")
        epochs = 0 if state is None else len(state.history.epochs)
        if epochs == EPOCHS - (when == "save_state"):
            raise RuntimeError("killed")
        method(self, *arguments)

    monkeypatch.setattr(RunFolder, when, killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(*new_trainer(backend), tmp_path)
    monkeypatch.setattr(RunFolder, when, method)
    (tmp_path / "curve.png").unlink(missing_ok=True)
    assert_resumes(backend, tmp_path, uninterrupted)
    assert (tmp_path / "curve.png").is_file()


def test_a_run_resumes_from_any_of_its_states(backend, uninterrupted, tmp_path):
    fit(*new_trainer(backend), tmp_path / "all", save_every=1, keep=1000)
    states = sorted((tmp_path / "all" / "state").iterdir())
    assert len(states) == EPOCHS * STEPS
    for state in random.Random(0).sample(states, 2):
        run = tmp_path / state.name
        shutil.copytree(state, run / "state" / state.name)
        assert_resumes(backend, run, uninterrupted)


#: Every setting that a recipe may change, and that an encoder may have.
RECIPE = {
    "weight_decay": 0.1,
    "clip_norm": 0.5,
    "layer_decay": 0.8,
    "label_smoothing": 0.1,
    "average": 0.5,
    "patience": EPOCHS,
    "encoder": ARCHITECTURE | DROPOUTS,
}


def test_a_run_with_a_recipe_resumes(backend, tmp_path):
    """The state is in the middle of the steps whose weights are averaged."""
    trainer, data = new_trainer(backend, **RECIPE)
    history = fit(trainer, data, tmp_path / "all", keep=EPOCHS)
    run, state = tmp_path / "run", f"state/step-{2 * STEPS:09d}"
    shutil.copytree(tmp_path / "all" / state, run / state)
    assert_resumes(backend, run, (history, trainer.net.arrays()), **RECIPE)


def test_a_run_that_stopped_early_does_not_go_on(backend, tmp_path):
    settings = {"lr": 1e-9, "schedule": "constant", "warmup": 0.0, "patience": 1}
    history = fit(*new_trainer(backend, **settings), tmp_path)
    assert len(history.epochs) == 2 and history.best.epoch == 1
    again, data = new_trainer(backend, **settings)
    assert fit(again, data, tmp_path, resume=True).step_losses == history.step_losses
    with pytest.raises(ConfigError, match="patience needs a dev set"):
        again.fit(data, None, EPOCHS, BATCH_SIZE)


def test_states_move_between_backends(both, tmp_path):
    for first, second in (both, both[::-1]):
        run = tmp_path / first.name
        trainer, data = new_trainer(first)
        signal_at(trainer, 2 * STEPS + 2)
        with pytest.raises(SystemExit):
            fit(trainer, data, run)
        other, data = new_trainer(second)
        other.engine.load_optimizer_arrays(load_state(run / "state").arrays)
        arrays = other.engine.optimizer_arrays()
        assert_same_arrays(arrays, trainer.engine.optimizer_arrays())
        assert len(fit(other, data, run, resume=True).epochs) == EPOCHS


def test_a_damaged_state_is_skipped(backend, uninterrupted, tmp_path, capsys):
    """Only the last states are kept; the newest that is intact is taken."""
    fit(*new_trainer(backend), tmp_path, save_every=4, keep=2)
    before, newest = sorted((tmp_path / "state").iterdir())
    assert (before.name, newest.name) == ("step-000000014", "step-000000015")
    path = newest / "tensors.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    assert load_state(tmp_path / "state").step == 14
    assert "the state before it is taken" in capsys.readouterr().err
    assert_resumes(backend, tmp_path, uninterrupted)
    for path in (tmp_path / "state").glob("*/tensors.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"all states .* are damaged"):
        fit(*new_trainer(backend), tmp_path, resume=True)


def test_a_refusal_names_what_changed(backend, tmp_path):
    corpus = bertnli.read("sample", "dev")

    def start(rows=slice(None), min_freq=2, max_len=24, dev=True):
        data = bertnli.Corpus(*(column[rows] for column in corpus), tokenized=corpus.tokenized)
        vocab = build_vocab(corpus, min_freq)
        bert = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.0, 24, vocab=vocab)
        train_set = PairDataset(data, max_len, vocab, verbose=False)
        trainer = backend.Trainer(backend.BERTClassifier(bert), devices="cpu")
        options = {"output": tmp_path, "resume": True, "progress": False}
        trainer.fit(train_set, train_set if dev else None, 1, 64, **options)

    start()
    sizes = [len(build_vocab(corpus, min_freq)) for min_freq in (5, 2)]
    for changes, words in (
        ({"min_freq": 5}, "vocab_size: {} (was {})".format(*sizes)),
        ({"min_freq": 5}, "min_freq (--min-freq): 5 (was 2)"),
        ({"rows": slice(60)}, f"training set's examples: 60 (was {len(corpus[0])})"),
        ({"max_len": 16}, "training set's max_len (--max-len): 16 (was 24)"),
        ({"rows": slice(None, None, -1)}, "the training set has other examples, labels, order"),
        ({"dev": False}, "the dev set is missing"),
    ):
        with pytest.raises(ConfigError) as caught:
            start(**changes)
        assert words in str(caught.value) and len(str(caught.value)) < 600
        assert not any(len(word) >= 40 for word in str(caught.value).split())  # no hashes


def test_other_settings_are_refused(backend, tmp_path):
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
    with pytest.raises(ConfigError, match="cannot be resumed"):
        trainer.fit([data], output=tmp_path, resume=True)
    for wrong in ({"keep": 0}, {"save_every": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            fit(trainer, data, tmp_path / "new", **wrong)


def test_a_finished_run_can_be_extended(backend, tmp_path):
    settings = {"schedule": "constant", "warmup": 0.0}
    trainer, data = new_trainer(backend, **settings)
    expected = fit(trainer, data), trainer.net.arrays()
    fit(*new_trainer(backend, **settings), tmp_path, epochs=1)
    assert_resumes(backend, tmp_path, expected, **settings)


def test_a_loss_that_is_not_a_number_stops_the_run(backend, tmp_path):
    trainer, data = new_trainer(backend)
    train_step, calls = trainer.train_step, []

    def broken(batch, lr, seed):
        calls.append(lr)
        return train_step(batch, float("nan") if len(calls) == 8 else lr, seed)

    trainer.train_step = broken
    with pytest.raises(TrainingError, match=r"loss of step 9 is nan.*diverged\.npz"):
        fit(trainer, data, tmp_path, save_every=2)
    with np.load(tmp_path / "diverged.npz") as batch:
        assert int(batch["step"]) == 8 and batch["token_ids"].shape[0] == BATCH_SIZE
    state = load_state(tmp_path / "state")
    assert state.step == 7
    assert all(np.isfinite(array).all() for array in state.arrays.values())


def test_a_full_disk_leaves_the_state_before(backend, uninterrupted, tmp_path, monkeypatch):
    flush, calls = folders.flush_to_disk, []

    def full(path):
        calls.append(path.name)
        if calls.count("tensors.safetensors") == 4:
            raise OSError(28, "No space left on device")
        flush(path)

    monkeypatch.setattr(folders, "flush_to_disk", full)
    with pytest.raises(CheckpointError, match="No space left"):
        fit(*new_trainer(backend), tmp_path, save_every=3)
    monkeypatch.setattr(folders, "flush_to_disk", flush)
    assert load_state(tmp_path / "state").step == 8
    assert_resumes(backend, tmp_path, uninterrupted)


def test_two_runs_cannot_share_a_folder(backend, tmp_path):
    """The second run is refused while the first trains, and allowed after it."""
    (trainer, data), (other, _), refused = new_trainer(backend), new_trainer(backend), []

    def intrude():
        with pytest.raises(ConfigError, match="another process is training into"):
            fit(other, data, tmp_path, overwrite=True)
        refused.append(True)

    before_step(trainer, 2, intrude)
    fit(trainer, data, tmp_path)
    assert refused
    assert len(fit(other, data, tmp_path, resume=True).epochs) == EPOCHS


def command(backend, output):
    """Return the arguments of a command that trains, and that saves after each step."""
    sizes = ["--num-hiddens", "8", "--ffn-num-hiddens", "12", "--num-heads", "2"]
    options = ["--min-freq", "2", "--batch-size", "64", "--lr", "3e-3", "--epochs", "2"]
    where = ["--backend", backend.name, "--devices", "cpu", "--output", str(output)]
    argv = ["train", "--train", "sample", *sizes, *options, "--schedule", "linear", *where]
    return [*argv, "--resume", "--save-every", "1", "--quiet"]


def run_and_kill(argv, state, delay):
    """Start a command, and kill it some seconds after it has saved a state; return its status."""
    before = sorted(state.iterdir()) if state.is_dir() else []
    process = processes.Process([sys.executable, "-m", "bertnli", *argv], stderr=subprocess.PIPE)
    while process.poll() is None and not (state.is_dir() and sorted(state.iterdir()) != before):
        time.sleep(0.002)
    time.sleep(delay)  # most of the time, a state is being written
    if process.poll() is None:
        process.kill()
    _, err = process.finish()
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode


@pytest.mark.parametrize(
    ("runs", "kills"), [(1, 1), pytest.param(10, 10, marks=pytest.mark.long)], ids=["day", "long"]
)
def test_a_killed_run_resumes(backend, tmp_path, runs, kills):
    assert main(command(backend, tmp_path / "uninterrupted")) == 0
    expected = weights_of(tmp_path / "uninterrupted" / "last", backend.name)
    records = timeless(read_history(tmp_path / "uninterrupted"))
    rng, output = random.Random(0), tmp_path / "run"
    for _ in range(runs):
        for _ in range(kills):
            if run_and_kill(command(backend, output), output / "state", rng.uniform(0, 0.15)) == 0:
                break
        assert main(command(backend, output)) == 0
        assert_same_arrays(weights_of(output / "last", backend.name), expected)
        assert weights_of(output / "best", backend.name).keys() == expected.keys()
        assert timeless(read_history(output)) == records
        files = {path.name for path in output.iterdir()}
        assert files == {"best", "last", "state", "metrics.jsonl", "curve.png", ".lock"}
        shutil.rmtree(output)
