"""Files of the package safetensors, with the numbers that weights may be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from bertnli.errors import CheckpointError

#: Safetensors' dtypes to NumPy's; bfloat16 is read as float32, which holds each of its values.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


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


def write_tensors(path: Path, arrays: Mapping[str, NDArray], file_format: str) -> None:
    """Write tensors, and what they are in the file's metadata, to a file that others may read.

    Raises:
        OSError: it cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, path, metadata={"format": file_format})
    # The package makes files that their owner alone can read; this one is as any other here.
    beside = path.with_suffix(".mode")
    beside.touch()
    os.chmod(path, beside.stat().st_mode)
    beside.unlink()
