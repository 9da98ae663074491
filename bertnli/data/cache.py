"""A cache of encoded corpora on disk, which are memory-mapped when they are read again.

An entry is a folder with an ``.npy`` file for each array, and ``meta.json``, which is written last.
Its name is a hash of everything on which the ids depend, so all writers of an entry write the same
bytes. Each file is renamed to its name, so several processes may write and map an entry at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bertnli._util.files import digest_of, open_regular
from bertnli._util.temporary import NEW, temporary_folder
from bertnli.data.encode import EncodedPairs
from bertnli.errors import DataError
from bertnli.hub.archives import ENCODED
from bertnli.hub.catalogue import cache_dir

#: Part of every key; increased when the stored data or the encoding of sentences change.
FORMAT = 4
ARRAYS = {
    "token_ids": np.dtype(np.int32),
    "offsets": np.dtype(np.int64),
    "premise_lens": np.dtype(np.int32),
    "labels": np.dtype(np.int32),
    "is_cut": np.dtype(np.bool_),
}
#: The other fields of `EncodedPairs` that are stored; the source may have a new name next time.
FACTS = [field.name for field in fields(EncodedPairs) if field.name not in (*ARRAYS, "source")]
META = "meta.json"


def cached(
    sources: Sequence[Path], depends: list[Any], make: Callable[[], EncodedPairs]
) -> EncodedPairs:
    """Return the encoded pairs of some files from the cache, or compute and store them.

    Args:
        sources: the paths of the files; their content is a part of the key.
        depends: JSON values on which the ids depend, besides the content of the files.
        make: a function that computes the encoded pairs.
    """
    key, source = _key(sources, depends), ", ".join(map(str, sources))
    entries = [folder / key for folder in _folders(sources[0])]
    for entry in entries:
        pairs = _load(entry, source)
        if pairs is not None:
            return pairs
    pairs = replace(make(), source=source)
    for entry in entries:
        with suppress(OSError):
            _store(entry, pairs)
            break
    return pairs


def _folders(source: Path) -> Iterator[Path]:
    yield source.parent / ENCODED
    with suppress(RuntimeError):  # there is no home folder
        yield cache_dir() / "encoded"


def _key(sources: Sequence[Path], depends: list[Any]) -> str:
    key = hashlib.sha256(json.dumps([FORMAT, depends]).encode())
    for source in sources:
        open_regular(source, DataError).close()  # raises if the file cannot be read
        key.update(bytes.fromhex(digest_of(source, "sha256")))
    return key.hexdigest()[:32]


def _load(entry: Path, source: str) -> EncodedPairs | None:
    """Read an entry with memory-mapped arrays; return None if it is missing or damaged."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        checksum, files = meta.pop("checksum"), meta["files"]
        if checksum != zlib.crc32(json.dumps(meta).encode()):
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
        return EncodedPairs(**arrays, **facts, source=source)
    except Exception:  # whatever is wrong, the entry can be computed again
        return None


def _store(entry: Path, pairs: EncodedPairs) -> None:
    entry.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(pairs, name))
        with _replaced(entry / f"{name}.npy") as file:
            np.save(file, array)
            files[name] = [file.tell(), zlib.crc32(array.data)]
    meta: dict[str, Any] = {"facts": {name: getattr(pairs, name) for name in FACTS}, "files": files}
    meta["checksum"] = zlib.crc32(json.dumps(meta).encode())
    with _replaced(entry / META) as file:
        file.write(json.dumps(meta).encode())


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which is renamed to ``path`` when the context ends."""
    with temporary_folder(path) as home:
        with (home / NEW).open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (home / NEW).replace(path)
