"""PyTorch's state dicts, read into NumPy arrays without PyTorch and without running their code.

`torch.save` writes a pickle that describes each tensor as a view (offset, sizes, strides) of a
storage, and the bytes of the storages beside it:

    zip (since 1.6)   NAME/data.pkl, NAME/data/KEY for each storage, perhaps NAME/byteorder
    legacy            pickles of a magic number, 1001, facts of the machine, the object, and the
                      storages' keys; then for each key i64 number of elements, bytes
"""

from __future__ import annotations

import functools
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli.errors import CheckpointError
from bertnli.formats.pickles import LEGACY_MAGIC, Refused, Storage, Tensor, Unpickler
from bertnli.formats.tensors import check_names, widened

LEGACY_PROTOCOL = 1001
#: Where training checkpoints keep the model's state dict, beside the optimizer's and counters.
STATE_KEYS = ("state_dict", "model_state_dict")
#: Views can repeat the elements of a storage. All tensors of a file together may have one element
#: for each byte of the file, and this many more.
MAX_REPEATED = 1 << 22

#: Returns the bytes of a storage, given its key.
_ReadStorage = Callable[[str], bytes]


def read_state_dict(path: str | Path) -> dict[str, NDArray]:
    """Read the tensors of a state dict by name, from a zip file or one older than PyTorch 1.6.

    These are the tensors of `torch.load(path, weights_only=True)` with their dtypes, except that
    bfloat16 becomes float32. Tensors that share a storage share memory, which is read-only. From a
    training checkpoint, such as Lightning's, the model's state dict is taken.

    Raises:
        CheckpointError: the file is damaged, or holds something other than a dictionary of dense
            tensors; the message says what.
    """
    with open_regular(path, CheckpointError) as file:
        data = file.read()
    if not data.startswith((b"PK", pickle.PROTO)):
        kind = "a page of HTML" if data.lstrip()[:1] == b"<" else f"it begins with {data[:8]!r}"
        raise CheckpointError(f"{path} is no file of torch.save: {kind}. {COPY_ANEW}")
    try:
        content, read = _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
        tensors = _state_of(content)
        check_names(tensors, path)
        count = sum(math.prod(tensor.sizes) for tensor in tensors.values())
        if count > len(data) + MAX_REPEATED:
            raise Refused(f"its tensors repeat {len(data):,} bytes as {count:,} elements")
        elements = functools.cache(lambda storage: _elements(storage, read(storage.key)))
        return {name: _view(tensor, elements(tensor.storage)) for name, tensor in tensors.items()}
    except (CheckpointError, MemoryError):
        raise
    except Refused as error:
        raise CheckpointError(f"{path} is not a state dict of tensors: {error}") from error
    except Exception as error:  # damaged bytes can make the readers raise anything
        raise CheckpointError(
            f"{path} is damaged or not a file of torch.save: {error}. {COPY_ANEW}"
        ) from error


def _state_of(content: Any) -> dict[str, Tensor]:
    """Return the state dict in an unpickled object, perhaps a training checkpoint."""
    if isinstance(content, dict):
        inner = [content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)]
        content = inner[0] if len(inner) == 1 else content
    if not isinstance(content, dict):
        raise Refused(
            f"it holds a {type(content).__name__}, where a dictionary of tensors is expected, as "
            "torch.save(net.state_dict(), path) writes it"
        )
    for name, value in content.items():
        if type(name) is not str or type(value) is not Tensor:
            raise Refused(
                f"{name!r:.60} is a {type(value).__name__}, where a name and a tensor are "
                "expected; save net.state_dict() alone"
            )
    return content


def _read_zip(data: bytes) -> tuple[Any, _ReadStorage]:
    """Unpickle the object in a zip file; return it, and a function that reads its storages."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) < len(archive.infolist()):
        raise ValueError("the archive has two entries of the same name")
    if sum(entry.file_size for entry in entries.values()) > len(data):  # nothing is compressed
        raise ValueError("the archive's entries are longer than the archive")
    pickles = [name for name in entries if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError(f"the archive has {len(pickles)} data.pkl")
    root = pickles[0].removesuffix("data.pkl")

    def read(name: str) -> bytes:
        if entries[root + name].compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return archive.read(entries[root + name])

    if root + "byteorder" in entries and read("byteorder") != b"little":
        raise Refused("it was written on a big-endian machine; save it on another")
    return Unpickler(io.BytesIO(read("data.pkl"))).load(), lambda key: read(f"data/{key}")


def _read_legacy(data: bytes) -> tuple[Any, _ReadStorage]:
    """Unpickle the object in a legacy file; return it, and a function that reads its storages."""
    file = io.BytesIO(data)
    magic = [Unpickler(file).load() for _ in range(2)]
    if magic != [LEGACY_MAGIC, LEGACY_PROTOCOL]:
        raise ValueError(f"it begins with {magic!r:.80}")
    Unpickler(file).load()
    unpickler = Unpickler(file)
    content = unpickler.load()
    raw = {}
    for key in Unpickler(file).load():
        code, _, count = unpickler.storages[key]
        size = count * (2 if code == "bf16" else np.dtype(code).itemsize)
        (written,) = struct.unpack("<q", file.read(8))
        if written not in (count, size):  # an untyped storage counts bytes
            raise ValueError(f"storage {key} has {written} elements, not {count}")
        raw[key] = file.read(size)
    return content, raw.__getitem__


def _elements(storage: Storage, raw: bytes) -> NDArray:
    """Convert the bytes of a storage to an array; bfloat16 becomes float32."""
    stored = np.frombuffer(raw, "<u2" if storage.code == "bf16" else storage.code)
    if not 0 <= storage.size <= len(stored):
        raise ValueError(f"a storage has {len(stored)} elements, not {storage.size}")
    stored = stored[: storage.size]
    return widened(stored) if storage.code == "bf16" else stored


def _view(tensor: Tensor, elements: NDArray) -> NDArray:
    """Make a tensor's array from its storage's elements; ValueError if it has too few."""
    if tensor.code != tensor.storage.code:
        elements = elements.view(tensor.code)
    offset, sizes = tensor.offset, tensor.sizes
    last = sum((n - 1) * step for n, step in zip(sizes, tensor.strides, strict=True))
    end = offset if 0 in sizes else offset + last + 1
    if end > len(elements):
        raise ValueError(f"a tensor reaches element {end} of {len(elements)}")
    steps = [step * elements.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(elements[offset:], sizes, steps, writeable=False)
