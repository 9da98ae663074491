"""Several processes, for real: they compute what one does, and lose nothing when one is killed."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
import workers_worker
from numpy.typing import NDArray
from small_runs import Arrays, assert_same_arrays, weights_of

from bertnli import parity
from bertnli.backends.interface import Backend
from bertnli.backends.mxnet._framework import mx
from bertnli.errors import ConfigError, TrainingError
from bertnli.training.state import load_state
from bertnli.training.workers import Workers

HERE = Path(__file__).parent
#: The environment of the processes; this one's may hold variables of a launcher, or other threads.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
Start = Callable[..., processes.Process]


def started(backend: str, count: int, worker: list[str]) -> list[str]:
    """Return the command that starts so many processes."""
    if backend == "torch":
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        return [sys.executable, *torchrun, *worker]
    code = (
        "import sys; from bertnli.training.launch import Layout, launch; "
        f"sys.exit(launch(Layout({count}, {max(count // 2, 1)}), [sys.executable, *sys.argv[1:]]))"
    )
    return [sys.executable, "-c", code, *worker]


def run(command: list[str], status: int | None = 0) -> str:
    """Run a command to its end, and return what it wrote."""
    done = processes.run(command, env=ENVIRONMENT)
    assert status is None or done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Arrays]]:
    """Trains in so many processes; returns each one's results."""

    @functools.cache
    def train(backend: str, count: int, settings: str = "{}") -> list[Arrays]:
        folder = tmp_path_factory.mktemp(f"{backend}{count}")
        script = str(HERE / "workers_worker.py")
        run(started(backend, count, [script, backend, str(folder), settings]))
        return [dict(np.load(folder / f"{rank}-of-{count}.npz")) for rank in range(count)]

    return train


def assert_close(arrays: Arrays, expected: Arrays) -> None:
    """Losses within 1e-6 at each step, and the first gradients as near as float32 brings them.

    A batch's pairs pull in different directions, and of their sum fewer digits are right than of
    each: a single process's gradients are as far from float64.
    """
    assert len(arrays["losses"]) == workers_worker.STEPS
    assert np.abs(arrays["losses"] - expected["losses"]).max() <= 1e-6
    gradients = [name for name in expected if name.startswith("gradient/")]
    assert len(gradients) > 30
    for name in gradients:
        if not parity.is_key_bias(name.removeprefix("gradient/")):
            largest = np.abs(expected[name]).max()
            assert np.abs(arrays[name] - expected[name]).max() <= 3e-6 * largest, name
    assert np.abs(arrays["scores"] - expected["scores"]).max() <= 1e-5


MICRO = {"micro_batch_size": 2, "auto_batch": True}
#: What all processes must do with the whole batch's gradient.
RECIPE = {"weight_decay": 0.1, "clip_norm": 0.5, "layer_decay": 0.8, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (4, RECIPE | MICRO),
        pytest.param(2, RECIPE, marks=pytest.mark.long),
        pytest.param(4, {}, marks=pytest.mark.long),
        pytest.param(2, MICRO, marks=pytest.mark.long),
    ],
)
def test_processes_compute_what_one_does(
    backend: Backend,
    trained: Callable[..., list[Arrays]],
    count: int,
    settings: dict[str, Any],
) -> None:
    """Also in a batch of fewer pairs than there are processes, and in micro-batches."""
    plain = {name: value for name, value in settings.items() if name in RECIPE}
    alone = workers_worker.results(*workers_worker.make_trainer(backend.name, **plain))
    several = trained(backend.name, count, json.dumps(settings))
    for arrays in several:
        assert_close(arrays, alone)
    for name, array in several[0].items():  # not a bit apart, or they would drift
        assert all(other[name].tobytes() == array.tobytes() for other in several), name


