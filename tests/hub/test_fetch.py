"""Downloads from a server with faults."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from fault_server import FINAL, OF_RANGES, PASSING
from filelock import FileLock
from refusals import refused

from bertnli._util import locks
from bertnli.errors import DownloadError
from bertnli.hub import catalogue, fetch

CONTENT = np.random.default_rng(0).bytes(150_000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
NAME = "data.bin"
DONE = [f".{NAME}.lock", NAME]


def get(server, folder, sha1=SHA1, name=NAME):
    """Download a file; return its content."""
    path = catalogue.download(f"{server.url}/{name}", folder, sha1, progress=False)
    return Path(path).read_bytes()


def part_of(server, folder):
    return catalogue._target(folder, f"{server.url}/{NAME}").with_name(f".{NAME}.part")


def left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("sha1", [SHA1, None], ids=["hash", "no hash"])
@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass(server, tmp_path, fault, sha1):
    # A fault of ranges needs a part to go on from, and so a hash.
    file = server.serve("/" + NAME, CONTENT, "cut", fault)
    if sha1 is None and fault in OF_RANGES:
        refused(DownloadError, r"the server answers [24][01]6", get, server, tmp_path, sha1)
        return
    assert get(server, tmp_path, sha1) == CONTENT
    assert left(tmp_path) == DONE
    assert 2 <= len(file.requests) <= 4
    assert ("Range" in file.requests[1]) is (sha1 is not None)


@pytest.mark.parametrize("fault", FINAL)
def test_faults_that_stay(server, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(fetch, "DEADLINE", 0.6)
    file = server.serve("/" + NAME, CONTENT, *[fault] * 20)
    start = time.monotonic()
    refused(DownloadError, r"data\.bin", get, server, tmp_path)
    assert time.monotonic() - start < 5
    assert not any(NAME in path.parts for path in tmp_path.rglob("*"))
    assert len(file.requests) == 1


def test_a_deadline_without_a_length_is_no_end(server, tmp_path, monkeypatch):
    """A read that the deadline ends looks like the end of a body without a length."""
    monkeypatch.setattr(fetch, "DEADLINE", 0.6)
    monkeypatch.setattr(fetch, "TIMEOUT", (5, 5))
    server.serve("/" + NAME, CONTENT, "trickle without length")
    refused(DownloadError, "took too long", get, server, tmp_path, None)
    assert left(tmp_path) == DONE[:1]


def test_redirects_and_what_the_server_need_not_say(server, tmp_path):
    script = [*["redirect"] * fetch.MAX_REDIRECTS, "without length"]
    file = server.serve("/" + NAME, CONTENT, *script)
    assert get(server, tmp_path) == CONTENT
    assert len(file.requests) == fetch.MAX_REDIRECTS + 1
    file.script = ["redirect"] * 50
    refused(DownloadError, "more than 10 redirects", get, server, tmp_path / "other")


def test_attempts_end_without_progress(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK", 100)
    file = server.serve("/" + NAME, CONTENT, *["cut at once"] * 20)
    refused(DownloadError, "Without a network: put the file by hand", get, server, tmp_path)
    assert len(file.requests) == fetch.ATTEMPTS
    file = server.serve("/" + NAME, CONTENT, *["cut"] * 10)  # each brings half of the rest
    assert get(server, tmp_path) == CONTENT
    assert len(file.requests) == 11


@pytest.mark.parametrize("fault", ["ok", "without ranges"])
def test_a_part_of_another_file(server, tmp_path, fault):
    part = part_of(server, tmp_path)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    server.serve("/" + NAME, CONTENT, fault)
    assert get(server, tmp_path) == CONTENT


def test_ctrl_c_keeps_the_part(server, tmp_path, monkeypatch):
    file = server.serve("/" + NAME, CONTENT)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "CHUNK", 1000)
        patch.setattr(fetch.tqdm, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
    assert part_of(server, tmp_path).read_bytes() == CONTENT[:1000]
    assert get(server, tmp_path) == CONTENT
    assert file.requests[-1]["Range"] == "bytes=1000-"


def test_a_web_page_in_place_of_an_archive(server, tmp_path):
    server.serve("/a.zip", CONTENT, "page")
    with pytest.raises(DownloadError, match="a web page came in place of the file"):
        get(server, tmp_path, None, "a.zip")
    assert get(server, tmp_path, None, "a.zip") == CONTENT


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(_):
        raise OSError("No space left on device")

    server.serve("/" + NAME, CONTENT)
    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(DownloadError, match=r"cannot be written.*No space left.*BERTNLI_CACHE"):
        get(server, tmp_path)
    assert left(tmp_path) == DONE[:1]


def test_long_names(server, tmp_path):
    server.serve("/" + "%C3%A9" * 125 + ".bin", CONTENT, "cut")
    assert get(server, tmp_path, name="é" * 125 + ".bin") == CONTENT
    with pytest.raises(DownloadError):
        catalogue.download(f"{server.url}/{'a' * 300}", tmp_path, progress=False)


def test_waiting_for_a_lock(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "SAY_AFTER", 0.1)
    monkeypatch.setattr(locks, "GIVE_UP_AFTER", 0.1)
    file = server.serve("/" + NAME, CONTENT)
    lock_file = part_of(server, tmp_path).with_name(f".{NAME}.lock")
    lock_file.parent.mkdir()
    with FileLock(lock_file, thread_local=False) as lock:
        refused(DownloadError, "another process has been", get, server, tmp_path)
        monkeypatch.setattr(locks, "GIVE_UP_AFTER", 5.0)
        capsys.readouterr()
        threading.Timer(0.3, lock.release, [True]).start()
        get(server, tmp_path)
    assert "waiting for another process" in capsys.readouterr().err
    assert len(file.requests) == 1


WORKER = """
import sys
from bertnli.hub import catalogue
print("ready", flush=True)
sys.stdin.readline()
catalogue.download(*sys.argv[1:], progress=False)
"""


def test_processes_share_a_download(server, tmp_path):
    """A killed process leaves its part and no lock; of two at once, one downloads."""
    file = server.serve("/" + NAME, CONTENT, "stall", "slow")
    arguments = (f"{server.url}/{NAME}", str(tmp_path / "cache"), SHA1)
    command, pipe = [sys.executable, "-c", WORKER, *arguments], subprocess.PIPE
    workers = [processes.Process(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)]
    assert [worker.line() for worker in workers] == ["ready\n"] * 3
    killed, *both = workers
    killed.stdin.write("\n")
    killed.stdin.flush()
    part = part_of(server, tmp_path / "cache")
    killed.until(lambda: part.exists() and part.stat().st_size > 60_000)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    for worker in both:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in both:
        worker.finish()
        assert worker.returncode == 0
    assert len(file.requests) == 2 and "Range" in file.requests[1]
    assert left(tmp_path / "cache") == DONE
