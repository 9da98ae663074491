"""An archive -> the folder of its content, for archives that may want to do harm."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli._util.locks import hidden, locked
from bertnli._util.temporary import NEW, temporary_folder
from bertnli.errors import DownloadError

#: An archive of `size` bytes may unpack to MAX_UNPACKED + MAX_RATIO * size.
MAX_UNPACKED, MAX_RATIO = 1 << 26, 20
#: To so many files and folders on their ways, so deep, with names of so many characters.
MAX_MEMBERS, MAX_DEPTH, MAX_NAME = 4096, 32, 1000
#: Bytes of headers that a member of a tar may have.
HEADERS = 1 << 13
OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
#: The folder beside a corpus that its cached encodings are in.
ENCODED = ".bertnli"
#: What is not of an archive's content: folders of macOS, and of that cache.
ADDED = ("__MACOSX", ENCODED)
#: What the readers of archives raise where one is damaged.
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    *(MemoryError, OverflowError, struct.error, zlib.error, lzma.LZMAError),
    *(zipfile.BadZipFile, tarfile.TarError),
)
#: Those of them that mean the archive itself, and not the disk.
CUT = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile)


class NoArchiveError(DownloadError):
    """A file that is no archive; ``found`` says so without advice."""

    def __init__(self, archive: Path, why: Exception) -> None:
        self.found = f"{archive} is neither a zip nor a tar archive ({why})"
        super().__init__(
            f"{self.found}; a table of pairs is a source by itself, for commands and bertnli.read"
        )


def extracted(archive: Path, folder: Path) -> Path:
    """Unpack a zip or tar archive once, into a folder named by its hash.

    The folder's files are compared with the list of what was unpacked (names, sizes, hashes) before
    each use. A folder that differs is renamed, not removed, and the archive is unpacked anew.

    Only files and folders are unpacked. An archive is refused as a whole if it has links or
    devices, names that lead out of the folder, two files of one name, or far more content than a
    corpus or a model has.

    Args:
        archive: the file.
        folder: the content is put below its ``extracted``.

    Returns:
        The content's folder: where the archive has one folder at its top, that one.

    Raises:
        DownloadError: the archive is damaged or refused, or the folder cannot be written.
    """
    stem = re.sub(r"(\.tar)?\.\w+$", "", archive.name)[:100]
    try:
        home = folder / "extracted" / f"{stem}-{_hash_of(archive)[:32]}"
    except OSError as error:
        raise DownloadError(f"{archive} cannot be read: {error}") from error
    try:
        if not _is_whole(home):  # what is whole needs no lock, and no right to write
            with locked(home):
                if not _is_whole(home):
                    _move_aside(home)
                    _unpack_to(archive, home)
        content = [entry for entry in home.iterdir() if entry.name not in ADDED]
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{home} cannot be written: {error}") from error
    return content[0] if len(content) == 1 and content[0].is_dir() else home


def _hash_of(path: Path, may_point: bool = False) -> str:
    """Return the SHA-256 of a file, in hexadecimal: a name that nobody can give another content."""
    digest = hashlib.sha256()
    with open_regular(path, DownloadError, may_point=may_point) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _list_of(home: Path) -> Path:
    """Return the path of the list of what was unpacked to a folder."""
    return hidden(home, ".files.json")


def _listed(home: Path) -> dict[str, list[Any]]:
    """Return size and hash of each file below a folder; a link or a device has none."""
    found: dict[str, list[Any]] = {}
    for folder, folders, names in os.walk(home):
        folders[:] = [name for name in folders if name not in ADDED]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in (*names, *links)):
            info = path.lstat()
            plain = stat.S_ISREG(info.st_mode)
            key = path.relative_to(home).as_posix()
            found[key] = [info.st_size, _hash_of(path, may_point=True)] if plain else []
    return found


def _is_whole(home: Path) -> bool:
    """Return whether a folder holds what was unpacked to it, and nothing else."""
    if not home.is_dir():
        return False
    try:
        listed = json.loads(_list_of(home).read_text(encoding="utf-8"))
        return bool(listed == _listed(home))
    except (OSError, ValueError, RecursionError):
        return False


def _move_aside(home: Path) -> None:
    """Rename a folder that is not whole: what was changed in it may be a user's own work."""
    if not home.exists():
        return
    number = 1
    while (aside := home.with_name(f"{home.name}.changed-{number}")).exists():
        number += 1
    home.rename(aside)
    print(
        f"{home} is not as it was unpacked; it is now {aside.name}, and the archive is unpacked "
        "anew",
        file=sys.stderr,
    )


