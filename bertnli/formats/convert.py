"""A model from any format to any other that can hold it, and the proof that nothing changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import BackendError, CheckpointError, ConfigError
from bertnli.formats import huggingface, names
from bertnli.formats.contents import CLASSIFIER_PARAMS, DESCRIPTION, PARAMS, PARAMS_FORMAT
from bertnli.formats.folder import check_new, new_folder
from bertnli.formats.native import save_native
from bertnli.formats.opening import Checkpoint, open_checkpoint
from bertnli.formats.params import write_params

#: What tensors may be rounded to.
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
    """Write a model in another format, and read it back.

    The target appears under its name when it is whole, and has been found to hold the same: a
    format that loses something is found here, and not by whoever evaluates the model later.

    Args:
        source: a checkpoint of any format; see `open_checkpoint`.
        target: a new folder.
        to: one of `FORMATS`.
        labels: the classes' names in the order of the logits, where the source has none.
        num_heads: attention heads, where the source does not tell.
        dtype: one of `DTYPES`, which all tensors are rounded to; None for the source's own.

    Returns:
        What the source holds, and what the target does.

    Raises:
        CheckpointError: the source cannot be read; the format cannot hold the model, with the
            reason; the target exists; or what was read back differs.
        BackendError: a package that the format needs is missing.
    """
    if to not in FORMATS:
        raise ConfigError(f"unknown format {to!r}; it is one of {list(FORMATS)}")
    check_new(Path(target))
    given = open_checkpoint(source, labels, num_heads)
    rounded = given
    if dtype is not None:
        rounded = replace(given, arrays=_rounded(given.arrays, dtype))
    with new_folder(Path(target)) as folder:
        FORMATS[to](rounded, folder)
        found = open_checkpoint(folder, given.labels)
        _check_same(rounded, found)
    return given, found


def digests(arrays: Mapping[str, NDArray]) -> dict[str, str]:
    """Return the SHA-256 of each tensor: of its name, dtype, shape and little-endian bytes."""
    found = {}
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        header = f"{name} {array.dtype.str} {array.shape}\n".encode()
        found[name] = hashlib.sha256(header + array.tobytes()).hexdigest()
    return found


def _rounded(arrays: Mapping[str, NDArray], dtype: str) -> dict[str, NDArray]:
    """Return all tensors in a dtype.

    Raises:
        CheckpointError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        found = {name: array.astype(dtype) for name, array in arrays.items()}
    lost = [name for name in found if (np.isfinite(found[name]) != np.isfinite(arrays[name])).any()]
    if lost:
        raise CheckpointError(f"{', '.join(lost[:5])}: numbers too large for {dtype}")
    return found


def _check_same(given: Checkpoint, found: Checkpoint) -> None:
    ours, theirs = digests(given.arrays), digests(found.arrays)
    wrong = sorted(name for name in ours.keys() | theirs if ours.get(name) != theirs.get(name))
    if wrong:
        raise CheckpointError(f"what was read back differs in {', '.join(wrong[:5])}")
    for what in ("config", "labels", "encoding"):
        if getattr(given, what) != getattr(found, what):
            raise CheckpointError(
                f"what was read back has another {what}: {getattr(found, what)}, not "
                f"{getattr(given, what)}"
            )
    if given.vocab.idx_to_token != found.vocab.idx_to_token:
        raise CheckpointError("what was read back has another vocabulary")


def _to_native(given: Checkpoint, folder: Path) -> None:
    save_native(folder, given.arrays, given.config, given.labels, given.vocab, given.encoding)


def _to_huggingface(given: Checkpoint, folder: Path) -> None:
    huggingface.write_model(
        folder, given.arrays, given.config, given.vocab, given.labels, given.encoding
    )


def _to_mxnet(given: Checkpoint, folder: Path) -> None:
    write_params(
        _parameters(given, folder), {names.to_mxnet(k): v for k, v in given.arrays.items()}
    )


def _to_torch(given: Checkpoint, folder: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            'a state dict is written by PyTorch: pip install "bertnli[torch]"'
        ) from error
    state = {
        names.to_torch(name): torch.from_numpy(np.array(array))
        for name, array in given.arrays.items()
    }
    torch.save(state, _parameters(given, folder))


def _parameters(given: Checkpoint, folder: Path) -> Path:
    """Make a folder of the book's kind, with all but the parameters; return where these go."""
    folder.mkdir()
    given.vocab.save(folder / given.vocab.FILE)
    described = {
        "format": PARAMS_FORMAT,
        "model": given.config.to_dict(),
        "labels": None if given.labels is None else list(given.labels),
        **({} if given.encoding is None else {"encoding": given.encoding.to_dict()}),
    }
    text = json.dumps(described, indent=2) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    return folder / (PARAMS if given.labels is None else CLASSIFIER_PARAMS)


#: Name of a format to what writes it.
FORMATS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "bertnli": _to_native,
    "huggingface": _to_huggingface,
    "torch": _to_torch,
    "mxnet": _to_mxnet,
}
