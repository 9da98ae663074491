"""Downloads from a server that does everything wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import processes
import pytest
from fault_server import FAULTS, PASSING, UNSEEN, FaultServer, Served
from filelock import FileLock

from bertnli._util import locks
from bertnli.errors import DownloadError
from bertnli.hub import catalogue, exchange, fetch

CONTENT = np.random.default_rng(0).bytes(150_000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
NAME = "data.bin"
#: Seconds that a download may take in these tests, and the settings under which it must.
LIMIT = 30.0
QUICK = {
    "fetch.BACKOFF": 0.01,
    "fetch.MAX_RETRY_AFTER": 0.02,
    "fetch.DEADLINE": 6.0,
    "fetch.MAX_BYTES": 1 << 22,
    "exchange.WINDOW": 0.3,
    "exchange.TIMEOUT": (0.3, 0.3),
}
MODULES = {"fetch": fetch, "exchange": exchange}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    served = FaultServer()
    yield served
    served.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, value in QUICK.items():
        module, name = place.split(".")
        monkeypatch.setattr(MODULES[module], name, value)


def serve(server: FaultServer, *script: str, path: str = "/" + NAME, **options: Any) -> Served:
    options.setdefault("content", CONTENT)
    server.files[path] = Served(script=list(script), **options)
    return server.files[path]


def get(server: FaultServer, folder: Path, sha1: str | None = SHA1, name: str = NAME) -> Path:
    start = time.monotonic()
    try:
        return Path(catalogue.download(f"{server.url}/{name}", folder, sha1, progress=False))
    finally:
        assert time.monotonic() - start < LIMIT
        kept = home_of(server, folder, name) / name
        assert not kept.exists() or sha1 is None or fetch.is_here(kept, sha1)


def home_of(server: FaultServer, folder: Path, name: str = NAME) -> Path:
    """The folder in which a URL's file is kept."""
    return catalogue._kept_at(folder, f"{server.url}/{name}").parent


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def leave_part(server: FaultServer, folder: Path, content: bytes, record: str) -> None:
    """Put what an unfinished download leaves into its place."""
    home = home_of(server, folder)
    home.mkdir(parents=True)
    (home / ".data.bin.part").write_bytes(content)
    (home / ".data.bin.part.json").write_text(record)


DONE = [f".{NAME}.lock", NAME]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("hashed", [True, False])
def test_faults_that_pass(server: FaultServer, tmp_path: Path, fault: str, hashed: bool) -> None:
    etag = {"ETag": '"1"'}
    # The faults of ranges need a part to go on from.
    file = serve(server, "cut", fault, headers=etag)
    assert get(server, tmp_path, SHA1 if hashed else None).read_bytes() == CONTENT
    assert left(tmp_path) == DONE
    assert 3 <= len(file.requests) <= 4


@pytest.mark.parametrize("fault", sorted({*FAULTS} - {*PASSING, "ok", "redirect"}))
def test_faults_that_stay(server: FaultServer, tmp_path: Path, fault: str) -> None:
    file = serve(server, *[fault] * 20)
    with_bytes = ("gzip", "without length", "says nonsense", "chunked")
    if fault in with_bytes:
        assert get(server, tmp_path).read_bytes() == CONTENT
        return
    with pytest.raises(DownloadError, match=r"data\.bin"):
        get(server, tmp_path)
    assert left(tmp_path) == DONE[:1]
    assert len(file.requests) == (fetch.ATTEMPTS if fault == "not gzip" else 1)


def test_redirects(server: FaultServer, tmp_path: Path) -> None:
    file = serve(server, *["redirect"] * exchange.MAX_REDIRECTS)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(file.requests) == exchange.MAX_REDIRECTS + 1
    file.script = ["redirect"] * 50
    with pytest.raises(DownloadError, match="redirects more than 10 times"):
        get(server, tmp_path / "other")
    assert len(file.script) == 50 - exchange.MAX_REDIRECTS - 1
    file.script = ["to a file"]
    with pytest.raises(DownloadError, match="neither http nor https"):
        get(server, tmp_path / "other")


