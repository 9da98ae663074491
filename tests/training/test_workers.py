"""Several real processes compute what one process does, and lose nothing when one is killed."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
import workers_worker
from small_runs import assert_same_arrays, weights_of

from bertnli import parity
from bertnli.backends.mxnet._framework import mx
from bertnli.errors import ConfigError, TrainingError
from bertnli.training.state import load_state
from bertnli.training.workers import Workers

#: The environment of the processes, whatever the number of threads of this one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LONG = pytest.mark.long
TORCH_BY_DAY = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("mxnet", marks=LONG)], indirect=True
)
MXNET_BY_DAY = pytest.mark.parametrize(
    "backend", ["mxnet", pytest.param("torch", marks=LONG)], indirect=True
)


def started(backend, count, worker):
    """Return the command that runs a Python command line in several processes."""
    if backend == "torch":
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        return [sys.executable, *torchrun, *worker]
    code = (
        "import sys; from bertnli.training.launch import Layout, launch; "
        f"sys.exit(launch(Layout({count}, {max(count // 2, 1)}), [sys.executable, *sys.argv[1:]]))"
    )
    return [sys.executable, "-c", code, *worker]


def run(command, status=0):
    """Run a command that ends with a status; None allows any."""
    done = processes.run(command, env=ENVIRONMENT)
    assert status is None or done.returncode == status, done.stderr


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function that runs `workers_worker` in several processes; returns each one's results."""

    @functools.cache
    def train(backend, count, settings="{}"):
        folder = tmp_path_factory.mktemp(f"{backend}{count}")
        run(started(backend, count, [workers_worker.__file__, backend, str(folder), settings]))
        return [dict(np.load(folder / f"{rank}-of-{count}.npz")) for rank in range(count)]

    return train


MICRO = {"micro_batch_size": 2, "auto_batch": True}
#: Settings that need the whole batch's gradient.
RECIPE = {"weight_decay": 0.1, "clip_norm": 0.5, "layer_decay": 0.8, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (2, RECIPE | MICRO),
        pytest.param(4, RECIPE | MICRO, marks=LONG),
        pytest.param(2, RECIPE, marks=LONG),
        pytest.param(4, {}, marks=LONG),
    ],
)
def test_processes_compute_what_one_does(backend, trained, count, settings):
    """Losses agree within 1e-6 at each step, gradients to the digits that float32 has.

    A batch's pairs pull in different directions, and of their sum fewer digits are right than of
    each: a single process's gradients are as far from float64. The last batch has fewer pairs than
    there are processes.
    """
    alone = {name: value for name, value in settings.items() if name in RECIPE}
    expected = workers_worker.results(*workers_worker.make_trainer(backend.name, **alone))
    several = trained(backend.name, count, json.dumps(settings))
    arrays = several[0]
    assert len(arrays["losses"]) == workers_worker.STEPS
    assert np.abs(arrays["losses"] - expected["losses"]).max() <= 1e-6
    gradients = [name for name in expected if name.startswith("gradient/")]
    assert len(gradients) > 30
    for name in gradients:
        if not parity.is_key_bias(name.removeprefix("gradient/")):
            largest = np.abs(expected[name]).max()
            assert np.abs(arrays[name] - expected[name]).max() <= 3e-6 * largest, name
    assert np.abs(arrays["scores"] - expected["scores"]).max() <= 1e-5
    for other in several[1:]:  # bit by bit, or the processes would drift apart
        assert_same_arrays(other, arrays)


def test_processes_of_torch_and_devices_of_mxnet_agree(trained):
    torch_losses = trained("torch", 2, json.dumps(RECIPE | MICRO))[0]["losses"]
    made = workers_worker.make_trainer("mxnet", devices="cpu:0,cpu:1", **RECIPE)
    losses = workers_worker.results(*made)["losses"]
    assert np.abs(losses - torch_losses).max() <= 1e-5
    assert losses[0] != pytest.approx(losses[-1], abs=0.01)  # it has learnt


#: A user's command: 3 epochs of 25 steps.
TRAIN = [
    *("train", "--train", "sample", "--num-hiddens", "16", "--ffn-num-hiddens", "32"),
    *("--num-heads", "2", "--min-freq", "2", "--batch-size", "32", "--lr", "1e-3"),
    *("--epochs", "3", "--save-every", "10", "--quiet"),
]


def command_of(backend, output, *more):
    """Return the command that trains in two processes."""
    train = [*TRAIN, "--output", str(output), *more]
    if backend == "torch":
        return started("torch", 2, ["-m", "bertnli", *train, "--backend", "torch"])
    return [sys.executable, "-m", "bertnli", "launch", "--workers", "2", "--", *train]


@pytest.fixture(scope="session")
def undisturbed(backend, tmp_path_factory):
    """The weights of an undisturbed run of two processes, of which one writes the files."""
    home = tmp_path_factory.mktemp("undisturbed")
    run(command_of(backend.name, home / "run", "--tensorboard", str(home / "tb")))
    assert len([*(home / "tb").iterdir()]) == 1
    return weights_of(home / "run" / "last", "torch")


