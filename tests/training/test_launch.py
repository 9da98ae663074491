"""Starting several processes, and ending all of them when one fails; no framework in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest

from bertnli.cli import main
from bertnli.errors import ConfigError
from bertnli.training.launch import Layout

SLEEP = "import time; time.sleep(1e6)"
#: What a launcher runs: arguments are the layout, and the code of a worker.
LAUNCHER = """
import sys
from datetime import timedelta
from bertnli.errors import TrainingError
from bertnli.training import launch
launch.SERVE = (
    "from bertnli.training.heartbeat import beat_to_launcher; beat_to_launcher(); "
    "import time; time.sleep(1e6)"
)
launch.GRACE, patience = 1.0, timedelta(seconds=float(sys.argv[3]))
try:
    layout, command = launch.Layout(*eval(sys.argv[1])), [sys.executable, "-c", sys.argv[2]]
    sys.exit(launch.launch(layout, command, patience))
except TrainingError as error:
    print(error)
    sys.exit(77)
"""
RANK = "import os, sys; rank = os.environ['BERTNLI_RANK']; "


@pytest.fixture
def launcher() -> Iterator[Callable[..., processes.Process]]:
    """Starts a launcher of workers that run some code."""
    started = []

    def start(
        code: str, *layout: object, patience: float = 600, stderr: Any = None
    ) -> processes.Process:
        command = [sys.executable, "-c", LAUNCHER, repr(layout), code, str(patience)]
        started.append(processes.Process(command, stdout=subprocess.PIPE, stderr=stderr))
        return started[-1]

    yield start
    for process in started:
        process.end()
        process.communicate()


@pytest.fixture
def address() -> tuple[str, int]:
    """A free port, with a free one above it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return "127.0.0.1", port


def children_of(process: processes.Process) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def started_children(process: processes.Process, count: int) -> list[int]:
    """Wait for a launcher's children, and return them."""
    process.until(lambda: len(children_of(process)) == count)
    return children_of(process)


def ended(process: processes.Process) -> int:
    """Wait for a process's end, and return its status."""
    process.finish()
    return process.returncode


def leaves(go: Path, rank: object, status: int) -> str:
    """Return code that ends a worker once a file is there."""
    code = f"import time\nwhile rank == '{rank}':\n    time.sleep(0.01)\n"
    return code + f"    if os.path.exists(r'{go}'): sys.exit({status})\n"


def alive(pids: list[int]) -> list[int]:
    """Return those of the processes that run; a dead one that nobody waited for does not."""
    return [
        pid
        for pid in pids
        if (path := Path(f"/proc/{pid}/stat")).exists() and ") Z " not in path.read_text()
    ]


def test_workers_know_their_ranks(
    launcher: Callable[..., processes.Process], tmp_path: Path
) -> None:
    code = (
        RANK + f"open(r'{tmp_path}/' + rank, 'w').write(' '.join(os.environ[name] for name in "
        "('DMLC_ROLE', 'DMLC_NUM_WORKER', 'DMLC_NUM_SERVER', 'OMP_NUM_THREADS')))"
    )
    process = launcher(code, 3, 2)
    assert ended(process) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    words = {path.read_text() for path in tmp_path.iterdir()}
    assert len(words) == 1 and words.pop().startswith("worker 3 2 ")


def test_a_worker_s_own_error_is_the_launcher_s_status(
    launcher: Callable[..., processes.Process], tmp_path: Path
) -> None:
    process = launcher(RANK + leaves(tmp_path / "go", "1", 3) + SLEEP, 2)
    children = started_children(process, 4)
    (tmp_path / "go").touch()
    assert ended(process) == 3
    assert not alive(children)


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_process_ends_all(launcher: Callable[..., processes.Process], victim: int) -> None:
    """The scheduler, a server, a worker."""
    process = launcher(SLEEP, 2)
    children = started_children(process, 4)
    os.kill(sorted(children)[victim], signal.SIGKILL)
    said, _ = process.finish()
    assert process.returncode == 77
    who = ["the scheduler", "server 0", "worker 0"][victim]
    assert f"{who} was ended by SIGKILL" in said and "--resume" in said
    assert not alive(children)


def test_a_stopped_server_is_named(
    launcher: Callable[..., processes.Process], tmp_path: Path
) -> None:
    """Once, and once that it is back; after the rank timeout the workers are asked to end."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); " + SLEEP
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = launcher(code, 2, patience=10, stderr=stderr)
    server = sorted(started_children(process, 4))[1]
    for said in (1, 2):
        os.kill(server, signal.SIGSTOP)
        process.until(lambda said=said: log.read_text().count("server 0 has been silent") == said)
        if said == 1:
            os.kill(server, signal.SIGCONT)
            process.until(lambda: "server 0 answers again, after" in log.read_text())
    assert ended(process) == 5
    assert log.read_text().count("note: ") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell of a parent's end")
def test_a_killed_launcher_takes_all_with_it(launcher: Callable[..., processes.Process]) -> None:
    process = launcher(SLEEP, 2)
    children = started_children(process, 4)
    process.kill()
    process.until(lambda: not alive(children), alive=False)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on(
    launcher: Callable[..., processes.Process], tmp_path: Path, signum: int
) -> None:
    code = (
        RANK + "import signal, time\n"
        f"def stop(*_): open(r'{tmp_path}/' + rank + 'stopped', 'w'); sys.exit(0)\n"
        f"signal.signal({int(signum)}, stop)\n"
        f"open(r'{tmp_path}/' + rank, 'w')\ntime.sleep(1e6)"
    )
    process = launcher(code, 2)
    process.until(lambda: len(list(tmp_path.iterdir())) == 2)
    process.send_signal(signum)
    assert ended(process) == 0
    assert len(list(tmp_path.glob("*stopped"))) == 2


def test_several_hosts(
    launcher: Callable[..., processes.Process], tmp_path: Path, address: tuple[str, int]
) -> None:
    code = RANK + f"open(r'{tmp_path}/' + rank + os.environ['DMLC_NUM_WORKER'], 'w')"
    hosts = [launcher(code, 2, 1, 3, host, address) for host in (2, 1, 0)]
    assert [ended(host) for host in hosts] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{rank}6" for rank in range(6)]


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("how", ["status", "kill"])
def test_a_host_that_fails_ends_the_others(
    launcher: Callable[..., processes.Process],
    address: tuple[str, int],
    failing: int,
    how: str,
    tmp_path: Path,
) -> None:
    exits = leaves(tmp_path / "go", failing, 4) if how == "status" else ""
    hosts = [launcher(RANK + exits + SLEEP, 1, 1, 2, host, address) for host in (0, 1)]
    children = [started_children(process, 3 - i) for i, process in enumerate(hosts)]
    (tmp_path / "go").touch()
    if how == "kill":
        hosts[failing].kill()
    said, _ = hosts[1 - failing].finish()
    assert hosts[1 - failing].returncode == 77
    assert "another host's processes are gone" in said
    assert ended(hosts[failing]) == (4 if how == "status" else -signal.SIGKILL)
    assert not alive(children[1 - failing])


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
        (["--workers", "2", "--", "train", "--backend", "torch"], "torchrun --nproc-per-node 2"),
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