def test_the_rest_is_asked_for_by_a_later_call(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    file = serve(server, "cut", "stall", "page", headers={"ETag": '"1"'})
    for _ in range(2):
        with pytest.raises(DownloadError):
            get(server, tmp_path, None)
        assert left(tmp_path) == [".data.bin.lock", ".data.bin.part", ".data.bin.part.json"]
    part = home_of(server, tmp_path) / ".data.bin.part"
    here = part.stat().st_size
    assert CONTENT.startswith(part.read_bytes()) and here > 60_000
    file.script = []
    assert get(server, tmp_path, None).read_bytes() == CONTENT
    assert left(tmp_path) == DONE
    assert file.requests[-1]["Range"] == f"bytes={here}-"
    assert file.requests[-1]["If-Range"] == '"1"'
    assert file.requests[-1]["Accept-Encoding"] == "identity"


OLD = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "sha1", "joined"),
    [
        ({}, SHA1, True),
        ({}, None, False),
        ({"ETag": 'W/"1"'}, None, False),
        ({"ETag": '"1"'}, None, True),
        ({"Last-Modified": OLD}, None, True),
        ({"Last-Modified": "yesterday"}, None, False),
    ],
)
def test_parts_are_joined_only_if_they_are_of_one_version(
    server: FaultServer, tmp_path: Path, headers: dict[str, str], sha1: str | None, joined: bool
) -> None:
    file = serve(server, "cut", headers=headers)
    assert get(server, tmp_path, sha1).read_bytes() == CONTENT
    assert ("Range" in file.requests[1]) is joined


