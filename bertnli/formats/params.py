"""MXNet's ``.params`` files, read and written with NumPy alone.

A file is a list of arrays, perhaps with names, as `mx.nd.save` and gluon's ``save_parameters``
write it. All numbers are little-endian:

    u64 0x112   u64 0   u64 n   n arrays   u64 m (n, or 0 without names)   m names: u64 bytes, UTF-8

An array begins with the version of its layout:

    V3, V2      u32 magic   i32 storage (0 dense)   shape   device   i32 dtype   data
    V1          u32 magic   shape   device   i32 dtype   data
    before V1   u32 ndim, ndim * u32   device   i32 dtype   data

A shape is i32 ndim, ndim * i64; a device, which is ignored here, is i32 kind, i32 number. An array
that was never given a value has no dimensions; in V3, which MXNet's NumPy mode writes, it has ndim
-1, and ndim 0 is a scalar.

The NumPy mode of MXNet 2.0 reads V3, and writes NumPy's formats instead: a ``.npz``, which is a zip
of uncompressed ``.npy`` files, one for each name; or a ``.npy``, for one array without a name.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli.errors import CheckpointError
from bertnli.formats.tensors import MAX_NAME, MAX_TENSORS, check_names, widened

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
STORAGE = {0: "dense", 1: "row_sparse", 2: "csr"}
BFLOAT16 = 12
DTYPES = dict(
    enumerate(["f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8"])
) | {BFLOAT16: "u2"}
NPY_DTYPES = {np.dtype(code).str[1:] for flag, code in DTYPES.items() if flag != BFLOAT16}
FLAGS = {np.dtype(code): flag for flag, code in DTYPES.items() if flag != BFLOAT16}
MAX_DIMENSIONS = 32  # NumPy's own limit
#: First bytes of a zip and of a .npy; the header that NumPy and MXNet write into the latter.
ZIP, NPY = b"PK\x03\x04", b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '[<|]([\w?]{2,9})', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\), \} *\n"
)
#: How many of a file's first bytes `is_params` looks at.
START = 30 + 4 * MAX_NAME


def is_params(start: bytes) -> bool:
    """Return whether a file is one that MXNet writes, and not a zip of PyTorch, by its `START`."""
    length = int.from_bytes(start[26:28], "little")  # of the name of a zip's first file
    is_npz = start.startswith(ZIP) and start[30 : 30 + length].endswith(b".npy")
    return is_npz or start.startswith((struct.pack("<Q", LIST_MAGIC), NPY))


def read_params(path: str | Path) -> dict[str, NDArray] | list[NDArray]:
    """Read the arrays of a file by name, or as a list if they have no names.

    The prefixes ``arg:`` and ``aux:`` of exported symbols are removed. The arrays keep the file's
    dtypes, except that bfloat16 becomes float32. They are read-only and share the file's memory.

    Raises:
        CheckpointError: the file is damaged or of another kind, holds a sparse array or one without
            a value, or has two arrays of the same name; the message says where.
    """
    with open_regular(path, CheckpointError) as file:
        is_empty = not file.read(1)  # an empty file cannot be mapped
        data = memoryview(b"") if is_empty else np.memmap(file, np.uint8, "r").data
    try:
        if data[: len(NPY)] == NPY:
            return [_read_npy(_Reader(data), path, "array 0")]
        read = _read_npz if data[: len(ZIP)] == ZIP else _read_list
        arrays, names = read(data, path)
        names = [name[4:] if name.startswith(("arg:", "aux:")) else name for name in names]
        if not names:
            return arrays
        if len(names) != len(arrays):
            raise ValueError(f"{len(arrays)} arrays have {len(names)} names")
        check_names(names, path)
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise ValueError(f"two arrays have the same name: {', '.join(twice[:5])}")
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can make zipfile raise anything
        raise CheckpointError(
            f"{path} is damaged or not an MXNet .params file: {error}. {COPY_ANEW}"
        ) from error
    return dict(zip(names, arrays, strict=True))


def _read_list(data: memoryview, path: str | Path) -> tuple[list[NDArray], list[str]]:
    """Read arrays and names from MXNet's own format."""
    reader = _Reader(data)
    if reader.number("Q") != LIST_MAGIC:
        raise ValueError("it begins with other bytes than its magic number")
    reader.take(8)
    arrays = [_read_array(reader, path, f"array {i}") for i in range(reader.count())]
    names = [bytes(reader.take(reader.number("Q"))).decode() for _ in range(reader.count())]
    if reader.position != len(data):
        raise ValueError(f"{len(data) - reader.position} bytes follow the last name")
    return arrays, names


def _read_npz(data: memoryview, path: str | Path) -> tuple[list[NDArray], list[str]]:
    """Read arrays and names from a zip of .npy files."""
    with open_regular(path, CheckpointError) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        check_names([entry.filename for entry in entries], path)
        if sum(entry.file_size for entry in entries) > len(data):  # nothing is compressed
            raise ValueError("the files in it are longer than the archive")
        arrays, names = [], []
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename or entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename} is not an uncompressed .npy")
            if name.endswith("/format"):
                raise CheckpointError(f"{path}: {name[:-7]} is sparse; save it dense")
            arrays.append(_read_npy(_Reader(memoryview(archive.read(entry))), path, name))
            names.append(name)
    return arrays, names