def test_processes_of_torch_and_devices_of_mxnet(trained: Callable[..., list[Arrays]]) -> None:
    processes_of_torch = trained("torch", 4, json.dumps(RECIPE | MICRO))[0]
    made = workers_worker.make_trainer("mxnet", devices="cpu:0,cpu:1", **RECIPE)
    arrays = workers_worker.results(*made)
    assert np.abs(arrays["losses"] - processes_of_torch["losses"]).max() <= 1e-5
    assert arrays["losses"][0] != pytest.approx(arrays["losses"][-1], abs=0.01)  # it has learnt


# What a user runs: 5 epochs of 25 steps.
TRAIN = [
    *("train", "--train", "sample", "--num-hiddens", "16", "--ffn-num-hiddens", "32"),
    *("--num-heads", "2", "--min-freq", "2", "--batch-size", "32", "--lr", "1e-3"),
    *("--epochs", "5", "--save-every", "10", "--quiet"),
]


def command_of(backend: str, count: int, output: Path, *more: str) -> list[str]:
    train = [*TRAIN, "--output", str(output), *more]
    if backend == "torch":
        return started("torch", count, ["-m", "bertnli", *train, "--backend", "torch"])
    return [sys.executable, "-m", "bertnli", "launch", "--workers", str(count), "--", *train]


@pytest.fixture(scope="session")
def undisturbed(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """The weights of a run of two processes that nothing disturbs; the first writes its files."""
    home = tmp_path_factory.mktemp("undisturbed")
    run(command_of(backend.name, 2, home / "run", "--tensorboard", str(home / "tb")))
    assert len([*(home / "tb").iterdir()]) == 1
    return weights_of(home / "run" / "last", "torch")


def assert_goes_on(backend: str, output: Path, expected: Arrays) -> None:
    run(command_of(backend, 2, output, "--resume"))
    assert (output / "metrics.jsonl").read_text().count("\n") == 5
    assert_same_arrays(weights_of(output / "last", "torch"), expected)


@pytest.fixture
def running() -> Iterator[Start]:
    """Starts a run and waits until it has saved a state."""
    started = []

    def start(command: list[str], output: Path, stderr: Any = subprocess.PIPE) -> processes.Process:
        pipe = subprocess.PIPE
        process = processes.Process(command, env=ENVIRONMENT, stdout=pipe, stderr=stderr)
        started.append(process)
        process.until(lambda: list(output.glob("state/step-*")))
        return process

    yield start
    for process in started:
        process.end()
        process.communicate()


def workers_of(output: Path) -> list[int]:
    """Return the processes that train into a folder, by rank; not those that started them."""
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


def sigstop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("mxnet", marks=pytest.mark.long)], indirect=True
)
@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_killed_worker_ends_the_run_and_it_goes_on(
    backend: Backend, undisturbed: Arrays, running: Start, tmp_path: Path, victim: int
) -> None:
    """The first process saves the last complete step."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, 2, output), output)
    workers = workers_of(output)
    assert len(workers) == 2
    os.kill(workers[victim], signal.SIGKILL)
    _, text = process.finish()
    assert process.returncode != 0
    assert not workers_of(output)
    assert "SIGKILL" in text and ("--resume" in text or victim == 0)
    if victim == 1:
        assert_state_was_saved(output, text)
    assert_goes_on(backend.name, output, undisturbed)


def test_sigterm_to_every_process(backend: Backend, running: Start, tmp_path: Path) -> None:
    """As a service manager or a cluster's scheduler sends it: launcher, servers and workers."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, 2, output), output)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        os.kill(pid, signal.SIGTERM)
    _, text = process.finish()
    assert text.count("stopped by SIGTERM") == 1
    assert "--resume goes on" in text
    if backend.name == "mxnet":  # torchrun has a status of its own
        assert process.returncode == 0
    assert load_state(output / "state") is not None and (output / "last").is_dir()