def assert_resumes(backend, output, expected):
    run(command_of(backend, output, "--resume"))
    assert (output / "metrics.jsonl").read_text().count("\n") == 3
    assert_same_arrays(weights_of(output / "last", "torch"), expected)


@pytest.fixture
def running():
    """A function that starts a run and waits until it has saved a state."""
    started = []

    def start(command, output):
        pipe = subprocess.PIPE
        process = processes.Process(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe)
        started.append(process)
        process.until(lambda: list(output.glob("state/step-*")))
        return process

    yield start
    for process in started:
        process.end()
        process.communicate()


def workers_of(output):
    """Return the ids of the processes that train into a folder, by rank; no launchers."""
    pids = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            variables = path.with_name("environ").read_bytes().decode().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if str(output) in words and "launch" not in words and "torch.distributed.run" not in words:
            ranks = [v for v in variables if v.startswith(("RANK=", "BERTNLI_RANK="))]
            pids[int(ranks[0].partition("=")[2])] = int(path.parent.name)
    return [pids[rank] for rank in sorted(pids)]


def assert_state_was_saved(output, text):
    step = re.search(r"step (\d+) was saved in .*--resume\s+goes\s+on", text)
    assert step is not None, text
    assert (output / "state" / f"step-{int(step[1]):09d}").is_dir()


@TORCH_BY_DAY
@pytest.mark.parametrize("victim", [pytest.param(0, marks=LONG), 1])
def test_a_killed_worker_ends_the_run_which_resumes(
    backend, undisturbed, running, tmp_path, victim
):
    """The first process saves the last complete step."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, output), output)
    workers = workers_of(output)
    assert len(workers) == 2
    os.kill(workers[victim], signal.SIGKILL)
    _, text = process.finish()
    assert process.returncode != 0 and not workers_of(output)
    assert "SIGKILL" in text and ("--resume" in text or victim == 0)
    if victim == 1:
        assert_state_was_saved(output, text)
    assert_resumes(backend.name, output, undisturbed)


@TORCH_BY_DAY
def test_sigterm_to_every_process_saves(backend, running, tmp_path):
    """A cluster's scheduler sends the signal to the launcher, the servers and the workers."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, output, "--epochs", "50"), output)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGTERM)
    _, text = process.finish()
    assert text.count("stopped by SIGTERM") == 1 and "--resume goes on" in text
    if backend.name == "mxnet":  # torchrun has its own status
        assert process.returncode == 0
    assert load_state(output / "state") is not None and (output / "last").is_dir()


@MXNET_BY_DAY
@pytest.mark.parametrize(
    ("victim", "resumes"),
    [(1, False), pytest.param(0, True, marks=LONG), pytest.param(1, True, marks=LONG)],
)
def test_a_frozen_worker_ends_the_run(backend, request, running, tmp_path, victim, resumes):
    """The run ends after the rank timeout; the first process saves, unless it is frozen."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, output, "--rank-timeout", "5s"), output)
    frozen = workers_of(output)[victim]
    os.kill(frozen, signal.SIGSTOP)
    process.until(lambda: workers_of(output) == [frozen])
    os.kill(frozen, signal.SIGKILL)  # as the launchers do after half a minute
    _, text = process.finish()
    if backend.name == "mxnet":
        assert process.returncode == 75 and "for 5 s (--rank-timeout)" in text
    else:
        assert re.search(r"exitcode *: 75 ", text)
    if victim == 1:
        assert_state_was_saved(output, text)
    if resumes:
        assert_resumes(backend.name, output, request.getfixturevalue("undisturbed"))


@LONG
def test_a_worker_that_pauses_changes_nothing(backend, undisturbed, running, tmp_path):
    output = tmp_path / "run"
    process = running(command_of(backend.name, output), output)
    victim = workers_of(output)[1]
    os.kill(victim, signal.SIGSTOP)
    time.sleep(2)
    os.kill(victim, signal.SIGCONT)
    _, text = process.finish()
    assert process.returncode == 0, text
    assert_same_arrays(weights_of(output / "last", "torch"), undisturbed)


@LONG
@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_a_frozen_server_ends_the_run(running, tmp_path, role):
    """The scheduler is needed only at the end."""
    output = tmp_path / "run"
    epochs = "500" if role == "server" else "5"
    more = ("--rank-timeout", "5s", "--epochs", epochs)
    process = running(command_of("mxnet", output, *more), output)
    variable = f"DMLC_ROLE={role}".encode()
    (pid,) = (p for p in process.pids() if variable in Path(f"/proc/{p}/environ").read_bytes())
    os.kill(pid, signal.SIGSTOP)
    _, text = process.finish()
    assert process.returncode == 75 and "for 5 s (--rank-timeout)" in text
    if role == "server":
        assert_state_was_saved(output, text)
    assert (output / "last").is_dir() == (role == "scheduler")


@LONG
def test_many_steps_do_not_crash(tmp_path):
    """With gloo's own sum of rows, three of four such runs crashed in twelve thousand steps."""
    more = ("--epochs", "1000", "--save-every", "100000")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda i: run(command_of("torch", tmp_path / str(i), *more)), range(4)))


