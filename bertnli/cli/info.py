"""Show the sizes, classes, vocabulary and tensors of a checkpoint.

One that bertnli wrote is read without any framework; a pretrained model (a folder or archive with
pretrained.params and vocab.json) with the framework that wrote it.

examples:
  bertnli info runs/sample
  bertnli info runs/sample/last --tensors --json
  bertnli info bert.small.torch.zip --backend torch
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli.backends import available_backends, get_backend
from bertnli.checkpoints.native import FORMAT, VERSION, is_native, load_native
from bertnli.cli import options
from bertnli.errors import BackendError, CheckpointError
from bertnli.hub import download_extract
from bertnli.parameters import check_shapes, classifier_shapes
from bertnli.text.vocab import Vocab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint, a run, or a pretrained model")
    parser.add_argument("--tensors", action="store_true", help="each tensor's name, shape and type")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Read the checkpoint, and print what is in it."""
    path = Path(args.path).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    found = _of_native(path) if is_native(path) else _of_pretrained(args, path)
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


def _of_pretrained(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    folder = Path(download_extract(path))
    if not (folder / "pretrained.params").is_file():
        raise CheckpointError(
            f"{path} holds neither a checkpoint of bertnli (config.json and model.safetensors, "
            "also in best/ or last/) nor a pretrained model (pretrained.params and vocab.json)"
        )
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found: dict[str, Any] = {
        "path": str(path),
        "format": "pretrained model",
        "files": {file.name: file.stat().st_size for file in files},
    }
    if (folder / "vocab.json").is_file():
        found["vocabulary"] = len(Vocab.load(folder / "vocab.json"))
    return found | _read_with_framework(args, folder)


def _read_with_framework(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the sizes and tensors of a pretrained model, read by whichever framework can."""
    problems = []
    for name in [args.backend] if args.backend else available_backends():
        try:
            # A file does not tell its heads, on which no shape depends; one fits every width.
            bert, _ = get_backend(name).load_pretrained_model(
                folder, num_heads=1, devices=args.devices or "cpu"
            )
        except (CheckpointError, BackendError) as error:
            if args.backend:
                raise
            problems.append(f"{name}: {error}")
            continue
        sizes = bert.config.to_dict()
        for unknown in ("num_heads", "dropout"):
            del sizes[unknown]
        return {"read with": name, "model": sizes, **_of_tensors(bert.arrays())}
    return {"not read": problems or ["no framework is installed"]}


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