@pytest.mark.parametrize(
    "backend", ["mxnet", pytest.param("torch", marks=pytest.mark.long)], indirect=True
)
@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_stopped_worker_ends_the_run_and_it_goes_on(
    backend: Backend, undisturbed: Arrays, running: Start, tmp_path: Path, victim: int
) -> None:
    """After the rank timeout; the first process saves, unless it is the one that is stopped."""
    output = tmp_path / "run"
    process = running(command_of(backend.name, 2, output, "--rank-timeout", "5s"), output)
    stopped = workers_of(output)[victim]
    sigstop(stopped)
    process.until(lambda: workers_of(output) == [stopped])
    os.kill(stopped, signal.SIGKILL)  # as the launchers do after half a minute
    _, text = process.finish()
    if backend.name == "mxnet":  # torchrun has a status of its own
        assert process.returncode == 75 and "for 5 s (--rank-timeout)" in text
    else:
        assert re.search(r"exitcode *: 75 ", text)
    if victim == 1:
        assert_state_was_saved(output, text)
    assert_goes_on(backend.name, output, undisturbed)


def assert_state_was_saved(output: Path, text: str) -> None:
    step = re.search(r"step (\d+) was saved in .*--resume\s+goes\s+on", text)
    assert step is not None, text
    assert (output / "state" / f"step-{int(step[1]):09d}").is_dir()


