"""Describe a checkpoint without a framework."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertnli._util.files import COPY_ANEW, expanded
from bertnli.bert.parameters import check_finite, check_shapes, encoder_shapes
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats.checkpoint import WEIGHT, Checkpoint
from bertnli.formats.load import locate_local, read_checkpoint, vocab_mismatch
from bertnli.text.pairs import PairEncoding


@dataclass(frozen=True)
class Info:
    """The description of a checkpoint, a dictionary for JSON; ``str`` gives lines of text."""

    values: dict[str, Any]

    def __str__(self) -> str:
        lines = []
        for key, value in self.values.items():
            if key == "tensors":
                width = max(map(len, value))
                lines.append(f"tensors: {len(value)}")
                lines += [
                    f"  {name:<{width}}  {tensor['dtype']} {tuple(tensor['shape'])}"
                    for name, tensor in value.items()
                ]
                continue
            if isinstance(value, dict):
                value = ", ".join(f"{name} {item}" for name, item in value.items())
            elif isinstance(value, list):
                value = ", ".join(value)
            lines.append(f"{key}: {value:,}" if isinstance(value, int) else f"{key}: {value}")
        return "\n".join(lines)


def info(path: str | Path, tensors: bool = False) -> Info:
    """Describe the sizes, classes, vocabulary and files of a checkpoint.

    Args:
        path: a checkpoint of any format, a run, or the name of a model that comes with bertnli.
        tensors: whether to include the shape and dtype of each tensor.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    given, located, unread = expanded(path, CheckpointError), locate_local(path), ""
    try:
        checkpoint = read_checkpoint(located)
    except BackendError as error:  # the vocabulary needs a package that is not installed
        checkpoint, unread = read_checkpoint(located, with_vocab=False), f"not read: {error}"
    _check_tensors(checkpoint)
    folder = Path(checkpoint.source)  # for the path of a run, one of its checkpoints
    unknown = [] if checkpoint.heads_known else ["num_heads", "dropout"]
    encoding = checkpoint.encoding and checkpoint.encoding.to_dict()
    labels = list(checkpoint.labels or ())
    if checkpoint.is_classifier and encoding is None:
        default = PairEncoding.default(checkpoint.config.max_len).to_dict()
        encoding = {**default, "source": "not in the files"}
    if checkpoint.is_classifier and not labels:
        why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
        labels = [f"without names{why}; output {checkpoint.arrays[WEIGHT].shape}"]
    files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    arrays = checkpoint.arrays
    shapes = {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in arrays.items()}
    values = {
        "path": str(given if given.is_file() else folder),
        "format": checkpoint.format,
        "model": {k: v for k, v in checkpoint.config.to_dict().items() if k not in unknown},
        "encoding": encoding,
        "unknown": unknown,
        "labels": labels,
        "files": {file.name: file.stat().st_size for file in files if file.is_file()},
        "vocabulary": unread or len(checkpoint.vocab),
        "problems": [*_problems(checkpoint)],
        "parameters": sum(math.prod(array.shape) for array in arrays.values()),
        "tensors": shapes if tensors else None,
    }
    return Info({name: value for name, value in values.items() if value})


def _check_tensors(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError if a tensor is missing, has a wrong shape, or is not finite."""
    shapes = encoder_shapes(checkpoint.config)
    encoder = {name: array for name, array in checkpoint.arrays.items() if name in shapes}
    needed = {n: s for n, s in shapes.items() if n in encoder or not n.startswith("hidden.")}
    check_shapes(encoder, needed, checkpoint.source, COPY_ANEW)
    check_finite(checkpoint.arrays, checkpoint.source)


def _problems(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield a message if the number of tokens or class names does not match the tensors."""
    if len(checkpoint.vocab):
        yield from filter(None, vocab_mismatch(checkpoint)[:1])
    if checkpoint.is_classifier and checkpoint.labels is not None:
        names, outputs = len(checkpoint.labels), len(checkpoint.arrays[WEIGHT])
        if names != outputs:
            yield (
                f"{names} names for {outputs} outputs; give the names in the order of the logits "
                "with --labels, where it is used"
            )
