"""The file of tensors of a checkpoint, whichever program wrote it: found, and read by its names.

A folder has one such file, or an index and the several files that it names:

model.safetensors.index.json    {"weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli._util.files import is_there, open_regular, read_json_object
from bertnli.errors import CheckpointError
from bertnli.formats.huggingface import BUFFERS
from bertnli.formats.names import unwrapped
from bertnli.formats.params import LIST_MAGIC, read_params
from bertnli.formats.state_dict import read_state_dict
from bertnli.formats.tensors import read_tensors

#: The file names of a folder's tensors, the first that is there counts.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pretrained.params",
    "classifier.params",
)
#: Files with these suffixes may be tensors under any name.
SUFFIXES = (".params", ".pt", ".pth", ".bin", ".ckpt", ".safetensors")
#: One of several files of tensors, and their index.
_SHARD = re.compile(r"(pytorch_)?model-\d+-of-\d+\.(bin|safetensors)")
_PART = re.compile(rf"{_SHARD.pattern}|(pytorch_)?model\.(bin|safetensors)\.index\.json")
#: Bytes of a file's name on most systems.
_LONGEST = 255
#: Entries of a folder among which checkpoints are looked for.
MAX_INNER = 1000
_AGAIN = "copy the whole folder anew from where it came from"


def is_tensors(file: Path) -> bool:
    """Return whether a file's name is one of tensors."""
    return file.suffix.lower() in SUFFIXES or _PART.fullmatch(file.name) is not None


def holds_checkpoint(folder: Path) -> bool:
    """Return whether a folder has tensors under one of the known names."""
    return next(_known(folder), None) is not None


def find(path: Path) -> Path:
    """Return the file of tensors that a path means: the file itself, or the one of a folder.

    Of a run's folder it is that of the best checkpoint, or else of the last.
    """
    if path.is_file() and _PART.fullmatch(path.name) is None:
        return path
    folder = path.parent if path.is_file() else path
    for file in _known(folder):
        return file
    files = sorted(file for file in folder.iterdir() if file.is_file() and is_tensors(file))
    shards = [file.name for file in files if _SHARD.fullmatch(file.name)]
    inner = islice((inner for inner in folder.iterdir() if inner.is_dir()), MAX_INNER)
    # checkpoint-900 before checkpoint-1000, as transformers' Trainer numbers them
    holding = sorted(filter(holds_checkpoint, inner), key=lambda f: (len(f.name), f.name))
    if len(files) == 1 and not shards:
        return files[0]
    if holding:
        hint = f"give the path of one of its folders that do: {_some(map(str, holding))}"
    elif shards:
        hint = (
            f"it has {_some(shards)}, and not the .index.json that says what is in each; {_AGAIN}"
        )
    elif files:
        hint = f"it has several files of parameters; give the path of one: {_some(map(str, files))}"
    else:
        hint = (
            "it is a folder of bertnli or of Hugging Face (config.json and model.safetensors), a "
            "pretrained model of the book (pretrained.params and vocab.json), or one with a "
            ".params file of GluonNLP and its vocabulary. Of weights for other frameworks, such as "
            "tf_model.h5, transformers makes such a folder with save_pretrained"
        )
    raise CheckpointError(f"{folder} holds no checkpoint itself: {hint}")


def _known(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "best", folder / "last"):
        yield from (place / name for name in NAMES if is_there(place / name))


def read(file: Path) -> dict[str, NDArray]:
    """Return the tensors of a file, or of all that an index names, by their names."""
    if file.suffix == ".json":
        return unwrapped(_read_shards(file), str(file))
    if file.suffix.lower() == ".safetensors":
        return unwrapped(read_tensors(file), str(file))
    with open_regular(file, CheckpointError) as opened:
        is_mxnet = opened.read(8) == struct.pack("<Q", LIST_MAGIC)
    if not is_mxnet:
        return unwrapped(read_state_dict(file), str(file))
    arrays = read_params(file)
    if not isinstance(arrays, dict):
        raise CheckpointError(f"{file} holds no named tensors; write it with save_parameters")
    return arrays


def _read_shards(index: Path) -> dict[str, NDArray]:
    """Return the tensors of all shards that an index names."""
    places = read_json_object(index, CheckpointError).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index}: weight_map does not say which tensor is in which file")
    named: dict[str, set[str]] = {}
    for name, file in places.items():
        if not _is_file_name(file):
            raise CheckpointError(
                f"{index}: {name} is in {file!r:.80}, which is not the name of a file beside it"
            )
        named.setdefault(file, set()).add(name)
    if missing := [file for file in named if not (index.parent / file).is_file()]:
        raise CheckpointError(f"{index} names shards that are missing: {_some(missing)}; {_AGAIN}")
    arrays: dict[str, NDArray] = {}
    for file, names in sorted(named.items()):
        path = index.parent / file
        tensors = read_tensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
        wrong = {name for name in names ^ tensors.keys() if not name.endswith(BUFFERS)}
        if wrong:
            raise CheckpointError(
                f"{path} has other tensors than {index.name} says: {_some(sorted(wrong))}; {_AGAIN}"
            )
        arrays |= tensors
    return arrays


def _is_file_name(file: Any) -> bool:
    """Return whether it names a file of the same folder; a path could lead anywhere."""
    return (
        isinstance(file, str)
        and file == Path(file).name
        and not {*"\\\0"} & {*file}
        and len(file.encode()) <= _LONGEST
    )


def _some(names: Iterable[str]) -> str:
    listed = [*names]
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more
