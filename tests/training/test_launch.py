"""The launcher starts several processes, and ends all of them when one fails; no framework."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest

from bertnli.cli import main
from bertnli.errors import ConfigError, RankError
from bertnli.training import launch as launch_module
from bertnli.training.launch import Layout

SLEEP = "import time; time.sleep(1e6)"
#: The launcher's program. Arguments: those of Layout, and the code of a worker.
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


@pytest.fixture
def launcher():
    """A function that starts a launcher, whose workers run some code."""
    started = []

    def start(code, *layout):
        command = [sys.executable, "-c", LAUNCHER, repr(layout), code]
        started.append(processes.Process(command, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.end()
        process.communicate()


def started_children(process, count):
    """Wait for a launcher's children; return their ids by role and rank, such as "worker1"."""

    def children():
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pids = {}
        for pid in map(int, path.read_text().split()):
            words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            variables = dict(word.split("=", 1) for word in words if "=" in word)
            if "DMLC_ROLE" in variables:  # missing before the child has begun
                pids[variables["DMLC_ROLE"] + variables.get("BERTNLI_RANK", "")] = pid
        return pids

    return process.until(lambda: len(pids := children()) == count and pids)


def running(pids):
    """Return the processes that run; zombies do not."""
    paths = [Path(f"/proc/{pid}/stat") for pid in pids.values()]
    return [path for path in paths if path.exists() and ") Z " not in path.read_text()]


def test_workers_of_several_hosts_know_their_ranks(launcher, tmp_path):
    names = "('DMLC_ROLE', 'DMLC_NUM_WORKER', 'DMLC_PS_ROOT_PORT', 'DMLC_NODE_HOST')"
    text = f"' '.join(os.environ[name] for name in {names})"
    code = RANK + f"open(r'{tmp_path}/' + rank, 'w').write({text})"
    hosts = [launcher(code, 2, 1, 2, host, ("localhost", 9500)) for host in (1, 0)]
    for host in hosts:
        host.finish()
        assert host.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"worker 4 9500 127.0.0.1"}


def test_the_status_of_a_failed_worker_is_the_launcher_s(launcher, tmp_path):
    wait = f"    if os.path.exists(r'{tmp_path / 'go'}'): sys.exit(3)\n"
    code = f"{RANK}import time\nwhile rank == '1':\n    time.sleep(0.01)\n{wait}{SLEEP}"
    process = launcher(code, 2)
    children = started_children(process, 4)
    (tmp_path / "go").touch()
    process.finish()
    assert process.returncode == 3 and not running(children)


@pytest.mark.parametrize(
    ("victim", "name"),
    [("scheduler", "the scheduler"), ("server", "server 0"), ("worker1", "worker 1")],
)
def test_a_killed_process_ends_all(launcher, victim, name):
    process = launcher(SLEEP, 2)
    children = started_children(process, 4)
    os.kill(children[victim], signal.SIGKILL)
    message, _ = process.finish()
    assert process.returncode == 77 and not running(children)
    assert f"{name} was ended by SIGKILL" in message and "--resume" in message


def test_a_killed_launcher_ends_all(launcher):
    """Workers that wait for each other, servers and the scheduler notice a closed pipe."""
    watch = "from datetime import timedelta; from bertnli.training.watch import Watch\n"
    process = launcher(f"{watch}with Watch(timedelta(hours=1), 0).exchange(): {SLEEP}", 2)
    children = started_children(process, 4)
    process.kill()
    process.until(lambda: not running(children), alive=False)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on(launcher, tmp_path, signum):
    code = (
        f"{RANK}import signal, time\n"
        f"def stop(*_): open(r'{tmp_path}/' + rank + 'stopped', 'w'); sys.exit(0)\n"
        f"signal.signal({int(signum)}, stop)\n"
        f"open(r'{tmp_path}/' + rank, 'w')\ntime.sleep(1e6)"
    )
    process = launcher(code, 2)
    process.until(lambda: len(list(tmp_path.iterdir())) == 2)
    process.send_signal(signum)
    process.finish()
    assert process.returncode == 0 and len(list(tmp_path.glob("*stopped"))) == 2


def test_a_signal_before_the_workers_start_is_passed_on(monkeypatch):
    start = launch_module._start

    def started(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        start(*args)

    monkeypatch.setattr(launch_module, "_start", started)
    monkeypatch.setattr(launch_module, "SERVE", SLEEP)
    with pytest.raises(RankError, match="worker 0 was ended by SIGTERM"):
        launch_module.launch(Layout(1), [sys.executable, "-c", SLEEP])


@pytest.mark.parametrize(
    "layout", [(0,), (1, 0), (1, 1, 0), (1, 1, 2, 2, ("a", 1)), (1, 1, 2, 0, None)]
)
def test_wrong_layouts_are_refused(layout):
    with pytest.raises(ConfigError):
        Layout(*layout)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--workers 2", "after --"),
        ("--workers 2 -- predict", "after --"),
        ("--workers 2 -- train --backend=torch", "torchrun --nproc-per-node 2"),
        ("--workers 1 --hosts 2 -- train", "HOST:PORT"),
    ],
)
def test_wrong_commands_are_refused(capsys, line, message):
    assert main(["launch", *line.split()]) == 2
    assert message in capsys.readouterr().err