def _unpack_to(archive: Path, home: Path) -> None:
    """Unpack beside a folder's place, and rename: the folder is there whole or not at all."""
    with temporary_folder(home) as temporary:
        part = temporary / NEW
        part.mkdir()
        try:
            _Unpacking(archive, part).run()
        except DownloadError:
            raise
        except DAMAGED as error:
            hint = f". {COPY_ANEW}" if isinstance(error, CUT) else ""
            raise DownloadError(f"{archive} cannot be unpacked: {error}{hint}") from error
        _list_of(home).write_text(json.dumps(_listed(part)), encoding="utf-8")
        part.rename(home)


class _Unpacking:
    """Writes an archive's members below a folder, and counts.

    The members are opened as streams and written here, not by the archive's reader: nothing but
    plain files with the user's own permissions comes out, on every version of Python, and what is
    written is counted, whatever the archive declares.
    """

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.folder = archive, folder
        self.archive_size = archive.stat().st_size
        self.limit = MAX_UNPACKED + MAX_RATIO * self.archive_size
        self.members = self.declared = self.written = 0

    def run(self) -> None:
        """Unpack.

        Raises:
            DownloadError: the archive is refused.
            Exception: one of `DAMAGED`.
        """
        if zipfile.is_zipfile(self.archive):
            self._unzip()
        else:
            self._untar()

    def _unzip(self) -> None:
        with zipfile.ZipFile(self.archive) as zipped:
            infos = zipped.infolist()
            # All of them before the first is written: a refusal costs nothing.
            paths = []
            for info in infos:
                kind = stat.S_IFMT(info.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                paths.append(self._path(info.orig_filename, plain, info.file_size))
            for info, path in zip(infos, paths, strict=True):
                self._write(path, None if info.is_dir() else zipped.open(info))

    def _untar(self) -> None:
        with open(self.archive, "rb") as file:
            magic = file.read(6)
        opener = next((o for begin, o in OPENERS.items() if magic.startswith(begin)), open)
        with opener(self.archive, "rb") as file:
            stream: Any = _Bounded(file, self.limit + MAX_MEMBERS * HEADERS, self._refuse_size)
            try:
                tar = tarfile.TarFile(fileobj=stream)
            except tarfile.ReadError as error:
                if magic.startswith(b"PK"):  # a zip, whose list of members is at its end
                    raise DownloadError(
                        f"{self.archive} is a zip archive that is cut off. {COPY_ANEW}"
                    ) from None
                raise NoArchiveError(self.archive, error) from None
            with tar:
                for member in tar:
                    plain = member.isfile() or member.isdir()
                    path = self._path(member.name, plain, member.size)
                    self._write(path, tar.extractfile(member) if member.isfile() else None)

    def _path(self, name: str, plain: bool, size: int) -> Path:
        """Return where a member goes; refuse what may not be unpacked."""
        parts = re.split(r"[/\\]", name)
        self.members += len(parts)
        if self.members > MAX_MEMBERS:
            raise self._refused(f"it has more than {MAX_MEMBERS:,} files and folders")
        if not plain or ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name):
            raise self._refused(
                f"its member {_short(name)} is a link or a device, or would be written outside "
                "the folder it is unpacked in"
            )
        parts = [part for part in parts if part not in ("", ".")]
        if "\0" in name or size < 0 or len(parts) > MAX_DEPTH or len(name) > MAX_NAME:
            raise self._refused(f"no file can be named {_short(name)}, or have {size:,} bytes")
        self.declared += size
        if self.declared > self.limit:
            self._refuse_size(self.declared)
        return self.folder.joinpath(*parts)

    def _write(self, path: Path, source: IO[bytes] | None) -> None:
        """Write a file, or make a folder where there is no source."""
        if source is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, open(path, "xb") as output:
            while chunk := source.read(1 << 16):
                self.written += len(chunk)
                if self.written > self.limit:
                    self._refuse_size(self.written)
                output.write(chunk)

    def _refuse_size(self, size: int) -> None:
        raise self._refused(f"its {self.archive_size:,} bytes unpack to {size:,}")

    def _refused(self, why: str) -> DownloadError:
        return DownloadError(f"{self.archive} is refused: {why}")


class _Bounded:
    """A reader that stops at a limit, since a tar's headers may declare any length."""

    def __init__(self, file: Any, limit: int, refuse: Any) -> None:
        self.file, self.limit, self.refuse = file, limit, refuse
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self._check(size, self.file.tell() + size)
        found: bytes = self.file.read(size)
        return found

    def seek(self, place: int) -> int:
        self._check(place, place)
        found: int = self.file.seek(place)
        return found

    def _check(self, number: int, end: int) -> None:
        if number < 0:
            raise ValueError(f"a length or place of {number}")
        if end > self.limit:
            self.refuse(end)


def _short(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:97] + "...")
