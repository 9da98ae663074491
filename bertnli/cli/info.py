"""Show the sizes, classes, vocabulary and tensors of a checkpoint.

It may be one that bertnli wrote, a pretrained model of the book (a folder or archive with
pretrained.params, of either tab, and vocab.json), or a Hugging Face folder of a BERT. No framework
is needed.

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

from bertnli.checkpoints.huggingface import is_huggingface, read_arrays, read_config
from bertnli.checkpoints.native import FORMAT, VERSION, is_native, load_native
from bertnli.checkpoints.pretrained import (
    CLASSIFIER,
    PARAMS,
    VOCAB,
    open_classifier,
    read_book_arrays,
)
from bertnli.errors import BackendError, CheckpointError
from bertnli.hub import download_extract
from bertnli.parameters import bert_shapes, check_shapes, classifier_shapes, infer_config
from bertnli.text.wordpiece import load_vocab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint, a run, or a pretrained model")
    parser.add_argument("--tensors", action="store_true", help="each tensor's name, shape and type")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Read the checkpoint, and print what is in it."""
    path = Path(args.path).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    folder = Path(download_extract(path))
    native = is_native(folder) and not is_huggingface(folder)
    found = _of_native(folder) if native else _of_pretrained(path, folder)
    if not args.tensors:
        found.pop("tensors", None)
    print(json.dumps(found, indent=2) if args.json else _as_text(found))
    return 0


def _of_native(path: Path) -> dict[str, Any]:
    checkpoint = load_native(path)
    shapes = classifier_shapes(checkpoint.config, len(checkpoint.labels))
    check_shapes(checkpoint.arrays, shapes, str(checkpoint.path))
    return {
        "path": str(checkpoint.path),
        "format": f"{FORMAT}, version {VERSION}",
        "model": checkpoint.config.to_dict(),
        "labels": list(checkpoint.labels),
        "vocabulary": len(checkpoint.vocab),
        **_of_tensors(checkpoint.arrays),
    }


def _of_pretrained(path: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"path": str(path)}
    if is_huggingface(folder):
        config, labels = read_config(folder)
        arrays = read_arrays(folder)
        found |= {"format": "Hugging Face BERT", "model": config.to_dict()}
        if "output.weight" in arrays:
            unnamed = [f"without names; output {arrays['output.weight'].shape}"]
            found["labels"] = list(labels) if labels is not None else unnamed
    elif (folder / CLASSIFIER).is_file():
        opened = open_classifier(folder)
        arrays = dict(opened.arrays)
        found |= {"format": "parameters of a classifier", "model": opened.config.to_dict()}
        found["labels"] = list(opened.labels or ())
    elif (folder / PARAMS).is_file():
        arrays = read_book_arrays(folder / PARAMS)
        # A file does not tell its heads, on which no shape depends; one fits every width.
        config = infer_config(arrays, 1, 0.0, str(folder / PARAMS))
        check_shapes(arrays, bert_shapes(config), str(folder / PARAMS))
        known = config.to_dict()
        for unknown in ("num_heads", "dropout"):
            del known[unknown]
        found |= {"format": "pretrained model of the book", "model": known}
    else:
        raise CheckpointError(
            f"{path} holds neither a checkpoint of bertnli (config.json and model.safetensors, "
            f"also in best/ or last/) nor a pretrained model ({PARAMS} and {VOCAB}, or a Hugging "
            "Face folder)"
        )
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found["files"] = {file.name: file.stat().st_size for file in files}
    vocab = _vocabulary(folder)
    return found | ({} if vocab is None else {"vocabulary": vocab}) | _of_tensors(arrays)


def _vocabulary(folder: Path) -> int | str | None:
    """Return the number of tokens; why it is not known, where a package is missing."""
    try:
        vocab = load_vocab(folder)
    except BackendError as error:
        return f"not read: {error}"
    return None if vocab is None else len(vocab)


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