class _Reader:
    """Reads values from a file's bytes, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.position = data, 0

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes; ValueError if there are fewer."""
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise ValueError(
                f"{size} bytes are expected at byte {self.position}, and {left} are left"
            )
        self.position += size
        return self.data[self.position - size : self.position]

    def numbers(self, code: str) -> tuple[int, ...]:
        """Read the numbers of a `struct` format, given without the byte order."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))

    def number(self, code: str) -> int:
        return self.numbers(code)[0]

    def count(self) -> int:
        """Read the number of arrays or of names; ValueError if the file is too short for it."""
        number, most = self.number("Q"), min((len(self.data) - self.position) // 8, MAX_TENSORS)
        if number > most:
            raise ValueError(f"{number} arrays or names are expected, and at most {most} are read")
        return number


def _read_array(reader: _Reader, path: str | Path, what: str) -> NDArray:
    """Read the next array; ``path`` and ``what``, the name of the array, are for messages."""
    version = reader.number("I")
    is_new = version in (V1, V2, V3)
    storage = reader.number("i") if version in (V2, V3) else 0
    if storage != 0:
        raise CheckpointError(
            f"{path}: {what} has the storage {STORAGE.get(storage, storage)}, which is not read "
            "here; save it dense, with tostype('default')"
        )
    ndim = reader.number("i") if is_new else version
    if ndim < 0 or (ndim == 0 and version != V3):
        raise ValueError(f"{what} has no value")
    if ndim > MAX_DIMENSIONS:
        raise ValueError(f"{what} has {ndim} dimensions")
    shape = reader.numbers(f"{ndim}{'q' if is_new else 'I'}")
    if min(shape, default=0) < 0:
        raise ValueError(f"{what} has the shape {shape}")
    reader.take(8)  # the device
    flag = reader.number("i")
    if flag not in DTYPES:
        raise ValueError(f"{what} has the unknown dtype {flag}")
    dtype = np.dtype(DTYPES[flag]).newbyteorder("<")
    values = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return widened(values) if flag == BFLOAT16 else values


def _read_npy(reader: _Reader, path: str | Path, what: str) -> NDArray:
    """Read the array of a .npy; ``path`` and ``what``, the name of the array, are for messages."""
    if reader.take(len(NPY)) != NPY:
        raise ValueError(f"{what} begins with other bytes than a .npy")
    version = reader.number("H")  # two bytes, major and minor
    header = reader.take(reader.number("H" if version == 1 else "I"))
    match = _HEADER.fullmatch(header)
    if version not in (1, 2, 3) or match is None:
        raise ValueError(f"{what} has a header that is not one of MXNet's: {bytes(header[:80])!r}")
    code = match[1].decode()
    if code not in NPY_DTYPES:
        raise CheckpointError(f"{path}: {what} has the dtype {code}, which MXNet lacks")
    shape = tuple(int(side) for side in match[3].split(b",") if side.strip())
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{what} has {len(shape)} dimensions")
    dtype = np.dtype(code).newbyteorder("<")
    values = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype)
    if reader.position != len(reader.data):
        raise ValueError(f"{len(reader.data) - reader.position} bytes follow the values of {what}")
    return values.reshape(shape, order="F" if match[2] == b"True" else "C")


def write_params(
    path: str | Path,
    arrays: Mapping[str, NDArray] | Sequence[NDArray],
    *,
    numpy_mode: bool = True,
    npz: bool = False,
) -> None:
    """Write a file that MXNet reads: `mx.npx.load`, `mx.nd.load`, gluon's ``load_parameters``.

    Args:
        path: path of the file.
        arrays: the arrays by name, or a list of arrays without names.
        numpy_mode: whether the file is for programs that call ``npx.set_np()``, as the book's do.
            MXNet reads a file only in the mode that it was written for.
        npz: whether to write what MXNet 2.0 does in its NumPy mode, an archive of named arrays.
            2.0 reads both, and 1.9 no archive.

    Raises:
        CheckpointError: MXNet lacks a dtype; or, without the NumPy mode, an array has no elements
            or no dimensions; or an archive's arrays have no names.
    """
    if npz and not (numpy_mode and isinstance(arrays, Mapping)):
        raise CheckpointError(f"{path}: an archive is for named arrays of the NumPy mode")
    names = list(arrays) if isinstance(arrays, Mapping) else []
    values = list(arrays.values()) if isinstance(arrays, Mapping) else list(arrays)
    for i, value in enumerate(values):
        name = names[i] if names else f"array {i}"
        if value.dtype.newbyteorder("=") not in FLAGS:
            raise CheckpointError(f"{path}: MXNet has no dtype {value.dtype}, of {name}")
        if not numpy_mode and not value.size * value.ndim:
            raise CheckpointError(
                f"{path}: {name} has the shape {value.shape}, which only MXNet's NumPy mode has"
            )
    if npz:
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in zip(names, values, strict=True):
                value = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
                entry = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(entry, "w", force_zip64=value.nbytes > 1 << 30) as member:
                    np.lib.format.write_array(member, value, version=(1, 0), allow_pickle=False)
        return
    magic = V3 if numpy_mode else V2
    with Path(path).open("wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(values)))
        for value in values:
            file.write(struct.pack(f"<Iii{value.ndim}q", magic, 0, value.ndim, *value.shape))
            file.write(struct.pack("<iii", 1, 0, FLAGS[value.dtype.newbyteorder("=")]))
            file.write(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
        file.write(struct.pack("<Q", len(names)))
        for encoded in map(str.encode, names):
            file.write(struct.pack("<Q", len(encoded)) + encoded)
