"""Named downloads."""

import hashlib
import io
import re
import socket
import traceback
import zipfile
from pathlib import Path

import pytest
from refusals import refused

import bertnli
from bertnli.errors import DownloadError
from bertnli.hub import catalogue

CONTENT = hashlib.sha1(b"content").hexdigest()


def archive(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("a.txt", text)
    return buffer.getvalue()


def test_the_books_entries():
    """Names, addresses and SHA-1 are those of the book."""
    base = "http://d2l-data.s3-accelerate.amazonaws.com/"
    snli = (
        "https://nlp.stanford.edu/projects/snli/snli_1.0.zip",
        "9fcde07509c7e87ec61c640c1b2753d9041758e4",
    )
    torch = {
        "bert.base": (base + "bert.base.torch.zip", "225d66f04cae318b841a13d32af3acc165f253ac"),
        "bert.small": (base + "bert.small.torch.zip", "c72329e68a732bef0452e4b96a1c341c8910f81f"),
    }
    mxnet = {
        "bert.base": (base + "bert.base.zip", "7b3820b35da691042e5d34c0971ac3edbd80d3f4"),
        "bert.small": (base + "bert.small.zip", "a4e718a47137ccd1809c9107ab4f5edd317bae2c"),
    }
    assert dict(catalogue.HubView("torch")) == {**torch, "SNLI": snli}
    assert dict(catalogue.HubView("mxnet")) == {**mxnet, "SNLI": snli}
    assert set(bertnli.DATA_HUB) == {*torch, "SNLI"}


def test_download_once_and_check_every_time(server, tmp_path):
    url = server.url + "/a/data.bin"
    file = server.serve("/a/data.bin", b"content")
    bertnli.register("data", url, CONTENT.upper())
    path = Path(bertnli.download("data", progress=False))
    assert (path.parent.parent, path.name) == (tmp_path / "cache", "data.bin")
    assert path.read_bytes() == b"content"
    assert bertnli.download("data", progress=False) == str(path)
    assert len(file.requests) == 1
    path.write_bytes(b"damaged")
    assert Path(bertnli.download("data", progress=False)).read_bytes() == b"content"
    assert len(file.requests) == 2
    other = bertnli.download(url, tmp_path / "here", CONTENT)
    assert Path(other).parent.parent == tmp_path / "here"


def test_a_wrong_file_stays_until_a_good_one_comes(server):
    server.serve("/data.bin", b"another")
    path = Path(bertnli.download(server.url + "/data.bin", progress=False))
    bertnli.register("data", server.url + "/data.bin", CONTENT)
    refused(DownloadError, "expected is", bertnli.download, "data", progress=False)
    assert path.read_bytes() == b"another"


#: URLs that end alike, as far as a path, a file's name or a host goes.
ALIKE = (
    *("/a/model.zip", "/b/model.zip", "/a/model.zip?version=2", "/a/x/../model.zip"),
    *("/A/model.zip", "//a/model.zip", "/a;b/model.zip"),
)


def test_urls_that_end_alike_are_different_files(server):
    urls = [server.url + path for path in ALIKE]
    urls.append(server.url.replace("//", "//me:secret@") + "/b/model.zip")

    def check(number, url):
        folder = Path(bertnli.download_extract(url, progress=False))
        assert (folder / "a.txt").read_text() == str(number)

    for number, url in enumerate(urls):
        for path in ALIKE:
            server.serve(re.sub("^//", "/", path).replace("x/../", ""), archive(str(number)))
        check(number, url)
        assert "secret" not in bertnli.download(url)
    server.files.clear()
    for number, url in enumerate(urls):  # again, without a request
        check(number, url)


def test_files_that_are_here_need_no_lock(server, monkeypatch):
    server.serve("/x.zip", archive("one"))
    home = bertnli.download_extract(server.url + "/x.zip", progress=False)
    monkeypatch.setattr("bertnli.hub.fetch.locked", None)
    monkeypatch.setattr("bertnli.hub.archives.locked", None)
    assert bertnli.download_extract(server.url + "/x.zip") == home
    assert bertnli.download_extract(home) == home


def test_without_a_network(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x.zip"
    bertnli.register("x", url)
    with pytest.raises(DownloadError, match=re.escape(url)) as caught:
        bertnli.download("x", progress=False)
    assert re.search(rf"{re.escape(str(tmp_path / 'cache'))}/\w{{16}}/x\.zip", str(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "http://me:s3cret@127.0.0.1:1/x.zip?token=s3cret",  # no answer
        "SERVER/y.zip?token=s3cret",  # no such file
        "SERVER/x.zip?token=s3cret",  # another file
        "ftp://me:s3cret@127.0.0.1/x.zip?token=s3cret",
        "http://me:s3cret@[::1/x.zip?token=s3cret",
    ],
)
def test_secrets_of_an_address_are_not_told(server, url):
    """A password is neither in the error nor in the errors that caused it."""
    server.serve("/x.zip?token=s3cret", b"another")
    url = url.replace("SERVER", server.url.replace("//", "//me:s3cret@"))
    bertnli.register("secret", url, "0" * 40)
    assert "s3cret" not in repr(catalogue.HubView("torch"))
    with pytest.raises(DownloadError) as caught:
        bertnli.download("secret", progress=False)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_names_and_views(server):
    refused(DownloadError, r"Did you mean 'bert\.small'", bertnli.download, "bert.smal")
    refused(DownloadError, "say which", bertnli.download, "bert.small")
    refused(DownloadError, "40 hexadecimal", bertnli.register, "x", server.url, "abc")
    view = catalogue.HubView("mxnet")
    view["mine"] = (server.url + "/mine.zip", None)
    assert view["mine"] == catalogue.HubView("mxnet")["mine"] == (server.url + "/mine.zip", None)
    assert "mine" not in catalogue.HubView("torch")
    assert len(view) == 4
    del view["mine"]
    assert "mine" not in view
