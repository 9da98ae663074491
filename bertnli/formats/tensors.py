"""Read and write files of the package safetensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, open_regular
from bertnli.errors import CheckpointError

#: Limits: tensors in a file of any format, characters in a tensor's name, bytes in a header.
MAX_TENSORS, MAX_NAME, MAX_HEADER = 1 << 13, 1000, 1 << 22
#: Safetensors' dtypes to NumPy's; bfloat16, which NumPy lacks, is read as its bits.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: NumPy's dtypes, those of weights and of a training state, to safetensors'.
WRITTEN = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64"}


def read_tensors(path: Path) -> dict[str, NDArray]:
    """Read the tensors of a file by name; bfloat16 becomes float32.

    Other dtypes are refused, except that ``position_ids``, a buffer of older versions of
    transformers, is left out.
    """
    arrays: dict[str, NDArray] = {}
    try:
        with open_regular(path, CheckpointError) as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER:
                raise ValueError(
                    f"its header should have {size:,} bytes, and at most {MAX_HEADER:,} are read"
                )
            if file.read(size).count(b"{") > MAX_TENSORS + 2:  # the object itself, and its metadata
                raise CheckpointError(f"{path}: more than {MAX_TENSORS:,} tensors")
            file.seek(0)
            for name, entry in safetensors.deserialize(file.read()):
                kind = entry["dtype"]
                if kind in DTYPES:
                    values = np.frombuffer(entry["data"], DTYPES[kind]).reshape(entry["shape"])
                    arrays[name] = widened(values) if kind == "BF16" else values
                elif not name.endswith("position_ids"):
                    raise CheckpointError(f"{path}: {name} has the dtype {kind}")
        check_names(arrays, path)
    except CheckpointError:
        raise
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is damaged or no file of safetensors: {error}. {COPY_ANEW}"
        ) from error
    return arrays


def widened(bfloat16: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Convert the bits of bfloat16 numbers to float32, without loss."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def check_names(names: Collection[str], path: str | Path) -> None:
    """Raise CheckpointError if a file has more than `MAX_TENSORS` tensors, or a very long name."""
    if len(names) > MAX_TENSORS:
        raise CheckpointError(f"{path}: {len(names):,} tensors; at most {MAX_TENSORS:,} are read")
    longest = max(names, key=len, default="")
    if len(longest) > MAX_NAME:
        raise CheckpointError(
            f"{path}: the name of a tensor has {len(longest):,} characters, {longest[:60]!r}..."
        )


def write_tensors(path: Path, arrays: Mapping[str, NDArray], file_format: str) -> tuple[int, int]:
    """Write tensors to a file, without a copy of them in memory.

    Args:
        path: path of the file.
        arrays: the tensors by name.
        file_format: the entry ``format`` of the file's metadata.

    Returns:
        The file's size in bytes, and its CRC-32.
    """
    header: dict[str, Any] = {"__metadata__": {"format": file_format}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        dtype = WRITTEN[array.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    data = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in arrays.values())
    parts: tuple[Any, ...] = (len(text).to_bytes(8, "little"), text, *data)
    checksum = size = 0
    with path.open("wb") as file:
        for part in parts:
            checksum = zlib.crc32(part, checksum)
            size += file.write(part)
    return size, checksum
