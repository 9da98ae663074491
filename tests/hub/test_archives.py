"""Archives: unpacked into a folder of their own and nowhere else, or refused."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import processes
import pytest
from hostile import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused

from bertnli.errors import DownloadError
from bertnli.hub import archives
from bertnli.hub.catalogue import download_extract

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
PACKERS = {
    "tar": bytes,
    "tar.gz": lambda raw: gzip.compress(raw, 1),
    "tar.bz2": bz2.compress,
    "tar.xz": lambda raw: lzma.compress(raw, preset=0),
}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Sandbox:
    """A folder around a cache, where everything that is written is seen."""

    def __init__(self, home):
        self.home = home
        self.cache = home / "in" / "ner" / "cache"
        self.cache.mkdir(parents=True)

    def unpack(self, content, ending):
        """Unpack an archive; return the files by name, or None if it was refused."""
        archive = self.cache.parent / f"case.{ending}"
        archive.write_bytes(content)
        try:
            folder = Path(download_extract(archive, self.cache))
        except DownloadError:
            folder = None
        files = {}
        for path in [path for path in self.home.rglob("*") if not path.is_dir()]:
            if path == archive or (path.parent.name == "extracted" and path.name[0] == "."):
                continue  # locks, lists of files
            assert folder is not None and self.cache / "extracted" in path.parents
            info = path.lstat()
            assert stat.S_ISREG(info.st_mode) and info.st_mode & 0o7622 == 0o600
            files["/".join(path.relative_to(self.cache).parts[2:])] = path.read_bytes()
        assert sum(map(len, files.values())) <= (1 << 16) + 4 * len(content)
        assert not [*self.home.rglob("*.tmp")]
        archive.unlink()
        shutil.rmtree(self.cache / "extracted", ignore_errors=True)
        return None if folder is None else files


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path / "sandbox")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, value in {"MAX_UNPACKED": 1 << 16, "MAX_RATIO": 4, "MAX_MEMBERS": 40}.items():
        monkeypatch.setattr(archives, name, value)


def zipped(members, method=zipfile.ZIP_STORED):
    """Make a zip of (name, content, mode); ZipInfo takes names as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type, info.external_attr = method, mode << 16
            file.writestr(info, content)
    return buffer.getvalue()


def tarred(members, format=tarfile.PAX_FORMAT):
    """Make a tar of (name, content, type or mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind if isinstance(kind, bytes) else tarfile.REGTYPE
            info.mode = 0o644 if isinstance(kind, bytes) else kind
            info.linkname, info.size = "../../../evil", len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_archives_are_unpacked(sandbox):
    content = {"a.txt": b"one", "b/c.txt": b"two" * 1000, "b/é 中.bin": bytes(range(256)), "e": b""}
    members = [(name, data, 0o4777) for name, data in content.items()]
    for method in METHODS:
        assert sandbox.unpack(zipped(members, method), "zip") == content
    for ending, pack in PACKERS.items():
        for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            assert sandbox.unpack(pack(tarred(members, format)), ending) == content
    folders = [("b/", b"", tarfile.DIRTYPE), ("./b/c", b"x", tarfile.REGTYPE)]
    assert sandbox.unpack(tarred(folders), "tar") == {"b/c": b"x"}


BAD_NAMES = (
    "../evil",
    "/evil",
    "//evil",
    "a/../../evil",
    "..",
    "C:\\evil",
    "..\\evil",
    "x/" * 3000,
)


LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, tarfile.REGTYPE) for name in BAD_NAMES), *(("evil", kind) for kind in LINKS)],
)
def test_no_name_and_no_link_leads_out(sandbox, name, kind):
    """`Sandbox.unpack` checks where the files are."""
    result = sandbox.unpack(tarred([("good", b"", 0o644), (name, b"", kind)]), "tar")
    assert kind not in LINKS or result is None
    for mode in (0, stat.S_IFLNK, stat.S_IFIFO):  # a zip's are written as plain files
        sandbox.unpack(zipped([("good", b"", 0), (name, b"/etc", mode | 0o777)]), "zip")


def test_many_members_are_refused(sandbox):
    for number in (archives.MAX_MEMBERS, archives.MAX_MEMBERS + 1):
        members = [(f"{i}", b"", 0o644) for i in range(number)]
        for content, ending in ((zipped(members), "zip"), (tarred(members), "tar")):
            refused = sandbox.unpack(content, ending) is None
            assert refused is (number > archives.MAX_MEMBERS)
    assert sandbox.unpack(zipped([("d/" * 100 + "x", b"", 0)]), "zip") is None


def with_checksum(raw):
    """Correct the checksum of a tar's first header."""
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