@MXNET_BY_DAY
def test_a_process_that_fails_alone_ends_the_run(backend, tmp_path):
    """Also if something else holds a reference to its store, with which MXNet alone would abort."""
    script = tmp_path / "fails.py"
    script.write_text(
        "import ctypes, sys, bertnli\n"
        "workers = bertnli.get_backend(sys.argv[1]).find_workers()\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(workers))\n"
        "workers.barrier()\n"
        "if workers.rank == 1:\n"
        "    sys.exit(3)\n"
        "workers.barrier()\n"
    )
    status = 3 if backend.name == "mxnet" else None  # torchrun has its own status
    run(started(backend.name, 2, [str(script), backend.name]), status)


class First(Workers):
    """The first of two processes, of which the other sends zeros; records what it sends."""

    size = 2

    def __init__(self):
        self.sent = []

    def sum(self, values):
        self.sent.append(values.copy())
        return values


class Second(Workers):
    """The second of two processes; adds what the first one sent."""

    rank, size = 1, 2

    def __init__(self, sent):
        self.sent = sent

    def sum(self, values):
        return values + self.sent.pop(0)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1 << 21, (1 << 22) + 3])
def test_bytes_of_the_first_process_reach_the_others(length):
    data = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    first = First()
    assert first.on_rank0(lambda: data, bytes, bytes) == data
    assert Second(first.sent).on_rank0(lambda: b"not called", bytes, bytes) == data


def test_an_error_of_the_first_process_is_raised_in_all():
    def fails():
        raise ConfigError("not so")

    first = First()
    with pytest.raises(ConfigError, match="not so"):
        first.on_rank0(fails, bytes, bytes)
    with pytest.raises(ConfigError, match="not so"):
        Second(first.sent).on_rank0(lambda: b"", bytes, bytes)


@pytest.mark.parametrize("size", range(1, 7))
def test_shares_hold_each_pair_once_and_are_even(make_batch, size):
    batch, shares = make_batch(5), []
    for rank in range(size):
        workers = Workers()
        workers.rank, workers.size = rank, size
        shares.append(workers.share(batch))
    rows = sorted(map(bytes, batch.token_ids))
    assert sorted(bytes(row) for share in shares for row in share.token_ids) == rows
    tokens = [int(share.valid_lens.sum()) for share in shares]
    assert max(tokens) - min(tokens) <= int(batch.valid_lens.max())


def test_micro_batches_are_halved_when_memory_is_short(backend, monkeypatch, capsys):
    """The framework's own error is raised when more than 2 pairs are computed together."""
    errors = {
        "torch": lambda: torch.OutOfMemoryError("CUDA out of memory"),
        "mxnet": lambda: mx.MXNetError("cudaMalloc retry failed: out of memory"),
    }

    def limited(**settings):
        trainer, train, _ = workers_worker.make_trainer(backend.name, **settings)
        backward_share = trainer.engine._backward_share

        def backward(share, *how):
            if min(trainer.engine.limits.micro_batch_size or len(share), len(share)) > 2:
                raise errors[backend.name]()
            return backward_share(share, *how)

        monkeypatch.setattr(trainer.engine, "_backward_share", backward)
        return trainer, lambda: trainer.fit(train, None, 1, 7, progress=False).step_losses

    plain, train, _ = workers_worker.make_trainer(backend.name)
    expected = plain.fit(train, None, 1, 7, progress=False).step_losses
    trainer, fit = limited(auto_batch=True)
    assert np.abs(np.subtract(fit(), expected)).max() <= 1e-6
    assert trainer.engine.limits.micro_batch_size == 1  # 7, 3, 1
    assert "7 pairs at a time; going on with 3" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=r"7 pairs at a time.*--micro-batch-size 3"):
        limited()[1]()
    assert np.abs(np.subtract(limited(micro_batch_size=2)[1](), expected)).max() <= 1e-6
    with pytest.raises(ConfigError, match="micro_batch_size is 0"):
        limited(micro_batch_size=0)


def test_a_sum_leaves_no_reference_to_its_tensor(tmp_path):
    """A thread that frees a tensor while Python ends aborts the process."""
    code = """
import sys, torch, torch.distributed as dist
from bertnli.backends.torch.workers import all_reduce
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
for _ in range(3000):
    tensor = torch.ones(3)
    before = tensor._use_count(), sys.getrefcount(tensor)
    all_reduce(tensor)
    assert (tensor._use_count(), sys.getrefcount(tensor)) == before
dist.destroy_process_group()
"""
    run([sys.executable, "-c", code, str(tmp_path / "store")])
