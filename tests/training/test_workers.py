"""Runs of several real processes lose nothing when one of them is killed or frozen."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest
from several import ENVIRONMENT, run, started
from small_runs import assert_same_arrays, weights_of

from bertnli.training.state import load_state

pytestmark = pytest.mark.needs("torch")  # which reads the weights
LONG = pytest.mark.long
TORCH_BY_DAY = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("mxnet", marks=LONG)], indirect=True
)
MXNET_BY_DAY = pytest.mark.parametrize(
    "backend", ["mxnet", pytest.param("torch", marks=LONG)], indirect=True
)
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
@pytest.mark.needs("mxnet")
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
