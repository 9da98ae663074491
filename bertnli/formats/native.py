"""bertnli's own format: a folder that both backends read, without pickled code.

model.safetensors   the tensors, under their canonical names
config.json         the sizes, the class names in the order of the logits, how pairs are truncated,
                    the format's version
vocab.json          the tokens in the order of their ids, as in the book's files; or
tokenizer.json      the word pieces, and how text is cut into them
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from numpy.typing import NDArray

from bertnli._util.files import as_path, is_plain_file, is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.checkpoint import WEIGHT, Checkpoint, check_sizes
from bertnli.formats.folder import remove_files, replaced_folder
from bertnli.formats.tensors import write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.subwords import SubwordVocab
from bertnli.text.vocab import Vocab

FORMATS = ("bertnli classifier", "bertnli pretrained model")
VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
#: All files that a checkpoint may have. The one that identifies it comes last, to be removed last.
FILES = (WEIGHTS, Vocab.FILE, SubwordVocab.FILE, CONFIG)


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether a file of tensors is in a folder of this format; ``stored`` is not used."""
    return file.name == WEIGHTS and is_described(file.parent, FORMATS)


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file and of the config.json beside it.

    It has no vocabulary yet.
    """
    config, labels, encoding = read_description(file.parent / CONFIG)
    check_sizes(stored, config, file.parent / CONFIG, {})
    format = f"{FORMATS[WEIGHT not in stored]}, version {VERSION}"
    return Checkpoint(stored, config, labels=labels, encoding=encoding, format=format)


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint to a new folder."""
    format = FORMATS[checkpoint.labels is None]
    folder.mkdir()
    write_tensors(folder / WEIGHTS, checkpoint.arrays, format)
    write_description(folder / CONFIG, checkpoint, {"format": format, "version": VERSION})
    checkpoint.vocab.save(folder / checkpoint.vocab.FILE)


def save_native(
    folder: str | Path,
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    labels: Sequence[str] | None,
    vocab: Vocab,
    encoding: PairEncoding | None = None,
) -> None:
    """Write a checkpoint folder, or replace an existing one; a crash leaves the old or the new one.

    Args:
        folder: path of the folder.
        arrays: tensors by canonical name, float32 or float16.
        config, labels, vocab, encoding: the fields of a `Checkpoint`.
    """
    folder = as_path(folder)
    if folder.exists() and not is_replaceable(folder):
        raise CheckpointError(
            f"{folder} exists and is not a checkpoint of bertnli; it is left as it is. "
            "Choose another folder"
        )
    names = None if labels is None else tuple(labels)
    try:
        with replaced_folder(folder) as new:
            write(Checkpoint(arrays, config, vocab, names, encoding=encoding), new)
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error}") from error


def is_replaceable(folder: Path) -> bool:
    """Return whether a folder is empty, or holds the files of a checkpoint and nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    files = [*folder.iterdir()]
    if not all(path.name in FILES and is_plain_file(path) for path in files):
        return False
    try:
        return not files or is_described(folder, FORMATS)
    except CheckpointError:
        return False


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a folder with the two main files of a checkpoint."""
    return is_there(path / CONFIG) and is_there(path / WEIGHTS)


def others_beside(folder: Path) -> list[Path]:
    """Return the files in a checkpoint's folder that do not belong to the checkpoint."""
    if folder.is_symlink() or not is_checkpoint(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.name not in FILES)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint's folder; OSError if it holds other files, too."""
    remove_files(folder, FILES)


def is_described(folder: Path, formats: Sequence[str]) -> bool:
    """Return whether the entry ``format`` in a folder's config.json is one of ``formats``."""
    path = folder / CONFIG
    return is_there(path) and read_json_object(path, CheckpointError).get("format") in formats


def read_description(path: Path) -> tuple[BERTConfig, tuple[str, ...] | None, PairEncoding | None]:
    """Read the sizes, the class names and how pairs are truncated from a config.json."""
    described = read_json_object(path, CheckpointError)
    if described.get("version", VERSION) != VERSION:
        raise CheckpointError(
            f"{path}: version {described['version']!r}, and this bertnli reads version {VERSION}; "
            "use the version of bertnli that wrote it"
        )
    try:
        labels, encoding = described["labels"], None
        if labels is not None:
            if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
                raise TypeError("labels is not a list of names")
            labels = tuple(labels)
        config = BERTConfig.from_dict(described["model"])
        if "encoding" in described:
            encoding = PairEncoding.from_dict(described["encoding"], config.max_len)
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return config, labels, encoding


def write_description(path: Path, checkpoint: Checkpoint, kind: Mapping[str, str | int]) -> None:
    """Write a config.json that describes a checkpoint, after entries that identify its format."""
    described = {**kind, **checkpoint.description()}
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