def bombs():
    """Make archives that unpack to more than they are, or than they say."""
    zeros = bytes(1 << 22)
    honest = zipped([("a", zeros, 0)], zipfile.ZIP_DEFLATED)
    cases = {f"{method}.zip": zipped([("a", zeros, 0)], method) for method in METHODS[1:]}
    for ending in ("tar.gz", "tar.bz2", "tar.xz"):
        cases[f"a.{ending}"] = PACKERS[ending](tarred([("a", zeros, 0o644)]))
    real = struct.pack("<I", len(zeros))
    for name, size in (("less", 10), ("none", 0), ("huge", 0xFFFFFFFE)):
        cases[f"{name}.zip"] = honest.replace(real, struct.pack("<I", size))
    for size in (8**11 - 1, -512, -1):
        for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            raw = bytearray(tarred([("a", b"x" * 512, 0o644), ("b", b"x", 0o644)]))
            raw[156:157] = kind
            negative = b"\xff" * 8 + struct.pack(">i", min(size, 0))  # in base 256
            raw[124:136] = f"{size:011o}\0".encode() if size >= 0 else negative
            for ending in ("tar", "tar.gz"):
                cases[f"{size} {kind.decode()}.{ending}"] = PACKERS[ending](with_checksum(raw))
    # Entries that share one stretch of data.
    single = zipped([("a", b"x" * 60_000, 0)])
    start = single.index(b"PK\1\2")
    entry = single[start : single.index(b"PK\5\6")]
    entries = entry + b"".join(entry.replace(b"a", bytes([98 + i])) for i in range(20))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 21, 21, len(entries), start, 0)
    cases["overlap.zip"] = single[:start] + entries + end
    chain = bytearray(tarred([("a", b"", tarfile.XHDTYPE)], tarfile.USTAR_FORMAT)[:512])
    cases["chain.tar"] = with_checksum(chain) * 5000 + bytes(1024)
    sparse = tarfile.TarInfo("a")
    sparse.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    raw[386:398], raw[398:410] = b"00000000000\0", b"00000000000\0"
    raw[483:495] = b"77777777777\0"  # the size, with its holes
    cases["sparse.tar"] = with_checksum(raw) + bytes(1024)
    return cases


BOMBS = bombs()


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs(sandbox, name):
    assert sandbox.unpack(BOMBS[name], name.split(".", 1)[1]) is None


NAMES = st.one_of(st.sampled_from(["a", "b", "c/d", "c/e", *BAD_NAMES]), st.text(max_size=6))
CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", bytes(9000), bytes(70_000)]))
TYPES = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"9"])
MEMBERS = st.lists(st.tuples(NAMES, CONTENTS, TYPES), max_size=6)


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.long)])
def test_hostile_archives(tmp_path_factory, count):
    """Unpack archives of any members, damaged before or after they are compressed."""

    @settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(MEMBERS, st.integers(0, 1 << 32))
    def check(members, seed):
        sandbox = Sandbox(tmp_path_factory.mktemp("case") / "sandbox")
        rng = random.Random(seed)
        ending = rng.choice(["zip", "zip", *PACKERS])
        try:
            if ending == "zip":
                content = zipped([(*member[:2], 0) for member in members], rng.choice(METHODS))
            else:
                content = tarred(members)
        except (ValueError, UnicodeError):  # no archive can be made of such names
            content = b""
        if rng.random() < 0.7:
            content = damaged(content, rng)
            if len(content) >= 512 and ending != "zip":
                content = with_checksum(bytearray(content))
        content = PACKERS.get(ending, bytes)(content)
        sandbox.unpack(damaged(content, rng) if rng.random() < 0.4 else content, ending)
        shutil.rmtree(sandbox.home)

    check()


