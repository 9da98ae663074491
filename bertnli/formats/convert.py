"""Write a model in another format, and verify that nothing has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats import book, huggingface, native
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.folder import check_new, new_folder
from bertnli.formats.load import load_checkpoint

#: Name of a format to the function that writes a new folder of it.
FORMATS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "bertnli": native.write,
    "huggingface": huggingface.write,
    "torch": book.write_torch,
    "mxnet": book.write_mxnet,
}
#: Dtypes that tensors may be rounded to.
DTYPES = ("float16", "float32")


def convert(
    source: str | Path,
    target: str | Path,
    to: str,
    *,
    labels: Sequence[str] | None = None,
    num_heads: int | None = None,
    dtype: str | None = None,
) -> tuple[Checkpoint, Checkpoint]:
    """Write a model in another format, read it back, and compare.

    The target gets its name only after the comparison.

    Args:
        source: a checkpoint of any format.
        target: path of a new folder.
        to: one of `FORMATS`.
        labels: class names in the order of the logits, needed if the source has none.
        num_heads: number of attention heads, needed if the source does not say it.
        dtype: one of `DTYPES`, to which all tensors are rounded; None to keep their dtypes.

    Returns:
        The source's content, and the target's.

    Raises:
        CheckpointError: the source cannot be read; the format cannot hold the model, with the
            reason; the target exists; or what was read back differs.
        BackendError: a package that the format needs is missing.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown format {to!r}; it is one of {list(FORMATS)}")
    check_new(Path(target))
    given = rounded = load_checkpoint(source, labels, num_heads)
    if dtype is not None:
        with np.errstate(over="ignore"):
            arrays = {name: array.astype(dtype) for name, array in given.arrays.items()}
        before = given.arrays
        lost = [n for n in arrays if (np.isfinite(arrays[n]) != np.isfinite(before[n])).any()]
        if lost:
            raise CheckpointError(f"{', '.join(lost[:5])}: numbers too large for {dtype}")
        rounded = replace(given, arrays=arrays)
    with new_folder(Path(target)) as folder:
        FORMATS[to](rounded, folder)
        written = load_checkpoint(folder, given.labels)
        _check_same(rounded, written)
    return given, written


def digests(arrays: Mapping[str, NDArray]) -> dict[str, str]:
    """Return the SHA-256 of each tensor's name, dtype, shape and little-endian bytes."""
    hashes = {}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        header = f"{name} {array.dtype.str} {array.shape}\n".encode()
        hashes[name] = hashlib.sha256(header + array.tobytes()).hexdigest()
    return hashes


def _check_same(given: Checkpoint, written: Checkpoint) -> None:
    """Raise CheckpointError unless two checkpoints hold the same model."""
    before, after = digests(given.arrays), digests(written.arrays)
    wrong = sorted(name for name in before | after if before.get(name) != after.get(name))
    if wrong:
        raise CheckpointError(f"what was read back differs in {', '.join(wrong[:5])}")
    for what in ("config", "labels", "encoding"):
        old, new = getattr(given, what), getattr(written, what)
        if old != new:
            raise CheckpointError(f"what was read back has another {what}: {new}, not {old}")
    if given.vocab.idx_to_token != written.vocab.idx_to_token:
        raise CheckpointError("what was read back has another vocabulary")
