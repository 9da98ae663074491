"""The native checkpoint: one folder that any backend opens, with no pickled code in it.

model.safetensors   the tensors, under their canonical names
config.json         the sizes, the label names in the order of the logits, how pairs are cut to
                    length, the format's version
vocab.json          the tokens in the order of their ids, as in the book's files; or
tokenizer.json      the word pieces, and how text is cut into them
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from bertnli._util.files import as_path, is_plain_file, is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.errors import BERTNLIError, CheckpointError
from bertnli.formats.folder import remove_files, replaced_folder
from bertnli.formats.tensors import read_tensors, write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import WordPieceVocab, load_vocab

FORMATS = ("bertnli classifier", "bertnli pretrained model")
VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
#: All files that a checkpoint may have; the one that says what it is comes last.
FILES = (WEIGHTS, Vocab.FILE, WordPieceVocab.FILE, CONFIG)


@dataclass(frozen=True)
class NativeCheckpoint:
    """What a checkpoint folder holds; ``arrays`` maps canonical names to arrays.

    A pretrained model has no labels, and no ``encoding``.
    """

    arrays: dict[str, NDArray]
    config: BERTConfig
    labels: tuple[str, ...] | None
    vocab: Vocab
    path: Path
    encoding: PairEncoding | None = None

    @property
    def format(self) -> str:
        """What it is, in words."""
        return f"{_format(self.labels)}, version {VERSION}"


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
    format = _format(labels)
    try:
        with replaced_folder(folder) as new:
            new.mkdir()
            write_tensors(new / WEIGHTS, arrays, format)
            described = {
                "format": format,
                "version": VERSION,
                "model": config.to_dict(),
                "labels": None if labels is None else list(labels),
                **({} if encoding is None else {"encoding": encoding.to_dict()}),
            }
            (new / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            vocab.save(new / vocab.FILE)
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error}") from error


def _format(labels: Sequence[str] | None) -> str:
    return FORMATS[labels is None]


def is_replaceable(folder: Path) -> bool:
    """Return whether a path is an empty folder, or one with a checkpoint of ours and nothing else.

    A symbolic link is not.
    """
    if folder.is_symlink() or not folder.is_dir():
        return False
    found = [*folder.iterdir()]
    if not found:
        return True
    if not {path.name for path in found} <= {*FILES} or not all(map(is_plain_file, found)):
        return False
    try:
        return read_json_object(folder / CONFIG, CheckpointError).get("format") in FORMATS
    except CheckpointError:
        return False


def others_beside(folder: Path) -> list[Path]:
    """Return what is in the folder of a checkpoint and not of it; of another path nothing."""
    if folder.is_symlink() or not is_checkpoint(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.name not in FILES)


def remove_checkpoint(folder: Path) -> None:
    """Remove a folder that `is_replaceable`.

    Raises:
        OSError: it cannot be removed, or something else is in it by now.
    """
    remove_files(folder, FILES)


def is_native(path: str | Path) -> bool:
    """Return whether a path is a native checkpoint, or a run's folder that holds one."""
    return _resolve(Path(path)) is not None


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is itself a folder with the files of a checkpoint."""
    return is_there(path / CONFIG) and is_there(path / WEIGHTS)


def _resolve(path: Path) -> Path | None:
    """Return the checkpoint folder that a path means: itself, else its best, else its last."""
    for folder in (path, path / "best", path / "last"):
        if is_checkpoint(folder):
            return folder
    return None


def load_native(path: str | Path) -> NativeCheckpoint:
    """Read a checkpoint folder, or the best checkpoint of a run's folder.

    Raises:
        CheckpointError: naming the file that is missing or damaged.
    """
    folder = _resolve(Path(path))
    if folder is None:
        raise CheckpointError(
            f"{path} holds no checkpoint: looked for {CONFIG} and {WEIGHTS} in it, in best/ and in "
            "last/. Give the folder that net.save or `bertnli train --output` wrote"
        )
    try:
        described = read_json_object(folder / CONFIG, CheckpointError)
        if described.get("format") not in FORMATS:
            raise CheckpointError(f"{folder / CONFIG}: not a checkpoint of bertnli")
        if described.get("version") != VERSION:
            raise CheckpointError(
                f"{folder / CONFIG}: version {described.get('version')!r}, and this bertnli reads "
                f"version {VERSION}; use the version of bertnli that wrote it"
            )
        labels = described["labels"]
        if described["format"] == _format(None):
            labels = None
        elif not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise CheckpointError(f"{folder / CONFIG}: labels is not a list of names")
        config = BERTConfig.from_dict(described["model"])
        encoding = None
        if "encoding" in described:
            encoding = PairEncoding.from_dict(described["encoding"], config.max_len)
        arrays = read_tensors(folder / WEIGHTS)
        vocab = load_vocab(folder)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error} is missing") from error
    except (OSError, ValueError, BERTNLIError) as error:
        raise CheckpointError(f"{folder}: damaged or incomplete: {error}") from error
    if vocab is None:
        raise CheckpointError(f"{folder}: {Vocab.FILE} is missing")
    # Models in Hugging Face's folders may have rows to spare.
    if len(vocab) > config.vocab_size or (type(vocab) is Vocab and len(vocab) < config.vocab_size):
        raise CheckpointError(
            f"{folder}: the vocabulary has {len(vocab)} tokens, the model {config.vocab_size}"
        )
    names = None if labels is None else tuple(labels)
    return NativeCheckpoint(arrays, config, names, vocab, folder, encoding)
