"""Encoded corpora on disk, memory-mapped when they are needed again.

A cached corpus is a folder with an ``.npy`` file for each array and ``meta.json``. Its name is a
hash of all that the ids depend on, so a change of any of that is another folder, and nothing is
ever changed in place: several processes may map the same one. Any of them may be deleted at any
time, and one that differs from its checksums is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.files import is_plain_file, open_regular
from bertnli._util.temporary import NEW, OLD, temporary_folder
from bertnli.data.encode import EncodedPairs
from bertnli.errors import DataError
from bertnli.hub.archives import ENCODED
from bertnli.hub.catalogue import cache_dir

#: Part of every key. A change of what is stored, or of how sentences are encoded, is a new number.
FORMAT = 3
ARRAYS = {
    "token_ids": np.dtype(np.int32),
    "offsets": np.dtype(np.int64),
    "premise_lens": np.dtype(np.int32),
    "labels": np.dtype(np.int32),
    "is_cut": np.dtype(np.bool_),
}
#: The other fields of `EncodedPairs`; its source may have another name next time.
FACTS = [one.name for one in fields(EncodedPairs) if one.name not in (*ARRAYS, "source")]
META = "meta.json"


def cached(
    sources: Sequence[Path], depends: list[Any], make: Callable[[], EncodedPairs]
) -> EncodedPairs:
    """Return what ``make`` makes of some files, from the cache if it was made before.

    The cache is beside the first file or, where that cannot be written, in the folder of downloads;
    where that cannot be written either, nothing is kept. A damaged entry is made anew.

    Args:
        sources: the files, whose content is part of the key. A copy of them elsewhere has the same
            key; the ``source`` of the result is the names given here.
        depends: what else the result depends on, as JSON can write it: the vocabulary's definition,
            and all settings.
        make: encodes the files.

    Raises:
        DataError: a file cannot be read.
    """
    key, source = _key(sources, depends), ", ".join(map(str, sources))
    entries = [folder / key for folder in _folders(sources[0])]
    for entry in entries:
        found = _load(entry, source)
        if found is not None:
            return found
    made = replace(make(), source=source)
    for entry in entries:
        if _store(entry, made):
            break
    return made


def _folders(source: Path) -> Iterator[Path]:
    yield source.parent / ENCODED
    with suppress(RuntimeError):  # there is no home folder
        yield cache_dir() / "encoded"


def _key(sources: Sequence[Path], depends: list[Any]) -> str:
    key = hashlib.sha256(json.dumps([FORMAT, depends]).encode())
    for source in sources:
        content = hashlib.sha256()
        with open_regular(source, DataError) as file:
            while piece := file.read(1 << 20):
                content.update(piece)
        key.update(content.digest())
    return key.hexdigest()[:32]


def _load(entry: Path, source: str) -> EncodedPairs | None:
    """Return what a folder of the cache holds, memory-mapped; None if it is not whole."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        checksum, files = meta.pop("checksum"), meta["files"]
        if checksum != _checksum(meta):
            return None
        arrays: dict[str, Any] = {}
        for name, dtype in ARRAYS.items():
            path = entry / f"{name}.npy"
            arrays[name] = array = np.load(path, mmap_mode="r")
            if array.dtype != dtype or [path.stat().st_size, zlib.crc32(array.data)] != files[name]:
                return None
        facts: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in meta["facts"].items()
        }
        pairs = EncodedPairs(**arrays, **facts, source=source)
        n = len(pairs.labels)
        lengths_fit = len(pairs.premise_lens) == len(pairs.is_cut) == len(pairs.offsets) - 1 == n
        return pairs if lengths_fit and pairs.offsets[-1] == len(pairs.token_ids) else None
    except Exception:  # whatever is wrong with it: it can be made again
        return None


def _store(entry: Path, pairs: EncodedPairs) -> bool:
    """Write a folder of the cache under another name, and rename it; return whether it is there."""
    try:
        with temporary_folder(entry) as home:
            new = home / NEW
            new.mkdir()
            files = {}
            for name in ARRAYS:
                array = np.ascontiguousarray(getattr(pairs, name))
                with open(new / f"{name}.npy", "wb") as file:
                    np.save(file, array)
                    file.flush()
                    os.fsync(file.fileno())
                    files[name] = [file.tell(), zlib.crc32(array.data)]
            facts = {name: getattr(pairs, name) for name in FACTS}
            meta: dict[str, Any] = {"facts": facts, "files": files}
            meta["checksum"] = _checksum(meta)
            (new / META).write_text(json.dumps(meta), encoding="utf-8")
            return _put(home, entry)
    except OSError:
        return False


def _checksum(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta).encode())


def _put(home: Path, entry: Path) -> bool:
    """Rename the new folder of a temporary one; return whether a folder of the cache is there.

    One of that name goes, unless another process has just put it there, or something else is in it.
    """
    try:
        (home / NEW).rename(entry)
    except OSError:
        if _load(entry, "") is not None:
            return True
        if not _holds_our_files(entry):
            return False
        entry.rename(home / OLD)
        (home / NEW).rename(entry)
    return True


def _holds_our_files(entry: Path) -> bool:
    """Return whether a path is a folder with the files of a cached corpus, and nothing else.

    An empty folder in the place of a file holds nothing.
    """
    if entry.is_symlink() or not entry.is_dir():
        return False
    own = {META, *(f"{name}.npy" for name in ARRAYS)}
    return all(
        path.name in own and (is_plain_file(path) or (path.is_dir() and not any(path.iterdir())))
        for path in entry.iterdir()
    )
