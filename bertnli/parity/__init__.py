"""Comparisons of tensors and training runs, and the referee, BERT in float64 NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertnli.bert.referee import RefereeOutput, adam_step, forward, gradients, losses
from bertnli.data.batches import Batch
from bertnli.errors import DataError

__all__ = [
    "Difference",
    "RefereeOutput",
    "StepDifference",
    "adam_step",
    "compare_arrays",
    "forward",
    "gradients",
    "is_key_bias",
    "losses",
    "max_abs_difference",
    "relative_difference",
    "run_both",
]


def is_key_bias(name: str) -> bool:
    """Return whether a tensor is the bias of an attention's keys, by its name.

    It adds the same number to all scores of a query, which softmax does not see. So its gradient is
    0 in theory and rounding in practice, which Adam turns into steps of up to the learning rate.
    Comparisons of weights after training leave it out; the outputs do not depend on it.

    Examples:
        >>> is_key_bias("encoder.blks.0.attention.W_k.bias")
        True
    """
    return f".{name}".endswith(".attention.W_k.bias")


def max_abs_difference(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the largest absolute difference of two arrays' elements; 0 for empty arrays.

    A NaN in either array gives NaN, which is below no tolerance.

    Raises:
        DataError: the shapes differ.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise DataError(f"shapes {first.shape} and {second.shape} cannot be compared")
    return float(np.abs(first - second).max(initial=0.0))


def relative_difference(a: ArrayLike, b: ArrayLike) -> float:
    """Divide the largest absolute difference of two arrays by the second's largest element.

    If the second array is all zeros, the result is 0 if the first is too, else infinite.
    """
    difference, largest = max_abs_difference(a, b), max_abs_difference(b, np.zeros(np.shape(b)))
    if largest == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return difference / largest


@dataclass(frozen=True)
class Difference:
    """The difference of two tensors of one name.

    Args:
        name, shape: the name and shape of both tensors.
        absolute, relative: see `max_abs_difference` and `relative_difference`.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


def compare_arrays(first: Mapping[str, NDArray], second: Mapping[str, NDArray]) -> list[Difference]:
    """Compare two sets of named tensors; return a `Difference` for each name, in the first's order.

    Raises:
        DataError: the names or the shapes in the two sets differ; the message names the tensors.
    """
    unpaired = sorted(set(first) ^ set(second))
    if unpaired:
        raise DataError(f"only one of the two sets has the tensors {', '.join(unpaired)}")
    rows = []
    for name, array in first.items():
        other = second[name]
        if array.shape != other.shape:
            raise DataError(f"{name} is {array.shape} in one set, {other.shape} in the other")
        differences = max_abs_difference(array, other), relative_difference(array, other)
        rows.append(Difference(name, array.shape, *differences))
    return rows


@dataclass(frozen=True)
class StepDifference:
    """The mean losses of two trainers in one training step, before the update, in nats."""

    step: int
    our_loss: float
    their_loss: float

    @property
    def absolute(self) -> float:
        """The absolute difference of the two losses."""
        return abs(self.our_loss - self.their_loss)


def run_both(
    ours: Any, theirs: Any, batches: Iterable[Batch], lr: float, seed: int = 0
) -> list[StepDifference]:
    """Take the same training steps on two trainers; return the losses of each step.

    Each framework draws dropout in its own way, so the losses agree only without dropout.

    Args:
        ours, theirs: trainers whose nets hold the same weights.
        batches: the batch of each step.
        lr: the learning rate of every step.
        seed: the first step's dropout seed, which grows by 1 in each step.
    """
    rows = []
    for step, batch in enumerate(batches):
        sums = [trainer.train_step(batch, lr, seed + step).read()[0] for trainer in (ours, theirs)]
        rows.append(StepDifference(step, sums[0] / len(batch), sums[1] / len(batch)))
    return rows


def __dir__() -> list[str]:
    return __all__
