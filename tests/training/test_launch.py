"""Starting several processes, and ending all of them when one fails; no framework in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import pytest

from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.training.launch import Layout

SLEEP = "import time; time.sleep(1e6)"
#: What a launcher runs: arguments are the layout, and the code of a worker.
LAUNCHER = f"""
import sys
from bertnli.errors import TrainingError
from bertnli.training import launch
launch.SERVE = "from bertnli.training.launch import end_with_launcher as e; e(); {SLEEP}"
launch.GRACE = 1.0
try:
    layout, command = launch.Layout(*eval(sys.argv[1])), [sys.executable, "-c", sys.argv[2]]
    sys.exit(launch.launch(layout, command))
except TrainingError as error:
    print(error)
    sys.exit(77)
"""
RANK = "import os, sys; rank = os.environ['BERTNLI_RANK']; "
Launch = Callable[..., processes.Process]


@pytest.fixture
def launcher() -> Iterator[Launch]:
    """Starts a launcher of workers that run some code."""
    started = []

    def start(code: str, *layout: object) -> processes.Process:
        command = [sys.executable, "-c", LAUNCHER, repr(layout), code]
        started.append(processes.Process(command, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.end()
        process.communicate()


def started_children(process: processes.Process, count: int) -> dict[str, int]:
    """Wait for a launcher's children, and return them by role, a worker's with its rank."""

    def children() -> dict[str, int]:
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = {}
        for pid in map(int, path.read_text().split()):
            words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            variables = dict(word.split("=", 1) for word in words if "=" in word)
            role = variables.get("DMLC_ROLE", "")  # none before it has begun
            pids[role + variables.get("BERTNLI_RANK", "")] = pid
        return pids

    return process.until(lambda: len(pids := children()) == count and pids)


def leaves(go: Path, rank: object, status: int) -> str:
    """Return code that ends a worker once a file is there."""
    code = f"import time\nwhile rank == '{rank}':\n    time.sleep(0.01)\n"
    return code + f"    if os.path.exists(r'{go}'): sys.exit({status})\n"


def alive(pids: dict[str, int]) -> list[str]:
    """Return those of the processes that run; a dead one that nobody waited for does not."""
    return [
        name
        for name, pid in pids.items()
        if (path := Path(f"/proc/{pid}/stat")).exists() and ") Z " not in path.read_text()
    ]


def test_workers_know_their_ranks(launcher: Launch, tmp_path: Path) -> None:
    code = (
        RANK + f"open(r'{tmp_path}/' + rank, 'w').write(' '.join(os.environ[name] for name in "
        "('DMLC_ROLE', 'DMLC_NUM_WORKER', 'DMLC_NUM_SERVER', 'OMP_NUM_THREADS')))"
    )
    process = launcher(code, 3, 2)
    process.finish()
    assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    words = {path.read_text() for path in tmp_path.iterdir()}
    assert len(words) == 1 and words.pop().startswith("worker 3 2 ")


def test_a_worker_s_own_error_is_the_launcher_s_status(launcher: Launch, tmp_path: Path) -> None:
    process = launcher(RANK + leaves(tmp_path / "go", "1", 3) + SLEEP, 2)
    children = started_children(process, 4)
    (tmp_path / "go").touch()
    process.finish()
    assert process.returncode == 3
    assert not alive(children)


@pytest.mark.parametrize(
    ("victim", "name"),
    [("scheduler", "the scheduler"), ("server", "server 0"), ("worker1", "worker 1")],
)
def test_a_killed_process_ends_all(launcher: Launch, victim: str, name: str) -> None:
    process = launcher(SLEEP, 2)
    children = started_children(process, 4)
    os.kill(children[victim], signal.SIGKILL)
    message, _ = process.finish()
    assert process.returncode == 77
    assert f"{name} was ended by SIGKILL" in message and "--resume" in message
    assert not alive(children)


WAITS = (
    "from datetime import timedelta; from bertnli.training.watch import Watch\n"
    "with Watch(timedelta(hours=1), 0).exchange(): " + SLEEP
)


def test_a_killed_launcher_takes_all_with_it(launcher: Launch) -> None:
    """Workers that wait for each other, servers and the scheduler: their lifelines close."""
    process = launcher(WAITS, 2)
    children = started_children(process, 4)
    process.kill()
    process.until(lambda: not alive(children), alive=False)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on(launcher: Launch, tmp_path: Path, signum: int) -> None:
    code = (
        RANK + "import signal, time\n"
        f"def stop(*_): open(r'{tmp_path}/' + rank + 'stopped', 'w'); sys.exit(0)\n"
        f"signal.signal({int(signum)}, stop)\n"
        f"open(r'{tmp_path}/' + rank, 'w')\ntime.sleep(1e6)"
    )
    process = launcher(code, 2)
    process.until(lambda: len(list(tmp_path.iterdir())) == 2)
    process.send_signal(signum)
    process.finish()
    assert process.returncode == 0
    assert len(list(tmp_path.glob("*stopped"))) == 2


def test_several_hosts(launcher: Launch, tmp_path: Path) -> None:
    names = "('DMLC_NUM_WORKER', 'DMLC_PS_ROOT_PORT', 'DMLC_NODE_HOST')"
    text = f"' '.join(os.environ[name] for name in {names})"
    code = RANK + f"open(r'{tmp_path}/' + rank, 'w').write({text})"
    hosts = [launcher(code, 2, 1, 3, host, ("localhost", 9500)) for host in (2, 1, 0)]
    for host in hosts:
        host.finish()
        assert host.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(rank) for rank in range(6)]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"6 9500 127.0.0.1"}


@pytest.mark.parametrize(
    "layout", [(0,), (1, 0), (1, 1, 0), (1, 1, 2, 2, ("a", 1)), (1, 1, 2, 0, None)]
)
def test_layouts_that_cannot_be(layout: tuple) -> None:
    with pytest.raises(ConfigError):
        Layout(*layout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "after --"),
        (["--workers", "2", "--", "predict"], "after --"),
        (["--workers", "2", "--", "train", "--backend=torch"], "torchrun --nproc-per-node 2"),
        (["--workers", "1", "--hosts", "2", "--", "train"], "HOST:PORT"),
    ],
)
def test_commands_that_cannot_be(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["launch", *arguments]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["launch", "--workers", "2", "--address", "nowhere", "--", "train"])
