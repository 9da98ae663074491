"""Archives made to do harm: refused, or unpacked into their own folder and nowhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertnli.errors import DownloadError
from bertnli.hub import archives, catalogue

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
LIMITS = {"MAX_UNPACKED": 1 << 16, "MAX_RATIO": 4, "MAX_MEMBERS": 40}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda raw: gzip.compress(raw, 1),
    "tar.bz2": bz2.compress,
    "tar.xz": lambda raw: lzma.compress(raw, preset=0),
}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
#: Types of members of a tar; a file is the most frequent.
TYPES = (
    *[tarfile.REGTYPE] * 8,
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.AREGTYPE, b"9"),
)


class Sandbox:
    """A folder around a cache, where everything is seen that is written."""

    def __init__(self, home: Path) -> None:
        self.home, self.inner = home, home / "in" / "ner"
        self.cache = self.inner / "cache"
        self.inner.mkdir(parents=True)

    def unpack(self, content: bytes, ending: str) -> dict[str, bytes] | None:
        """Unpack a case; return the files by name, or None if the archive was refused."""
        archive = self.inner / f"case.{ending}"
        archive.write_bytes(content)
        start = time.process_time()
        try:
            catalogue.download_extract(archive, self.cache)
            refused = False
        except DownloadError:
            refused = True
        assert time.process_time() - start < 10
        found = dict(self._content(archive, refused))
        shutil.rmtree(self.cache, ignore_errors=True)
        archive.unlink()
        return None if refused else found

    def _content(self, archive: Path, refused: bool) -> Iterator[tuple[str, bytes]]:
        """Check where everything is and what it is; yield the files."""
        size = count = 0
        homes = set()
        for folder, folders, files in os.walk(self.home):
            for name in [*folders, *files]:
                path = Path(folder, name)
                info = path.lstat()
                if path in (archive, self.inner, self.inner.parent, self.cache):
                    continue
                place = path.relative_to(self.cache).parts
                assert place[0] == "extracted"
                if len(place) < 2 or (len(place) == 2 and name.endswith((".lock", ".files.json"))):
                    continue
                homes.add(place[1])
                if len(place) == 2:
                    continue
                assert stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
                assert info.st_mode & stat.S_IRUSR and not info.st_mode & 0o7022
                assert info.st_nlink == 1 or stat.S_ISDIR(info.st_mode)
                count += 1
                if stat.S_ISREG(info.st_mode):
                    size += info.st_size
                    yield "/".join(place[2:]), path.read_bytes()
        assert len(homes) == (0 if refused else 1)
        assert not any(home.startswith(".") for home in homes)
        assert size <= archives.MAX_UNPACKED + archives.MAX_RATIO * archive.stat().st_size
        assert count <= archives.MAX_MEMBERS * archives.MAX_DEPTH


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "sandbox")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LIMITS.items():
        monkeypatch.setattr(archives, name, value)


Member = tuple[str, bytes, Any]


def zipped(members: list[Member], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of (name, content, mode); ZipInfo takes names as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type, info.external_attr = method, mode << 16
            file.writestr(info, content)
    return buffer.getvalue()


def tarred(members: list[Member], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of (name, content, type or mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind if isinstance(kind, bytes) else tarfile.REGTYPE
            info.mode = 0o644 if isinstance(kind, bytes) else kind
            info.linkname, info.size = "../../../evil", len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_whole_archives_are_unpacked_whole(sandbox: Sandbox) -> None:
    content = {
        "a.txt": b"one",
        "b/c.txt": b"two" * 1000,
        "b/d/é 中.bin": bytes(range(256)),
        "e": b"",
    }
    members: list[Member] = [(name, data, 0o644) for name, data in content.items()]
    for method in METHODS:
        assert sandbox.unpack(zipped(members, method), "zip") == content
    for ending, pack in PACKERS.items():
        for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            assert sandbox.unpack(pack(tarred(members, format)), ending) == content
    folders: list[Member] = [("b/", b"", tarfile.DIRTYPE), ("./b/c", b"x", tarfile.REGTYPE)]
    assert sandbox.unpack(tarred(folders), "tar") == {"b/c": b"x"}
    assert sandbox.unpack(zipped([("b\\c", b"x", 0)]), "zip") == {"b/c": b"x"}  # of Windows


@pytest.mark.parametrize("mode", [0, 0o200, 0o4777, 0o7777])
def test_modes_are_the_users_own(sandbox: Sandbox, mode: int) -> None:
    assert sandbox.unpack(tarred([("a", b"x", mode)]), "tar") == {"a": b"x"}
    assert sandbox.unpack(zipped([("a", b"x", mode | stat.S_IFREG)]), "zip") == {"a": b"x"}


BAD_NAMES = [
    *("../evil", "/evil", "//evil", "a/../../evil", "..", "C:\\evil", "c:evil", "..\\evil"),
    *("\\\\host\\evil", "a\\..\\..\\evil", "", "x" * 5000, "x/" * 3000 + "y", "d/" * 200 + "y"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(sandbox: Sandbox, name: str) -> None:
    evil: Member = (name, b"evil", 0o644)
    good: Member = ("good", b"", 0o644)
    assert sandbox.unpack(zipped([good, evil]), "zip") is None
    assert sandbox.unpack(tarred([good, evil]), "tar") is None


@pytest.mark.parametrize("kind", sorted({*TYPES} - {tarfile.REGTYPE, tarfile.DIRTYPE}))
def test_members_that_are_no_files(sandbox: Sandbox, kind: bytes) -> None:
    found = sandbox.unpack(tarred([("good", b"", 0o644), ("evil", b"", kind)]), "tar")
    if kind in (tarfile.AREGTYPE, tarfile.CONTTYPE):  # plain files too
        assert found == {"good": b"", "evil": b""}
    elif kind != tarfile.GNUTYPE_SPARSE:
        assert found is None
    for mode in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        assert sandbox.unpack(zipped([("evil", b"/etc", mode | 0o777)]), "zip") is None


def test_conflicts(sandbox: Sandbox) -> None:
    for names in (["a", "a"], ["a", "a/b"], ["a/b", "a"], ["a", "./a"]):
        members: list[Member] = [(name, b"x", 0o644) for name in names]
        assert sandbox.unpack(tarred(members), "tar") is None
        assert sandbox.unpack(zipped(members), "zip") is None


def test_many_members(sandbox: Sandbox) -> None:
    members: list[Member] = [(f"{i}", b"", 0o644) for i in range(archives.MAX_MEMBERS + 1)]
    for few in (True, False):
        for content, ending in ((zipped(members[few:]), "zip"), (tarred(members[few:]), "tar")):
            assert (sandbox.unpack(content, ending) is not None) is few


def with_size(content: bytes, size: int) -> bytes:
    """A tar whose first member declares another size."""
    raw = bytearray(content)
    negative = b"\xff" * 8 + struct.pack(">i", min(size, 0))  # in base 256
    raw[124:136] = f"{size:011o}\0".encode() if size >= 0 else negative
    return with_checksum(raw)


def with_checksum(raw: bytearray, at: int = 0) -> bytes:
    """A tar whose header at a place has the right checksum again."""
    raw[at + 148 : at + 156] = b" " * 8
    raw[at + 148 : at + 156] = f"{sum(raw[at : at + 512]):06o}\0 ".encode()
    return bytes(raw)


def bombs() -> dict[str, bytes]:
    """Archives that unpack to more than they are, or than they say."""
    zeros = bytes(1 << 22)
    honest = zipped([("a", zeros, 0)], zipfile.ZIP_DEFLATED)
    found = {f"{method}.zip": zipped([("a", zeros, 0)], method) for method in METHODS[1:]}
    for ending in ("tar.gz", "tar.bz2", "tar.xz"):
        found[f"a.{ending}"] = PACKERS[ending](tarred([("a", zeros, 0o644)]))
    real = struct.pack("<I", len(zeros))
    for name, size in (("less", 10), ("none", 0), ("huge", 0xFFFFFFFE)):
        found[f"{name}.zip"] = honest.replace(real, struct.pack("<I", size))
    for name, size in (("huge", 8**11 - 1), ("negative", -512), ("negative one", -1)):
        for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
            raw = bytearray(tarred([("a", b"x" * 512, 0o644), ("b", b"x", 0o644)]))
            raw[156:157] = kind
            for ending, pack in PACKERS.items():
                packed = pack(with_size(bytes(raw), size))
                found[f"{name} {kind.decode()}.{ending}"] = packed
    # A million entries of one stretch of data would be a bomb too; they must not overlap.
    one = zipped([("a", b"x" * 60_000, 0)])
    directory = one[one.index(b"PK\1\2") : one.index(b"PK\5\6")]
    copies = [directory.replace(b"a", bytes([98 + i])) for i in range(20)]
    start = one.index(b"PK\1\2")
    entries = directory + b"".join(copies)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 21, 21, len(entries), start, 0)
    found["overlap.zip"] = one[:start] + entries + end
    chain = bytearray(tarred([("a", b"", tarfile.XHDTYPE)], tarfile.USTAR_FORMAT)[:512])
    found["chain.tar"] = with_checksum(chain) * 5000 + bytes(1024)
    sparse = tarfile.TarInfo("a")
    sparse.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    raw[386:398], raw[398:410] = b"00000000000\0", b"00000000000\0"
    raw[483:495] = b"77777777777\0"  # the size, with its holes
    found["sparse.tar"] = with_checksum(raw) + bytes(1024)
    return found


BOMBS = bombs()


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs(sandbox: Sandbox, name: str) -> None:
    assert sandbox.unpack(BOMBS[name], name.split(".", 1)[1]) is None


def test_what_is_declared_is_refused_before_it_is_read(sandbox: Sandbox) -> None:
    header = with_size(tarred([("a", b"", tarfile.XHDTYPE)], tarfile.USTAR_FORMAT)[:512], 1 << 23)
    for name, content, size in (
        ("a.tar.gz", gzip.compress(header + bytes((1 << 23) + 1024)), "8,"),
        ("a.zip", BOMBS["huge.zip"], "4,294,967,294"),
    ):
        path = sandbox.inner / name
        path.write_bytes(content)
        with pytest.raises(DownloadError, match=f"refused: .* unpack to {size}"):
            catalogue.download_extract(path, sandbox.cache)


def patched(content: bytes, local: int, central: int, value: int) -> bytes:
    """A zip with a 16-bit field of both of a member's headers changed."""
    raw = bytearray(content)
    struct.pack_into("<H", raw, local, value)
    struct.pack_into("<H", raw, content.index(b"PK\1\2") + central, value)
    return bytes(raw)


