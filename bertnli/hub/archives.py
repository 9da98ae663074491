"""Unpack archives, which are not trusted, into folders."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from bertnli._util.files import COPY_ANEW, digest_of, open_regular
from bertnli._util.locks import hidden, locked
from bertnli._util.temporary import NEW, temporary_folder
from bertnli.errors import DownloadError

#: An archive of `size` bytes may unpack to MAX_UNPACKED + MAX_RATIO * size.
MAX_UNPACKED, MAX_RATIO = 1 << 26, 20
#: Limit of the number of files and folders in an archive.
MAX_MEMBERS = 4096
#: The first bytes of compressed files to the functions that open them.
OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
#: The folder beside a corpus that holds its cached encodings.
ENCODED = ".bertnli"
#: Names of folders that do not count as an archive's content: macOS's, and that cache.
ADDED = ("__MACOSX", ENCODED)


class NoArchiveError(DownloadError):
    """Raised for a file that is neither a zip nor a tar archive."""


def extracted(archive: Path, folder: Path) -> Path:
    """Unpack a zip or tar archive, unless that was done before, and return its folder.

    Before each use the folder is compared with a list of the unpacked files and their hashes. A
    folder that differs is renamed, not removed, and the archive is unpacked again.

    Args:
        archive: path of the file.
        folder: the folder for downloads; the archive is unpacked in its subfolder ``extracted``.

    Returns:
        The folder of the content; if that is a single folder, this one.
    """
    open_regular(archive, DownloadError).close()
    stem = re.sub(r"(\.tar)?\.\w+$", "", archive.name)[:100]
    home = folder / "extracted" / f"{stem}-{digest_of(archive, 'sha256')[:32]}"
    try:
        if not _is_intact(home):  # an intact folder needs no lock, and no right to write
            with locked(home):
                if not _is_intact(home):
                    _unpack(archive, home)
        content = [entry for entry in home.iterdir() if entry.name not in ADDED]
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{home} cannot be written: {error}") from error
    return content[0] if len(content) == 1 and content[0].is_dir() else home


def _hashes(home: Path) -> dict[str, str]:
    """Return a dictionary of each file's relative path to its SHA-256.

    A symbolic link has the empty string.
    """
    return {
        path.relative_to(home).as_posix(): "" if path.is_symlink() else digest_of(path, "sha256")
        for path in home.rglob("*")
        if not {*ADDED} & {*path.relative_to(home).parts} and (path.is_symlink() or path.is_file())
    }


def _is_intact(home: Path) -> bool:
    """Return whether a folder holds exactly the files that were unpacked into it."""
    try:
        listed = json.loads(hidden(home, ".files.json").read_text(encoding="utf-8"))
        return home.is_dir() and bool(listed == _hashes(home))
    except (OSError, ValueError, RecursionError):
        return False


def _unpack(archive: Path, home: Path) -> None:
    """Unpack an archive into a temporary folder, and rename that to ``home``."""
    if home.exists():  # it has been changed, perhaps by a user
        names = (home.with_name(f"{home.name}.changed-{number}") for number in count(1))
        aside = home.rename(next(path for path in names if not path.exists()))
        print(
            f"{home} is not as it was unpacked; it is now {aside.name}, and the archive is "
            "unpacked anew",
            file=sys.stderr,
        )
    with temporary_folder(home) as temporary:
        content = temporary / NEW
        content.mkdir()
        unpack_into(archive, content)
        hidden(home, ".files.json").write_text(json.dumps(_hashes(content)), encoding="utf-8")
        content.rename(home)


def unpack_into(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into a folder, over the files that are there.

    Raises:
        DownloadError: see `extracted`.
    """
    try:
        _extract(archive, folder)
    except DownloadError:
        raise
    except tarfile.ReadError as error:
        reason = f"{archive} is neither a zip nor a tar archive ({error})"
        raise NoArchiveError(reason) from None
    except Exception as error:  # the readers raise anything for a damaged archive
        hint = "" if isinstance(error, OSError) else f". {COPY_ANEW}"
        raise DownloadError(f"{archive} cannot be unpacked: {error}{hint}") from error


def _extract(archive: Path, folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder.parent) as unpacked, open(archive, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"PK") or zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _check(archive, ((info.filename, info.file_size) for info in zipped.infolist()))
                zipped.extractall(folder)
            return
        opener = next((open for begin, open in OPENERS.items() if magic.startswith(begin)), None)
        if opener is not None:
            # tarfile holds a header of any length in memory: bound what it reads.
            with opener(file) as source:
                while chunk := source.read(1 << 20):
                    _check(archive, [("", unpacked.tell() + len(chunk))])
                    unpacked.write(chunk)
            unpacked.seek(0)
        with tarfile.open(fileobj=unpacked if opener else file, mode="r:") as tar:
            _check(archive, ((member.name, member.size) for member in tar))
            if not all(member.isfile() or member.isdir() for member in tar):
                raise DownloadError(f"{archive} is refused: it has links or devices")
            tar.extractall(folder, filter="data")


def _check(archive: Path, members: Iterable[tuple[str, int]]) -> None:
    """Raise DownloadError if an archive has too many or too large members, (name, size)."""
    limit, number, total = MAX_UNPACKED + MAX_RATIO * archive.stat().st_size, 0, 0
    for name, size in members:
        number, total = number + name.count("/") + 1, total + size
        if size < 0 or total > limit or number > MAX_MEMBERS:
            raise DownloadError(
                f"{archive} is refused: it unpacks to {number:,} files or folders of {total:,} "
                f"bytes; at most {MAX_MEMBERS:,} of {limit:,} bytes are expected"
            )
