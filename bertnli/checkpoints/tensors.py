"""Files of the package safetensors, with the numbers that weights may be."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from bertnli.errors import CheckpointError

#: Safetensors' dtypes to NumPy's; bfloat16 is read as float32, which holds each of its values.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

#: NumPy's dtypes to safetensors', of weights, and of what else a training state has.
WRITTEN = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64"}


def read_tensors(path: Path) -> dict[str, NDArray]:
    """Return the tensors of a file by their names.

    What older versions of transformers stored and nobody learned (``position_ids``) is left out.

    Raises:
        CheckpointError: it cannot be read, is damaged, or holds something else than floating-point
            numbers.
    """
    found = {}
    try:
        for name, entry in safetensors.deserialize(path.read_bytes()):
            code = DTYPES.get(entry["dtype"])
            if code is None:
                if name.endswith("position_ids"):
                    continue
                raise CheckpointError(f"{path}: {name} has the dtype {entry['dtype']}")
            values = np.frombuffer(entry["data"], code).reshape(entry["shape"])
            if entry["dtype"] == "BF16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            found[name] = values
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or no file of safetensors: {error}") from error
    return found


def write_tensors(path: Path, arrays: Mapping[str, NDArray], file_format: str) -> tuple[int, int]:
    """Write tensors, and in the file's metadata what they are; without a copy of them in memory.

    Returns:
        The file's size in bytes, and its CRC-32.

    Raises:
        OSError: it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": file_format}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": WRITTEN[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
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
