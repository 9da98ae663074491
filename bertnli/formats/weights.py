"""The files of weights of a Hugging Face folder: one, or an index and the several that it names.

model.safetensors               the tensors, or pytorch_model.bin, a state dict
model.safetensors.index.json    {"weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli._util.files import is_there, read_json_object
from bertnli.errors import CheckpointError
from bertnli.formats.state_dict import read_state_dict
from bertnli.formats.tensors import read_tensors

WEIGHTS, OLD_WEIGHTS = "model.safetensors", "pytorch_model.bin"
#: What is one of several files of weights, or lists them.
_SHARD = re.compile(r"(pytorch_)?model-\d+-of-\d+\.(bin|safetensors)")
OF_FOLDER = re.compile(rf"{_SHARD.pattern}|(pytorch_)?model\.(bin|safetensors)\.index\.json")
#: Weights that other programs wrote, or that stand beside a folder's own.
_OTHER = re.compile(r"\.(h5|msgpack|onnx|ckpt.*|pt|pth|bin|params)$", re.IGNORECASE)
#: What older versions of transformers stored and nobody learned.
COMPUTED = "position_ids"
#: Bytes of a file's name on most systems.
_LONGEST = 255
#: Entries of a folder among which checkpoints are looked for.
MAX_INNER = 1000
_AGAIN = "copy the whole folder anew from where it came from"


def inner_folders(folder: Path, holds: Callable[[Path], bool]) -> str:
    """Return which folders of a folder hold a checkpoint, to be given in its place; or nothing.

    transformers' Trainer writes checkpoint-100, checkpoint-200 and so on, without one beside them.

    Args:
        folder: the folder.
        holds: whether one does.
    """
    inner = (path for path in islice(folder.iterdir(), MAX_INNER) if path.is_dir())
    # checkpoint-900 before checkpoint-1000
    found = sorted((path for path in inner if holds(path)), key=lambda p: (len(p.name), p.name))
    if not found:
        return ""
    return f"give the path of one of its folders that do: {_some([str(path) for path in found])}"


def read_stored(folder: Path, holds: Callable[[Path], bool]) -> tuple[Path, dict[str, NDArray]]:
    """Return the file of a folder's weights, and its tensors under their own names.

    Args:
        folder: of a Hugging Face model.
        holds: whether a folder in it holds a checkpoint, for the error message.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    for name, read in ((WEIGHTS, read_tensors), (OLD_WEIGHTS, read_state_dict)):
        path, index = folder / name, folder / f"{name}.index.json"
        if is_there(path):
            return path, read(path)
        if is_there(index):
            return index, _read_shards(index, read)
    found = sorted(file.name for file in folder.iterdir())
    others = [name for name in found if _OTHER.search(name)]
    shards = [name for name in found if _SHARD.fullmatch(name)]
    hint = ""
    if inner := inner_folders(folder, holds):
        hint = f"; {inner}"
    elif shards:
        hint = f", but {_some(shards)}, and not the .index.json that says what is in each; {_AGAIN}"
    elif others:
        hint = (
            f", but {', '.join(others[:5])}. A state dict is opened by the path of its file; of "
            "another framework's weights transformers makes such a folder, with save_pretrained"
        )
    raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {OLD_WEIGHTS}{hint}")


def has_weights(folder: Path) -> bool:
    """Return whether a folder has a file of weights, or an index of several."""
    names = (name + end for name in (WEIGHTS, OLD_WEIGHTS) for end in ("", ".index.json"))
    return any(is_there(folder / name) for name in names)


def _read_shards(index: Path, read: Callable[[Path], dict[str, NDArray]]) -> dict[str, NDArray]:
    """Return the tensors of all shards by their names.

    Args:
        index: the JSON file that says which tensor is in which file beside it.
        read: returns the tensors of one file.

    Raises:
        CheckpointError: the index or a shard cannot be read, a shard is missing or outside of the
            folder, or it has other tensors than the index says.
    """
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
        raise CheckpointError(
            f"{index.parent} lacks {_some(missing)}, of {len(named)} shards that {index.name} "
            f"names; {_AGAIN}"
        )
    found: dict[str, NDArray] = {}
    for file, names in sorted(named.items()):
        path, tensors = index.parent / file, read(index.parent / file)
        for problem, wrong in (
            (f"{path} lacks, though {index.name} says that they are in it,", names - {*tensors}),
            (f"{path} has, though {index.name} does not say so,", tensors.keys() - names),
        ):
            if wrong := {name for name in wrong if not name.endswith(COMPUTED)}:
                raise CheckpointError(f"{problem} {_some(sorted(wrong))}; {_AGAIN}")
        found |= tensors
    return found


def _is_file_name(file: Any) -> bool:
    """Return whether it names a file of the same folder; a path could lead anywhere."""
    return (
        isinstance(file, str)
        and file == Path(file).name
        and not {*"\\\0"} & {*file}
        and len(file.encode()) <= _LONGEST
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
