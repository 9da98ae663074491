"""bertnli's own format: one folder that any backend opens, with no pickled code in it.

model.safetensors   the tensors, under their canonical names
config.json         the sizes, the label names in the order of the logits, how pairs are cut to
                    length, the format's version
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
from bertnli.formats.checkpoint import Checkpoint, check_sizes
from bertnli.formats.folder import remove_files, replaced_folder
from bertnli.formats.tensors import write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import WordPieceVocab

FORMATS = ("bertnli classifier", "bertnli pretrained model")
VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
#: All files that a checkpoint may have; the one that says what it is comes last.
FILES = (WEIGHTS, Vocab.FILE, WordPieceVocab.FILE, CONFIG)


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether a file of tensors is the one of a folder of this format."""
    return file.name == WEIGHTS and is_described(file.parent, FORMATS)


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Read a checkpoint from a folder, without its vocabulary."""
    config, labels, encoding = read_description(file.parent / CONFIG)
    check_sizes(stored, config, file.parent / CONFIG, {})
    format = f"{FORMATS['output.weight' not in stored]}, version {VERSION}"
    return Checkpoint(stored, config, labels=labels, encoding=encoding, format=format)


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder."""
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
    """Write a checkpoint folder, replacing one that is there.

    A crash leaves either the old checkpoint or the new one; see `replaced_folder`.

    Args:
        folder: of the checkpoint.
        arrays: canonical name to array, float32 or float16.
        config: the sizes.
        labels: the classes' names in the order of the logits; None of a pretrained model.
        vocab: the vocabulary.
        encoding: how a classifier's pairs are cut to length; None where that is not known.

    Raises:
        CheckpointError: the folder exists and is not a checkpoint, or cannot be written.
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
    """Return whether a path is an empty folder, or one with a checkpoint of ours and nothing else.

    A symbolic link is not.
    """
    if folder.is_symlink() or not folder.is_dir():
        return False
    files = [*folder.iterdir()]
    if not files:
        return True
    if not {path.name for path in files} <= {*FILES} or not all(map(is_plain_file, files)):
        return False
    try:
        return is_described(folder, FORMATS)
    except CheckpointError:
        return False


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a folder with the files of a checkpoint."""
    return is_there(path / CONFIG) and is_there(path / WEIGHTS)


def others_beside(folder: Path) -> list[Path]:
    """Return the foreign files in a checkpoint's folder."""
    if folder.is_symlink() or not is_checkpoint(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.name not in FILES)


def remove_checkpoint(folder: Path) -> None:
    """Remove a folder that `is_replaceable`; OSError where something else is in it by now."""
    remove_files(folder, FILES)


# The description, which the book's files have beside them as well


def is_described(folder: Path, formats: Sequence[str]) -> bool:
    """Return whether a folder's config.json is of one of these formats."""
    path = folder / CONFIG
    return is_there(path) and read_json_object(path, CheckpointError).get("format") in formats


def read_description(
    path: Path,
) -> tuple[BERTConfig, tuple[str, ...] | None, PairEncoding | None]:
    """Return sizes, class names and how pairs are cut."""
    described = read_json_object(path, CheckpointError)
    if described.get("version", VERSION) != VERSION:
        raise CheckpointError(
            f"{path}: version {described['version']!r}, and this bertnli reads version {VERSION}; "
            "use the version of bertnli that wrote it"
        )
    try:
        labels = described["labels"]
        if labels is not None and not (
            isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        ):
            raise TypeError("labels is not a list of names")
        config = BERTConfig.from_dict(described["model"])
        encoding = None
        if "encoding" in described:
            encoding = PairEncoding.from_dict(described["encoding"], config.max_len)
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return config, None if labels is None else tuple(labels), encoding


def write_description(path: Path, checkpoint: Checkpoint, kind: Mapping[str, str | int]) -> None:
    """Write what `read_description` reads, after the entries that say which kind it is."""
    labels, encoding = checkpoint.labels, checkpoint.encoding
    described = {
        **kind,
        "model": checkpoint.config.to_dict(),
        "labels": None if labels is None else list(labels),
        **({} if encoding is None else {"encoding": encoding.to_dict()}),
    }
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
