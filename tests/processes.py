"""Processes that tests start. If one hangs, the failure shows its stacks.

Each process and its descendants write the stacks of all threads on SIGUSR1 and when they crash
(`stacks/sitecustomize.py`), and are recognised by a variable of their environment.
"""

import os
import signal
import subprocess
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

#: Limit in seconds that only guards against hanging; also a slow machine stays far below it.
LIMIT = 900.0
#: Seconds for the processes to write their stacks.
WRITING = 5.0
STACKS = Path(__file__).parent / "stacks"
MARK = "BERTNLI_TEST_PROCESS"


class Process(subprocess.Popen):
    """A process in text mode, with its descendants.

    Its methods raise AssertionError, with all stacks, if the process does not do in time what is
    waited for; then the process and its descendants are killed.

    Args:
        command: the program and its arguments.
        env: the environment of the process; None for a copy of the current one.
        options: options of Popen.
    """

    def __init__(self, command, env=None, **options):
        self.mark = uuid.uuid4().hex
        env = dict(os.environ if env is None else env)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STACKS), env.get("PYTHONPATH")]))
        super().__init__(command, env={**env, MARK: self.mark}, text=True, **options)

    def finish(self, text=None, limit=LIMIT):
        """Write text to stdin, wait for the end, and return what came on stdout and stderr."""
        try:
            return self.communicate(text, timeout=limit)
        except subprocess.TimeoutExpired:
            self.fail(f"did not end within {limit:g} s")

    def line(self, limit=LIMIT):
        """Return the next line of stdout."""
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.stdout.readline()), daemon=True)
        reader.start()
        reader.join(limit)
        return lines[0] if lines else self.fail(f"wrote no line within {limit:g} s")

    def until(self, condition, limit=LIMIT, alive=True):
        """Call a function until its result is true, and return the result.

        With `alive`, it is a failure if the process ends before.
        """
        end = time.monotonic() + limit
        while not (result := condition()):
            if alive and self.poll() is not None:
                self.fail(f"ended with the status {self.returncode}, too early")
            if time.monotonic() > end:
                self.fail(f"was waited for in vain for {limit:g} s")
            time.sleep(0.02)
        return result

    def fail(self, what):
        """Make all processes write their stacks, kill them, and raise AssertionError."""
        pids = self.pids()
        states = "\n".join(filter(None, map(_description, pids)))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        time.sleep(WRITING if pids else 0)
        self.end()
        try:
            out, err = self.communicate(timeout=WRITING)
        except (subprocess.TimeoutExpired, ValueError) as error:
            out, err = None, repr(error)
        raise AssertionError(f"{self.args} {what}\n{states}\n{out or ''}\n{err or ''}")

    def end(self):
        """Kill the process and its descendants."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.poll() is None:
            self.kill()

    def pids(self):
        """Return the ids of the process and its descendants, also of those that were orphaned."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in path.read_bytes().split(b"\0"):
                    pids.append(int(path.parent.name))
        return sorted(pids)


def _description(pid):
    """Return id, state and command of a process."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return f"{pid} {state} {' '.join(words)[:300]}"


def run(command, text=None, limit=LIMIT, **options):
    """Run a command to its end, and return status and output; see `Process`."""
    pipe = subprocess.PIPE
    stdin = None if text is None else pipe
    with Process(command, stdin=stdin, stdout=pipe, stderr=pipe, **options) as process:
        try:
            out, err = process.finish(text, limit)
        finally:
            process.end()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
