"""Find the file of tensors that a name or a path stands for, and read it, whatever wrote it.

A folder has one such file, or an index and the several files that it names:

model.safetensors.index.json    {"weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from numpy.typing import NDArray

from bertnli._util.files import expanded, is_there, open_regular, read_json_object
from bertnli.bert.parameters import some
from bertnli.errors import CheckpointError
from bertnli.formats.huggingface import BUFFERS
from bertnli.formats.names import unwrapped
from bertnli.formats.params import START, is_params, read_params
from bertnli.formats.state_dict import read_state_dict
from bertnli.formats.tensors import read_tensors
from bertnli.hub import catalogue
from bertnli.hub.archives import NoArchiveError
from bertnli.hub.catalogue import BUNDLED, CLASSIFIER, bundled

#: The usual names of a folder's file of tensors; the first that exists is read.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pretrained.params",
    "classifier.params",
)
#: Suffixes of files of tensors with any other name.
SUFFIXES = (".params", ".pt", ".pth", ".bin", ".ckpt", ".safetensors")
#: Names of one of several files of tensors (a shard), and of the shards and their index.
_SHARD = re.compile(r"(pytorch_)?model-\d+-of-\d+\.(bin|safetensors)")
_PART = re.compile(rf"{_SHARD.pattern}|(pytorch_)?model\.(bin|safetensors)\.index\.json")
_FILE_NAME = re.compile(r"[\w][\w.+ -]{0,200}", re.ASCII)
#: Number of subfolders of a folder that are searched for checkpoints.
MAX_INNER = 1000
_AGAIN = "copy the whole folder anew from where it came from"


def locate_local(name: str | Path) -> Path:
    """Return the folder or the file of tensors that a name stands for, without downloads.

    Args:
        name: a model that comes with bertnli, or the path of a folder, an archive or a file.
    """
    if bundled(name, CLASSIFIER) is not None or expanded(name, CheckpointError).exists():
        return locate(name)
    if catalogue.is_model_name(name):
        raise CheckpointError(
            f"{name} is the name of a download, a pretrained BERT without a classifier; train one "
            f"with `bertnli train --pretrained {name}`, or give the folder that `bertnli download "
            f"{name}` prints"
        )
    raise CheckpointError(
        f"{name}: no such file or folder; with bertnli comes {', '.join(BUNDLED)}"
        f"{catalogue.missing_hint(name, BUNDLED)}"
    )


def locate(name: str | Path, framework: str | None = None, kind: str = CLASSIFIER) -> Path:
    """Return the folder or the file of tensors that a name stands for; download and unpack it.

    Args:
        name: a name as for `locate_local`, a name in `bertnli.DATA_HUB`, or a URL.
        framework: ``"torch"`` or ``"mxnet"``, to choose from the hub's files for each.
        kind: ``"classifier"`` or ``"pretrained"``; see `bertnli.hub.catalogue.bundled`.
    """
    folder = bundled(name, kind)
    if folder is not None:
        return folder
    path = expanded(name, CheckpointError)
    if path.is_file() and is_tensors(path):
        return path
    try:
        return Path(catalogue.download_extract(name, framework=framework))
    except NoArchiveError as error:
        hint = f"; give the folder, {path.parent}" if holds_checkpoint(path.parent) else ""
        raise CheckpointError(f"{error}, nor a file of parameters{hint}") from None


def is_tensors(file: Path) -> bool:
    """Return whether a file's name has the ending of a file of tensors."""
    return file.suffix.lower() in SUFFIXES or _PART.fullmatch(file.name) is not None


def holds_checkpoint(folder: Path) -> bool:
    """Return whether a folder, or its subfolder ``best`` or ``last``, has a file of tensors."""
    return next(_known(folder), None) is not None


def _known(folder: Path) -> Iterator[Path]:
    for home in (folder, folder / "best", folder / "last"):
        yield from (home / name for name in NAMES if is_there(home / name))


def find(path: Path) -> Path:
    """Return the file of tensors for a path, which is the file itself or a folder.

    In the folder of a training run it is that of the best checkpoint, or else of the last one.
    """
    if path.is_file() and _PART.fullmatch(path.name) is None:
        return path
    folder = path.parent if path.is_file() else path
    for file in _known(folder):
        return file
    files = sorted(file for file in folder.iterdir() if file.is_file() and is_tensors(file))
    shards = [file.name for file in files if _SHARD.fullmatch(file.name)]
    if len(files) == 1 and not shards:
        return files[0]
    inner = islice((inner for inner in folder.iterdir() if inner.is_dir()), MAX_INNER)
    # By length first: transformers' Trainer has a checkpoint-900 and a checkpoint-1000.
    holding = sorted(filter(holds_checkpoint, inner), key=lambda f: (len(f.name), f.name))
    if holding:
        hint = f"give the path of one of its folders that do: {some(holding)}"
    elif shards:
        hint = f"it has {some(shards)}, and not the .index.json that says what is in each; {_AGAIN}"
    elif files:
        hint = f"it has several files of parameters; give the path of one: {some(files)}"
    else:
        hint = (
            "it is a folder of bertnli or of Hugging Face (config.json and model.safetensors), a "
            "pretrained model of the book (pretrained.params and vocab.json), or one with a "
            ".params file of GluonNLP and its vocabulary. Of weights for other frameworks, such as "
            "tf_model.h5, transformers makes such a folder with save_pretrained"
        )
    raise CheckpointError(f"{folder} holds no checkpoint itself: {hint}")


def read(file: Path) -> dict[str, NDArray]:
    """Read tensors by name from a file, or from all shards that an index file names."""
    if file.suffix == ".json":
        arrays = _read_shards(file)
    elif file.suffix.lower() == ".safetensors":
        arrays = read_tensors(file)
    else:
        with open_regular(file, CheckpointError) as opened:
            is_mxnet = is_params(opened.read(START))
        if is_mxnet:
            params = read_params(file)
            if isinstance(params, dict):
                return params
            raise CheckpointError(f"{file} holds no named tensors; write it with save_parameters")
        arrays = read_state_dict(file)
    return unwrapped(arrays, str(file))


def _read_shards(index: Path) -> dict[str, NDArray]:
    """Read tensors by name from all shards that an index file names."""
    weight_map = read_json_object(index, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map does not say which tensor is in which file")
    shards: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        # A path could lead anywhere.
        if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
            raise CheckpointError(
                f"{index}: {name} is in {file!r:.80}, which is not the name of a file beside it"
            )
        shards.setdefault(file, set()).add(name)
    if missing := [file for file in shards if not (index.parent / file).is_file()]:
        raise CheckpointError(f"{index} names shards that are missing: {some(missing)}; {_AGAIN}")
    arrays: dict[str, NDArray] = {}
    for file, names in sorted(shards.items()):
        path = index.parent / file
        tensors = read_tensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
        wrong = {name for name in names ^ tensors.keys() if not name.endswith(BUFFERS)}
        if wrong:
            raise CheckpointError(
                f"{path} has other tensors than {index.name} says: {some(sorted(wrong))}; {_AGAIN}"
            )
        arrays |= tensors
    return arrays
