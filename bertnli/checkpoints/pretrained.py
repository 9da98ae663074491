"""A pretrained BERT or a saved classifier, from files of any format; no framework is needed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli.checkpoints import huggingface, names
from bertnli.checkpoints.native import load_native
from bertnli.checkpoints.params import LIST_MAGIC, read_params
from bertnli.checkpoints.state_dict import read_state_dict
from bertnli.config import PRESETS, BERTConfig
from bertnli.errors import CheckpointError, ConfigError
from bertnli.hub import download_extract
from bertnli.parameters import (
    bert_shapes,
    check_shapes,
    classifier_shapes,
    infer_config,
    initial_arrays,
)
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import load_vocab

#: The book's files of a pretrained model.
PARAMS, VOCAB = "pretrained.params", "vocab.json"
#: What `convert` adds to them, for the sizes and class names that they do not tell.
DESCRIPTION, PARAMS_FORMAT = "config.json", "bertnli parameters"
#: A classifier's parameters, in the place of a pretrained model's.
CLASSIFIER = "classifier.params"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        arrays: canonical name to tensor, all that the model has.
        config: its sizes.
        vocab: its vocabulary.
        labels: the classes' names in the order of the logits; None of a pretrained model.
        source: where it comes from, for messages.
        started: the tensors that the file lacks, which have start values.
    """

    arrays: Mapping[str, NDArray]
    config: BERTConfig
    vocab: Vocab
    labels: tuple[str, ...] | None
    source: str
    started: tuple[str, ...] = ()


def read_book_arrays(path: Path) -> dict[str, NDArray]:
    """Return the tensors of a book's file under their canonical names, whichever tab wrote it.

    Raises:
        CheckpointError: the file is damaged, or its tensors have no names.
    """
    with path.open("rb") as file:
        is_mxnet = file.read(8) == struct.pack("<Q", LIST_MAGIC)
    if not is_mxnet:
        return {names.from_torch(name): array for name, array in read_state_dict(path).items()}
    found = read_params(path)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no named tensors; write it with save_parameters")
    return {names.from_mxnet(name): array for name, array in found.items()}


def open_pretrained(
    pretrained_model: str | Path,
    framework: str,
    num_hiddens: int | None,
    ffn_num_hiddens: int | None,
    num_heads: int | None,
    num_blks: int | None,
    dropout: float | None,
    max_len: int | None,
) -> Checkpoint:
    """Return a pretrained BERT; see a backend's ``load_pretrained_model``.

    Heads that a Hugging Face folder lacks have start values.

    Args:
        framework: whose file to take where the hub has one for each.
        dropout: None for what the file says, or else the book's 0.1.
    """
    folder = Path(download_extract(str(pretrained_model), framework=framework))
    sizes = {
        "num_hiddens": num_hiddens,
        "ffn_num_hiddens": ffn_num_hiddens,
        "num_heads": num_heads,
        "num_blks": num_blks,
        "max_len": max_len,
    }
    given: dict[str, Any] = {name: size for name, size in sizes.items() if size is not None}
    if huggingface.is_huggingface(folder):
        return _open_huggingface(folder, given, dropout)
    vocab = load_vocab(folder)
    for name, there in ((PARAMS, (folder / PARAMS).is_file()), (VOCAB, vocab is not None)):
        if not there:
            raise CheckpointError(
                f"{folder} has no {name}; a pretrained model is a folder or zip with {PARAMS} and "
                f"{VOCAB}, or a Hugging Face folder. A classifier that bertnli saved is opened "
                "with bertnli.load"
            )
    assert vocab is not None
    source = str(folder / PARAMS)
    arrays = read_book_arrays(folder / PARAMS)
    described = _read_description(folder)
    if described is not None:
        config, _ = described
        _check_given(config, given, folder / DESCRIPTION)
        config = config if dropout is None else replace(config, dropout=dropout)
        check_shapes(arrays, bert_shapes(config), source)
        return Checkpoint(arrays, config, vocab, None, source)
    heads = given.pop("num_heads", PRESETS.get(str(pretrained_model), {}).get("num_heads"))
    if heads is None:
        raise ConfigError(
            f"give num_heads for {pretrained_model}: a checkpoint's shapes do not tell its number "
            "of attention heads, and a wrong one computes something else without an error"
        )
    found = infer_config(arrays, heads, 0.1 if dropout is None else dropout, source)
    config = replace(found, vocab_size=len(vocab), **given)
    check_shapes(arrays, bert_shapes(config), source)
    return Checkpoint(arrays, config, vocab, None, source)


def open_checkpoint(
    path: str | Path, labels: Sequence[str] | None = None, num_heads: int | None = None
) -> Checkpoint:
    """Return what a local checkpoint holds, a classifier or a pretrained model.

    Args:
        path: a folder or archive of any format.
        labels: the classes' names in the order of the logits, where it has none.
        num_heads: attention heads, where it does not tell.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: the number of heads is unknown.
    """
    if not Path(path).expanduser().exists():
        raise CheckpointError(f"{path}: no such file or folder")
    folder = Path(download_extract(path))
    pretrained = (folder / PARAMS).is_file()
    if huggingface.is_huggingface(folder):
        pretrained = "output.weight" not in huggingface.read_arrays(folder)
    if not pretrained:
        return open_classifier(folder, labels)
    if labels is not None:
        raise CheckpointError(f"{path} is a pretrained model, which has no classes to name")
    return open_pretrained(folder, "", None, None, num_heads, None, None, None)


