"""The output layer of a classifier: a checkpoint's, or a new one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.labels import canonical_label, label_permutation
from bertnli.bert.parameters import Shapes, encoder_shapes, initial_arrays
from bertnli.errors import DataError
from bertnli.text.pairs import PairEncoding


@dataclass(frozen=True)
class Head:
    """The output layer of a classifier's checkpoint.

    Args:
        arrays: ``output.weight`` (labels, H) and ``output.bias`` (labels,).
        labels: the classes' names in the order of its rows; None where they are not known.
        encoding: how the classifier's pairs are cut to length.
        unnamed: why they are not known.
    """

    arrays: Mapping[str, NDArray]
    labels: tuple[str, ...] | None
    encoding: PairEncoding | None
    unnamed: str = ""

    def in_order(self, labels: Sequence[str]) -> dict[str, NDArray]:
        """Return the tensors with a row for each class, in another order of the classes.

        Raises:
            DataError: these are not its classes, and why.
        """
        if self.labels is None:
            raise DataError(self.unnamed)
        try:
            rows = label_permutation(
                [canonical_label(name) for name in self.labels],
                [canonical_label(name) for name in labels],
            )
        except DataError:
            raise DataError(
                f"the checkpoint's classes are {', '.join(self.labels)}, and these are "
                f"{', '.join(labels)}"
            ) from None
        return {name: array[rows] for name, array in self.arrays.items()}


@dataclass(frozen=True)
class OutputLayer:
    """What a classifier's output layer starts with.

    Args:
        arrays: its tensors.
        origin: where they come from, in words.
        encoding: how the checkpoint's classifier cuts pairs to length; None of a new layer.
    """

    arrays: Mapping[str, NDArray]
    origin: str
    encoding: PairEncoding | None = None


def output_layer(
    head: Head | None,
    labels: Sequence[str],
    new_head: bool,
    shapes: Shapes,
    seed: int,
    content: str,
) -> OutputLayer:
    """Return the output layer that a classifier starts with.

    A checkpoint's where it has these classes, in whatever order. The start values of a new one
    depend on the seed and on the model's content: its encoder may have been trained with a head of
    the same seed, which a new one must not resemble by luck.

    Args:
        head: of the checkpoint that the model comes from, if that has one.
        labels: the names of the classes, in the order of the logits.
        new_head: take a new one in any case.
        shapes: of its tensors.
        seed: of a new one.
        content: of the model; see `content_of`.
    """
    if new_head:
        why = "as asked for"
    elif head is None:
        why = "the model comes without one"
    else:
        try:
            return OutputLayer(head.in_order(labels), "of the checkpoint", head.encoding)
        except DataError as error:
            why = str(error)
    return OutputLayer(initial_arrays(shapes, seed, content), f"new: {why}")


def content_names(config: BERTConfig) -> list[str]:
    """Return the tensors that stand for a model's content: small ones that any training changes."""
    shapes = encoder_shapes(config)
    return [name for name in shapes if len(shapes[name]) == 1 or name.startswith("hidden.")]


def content_of(arrays: Mapping[str, NDArray], seed: int) -> str:
    """Return a digest of a model's content, hexadecimal; none where nothing was trained.

    Args:
        arrays: its tensors of `content_names`.
        seed: of the start values that they had.
    """
    start = initial_arrays({name: array.shape for name, array in arrays.items()}, seed)
    if all(np.array_equal(arrays[name], start[name]) for name in arrays):
        return ""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()
