"""Show the sizes, classes, vocabulary and tensors of a checkpoint.

It may be one that bertnli wrote, a pretrained model of the book (a folder or archive with
pretrained.params, of either tab, and vocab.json), a Hugging Face folder of a BERT, or a model of
GluonNLP (its .params file, with its vocabulary beside it). No framework is needed.

examples:
  bertnli info runs/sample
  bertnli info runs/sample/last --tensors --json
  bertnli info bert.small.torch.zip
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, expanded
from bertnli.bert.parameters import check_finite, check_shapes, encoder_shapes
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import read_checkpoint, vocab_mismatch
from bertnli.formats.weights import locate_local
from bertnli.text.pairs import PairEncoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint, a run, or a pretrained model")
    parser.add_argument("--tensors", action="store_true", help="each tensor's name, shape and type")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Read the checkpoint, and print what is in it."""
    path = expanded(args.path, CheckpointError)
    located, unread = locate_local(args.path), ""
    try:
        checkpoint = read_checkpoint(located)
    except BackendError as error:  # a package is missing
        checkpoint, unread = read_checkpoint(located, with_vocab=False), f"not read: {error}"
    found = _described(path, checkpoint, unread)
    if not args.tensors:
        del found["tensors"]
    print(json.dumps(found, indent=2) if args.json else _as_text(found))
    return 0


def _described(path: Path, contents: Checkpoint, unread: str) -> dict[str, Any]:
    shapes = encoder_shapes(contents.config)
    encoder = {name: array for name, array in contents.arrays.items() if name in shapes}
    there = {name: shape for name, shape in shapes.items() if not name.startswith("hidden.")}
    check_shapes(
        {**encoder}, {**there, **{n: shapes[n] for n in encoder}}, contents.source, COPY_ANEW
    )
    check_finite(contents.arrays, contents.source)
    model = contents.config.to_dict()
    if not contents.heads_known:
        for unknown in ("num_heads", "dropout"):
            del model[unknown]
    taken = Path(contents.source)  # of a run's folder, a checkpoint
    path = path if path.is_file() else taken
    found: dict[str, Any] = {"path": str(path), "format": contents.format, "model": model}
    if contents.encoding is not None:
        found["encoding"] = contents.encoding.to_dict()
    elif contents.is_classifier:
        own = PairEncoding.default(contents.config.max_len).to_dict()
        found["encoding"] = {**own, "source": "not in the files"}
    if not contents.heads_known:
        found["unknown"] = ["num_heads", "dropout"]
    if contents.labels is not None:
        found["labels"] = list(contents.labels)
    elif contents.is_classifier:
        shape = contents.arrays["output.weight"].shape
        why = f" ({contents.unnamed})" if contents.unnamed else ""
        found["labels"] = [f"without names{why}; output {shape}"]
    files = sorted(taken.iterdir()) if taken.is_dir() else [taken]
    found["files"] = {file.name: file.stat().st_size for file in files if file.is_file()}
    return found | _of_names(contents, unread) | _of_tensors(contents.arrays)


def _of_names(contents: Checkpoint, unread: str) -> dict[str, Any]:
    """Return the number of tokens, and what of tokens and class names does not fit the tensors."""
    found: dict[str, Any] = {"vocabulary": unread} if unread else {}
    problems = []
    if len(contents.vocab):
        found["vocabulary"] = len(contents.vocab)
        problems.append(vocab_mismatch(contents)[0])
    if contents.is_classifier and contents.labels is not None:
        named, outputs = len(contents.labels), len(contents.arrays["output.weight"])
        if named != outputs:
            problems.append(
                f"{named} names for {outputs} outputs; give the names in the order of the logits "
                "with --labels, where it is used"
            )
    problems = [problem for problem in problems if problem]
    return found | ({"problems": problems} if problems else {})


def _of_tensors(arrays: Mapping[str, NDArray]) -> dict[str, Any]:
    return {
        "parameters": sum(math.prod(array.shape) for array in arrays.values()),
        "tensors": {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in arrays.items()
        },
    }


def _as_text(found: Mapping[str, Any]) -> str:
    lines = []
    for key, value in found.items():
        if key == "tensors":
            width = max(map(len, value))
            lines.append(f"tensors: {len(value)}")
            lines += [f"  {n:<{width}}  {t['dtype']} {tuple(t['shape'])}" for n, t in value.items()]
        elif isinstance(value, dict):
            lines.append(f"{key}: " + ", ".join(f"{name} {item}" for name, item in value.items()))
        elif isinstance(value, list):
            lines.append(f"{key}: {', '.join(value)}")
        else:
            lines.append(f"{key}: {value:,}" if isinstance(value, int) else f"{key}: {value}")
    return "\n".join(lines)