def open_classifier(path: str | Path, labels: Sequence[str] | None = None) -> Checkpoint:
    """Return a saved classifier: a native checkpoint, a Hugging Face folder, or parameters.

    Args:
        path: of the folder.
        labels: the classes' names in the order of the logits, where the folder has no names.

    Raises:
        CheckpointError: there is no classifier, it is damaged, its classes have no names, or other
            names than were given.
    """
    folder = Path(path)
    if huggingface.is_huggingface(folder):
        config, named = huggingface.read_config(folder)
        arrays = huggingface.read_arrays(folder)
        if "output.weight" not in arrays:
            raise CheckpointError(
                f"{folder} holds a BERT without a classifier; fine-tune it first, with "
                "load_pretrained_model or `bertnli train --pretrained`"
            )
        shared = {name: array for name, array in arrays.items() if not _is_pretraining(name)}
        vocab = _vocab(folder, config)
        source = str(folder)
    elif (folder / CLASSIFIER).is_file():
        source = str(folder / CLASSIFIER)
        shared = read_book_arrays(folder / CLASSIFIER)
        described = _read_description(folder)
        if described is None:
            raise CheckpointError(f"{folder} has no {DESCRIPTION}, which tells its sizes")
        config, named = described
        vocab = _vocab(folder, config)
    else:
        native = load_native(folder)
        shared, config, named, vocab = native.arrays, native.config, native.labels, native.vocab
        source = str(native.path)
    if named is None and labels is None:
        raise CheckpointError(
            f"{source} does not name its classes, and their order cannot be guessed; give the "
            "names in the order of the logits, labels=[...] or --labels"
        )
    if named is not None and labels is not None and _plain(named) != _plain(labels):
        raise CheckpointError(
            f"{source} says that its classes are {list(named)}, in this order, and not "
            f"{list(labels)}; leave the names out to take the file's"
        )
    chosen = tuple(named if named is not None else labels or ())
    classes = shared["output.weight"].shape[:1] if "output.weight" in shared else ()
    if len(chosen) < 2 or (classes and classes != (len(chosen),)):
        raise CheckpointError(
            f"{source} has an output for each of {classes[0] if classes else 'no'} classes, and "
            f"{len(chosen)} names: {', '.join(chosen)}; there must be as many, and two at least"
        )
    _check_blocks(shared, config, folder)
    check_shapes(shared, classifier_shapes(config, len(chosen)), source)
    return Checkpoint(shared, config, vocab, chosen, source)


def _open_huggingface(folder: Path, given: Mapping[str, int], dropout: float | None) -> Checkpoint:
    config, _ = huggingface.read_config(folder)
    _check_given(config, given, folder / huggingface.CONFIG)
    config = config if dropout is None else replace(config, dropout=dropout)
    arrays = huggingface.read_arrays(folder)
    arrays.pop("output.weight", None)
    arrays.pop("output.bias", None)
    _check_blocks(arrays, config, folder)
    shapes = bert_shapes(config)
    # A whole head that is not there: of MLM, of the next sentence, or the pooler.
    heads = ("mlm.", "nsp.", "hidden.")
    absent = tuple(head for head in heads if not any(name.startswith(head) for name in arrays))
    lacking = {name: shape for name, shape in shapes.items() if name.startswith(absent)}
    there = {name: shape for name, shape in shapes.items() if name not in lacking}
    check_shapes(arrays, there, str(folder))
    arrays |= initial_arrays(lacking, 0)
    vocab = _vocab(folder, config)
    return Checkpoint(arrays, config, vocab, None, str(folder), tuple(lacking))


def _check_blocks(arrays: Mapping[str, NDArray], config: BERTConfig, folder: Path) -> None:
    """Refuse a number of blocks that is not the tensors', before their shapes are listed."""
    blocks = {name.split(".")[2] for name in arrays if name.startswith("encoder.blks.")}
    if len(blocks) != config.num_blks:
        raise CheckpointError(
            f"{folder} has the tensors of {len(blocks)} blocks, and {config.num_blks} by its config"
        )


def _check_given(config: BERTConfig, given: Mapping[str, int], path: Path) -> None:
    wrong = [f"{key}={size}" for key, size in given.items() if getattr(config, key) != size]
    if wrong:
        raise CheckpointError(
            f"{path} has other sizes than {', '.join(wrong)}; leave them out to take the file's"
        )


def _read_description(folder: Path) -> tuple[BERTConfig, tuple[str, ...] | None] | None:
    """Return the sizes and class names that `convert` wrote, if it made the folder."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(described, dict) or described.get("format") != PARAMS_FORMAT:
            return None
        labels = described["labels"]
        config = BERTConfig.from_dict(described["model"])
        return config, None if labels is None else tuple(map(str, labels))
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _vocab(folder: Path, config: BERTConfig) -> Vocab:
    vocab = load_vocab(folder)
    if vocab is None:
        raise CheckpointError(f"{folder} has no vocabulary: tokenizer.json or vocab.txt")
    if len(vocab) > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the vocabulary has {len(vocab)} tokens, the model {config.vocab_size}"
        )
    return vocab


def _is_pretraining(name: str) -> bool:
    return name.startswith(("mlm.", "nsp."))


def _plain(labels: Sequence[str]) -> list[str]:
    return [label.strip().lower() for label in labels]