@pytest.mark.long
def test_a_stopped_worker_that_comes_back(
    backend: Backend, undisturbed: Arrays, running: Start, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    process = running(command_of(backend.name, 2, output), output)
    victim = workers_of(output)[1]
    sigstop(victim)
    time.sleep(2)
    os.kill(victim, signal.SIGCONT)
    _, text = process.finish()
    assert process.returncode == 0, text
    assert_same_arrays(weights_of(output / "last", "torch"), undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("role", ["server", "scheduler"])
@pytest.mark.needs("mxnet")
def test_a_stopped_server_ends_the_run(running: Start, tmp_path: Path, role: str) -> None:
    """The scheduler is needed at the end alone."""
    output = tmp_path / "run"
    epochs = "500" if role == "server" else "5"
    more = ("--rank-timeout", "5s", "--epochs", epochs)
    process = running(command_of("mxnet", 2, output, *more), output)
    variable = f"DMLC_ROLE={role}".encode()
    (pid,) = (p for p in process.pids() if variable in Path(f"/proc/{p}/environ").read_bytes())
    sigstop(pid)
    _, text = process.finish()
    assert process.returncode == 75
    assert "for 5 s (--rank-timeout)" in text
    if role == "server":
        assert_state_was_saved(output, text)
    assert (output / "last").is_dir() == (role == "scheduler")


@pytest.mark.long
@pytest.mark.needs("torch")
def test_many_steps_do_not_crash(tmp_path: Path) -> None:
    """With gloo's own sum of rows, three of four such runs crashed in twelve thousand steps."""
    more = ("--epochs", "1000", "--save-every", "100000")

    def many(number: int) -> None:
        run(command_of("torch", 2, tmp_path / str(number), *more))

    with ThreadPoolExecutor() as pool:
        list(pool.map(many, range(4)))


FAILS_ALONE = """
import sys
import time
import bertnli, numpy as np
workers = bertnli.get_backend(sys.argv[1]).find_workers()
workers.barrier()
if workers.rank == 1:
    sys.exit(3)
workers.barrier()
"""


def test_a_worker_ends_though_something_keeps_its_store(tmp_path: Path) -> None:
    """As other packages may: MXNet's own end would abort the process then."""
    script = tmp_path / "kept.py"
    script.write_text(
        "import ctypes, bertnli\n"
        "workers = bertnli.get_backend('mxnet').find_workers()\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(workers))\n"
    )
    run(started("mxnet", 2, [str(script)]))


@pytest.mark.parametrize(
    "backend", ["mxnet", pytest.param("torch", marks=pytest.mark.long)], indirect=True
)
def test_a_process_that_fails_alone_ends_the_run(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS_ALONE)
    run(started(backend.name, 2, [str(tmp_path / "fails.py"), backend.name]), None)


class Two(Workers):
    """The other process of two is a list of what it sends; sums are as over a network."""

    def __init__(self, rank: int, others: list[NDArray]) -> None:
        self.rank, self.size, self.others = rank, 2, others

    def sum(self, values: NDArray) -> NDArray:
        return values + self.others.pop(0)


class Recorder(Workers):
    """The first of two, of which the other sends zeros; keeps what it sends."""

    size = 2

    def __init__(self) -> None:
        self.sent: list[NDArray] = []

    def sum(self, values: NDArray) -> NDArray:
        self.sent.append(values.copy())
        return values


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1 << 21, (1 << 22) + 3])
def test_bytes_of_the_first_process_reach_the_others(length: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    first = Recorder()
    assert first.on_rank0(lambda: data, bytes, bytes) == data
    assert Two(1, first.sent).on_rank0(lambda: b"not called", bytes, bytes) == data


def test_an_error_of_the_first_process_is_everybody_s() -> None:
    def fails() -> bytes:
        raise ConfigError("not so")

    first = Recorder()
    with pytest.raises(ConfigError, match="not so"):
        first.on_rank0(fails, bytes, bytes)
    with pytest.raises(ConfigError, match="not so"):
        Two(1, first.sent).on_rank0(lambda: b"", bytes, bytes)


def test_shares_hold_each_pair_once_and_are_even(make_batch: Callable[..., Any]) -> None:
    for size in range(1, 7):
        batch = make_batch(5)
        shares = []
        for rank in range(size):
            workers = Workers()
            workers.rank, workers.size = rank, size
            shares.append(workers.share(batch))
        rows = sorted(map(bytes, batch.token_ids))
        assert sorted(bytes(row) for share in shares for row in share.token_ids) == rows
        tokens = [int(share.valid_lens.sum()) for share in shares]
        assert max(tokens) - min(tokens) <= int(batch.valid_lens.max())


def test_what_memory_does_not_suffice_for_is_halved(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the framework's own error, where more than 2 pairs are computed together."""
    errors = {
        "torch": lambda: torch.OutOfMemoryError("CUDA out of memory"),
        "mxnet": lambda: mx.MXNetError("cudaMalloc retry failed: out of memory"),
    }
    plain = workers_worker.make_trainer(backend.name)
    expected = plain[0].fit(plain[1], None, 1, 7, progress=False)

    def limited(trainer: Any) -> Any:
        honest = trainer.engine._backward_share

        def backward(share: Any, *how: Any) -> Any:
            if min(trainer.engine.limits.micro_batch_size or len(share), len(share)) > 2:
                raise errors[backend.name]()
            return honest(share, *how)

        monkeypatch.setattr(trainer.engine, "_backward_share", backward)
        return trainer

    trainer, train, _ = workers_worker.make_trainer(backend.name, auto_batch=True)
    history = limited(trainer).fit(train, None, 1, 7, progress=False)
    assert np.abs(np.subtract(history.step_losses, expected.step_losses)).max() <= 1e-6
    assert trainer.engine.limits.micro_batch_size == 1  # 7, 3, 1
    assert "7 pairs at a time; going on with 3" in capsys.readouterr().err
    trainer, train, _ = workers_worker.make_trainer(backend.name)
    with pytest.raises(TrainingError, match=r"7 pairs at a time.*--micro-batch-size 3"):
        limited(trainer).fit(train, None, 1, 7, progress=False)
    trainer.engine.limits.micro_batch_size = 2
    trainer.fit(train, None, 1, 7, progress=False)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_micro_batches_add_up_to_the_batch(backend: Backend, size: int) -> None:
    plain, train, _ = workers_worker.make_trainer(backend.name)
    small, _, _ = workers_worker.make_trainer(backend.name, micro_batch_size=size)
    losses = [t.fit(train, None, 1, 7, progress=False).step_losses for t in (plain, small)]
    assert np.abs(np.subtract(*losses)).max() <= 1e-6


def test_settings_that_cannot_be(backend: Backend) -> None:
    with pytest.raises(ConfigError, match="micro_batch_size is 0"):
        workers_worker.make_trainer(backend.name, micro_batch_size=0)


def test_a_sum_is_nobody_elses(tmp_path: Path) -> None:
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
