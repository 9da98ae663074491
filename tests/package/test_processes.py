"""The tests' own module `processes`: the stacks of processes that hang or crash."""

import subprocess
import sys

import processes
import pytest

HANGS = """
import subprocess, sys, time
def {name}():
    open({folder!r} + "/{name}", "w").close()
    {work}
{name}()
"""


def test_stacks_of_a_process_and_of_its_child(tmp_path):
    """The child is in another session, and writes to the same pipe."""
    sleeps = HANGS.format(folder=str(tmp_path), name="the_child_hangs", work="time.sleep(1e6)")
    child = f"subprocess.run([sys.executable, '-c', {sleeps!r}], start_new_session=True)"
    waits = HANGS.format(folder=str(tmp_path), name="the_parent_waits", work=child)
    pipe = subprocess.PIPE
    process = processes.Process([sys.executable, "-c", waits], stdout=pipe, stderr=pipe)
    process.until(lambda: len(list(tmp_path.iterdir())) == 2)
    assert len(process.pids()) == 2
    with pytest.raises(AssertionError, match=r"did not end within 0\.1 s") as failure:
        process.finish(limit=0.1)
    text = str(failure.value)
    assert "in the_child_hangs" in text and "in the_parent_waits" in text
    assert process.poll() is not None and not process.pids()


def test_the_stack_of_a_crash():
    code = "import os, signal\ndef crashes(): os.kill(os.getpid(), signal.SIGSEGV)\ncrashes()"
    done = processes.run([sys.executable, "-c", code])
    assert done.returncode == -11 and "in crashes" in done.stderr


def test_a_process_that_ends_before_a_condition():
    process = processes.Process([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    with pytest.raises(AssertionError, match="ended with the status 0, too early"):
        process.until(lambda: False)
