"""Comparisons: of tensors, of sets of tensors, and of training runs on two trainers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertnli.data.batches import Batch
from bertnli.errors import DataError
from bertnli.training.engine import StepResult

#: The bias of an attention's keys adds the same number to all scores of a query, and softmax takes
#: no notice of that: its gradient is exactly 0, and what a framework computes for it is rounding.
#: Adam divides a gradient by its own size, so it makes steps of up to the learning rate of that
#: noise, in any direction. The outputs do not depend on this tensor, and comparisons of weights
#: after training leave it out.
KEY_BIAS = re.compile(r"(^|\.)attention\.W_k\.bias$")


def is_key_bias(name: str) -> bool:
    """Return whether a tensor, by its name, is the bias of an attention's keys; see `KEY_BIAS`."""
    return KEY_BIAS.search(name) is not None


def max_abs_difference(a: ArrayLike, b: ArrayLike) -> float:
    """Return the largest absolute difference of two arrays' elements; 0 for empty arrays.

    A NaN in either array gives NaN, which is below no tolerance.

    Raises:
        DataError: the shapes differ.
    """
    ours, theirs = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if ours.shape != theirs.shape:
        raise DataError(f"shapes {ours.shape} and {theirs.shape} cannot be compared")
    return float(np.abs(ours - theirs).max(initial=0.0))


def relative_difference(a: ArrayLike, b: ArrayLike) -> float:
    """Return the largest absolute difference, as a fraction of the second array's largest element.

    Where the second array is all zeros it is 0 if the first is too, else infinite.
    """
    difference = max_abs_difference(a, b)
    largest = float(np.abs(np.asarray(b, np.float64)).max(initial=0.0))
    if largest == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return difference / largest


@dataclass(frozen=True)
class Difference:
    """How far one tensor of one set is from the same tensor of another.

    Args:
        name: of the tensor.
        shape: of the tensor.
        absolute: see `max_abs_difference`.
        relative: see `relative_difference`.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


def compare_arrays(ours: Mapping[str, NDArray], theirs: Mapping[str, NDArray]) -> list[Difference]:
    """Return one row for each tensor, in the first set's order.

    Raises:
        DataError: the sets have other names or shapes; the message names the tensors.
    """
    unpaired = sorted(set(ours) ^ set(theirs))
    if unpaired:
        raise DataError(f"only one of the two sets has the tensors {', '.join(unpaired)}")
    rows = []
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            raise DataError(
                f"{name} is {array.shape} in one set, {theirs[name].shape} in the other"
            )
        other = theirs[name]
        rows.append(
            Difference(
                name,
                array.shape,
                max_abs_difference(array, other),
                relative_difference(array, other),
            )
        )
    return rows


@dataclass(frozen=True)
class StepDifference:
    """One training step on two trainers: each one's mean loss, before the update."""

    step: int
    our_loss: float
    their_loss: float

    @property
    def absolute(self) -> float:
        """How far the two losses are apart."""
        return abs(self.our_loss - self.their_loss)


class TakesSteps(Protocol):
    """The part of a trainer that `run_both` uses."""

    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take one step; return what the batch gave before it."""


def run_both(
    ours: TakesSteps, theirs: TakesSteps, batches: Iterable[Batch], lr: float, seed: int = 0
) -> list[StepDifference]:
    """Take the same training steps on two trainers; return the losses of each step.

    Dropout is drawn by each framework in its own way: the losses are only comparable at dropout 0.

    Args:
        ours, theirs: trainers whose nets hold the same weights.
        batches: one batch for each step.
        lr: learning rate of every step.
        seed: of the first step's dropout; each further step's is one more.
    """
    rows = []
    for step, batch in enumerate(batches):
        our_sum, _ = ours.train_step(batch, lr, seed + step).read()
        their_sum, _ = theirs.train_step(batch, lr, seed + step).read()
        rows.append(StepDifference(step, our_sum / len(batch), their_sum / len(batch)))
    return rows
