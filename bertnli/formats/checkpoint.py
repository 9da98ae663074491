"""The record of what a checkpoint holds, whichever format it has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import infer_config
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.head import Head
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

#: Sizes that the shapes of tensors tell.
SIZES = ("vocab_size", "num_hiddens", "ffn_num_hiddens", "num_blks", "max_len")
#: The tensors of a classifier's output layer.
WEIGHT, BIAS = "output.weight", "output.bias"
#: Dropout of the book's and of GluonNLP's models.
DROPOUT = 0.1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        arrays: canonical name to tensor.
        config: the sizes.
        vocab: the vocabulary; an empty one where none was read.
        labels: the classes' names in the order of the logits; None of a pretrained model, and
            where the files do not name the classes.
        source: the folder or file, for messages.
        started: the tensors that the files lack, which have start values.
        encoding: how a classifier's pairs are cut to length; None of a pretrained model, and where
            the files do not tell.
        given: what the user said and the files do not, so that nothing can check it.
        head: the output layer of a classifier, also where it is loaded as a pretrained model.
        format: in words.
        heads_known: whether the files tell the number of attention heads; if not, it is 1.
        unnamed: why the classes have no names, if it is worth saying.
        other_head: why the output layer is not one of classes; empty if it is.
    """

    arrays: Mapping[str, NDArray]
    config: BERTConfig
    vocab: Vocab = field(default_factory=lambda: Vocab.from_list([]))
    labels: tuple[str, ...] | None = None
    source: str = ""
    started: tuple[str, ...] = ()
    encoding: PairEncoding | None = None
    given: tuple[str, ...] = ()
    head: Head | None = None
    format: str = ""
    heads_known: bool = True
    unnamed: str = ""
    other_head: str = ""

    @property
    def is_classifier(self) -> bool:
        """Whether it has an output layer for classes."""
        return WEIGHT in self.arrays

    @property
    def reservation(self) -> str:
        """What a comparison of numbers does not cover, for the line that shows it."""
        if not self.given:
            return ""
        return f" (not checked, for it was given and is in no file: {'; '.join(self.given)})"


def check_sizes(
    arrays: Mapping[str, NDArray], config: BERTConfig, file: Path, names: Mapping[str, str]
) -> None:
    """Raise CheckpointError where a file describes other sizes than the tensors beside it have.

    Args:
        arrays: canonical name to tensor.
        config: the sizes that the file describes.
        file: its path.
        names: our names of sizes to the file's, where they differ.
    """
    blocks = {name.split(".")[2] for name in arrays if name.startswith("encoder.blks.")}
    sizes = {"num_blks": len(blocks)}
    with suppress(CheckpointError, ConfigError):  # missing tensors are reported later
        sizes |= infer_config(arrays, 1, DROPOUT, str(file)).to_dict()
    differ = [
        f"{names.get(name, name)} is {getattr(config, name)}, and {sizes[name]} by the tensors"
        for name in SIZES
        if sizes.get(name, getattr(config, name)) != getattr(config, name)
    ]
    if differ:
        raise CheckpointError(
            f"{file} is not of the tensors beside it: {'; '.join(differ)}. Put the {file.name} "
            "that belongs to them in its place, or copy the folder anew from where it came from"
        )


def head_of(checkpoint: Checkpoint) -> Head | None:
    """Return the output layer of a classifier; None of a pretrained model, or without a pooler.

    Raises:
        CheckpointError: a tensor of it is missing, or has another shape.
    """
    arrays = checkpoint.arrays
    if not checkpoint.is_classifier or "hidden.weight" not in arrays:
        return None
    if checkpoint.other_head:
        return Head({}, None, None, checkpoint.other_head)
    output = {name: arrays[name] for name in (WEIGHT, BIAS) if name in arrays}
    shapes = {name: array.shape for name, array in output.items()}
    rows = shapes[WEIGHT][:1]
    if shapes[WEIGHT][1:] != arrays["hidden.weight"].shape[:1] or shapes.get(BIAS) != rows:
        raise CheckpointError(
            f"{checkpoint.source}: the output layer is incomplete: its tensors are {shapes}"
        )
    labels, unnamed = checkpoint.labels, ""
    if labels is None or (len(labels),) != rows:
        why = f" ({checkpoint.unnamed})" if checkpoint.unnamed else ""
        labels, unnamed = (
            None,
            (
                f"the checkpoint does not name its classes{why}; to go on with it, name them with "
                "`bertnli convert CHECKPOINT NEW --to bertnli --labels NAMES`, and start from NEW"
            ),
        )
    encoding = checkpoint.encoding or PairEncoding.default(checkpoint.config.max_len)
    return Head(output, labels, encoding, unnamed)