def test_encrypted_and_unknown_methods(sandbox: Sandbox) -> None:
    plain = zipped([("a", b"content", 0o644)])
    assert sandbox.unpack(patched(plain, 6, 8, 1), "zip") is None
    for method in (1, 9, 93, 97, 0xFFFF):
        assert sandbox.unpack(patched(plain, 8, 10, method), "zip") is None
    assert sandbox.unpack(plain, "zip") == {"a": b"content"}


def test_a_name_with_a_nul(sandbox: Sandbox) -> None:
    plain = zipped([("good_evil", b"x", 0o644)])
    assert sandbox.unpack(plain.replace(b"good_evil", b"good\0evil"), "zip") is None


def test_a_part_of_a_killed_process_goes(
    sandbox: Sandbox, leave_leftover: Callable[[Path], Path]
) -> None:
    content = tarred([("a", b"x", 0o644)])
    archive = sandbox.inner / "x.tar"
    archive.write_bytes(content)
    home = Path(catalogue.download_extract(archive, sandbox.cache))
    shutil.rmtree(home)
    part = leave_leftover(home)
    assert [
        path.name for path in Path(catalogue.download_extract(archive, sandbox.cache)).iterdir()
    ] == ["a"]
    assert not part.exists()


def test_what_is_unpacked_needs_no_lock(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = sandbox.inner / "x.zip"
    archive.write_bytes(zipped([("a", b"x", 0o644)]))
    home = catalogue.download_extract(archive, sandbox.cache)
    monkeypatch.setattr(archives, "locked", None)
    assert catalogue.download_extract(archive, sandbox.cache) == home


def test_two_processes_unpack_at_once(tmp_path: Path) -> None:
    content = {f"{i}": random.Random(i).randbytes(300) for i in range(400)}
    (tmp_path / "x.zip").write_bytes(zipped([(name, data, 0) for name, data in content.items()]))
    code = (
        "import sys; from bertnli.hub import archives, catalogue\n"
        "from bertnli.hub.archives import _Unpacking\n"
        "run = _Unpacking.run\n"
        "def said(self): print('unpacks'); run(self)\n"
        "_Unpacking.run = said; sys.stdin.readline()\n"
        "print(catalogue.download_extract(sys.argv[1], sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.zip"), str(tmp_path / "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [processes.Process(command, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.finish()[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(map(len, outputs)) == [1, 2]  # one of them unpacked
    home = Path(outputs[0][-1])
    assert {path.name: path.read_bytes() for path in home.iterdir()} == content


NAMES = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c", "d.txt", "é"]), min_size=1, max_size=3).map("/".join),
    st.lists(
        st.sampled_from(["a", "b", "..", ".", "", "C:", "\\", "\0", "evil", "x" * 300]), max_size=4
    ).map("/".join),
    st.sampled_from(BAD_NAMES),
    st.text(max_size=6),
)
CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", bytes(9000), bytes(70_000)]))
MODES = st.sampled_from([0, 0o644, 0o4777, stat.S_IFLNK, stat.S_IFREG, stat.S_IFIFO])


@st.composite
def cases(draw: Any) -> tuple[bytes, str, dict[str, bytes] | None]:
    """An archive, its ending, and what it must give if nothing was done to its bytes."""
    ending = draw(st.sampled_from(["zip", *PACKERS]))
    simple = draw(st.booleans())
    name = st.sampled_from(["a", "b", "c/d", "c/e", "f.txt"]) if simple else NAMES
    kind = st.just(0o644) if simple else MODES if ending == "zip" else st.sampled_from(TYPES)
    members = draw(
        st.lists(
            st.tuples(name, st.binary(max_size=40) if simple else CONTENTS, kind),
            max_size=6,
            unique_by=(lambda member: member[0]) if simple else None,
        )
    )
    damage = draw(st.booleans())
    try:
        if ending == "zip":
            content = zipped(members, draw(st.sampled_from(METHODS)))
        else:
            content = tarred(members, draw(st.sampled_from([0, 1, 2])))
    except (ValueError, UnicodeError, OverflowError):  # no archive can be made of such names
        content, damage = b"", True
    if damage and content and draw(st.booleans()):
        content, damage = damaged(draw, content), True
    if ending != "zip":
        content = PACKERS[ending](content)
    if damage:
        content = damaged(draw, content)
    whole = {member[0]: member[1] for member in members} if simple and not damage else None
    return content, ending, whole


def damaged(draw: Any, content: bytes) -> bytes:
    """Other bytes here and there; the checksums of a tar's headers are mended, half of the time."""
    raw = bytearray(content)
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    for _ in range(rng.randint(1, 6)):
        if not raw:
            break
        place = rng.randrange(len(raw))
        if len(raw) > 1024 and rng.random() < 0.7:  # the first header, of either kind of archive
            place = rng.randrange(512)
        how = rng.random()
        if how < 0.5:
            raw[place] = rng.randrange(256)
        elif how < 0.7:
            raw[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"7777", b"\x80\0\0\0"])
        elif how < 0.8:
            del raw[place : place + rng.randint(1, 600)]
        elif how < 0.9:
            raw[place:place] = raw[max(0, place - 512) : place]
        else:
            del raw[place:]
    if len(raw) >= 512 and rng.random() < 0.5:
        return with_checksum(raw)
    return bytes(raw)


def run_case(
    folder: pytest.TempPathFactory, case: tuple[bytes, str, dict[str, bytes] | None]
) -> None:
    content, ending, whole = case
    sandbox = Sandbox(folder.mktemp("case") / "sandbox")
    try:
        found = sandbox.unpack(content, ending)
        if whole is not None:
            assert found == whole
    finally:
        shutil.rmtree(sandbox.home)


FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=300, suppress_health_check=FIXTURE)
@given(case=cases())
def test_some_hostile_archives(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    run_case(tmp_path_factory, case)


@pytest.mark.long
@settings(max_examples=10_000, suppress_health_check=FIXTURE)
@given(case=cases())
def test_10_000_hostile_archives(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    run_case(tmp_path_factory, case)
