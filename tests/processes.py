"""Processes that tests start. Where they hang, their stacks are a part of the failure.

Each process, and each one that it starts, writes the stacks of all its threads on SIGUSR1 and when
it crashes (`stacks/sitecustomize.py`), and is known by a variable of its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds: what guards against hanging alone. It says nothing of speed: a machine that is busy or
#: slow stays far below it.
LIMIT = 900.0
#: For stacks to be written, once they were asked for.
WRITING = 5.0
STACKS = Path(__file__).parent / "stacks"
MARK = "BERTNLI_TEST_PROCESS"


class Process(subprocess.Popen):
    """A process in text mode, with what it starts.

    Args:
        command: the program and its arguments.
        env: its environment; None for this one's.
        options: of Popen.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self.mark = uuid.uuid4().hex
        env = dict(os.environ if env is None else env)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STACKS), env.get("PYTHONPATH")]))
        super().__init__(command, env={**env, MARK: self.mark}, text=True, **options)

    def finish(self, text: str | None = None, limit: float = LIMIT) -> tuple[str, str]:
        """Wait for the end, and return what was written to the pipes of stdout and stderr.

        Args:
            text: for its stdin.
            limit: seconds.

        Raises:
            AssertionError: it did not end; with all stacks. All its processes were ended.
        """
        try:
            return self.communicate(text, timeout=limit)
        except subprocess.TimeoutExpired:
            self.fail(f"did not end within {limit:g} s")
            raise  # not reached

    def line(self, limit: float = LIMIT) -> str:
        """Return the next line that is written to the pipe of stdout.

        Raises:
            AssertionError: there was none; with all stacks. All its processes were ended.
        """
        result: list[str] = []
        reader = threading.Thread(target=lambda: result.append(self.stdout.readline()), daemon=True)
        reader.start()
        reader.join(limit)
        if not result:
            self.fail(f"wrote no line within {limit:g} s")
        return result[0]

    def until(self, condition: Callable[[], Any], limit: float = LIMIT, alive: bool = True) -> Any:
        """Wait until a condition is true, and return it.

        Args:
            condition: is asked again and again.
            limit: seconds.
            alive: whether the process must run meanwhile.

        Raises:
            AssertionError: it did not become true; with all stacks. All its processes were ended.
        """
        end = time.monotonic() + limit
        while not (result := condition()):
            if alive and self.poll() is not None:
                self.fail(f"ended with the status {self.returncode}, too early")
            if time.monotonic() > end:
                self.fail(f"was waited for in vain for {limit:g} s")
            time.sleep(0.02)
        return result

    def fail(self, what: str) -> None:
        """Have all processes write their stacks, end them, and raise AssertionError with it all."""
        pids = self.pids()
        states = "\n".join(filter(None, map(_described, pids)))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        time.sleep(WRITING if pids else 0)
        self.end()
        try:
            out, err = self.communicate(timeout=WRITING)
        except (subprocess.TimeoutExpired, ValueError) as error:  # nobody may hold the pipes, but
            out, err = None, repr(error)
        raise AssertionError(f"{self.args} {what}\n{states}\n{out or ''}\n{err or ''}")

    def end(self) -> None:
        """End it, and all that it started."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.poll() is None:
            self.kill()

    def pids(self) -> list[int]:
        """Return it and all that it started, wherever they belong by now."""
        result = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in path.read_bytes().split(b"\0"):
                    result.append(int(path.parent.name))
        return sorted(result)


def _described(pid: int) -> str:
    """Return a process's state and its command."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return f"{pid} {state} {' '.join(words)[:300]}"


def run(
    command: Sequence[str], text: str | None = None, limit: float = LIMIT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return status and output; see `Process`."""
    pipe = subprocess.PIPE
    stdin = None if text is None else pipe
    with Process(command, stdin=stdin, stdout=pipe, stderr=pipe, **options) as process:
        try:
            out, err = process.finish(text, limit)
        finally:
            process.end()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
