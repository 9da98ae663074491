"""A checkpoint loaded from any format, and the output layer that a new classifier starts with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import canonical_label, label_permutation
from bertnli.bert.parameters import Shapes, encoder_shapes, infer_config, initial_arrays
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

#: Sizes that follow from the tensors' shapes.
SIZES = (
    *("vocab_size", "num_hiddens", "ffn_num_hiddens", "num_blks", "max_len", "embedding_size"),
    *("num_segments", "relative_buckets", "position_buckets"),
)
#: Names of a classifier's output layer.
WEIGHT, BIAS = "output.weight", "output.bias"
#: Dropout of the book's and of GluonNLP's models.
DROPOUT = 0.1


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint's files, whatever their format.

    Args:
        arrays: tensors by canonical name; see `bertnli.bert.parameters`.
        config: the sizes.
        vocab: the vocabulary; empty if none was read.
        labels: class names in the order of the logits; None for a pretrained model, and if the
            files do not name the classes.
        source: path of the folder or file, for messages.
        started: names of the tensors that the files lack; they were initialised instead.
        encoding: how a classifier truncates sentence pairs; None for a pretrained model, and if the
            files do not say.
        given: facts that the user gave and that no file can confirm, in words.
        head: the output layer, see `head_of`, if the files are those of a classifier.
        format: the name of the format, in words.
        heads_known: whether the files say the number of attention heads; if not,
            ``config.num_heads`` is 1.
        unnamed: why the classes have no names; empty if there is nothing to explain.
        other_head: why the output layer does not compute classes; empty if it does.
    """

    arrays: Mapping[str, NDArray]
    config: BERTConfig
    vocab: Vocab = field(default_factory=lambda: Vocab.from_list([]))
    labels: tuple[str, ...] | None = None
    source: str = ""
    started: tuple[str, ...] = ()
    encoding: PairEncoding | None = None
    given: tuple[str, ...] = ()
    head: Checkpoint | None = None
    format: str = ""
    heads_known: bool = True
    unnamed: str = ""
    other_head: str = ""

    @property
    def is_classifier(self) -> bool:
        """Whether the checkpoint has an output layer for classes."""
        return WEIGHT in self.arrays

    @property
    def reservation(self) -> str:
        """A remark, in parentheses, that lists `given`; empty if the user gave nothing."""
        if not self.given:
            return ""
        return f" (not checked, for it was given and is in no file: {'; '.join(self.given)})"

    def description(self) -> dict[str, Any]:
        """Return sizes, class names and, if known, how pairs are truncated, ready for JSON."""
        encoding = {} if self.encoding is None else {"encoding": self.encoding.to_dict()}
        labels = None if self.labels is None else list(self.labels)
        return {"model": self.config.to_dict(), "labels": labels, **encoding}


def check_sizes(
    arrays: Mapping[str, NDArray], config: BERTConfig, file: Path, names: Mapping[str, str]
) -> None:
    """Raise CheckpointError if a description's sizes differ from those of the tensors beside it.

    Args:
        arrays: tensors by canonical name.
        config: the sizes in the description.
        file: path of the description, such as a config.json.
        names: `BERTConfig` field to its name in the description, where they differ.
    """
    try:
        sizes = asdict(infer_config(arrays, 1, DROPOUT, str(file)))
    except (CheckpointError, ConfigError):  # missing tensors are reported later
        return
    sizes["max_len"] -= config.first_position
    if config.position_buckets:  # no shape shows it
        sizes["max_len"] = config.max_len
    differ = [
        f"{names.get(name, name)} is {getattr(config, name)}, and {sizes[name]} by the tensors"
        for name in SIZES
        if sizes[name] != getattr(config, name)
    ]
    if differ:
        raise CheckpointError(
            f"{file} is not of the tensors beside it: {'; '.join(differ)}. Put the {file.name} "
            "that belongs to them in its place, or copy the folder anew from where it came from"
        )


def head_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return a classifier's output layer as a checkpoint with its tensors alone.

    It has labels only if there is a name for each class. A pretrained model, or a classifier
    without a pooler, gives None.
    """
    arrays, labels = checkpoint.arrays, checkpoint.labels
    if not checkpoint.is_classifier or "hidden.weight" not in arrays:
        return None
    if checkpoint.other_head:
        why = checkpoint.other_head
        return replace(checkpoint, arrays={}, labels=None, encoding=None, unnamed=why)
    output = {name: arrays[name] for name in (WEIGHT, BIAS) if name in arrays}
    shapes = {name: array.shape for name, array in output.items()}
    rows = shapes[WEIGHT][:1]
    if shapes[WEIGHT][1:] != arrays["hidden.weight"].shape[:1] or shapes.get(BIAS) != rows:
        raise CheckpointError(
            f"{checkpoint.source}: the output layer is incomplete: its tensors are {shapes}"
        )
    encoding = checkpoint.encoding or PairEncoding.default(checkpoint.config.max_len)
    head = replace(checkpoint, arrays=output, encoding=encoding)
    if labels is not None and (len(labels),) == rows:
        return head
    why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
    unnamed = (
        f"the checkpoint does not name its classes{why}; to go on with it, name them with "
        "`bertnli convert CHECKPOINT NEW --to bertnli --labels NAMES`, and start from NEW"
    )
    return replace(head, labels=None, unnamed=unnamed)


def output_layer(
    head: Checkpoint | None,
    labels: Sequence[str],
    new_head: bool,
    shapes: Shapes,
    seed: int,
    content: str,
) -> tuple[Mapping[str, NDArray], str, PairEncoding | None]:
    """Choose the tensors that a new classifier's output layer starts with.

    They are the checkpoint's if its classes are the same, in any order. Otherwise they are random
    start values, which depend on the seed and on the encoder's content: the encoder may have been
    trained with an output layer of the same seed, which a new one must not resemble.

    Args:
        head: the output layer of the encoder's checkpoint, see `head_of`; None if it has none.
        labels: names of the new classifier's classes, in the order of the logits.
        new_head: whether to use start values in any case.
        shapes: the names and shapes of the output layer's tensors.
        seed: seed of the start values.
        content: hash of the encoder's content; see `content_of`.

    Returns:
        The tensors by name; their origin, in words; and how the checkpoint's classifier truncates
        pairs, or None for start values.
    """
    if new_head:
        why = "as asked for"
    elif head is None:
        why = "the model comes without one"
    elif head.labels is None:
        why = head.unnamed
    else:
        names, expected = (list(map(canonical_label, side)) for side in (head.labels, labels))
        try:
            rows = label_permutation(names, expected)
        except DataError:
            old, new = ", ".join(head.labels), ", ".join(labels)
            why = f"the checkpoint's classes are {old}, and these are {new}"
        else:
            arrays = {name: array[rows] for name, array in head.arrays.items()}
            return arrays, "of the checkpoint", head.encoding
    return initial_arrays(shapes, seed, content), f"new: {why}", None


def content_names(config: BERTConfig) -> list[str]:
    """Return the names of the tensors that `content_of` hashes: small ones, changed by training."""
    shapes = encoder_shapes(config)
    return [name for name in shapes if len(shapes[name]) == 1 or name.startswith("hidden.")]


def content_of(arrays: Mapping[str, NDArray], seed: int) -> str:
    """Return the SHA-256 of an encoder's tensors, those of `content_names`, in hexadecimal.

    It is empty if the encoder is untrained: the tensors are the start values of ``seed``.
    """
    start = initial_arrays({name: array.shape for name, array in arrays.items()}, seed)
    if all(np.array_equal(arrays[name], start[name]) for name in arrays):
        return ""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()