def test_damaged_and_other_files(tmp_path):
    half_zip = zipped([("a", b"x" * 2000, 0)])[:1000]
    copy = "Copy it anew from where it came from$"
    for name, content, message in (
        ("x.zip", half_zip, copy),
        ("x.tar.gz", gzip.compress(os.urandom(5000))[:2500], copy),
        ("table.tsv", b"no archive", "neither a zip nor a tar"),
        ("x.zip", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(DownloadError, message, download_extract, tmp_path / name)


def flip_a_bit(folder):
    raw = bytearray((folder / "b" / "c.bin").read_bytes())
    raw[500] ^= 1
    (folder / "b" / "c.bin").write_bytes(raw)


def make_a_link(folder):
    (folder / "a.txt").rename(folder.parent / "away")
    (folder / "a.txt").symlink_to(folder.parent / "away")


CHANGES = {
    "a bit": flip_a_bit,
    "a link": make_a_link,
    "removed": lambda folder: (folder / "a.txt").unlink(),
    "added": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "renamed": lambda folder: (folder / "b").rename(folder / "d"),
    "no list": lambda folder: next(folder.parent.glob(".*.files.json")).unlink(),
    "a damaged list": lambda folder: next(folder.parent.glob(".*.files.json")).write_text("["),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_made_anew(tmp_path, capsys, change):
    path = tmp_path / "model.zip"
    path.write_bytes(zipped([("a.txt", b"one", 0), ("b/c.bin", b"x" * 1000, 0)]))
    folder = Path(download_extract(path))
    # The cache of encodings is not a part of the content.
    (folder / ".bertnli").mkdir()
    (folder / ".bertnli" / "ids.npy").write_bytes(b"x")
    assert Path(download_extract(path)) == folder and not capsys.readouterr().err
    CHANGES[change](folder)
    assert Path(download_extract(path)) == folder
    content = {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}
    assert content == {"a.txt": "one", "b/c.bin": "x" * 1000}
    assert not (folder / "a.txt").is_symlink()
    # The changes may be somebody's work: they are kept.
    kept = folder.with_name(f"{folder.name}.changed-1")
    assert kept.is_dir() and kept.name in capsys.readouterr().err


def test_a_folder_at_the_top_is_the_content(tmp_path, fixtures):
    path = tmp_path / "x.zip"
    path.write_bytes(zipped([("top/a.txt", b"one", 0), ("__MACOSX/x", b"", 0)]))
    folder = Path(download_extract(path))
    assert folder.name == "top" and (folder / "a.txt").read_text() == "one"
    for name in json.loads((fixtures / "zips" / "sha1.json").read_text()):
        folder = Path(download_extract(fixtures / "zips" / name))
        assert sorted(path.name for path in folder.iterdir()) == ["pretrained.params", "vocab.json"]


UNPACK = """
import sys, zipfile
from bertnli.hub.catalogue import download_extract
extract = zipfile.ZipFile.extractall
zipfile.ZipFile.extractall = lambda *a: (print('unpacks'), extract(*a))
sys.stdin.readline()
print(download_extract(*sys.argv[1:]))
"""


def test_two_processes_unpack_once(tmp_path, leave_leftover):
    """They also remove what a killed process left."""
    content = {f"{i}": random.Random(i).randbytes(300) for i in range(30)}
    (tmp_path / "x.zip").write_bytes(zipped([(name, data, 0) for name, data in content.items()]))
    home = Path(download_extract(tmp_path / "x.zip", tmp_path / "cache"))
    shutil.rmtree(home)
    leave_leftover(home)
    command = [sys.executable, "-c", UNPACK, str(tmp_path / "x.zip"), str(tmp_path / "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [processes.Process(command, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.finish()[0].split() for process in both]
    assert sorted(map(len, outputs)) == [1, 2]  # one of them unpacked
    assert {path.name: path.read_bytes() for path in home.iterdir()} == content
    assert not [*home.parent.glob(".*.tmp")]
