"""What is in a checkpoint, in one call; no framework is needed."""

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
    """The content of a checkpoint: ``values`` by name, as JSON can hold them."""

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
    """Return the sizes, classes, vocabulary and files of a checkpoint.

    Args:
        path: a checkpoint of any format, a run, or a model that comes with bertnli.
        tensors: include each tensor's name, shape and dtype.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    given, located, unread = expanded(path, CheckpointError), locate_local(path), ""
    try:
        checkpoint = read_checkpoint(located)
    except BackendError as error:  # a package is missing
        checkpoint, unread = read_checkpoint(located, with_vocab=False), f"not read: {error}"
    _check_tensors(checkpoint)
    folder = Path(checkpoint.source)  # of a run's folder, a checkpoint
    unknown = [] if checkpoint.heads_known else ["num_heads", "dropout"]
    sizes = {k: v for k, v in checkpoint.config.to_dict().items() if k not in unknown}
    encoding = checkpoint.encoding and checkpoint.encoding.to_dict()
    labels = list(checkpoint.labels or ())
    if checkpoint.is_classifier and encoding is None:
        default = PairEncoding.default(checkpoint.config.max_len).to_dict()
        encoding = {**default, "source": "not in the files"}
    if checkpoint.is_classifier and not labels:
        why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
        labels = [f"without names{why}; output {checkpoint.arrays[WEIGHT].shape}"]
    files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    shapes = {
        name: {"shape": list(array.shape), "dtype": str(array.dtype)}
        for name, array in checkpoint.arrays.items()
    }
    values = {
        "path": str(given if given.is_file() else folder),
        "format": checkpoint.format,
        "model": sizes,
        "encoding": encoding,
        "unknown": unknown,
        "labels": labels,
        "files": {file.name: file.stat().st_size for file in files if file.is_file()},
        "vocabulary": unread or len(checkpoint.vocab),
        "problems": [*_problems(checkpoint)],
        "parameters": sum(math.prod(array.shape) for array in checkpoint.arrays.values()),
        "tensors": shapes if tensors else None,
    }
    return Info({name: value for name, value in values.items() if value})


def _check_tensors(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for tensors of other shapes than the sizes say, and for NaN."""
    shapes = encoder_shapes(checkpoint.config)
    encoder = {name: array for name, array in checkpoint.arrays.items() if name in shapes}
    needed = {n: s for n, s in shapes.items() if n in encoder or not n.startswith("hidden.")}
    check_shapes(encoder, needed, checkpoint.source, COPY_ANEW)
    check_finite(checkpoint.arrays, checkpoint.source)


def _problems(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield a message for each token count or class name that does not fit the tensors."""
    if len(checkpoint.vocab):
        problem = vocab_mismatch(checkpoint)[0]
        if problem:
            yield problem
    if checkpoint.is_classifier and checkpoint.labels is not None:
        names, outputs = len(checkpoint.labels), len(checkpoint.arrays[WEIGHT])
        if names != outputs:
            yield (
                f"{names} names for {outputs} outputs; give the names in the order of the logits "
                "with --labels, where it is used"
            )
