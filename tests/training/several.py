"""Starts a run in several processes."""

import os
import sys

import processes

#: The environment of the processes, whatever the number of threads of this one.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


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
