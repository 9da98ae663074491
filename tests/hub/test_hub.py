"""Named downloads, against a server on the loopback interface."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import tarfile
import threading
import traceback
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli.errors import DownloadError
from bertnli.hub import archives, catalogue, fetch


class Server:
    """Serves bytes by path, and remembers what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.other: bytes | None = None
        self.extra_length = 0
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                body = outer.files.get(self.path, outer.other)
                self.send_response(404 if body is None else 200)
                body = body or b"<html>not here</html>"
                self.send_header("Content-Length", str(len(body) + outer.extra_length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.httpd.shutdown()
    served.httpd.server_close()


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entries = catalogue.DATA_HUB.items()
    own = {name: catalogue.HubEntry(name, dict(entry.files)) for name, entry in entries}
    monkeypatch.setattr(catalogue, "DATA_HUB", own)
    monkeypatch.setenv(catalogue.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def archive(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, text in members.items():
            zipped.writestr(name, text)
    return buffer.getvalue()


@pytest.mark.needs("torch", "mxnet")
def test_the_books_entries() -> None:
    base = "http://d2l-data.s3-accelerate.amazonaws.com/"
    torch, mxnet = bertnli.get_backend("torch").DATA_HUB, bertnli.get_backend("mxnet").DATA_HUB
    snli = (
        "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
        "9fcde07509c7e87ec61c640c1b2753d9041758e4",
    )
    assert dict(torch) == {
        "bert.base": (base + "bert.base.torch.zip", "225d66f04cae318b841a13d32af3acc165f253ac"),
        "bert.small": (base + "bert.small.torch.zip", "c72329e68a732bef0452e4b96a1c341c8910f81f"),
        "SNLI": snli,
    }
    assert dict(mxnet) == {
        "bert.base": (base + "bert.base.zip", "7b3820b35da691042e5d34c0971ac3edbd80d3f4"),
        "bert.small": (base + "bert.small.zip", "a4e718a47137ccd1809c9107ab4f5edd317bae2c"),
        "SNLI": snli,
    }
    assert set(bertnli.DATA_HUB) >= set(torch)


def test_download_once_and_check_every_time(server: Server, tmp_path: Path) -> None:
    server.files["/a/data.bin"] = b"content"
    catalogue.register("data", server.url + "/a/data.bin", sha1(b"content"))
    path = Path(catalogue.download("data", progress=False))
    assert (path.parent.parent, path.name) == (tmp_path / "cache", "data.bin")
    assert path.read_bytes() == b"content"
    assert catalogue.download("data", progress=False) == str(path)
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert Path(catalogue.download("data", progress=False)).read_bytes() == b"content"
    assert len(server.requests) == 2
    other = catalogue.download(server.url + "/a/data.bin", tmp_path / "here", sha1(b"content"))
    assert Path(other).parent.parent == tmp_path / "here"


#: URLs that end alike, as far as a path, a file's name or a host goes.
ALIKE = (
    *("/a/model.zip", "/b/model.zip", "/a/model.zip?version=2", "/a/model.zip?version=3"),
    *("/a/x/../model.zip", "/A/model.zip", "//a/model.zip", "/a/model.zip#part", "/a;b/model.zip"),
)


def test_urls_that_end_alike_are_different_files(server: Server, tmp_path: Path) -> None:
    """Each is asked for, whichever came first, in the cache folder and in any other."""
    for folder in (None, tmp_path / "models"):
        server.requests.clear()
        urls = [server.url + path for path in ALIKE]
        urls += [server.url.replace("//", f"//{user}@") + ALIKE[0] for user in ("me:x", "me:y")]
        paths = []
        for number, url in enumerate(urls):
            server.other = archive(**{"which.txt": str(number)})
            paths.append(Path(catalogue.download_extract(url, folder, progress=False)))
            assert (paths[-1] / "which.txt").read_text() == str(number)
            assert "x" not in str(Path(catalogue.download(url, folder)).parent.name)  # no password
        assert len({*paths}) == len(urls) == len(server.requests)
        for number, url in enumerate(urls):  # and again, without a request
            again = Path(catalogue.download_extract(url, folder, progress=False))
            assert (again / "which.txt").read_text() == str(number)
        assert len(server.requests) == len(urls)


@pytest.mark.parametrize("fault", ["hash", "missing", "cut"])
def test_faults_leave_nothing_behind(server: Server, tmp_path: Path, fault: str) -> None:
    if fault != "missing":
        server.files["/data.bin"] = b"content"
    server.extra_length = 5 if fault == "cut" else 0
    expected = "0" * 40 if fault == "hash" else sha1(b"content")
    catalogue.register("data", server.url + "/data.bin", expected)
    with pytest.raises(DownloadError, match=r"data\.bin"):
        catalogue.download("data", progress=False)
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == [".data.bin.lock"]


def test_a_wrong_file_in_the_cache_stays_until_a_good_one_comes(
    server: Server, tmp_path: Path
) -> None:
    server.files["/data.bin"] = b"mine"
    mine = Path(catalogue.download(server.url + "/data.bin", progress=False))
    del server.files["/data.bin"]
    catalogue.register("data", server.url + "/data.bin", sha1(b"content"))
    with pytest.raises(DownloadError, match="404"):
        catalogue.download("data", progress=False)
    assert mine.read_bytes() == b"mine"


def test_without_a_network(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x.zip"
    catalogue.register("x", url)
    with pytest.raises(DownloadError) as caught:
        catalogue.download("x", progress=False)
    message = str(caught.value)
    assert url in message
    assert re.search(re.escape(str(tmp_path / "cache")) + r"/\w{16}/x\.zip", message)
    assert "bertnli train --train sample" in message


@pytest.mark.parametrize("what", ["no answer", "no such file", "another file", "redirect", "bad"])
def test_secrets_of_an_address_are_not_told(server: Server, what: str) -> None:
    """Neither in an error nor in the errors that it came from, which a traceback shows."""
    where = server.url.removeprefix("http://")
    server.files["/x.zip"] = b"another"
    url = {
        "no answer": "http://me:s3cret@127.0.0.1:1/x.zip?token=s3cret",
        "no such file": f"http://me:s3cret@{where}/y.zip?token=s3cret",
        "another file": f"http://me:s3cret@{where}/x.zip?token=s3cret",
        "redirect": "ftp://me:s3cret@127.0.0.1/x.zip?token=s3cret",
        "bad": "http://me:s3cret@[::1/x.zip?token=s3cret",
    }[what]
    catalogue.register("secret", url, "0" * 40)
    assert "s3cret" not in repr(catalogue.hub_view("torch"))
    with pytest.raises(DownloadError) as caught:
        catalogue.download("secret", progress=False)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_names(server: Server) -> None:
    with pytest.raises(DownloadError, match=r"Did you mean 'bert\.small'"):
        catalogue.download("bert.smal")
    with pytest.raises(DownloadError, match="say which"):
        catalogue.download("bert.small")
    with pytest.raises(DownloadError, match="40 hexadecimal"):
        catalogue.register("x", server.url, "abc")
    view = catalogue.hub_view("mxnet")
    view["mine"] = (server.url + "/mine.zip", None)
    assert view["mine"] == (server.url + "/mine.zip", None)
    assert "mine" not in catalogue.hub_view("torch")
    assert catalogue.hub_view("mxnet")["mine"] == view["mine"]
    del view["mine"]
    assert "mine" not in view


def test_extract_once(server: Server, tmp_path: Path) -> None:
    server.files["/snli.zip"] = archive(**{"top/a.txt": "one", "__MACOSX/x": ""})
    catalogue.register("corpus", server.url + "/snli.zip", sha1(server.files["/snli.zip"]))
    folder = Path(catalogue.download_extract("corpus", progress=False))
    assert folder.name == "top"
    assert (folder / "a.txt").read_text() == "one"
    before = (folder / "a.txt").stat().st_ino
    assert Path(catalogue.download_extract("corpus", progress=False)) == folder
    assert (folder / "a.txt").stat().st_ino == before  # not unpacked again
    assert len(server.requests) == 1
    assert catalogue.download_extract(str(tmp_path)) == str(tmp_path)


def _flip(folder: Path) -> None:
    raw = bytearray((folder / "b" / "c.bin").read_bytes())
    raw[500] ^= 1
    (folder / "b" / "c.bin").write_bytes(raw)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a bit": _flip,
    "cut": lambda folder: (folder / "a.txt").write_bytes(b""),
    "longer": lambda folder: (folder / "a.txt").write_bytes(b"one more"),
    "removed": lambda folder: (folder / "a.txt").unlink(),
    "added": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "a link": lambda folder: (
        (folder / "a.txt").rename(folder.parent / "away"),
        (folder / "a.txt").symlink_to(folder.parent / "away"),
    ),
    "renamed": lambda folder: (folder / "b").rename(folder / "d"),
    "no list": lambda folder: next(folder.parent.glob(".*.files.json")).unlink(),
    "a damaged list": lambda folder: next(folder.parent.glob(".*.files.json")).write_text("["),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_extracted_folder_that_was_changed_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(archive(**{"a.txt": "one", "b/c.bin": "x" * 1000}))
    folder = Path(catalogue.download_extract(path))
    CHANGES[change](folder)
    assert Path(catalogue.download_extract(path)) == folder
    content = {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}
    assert content == {"a.txt": "one", "b/c.bin": "x" * 1000}
    assert not (folder / "a.txt").is_symlink()
    # What was changed may be somebody's work: it is kept, and its place is told.
    kept = folder.with_name(f"{folder.name}.changed-1")
    assert kept.is_dir() and kept.name in capsys.readouterr().err
    catalogue.download_extract(path)
    assert not capsys.readouterr().err


def test_encoded_corpora_beside_an_extracted_one_stay(tmp_path: Path) -> None:
    path = tmp_path / "corpus.zip"
    path.write_bytes(archive(**{"a.txt": "one"}))
    folder = Path(catalogue.download_extract(path))
    (folder / ".bertnli").mkdir()
    (folder / ".bertnli" / "ids.npy").write_bytes(b"x")
    assert Path(catalogue.download_extract(path)) == folder
    assert (folder / ".bertnli" / "ids.npy").exists()


def test_local_archives(tmp_path: Path, fixtures: Path) -> None:
    hashes = json.loads((fixtures / "zips" / "sha1.json").read_text())
    for name, expected in hashes.items():
        assert fetch.sha1_of(fixtures / "zips" / name) == expected
        folder = Path(catalogue.download_extract(fixtures / "zips" / name))
        assert sorted(path.name for path in folder.iterdir()) == ["pretrained.params", "vocab.json"]
    flat = tmp_path / "flat.zip"
    flat.write_bytes(archive(a="1", b="2"))
    assert {path.name for path in Path(catalogue.download_extract(flat)).iterdir()} == {"a", "b"}
    (tmp_path / "c").write_text("3")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "c", "c")
    assert (Path(catalogue.download_extract(tmp_path / "t.tar.gz")) / "c").read_text() == "3"
    (tmp_path / "table.tsv").write_text("no archive")
    with pytest.raises(DownloadError, match="neither a zip nor a tar"):
        catalogue.download_extract(tmp_path / "table.tsv")
    for name, whole in (("flat.zip", flat), ("t.tar.gz", tmp_path / "t.tar.gz")):
        (tmp_path / f"cut-{name}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(DownloadError, match=r"Copy it anew from where it came from$"):
            catalogue.download_extract(tmp_path / f"cut-{name}")
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    (tmp_path / "pointer.zip").write_text(pointer)
    with pytest.raises(DownloadError, match="a pointer of git-lfs"):
        catalogue.download_extract(tmp_path / "pointer.zip")
    (tmp_path / "clone.zip").write_bytes(archive(a=pointer))  # unpacked as it is
    assert (Path(catalogue.download_extract(tmp_path / "clone.zip")) / "a").read_text() == pointer


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_hostile_members_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(archive(**{"good": "", name: "bad"}))
    with pytest.raises(DownloadError, match="refused"):
        catalogue.download_extract(path)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_unpacks_to_far_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 20)
    path = tmp_path / f"bomb.{kind}"
    (tmp_path / "zeros").write_bytes(bytes(4 << 20))
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(tmp_path / "zeros", "zeros")
    else:
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "zeros", "zeros")
    with pytest.raises(DownloadError, match="unpack to 4,194,304"):
        catalogue.download_extract(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("zeros"))


def test_damaged_archives_are_errors(tmp_path: Path, fixtures: Path) -> None:
    whole = (fixtures / "zips" / "bert.tiny.zip").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(60):
        raw = bytearray(whole)
        for place in rng.integers(0, len(raw), 20):
            raw[place] = rng.integers(256)
        path = tmp_path / f"{i}.zip"
        path.write_bytes(raw)
        try:
            catalogue.download_extract(path, tmp_path / "cache")
        except DownloadError:
            refused += 1
    assert refused > 30


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(DownloadError, match="refused"):
        catalogue.download_extract(tmp_path / "bad.tar")