@pytest.mark.parametrize("ranges", [True, False])
def test_a_new_version_is_not_joined_to_the_old(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    serve(server, "cut", headers={"ETag": '"1"'})
    with pytest.raises(DownloadError):
        get(server, tmp_path, None)
    new = CONTENT[::-1]
    serve(server, content=new, headers={"ETag": '"2"'}, ranges=ranges)
    assert get(server, tmp_path, None).read_bytes() == new
    # With a hash the server is not asked about versions, and what was joined wrongly is seen.
    monkeypatch.setattr(fetch, "ATTEMPTS", 2)
    other = tmp_path / "hash"
    leave_part(server, other, b"x" * 1000, json.dumps({"file": SHA1}))
    file = serve(server, ranges=ranges)
    assert get(server, other).read_bytes() == CONTENT
    assert len(file.requests) == (2 if ranges else 1)


@pytest.mark.parametrize("record", ["", "{", "[]", '{"file": 1}', "[" * 100_000, '{"x": 1}'])
def test_a_damaged_record_is_a_new_beginning(
    server: FaultServer, tmp_path: Path, record: str
) -> None:
    leave_part(server, tmp_path, b"x" * 1000, record)
    file = serve(server)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(file.requests) == 1 and "Range" not in file.requests[0]


def test_a_whole_part_needs_no_server(server: FaultServer, tmp_path: Path) -> None:
    leave_part(server, tmp_path, CONTENT, json.dumps({"file": SHA1}))
    file = serve(server)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert not file.requests


def test_a_web_page_in_place_of_an_archive(server: FaultServer, tmp_path: Path) -> None:
    file = serve(server, "cut", "page", path="/a.zip", headers={"ETag": '"1"'})
    with pytest.raises(DownloadError, match="a web page came in place of the file"):
        get(server, tmp_path, None, "a.zip")
    part = home_of(server, tmp_path, "a.zip") / ".a.zip.part"
    assert part.stat().st_size > 60_000  # the page did not end it
    assert get(server, tmp_path, None, "a.zip").read_bytes() == CONTENT
    assert "Range" in file.requests[-1]
    serve(server, "page")
    with pytest.raises(DownloadError, match=f"expected is {SHA1}.*web page"):
        get(server, tmp_path)


def test_a_log_has_a_line_now_and_then(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(server)
    catalogue.download(f"{server.url}/{NAME}", tmp_path / "quick", SHA1)
    assert "MB/s" not in capsys.readouterr().err
    monkeypatch.setattr("bertnli._util.progress.EVERY", 0.0)
    catalogue.download(f"{server.url}/{NAME}", tmp_path / "long", SHA1)
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"{NAME}: 0 of 0 MB, [\d,.]+ MB/s, about 0 s left", line)
    get(server, tmp_path / "silent")
    assert capsys.readouterr().err == ""


def test_waits_between_attempts(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=time.monotonic)
    monkeypatch.setattr(fetch, "time", clock)
    monkeypatch.setattr(fetch, "BACKOFF", 1.0)
    monkeypatch.setattr(fetch, "DEADLINE", 1000.0)
    monkeypatch.setattr(fetch, "MAX_RETRY_AFTER", 60.0)
    serve(server, "500", "500", "500", "500")
    with pytest.raises(DownloadError, match="500"):
        get(server, tmp_path)
    assert len(waits) == fetch.ATTEMPTS - 1
    assert all(0.5 <= wait / 2**i <= 1.5 for i, wait in enumerate(waits))
    for wish, least, most in (("20", 20, 20), ("9999999", 60, 60), ("-1", 0.5, 1.5)):
        monkeypatch.setitem(FAULTS, "503", lambda h, wish=wish: h.status(503, Retry_After=wish))
        serve(server, "503")
        get(server, tmp_path / wish)
        assert least <= waits[-1] <= most
    monkeypatch.setattr(fetch, "DEADLINE", 30.0)  # no time to wait that long
    serve(server, "503")
    monkeypatch.setitem(FAULTS, "503", lambda h: h.status(503, Retry_After="50"))
    with pytest.raises(DownloadError, match="503"):
        get(server, tmp_path / "late")


def test_ctrl_c_keeps_the_part(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = serve(server)
    chunk, seen = exchange.Exchange.chunk, []

    def interrupted(self: exchange.Exchange) -> bytes:
        seen.append(chunk(self))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(exchange.Exchange, "chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
    size = sum(map(len, seen[:3]))
    assert (home_of(server, tmp_path) / ".data.bin.part").read_bytes() == CONTENT[:size]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert file.requests[-1]["Range"] == f"bytes={size}-"


def test_a_full_disk(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    serve(server)
    monkeypatch.setattr(fetch.os, "fsync", full)
    with pytest.raises(DownloadError, match=r"cannot be written.*No space left.*BERTNLI_CACHE"):
        get(server, tmp_path)
    assert left(tmp_path) == DONE[:1]


def test_what_is_here_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "locked", None)
    url = f"http://127.0.0.1:1/{NAME}"
    here = catalogue._kept_at(tmp_path, url)
    here.parent.mkdir()
    here.write_bytes(CONTENT)
    assert catalogue.download(url, tmp_path, SHA1) == str(here)


@pytest.mark.parametrize("url", ["http://[::1/a.zip", "http://a b/c.zip", "ftp://127.0.0.1/a.zip"])
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        catalogue.download(url, tmp_path, progress=False)


def test_long_names(server: FaultServer, tmp_path: Path) -> None:
    name = "é" * 125 + ".bin"
    serve(server, "cut", path="/" + "%C3%A9" * 125 + ".bin")
    assert get(server, tmp_path, name=name).read_bytes() == CONTENT
    with pytest.raises(DownloadError):
        catalogue.download(f"{server.url}/{'a' * 300}", tmp_path, progress=False)


def test_from_https_to_http() -> None:
    class Session:
        def get(self, url: str, **_: Any) -> Any:
            return type("Response", (), {"close": lambda self: None, "url": url})()

        def get_redirect_target(self, response: Any) -> str | None:
            return None if response.url.endswith("b") else "http://host/b"

    _, downgraded = exchange._open(Session(), "https://host/a", {})  # type: ignore[arg-type]
    assert downgraded
    _, downgraded = exchange._open(Session(), "http://host/a", {})  # type: ignore[arg-type]
    assert not downgraded


def test_waiting_for_a_lock(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER", 0.1)
    file = serve(server)
    home = home_of(server, tmp_path)
    home.mkdir()
    with FileLock(home / f".{NAME}.lock", thread_local=False) as lock:
        monkeypatch.setattr(locks, "GIVE_UP_AFTER", 0.2)
        with pytest.raises(DownloadError, match="another process has been"):
            get(server, tmp_path)
        monkeypatch.setattr(locks, "GIVE_UP_AFTER", 5.0)
        capsys.readouterr()
        threading.Timer(0.4, lock.release, [True]).start()
        get(server, tmp_path)
    assert "waiting for another process" in capsys.readouterr().err
    assert len(file.requests) == 1


WORKER = """
import json, sys, time
from bertnli._util import locks
from bertnli.hub import catalogue, exchange, fetch
from bertnli.errors import DownloadError
settings, jobs, folder = json.load(open(sys.argv[1]))
for place, value in settings.items():
    module, name = place.split(".")
    value = tuple(value) if isinstance(value, list) else value
    setattr({"fetch": fetch, "exchange": exchange}[module], name, value)
locks.SAY_AFTER = 30
print("ready", flush=True)
sys.stdin.readline()
for url, sha1 in jobs:
    start = time.monotonic()
    try:
        catalogue.download(url, folder, sha1, progress=False)
        found = "file"
    except DownloadError as error:
        assert url in str(error), error
        found = "error"
    print(json.dumps([found, time.monotonic() - start]), flush=True)
"""


class Worker:
    """A process that downloads."""

    def __init__(
        self, home: Path, jobs: list[tuple[str, str | None]], folder: Path, **options: Any
    ) -> None:
        plan = home / "plan.json"
        plan.write_text(json.dumps([{**QUICK, **options}, jobs, str(folder)]))
        self.process = processes.Process(
            [sys.executable, "-c", WORKER, str(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.line() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def results(self) -> list[Any]:
        out, _ = self.process.finish()
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]


def test_the_lock_of_a_killed_process(server: FaultServer, tmp_path: Path) -> None:
    file = serve(server, "stall")
    worker = Worker(tmp_path, [(f"{server.url}/{NAME}", SHA1)], tmp_path / "cache")
    worker.go()
    part = home_of(server, tmp_path / "cache") / f".{NAME}.part"
    worker.process.until(lambda: part.exists() and part.stat().st_size > 60_000)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.communicate()
    assert get(server, tmp_path / "cache").read_bytes() == CONTENT
    assert "Range" in file.requests[-1]


def test_two_processes_fetch_a_file_once(server: FaultServer, tmp_path: Path) -> None:
    file = serve(server, "slow", "slow")
    job, patient = (f"{server.url}/{NAME}", SHA1), {"exchange.WINDOW": 9, "exchange.TIMEOUT": 9}
    both = [Worker(tmp_path, [job], tmp_path / "cache", **patient) for _ in range(2)]
    for worker in both:
        worker.go()
    assert [worker.results()[0][0] for worker in both] == ["file", "file"]
    assert len(file.requests) == 1
    assert left(tmp_path / "cache") == DONE


def run_downloads(server: FaultServer, home: Path, count: int) -> None:
    rng = random.Random(count)
    jobs: list[tuple[str, str | None]] = []
    scripts: list[list[str]] = []
    for i in range(count):
        sha1 = SHA1 if rng.random() < 0.7 else None
        seen = sorted(FAULTS if sha1 else {*FAULTS} - {*UNSEEN})
        kind = rng.random()
        if kind < 0.4:
            script = rng.choices(PASSING, k=rng.randint(0, fetch.ATTEMPTS - 1))
        else:
            script = rng.choices(seen, k=rng.randint(1, 12))
        headers = rng.choice([{}, {"ETag": '"1"'}, {"Last-Modified": OLD}])
        serve(server, *script, path=f"/{i}.bin", headers=headers, ranges=rng.random() < 0.7)
        jobs.append((f"{server.url}/{i}.bin", sha1))
        scripts.append(script)
    folder = home / "cache"
    both = [Worker(home, jobs, folder) for _ in range(2)]
    for worker in both:
        worker.go()
    results = [worker.results() for worker in both]
    whole = 0
    for i, (script, *found) in enumerate(zip(scripts, *results, strict=True)):
        path = catalogue._kept_at(folder, f"{server.url}/{i}.bin")
        outcomes = {outcome for outcome, _ in found}
        assert path.exists() is ("file" in outcomes), script
        assert not path.exists() or path.read_bytes() == CONTENT, script
        # One waits for the other, then does it itself where that failed.
        assert max(seconds for _, seconds in found) < 2 * LIMIT, script
        if len(script) < fetch.ATTEMPTS and {*script} <= {*PASSING}:
            assert outcomes == {"file"}, script
        if not script:
            assert len(server.files[f"/{i}.bin"].requests) == 1
        whole += path.exists()
    assert count / 4 < whole < count
    kept = {path.suffix for path in folder.glob("*/*")}
    assert kept <= {".bin", ".lock", ".part", ".json"}


def test_some_downloads_in_two_processes(server: FaultServer, tmp_path: Path) -> None:
    run_downloads(server, tmp_path, 16)


@pytest.mark.long
def test_200_downloads_in_two_processes(server: FaultServer, tmp_path: Path) -> None:
    run_downloads(server, tmp_path, 200)
