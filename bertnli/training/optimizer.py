"""Parts of both backends' optimizers: rates of tensors, averaged weights, the state as arrays.

The arrays are the same on every backend, so that a run may begin on one and end on another:

updates                 (1,) int64, number of Adam's steps
m/NAME, v/NAME          a tensor's moments, float32; for a table that is updated by row (n, H), of
                        the n rows that ever had a gradient (other rows' moments are zero)
rows/NAME               (n,) int64, indices of these rows, in the order of their first use
averages                (1,) int64, number of weights in the mean; absent before the first
average/NAME            a tensor's mean, float32
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import TrainingConfig

Arrays = Mapping[str, NDArray]
COUNT, MEAN = "averages", "average/"
_BLOCK = re.compile(r"encoder\.blks\.(\d+)\.")
#: Biases, and the scales of layer normalisation.
_NOT_DECAYED = re.compile(r"\.bias$|(^|\.)ln\.weight$")


class TensorRate(NamedTuple):
    """The factor of a tensor's learning rate, and its weight decay; see `TrainingConfig`."""

    lr_factor: float
    weight_decay: float


def tensor_rates(
    names: Iterable[str], config: TrainingConfig, num_blks: int
) -> dict[str, TensorRate]:
    """Compute the learning-rate factor and the weight decay of each tensor.

    The learning rate decays from the heads down (Howard and Ruder, 2018, section 3.2; for
    Transformers Clark et al., 2020): the factor is 1 for the heads and the pooler, ``hidden``,
    ``layer_decay ** (B - i)`` for block i of B, and ``layer_decay ** (B + 1)`` for the embeddings
    and their layer normalisation. Weights do not decay in biases and in layer normalisation (as in
    the code of Devlin et al., 2019).

    Args:
        names: canonical names of the tensors.
        config: the run's settings.
        num_blks: number B of the encoder's blocks.
    """

    def depth(name: str) -> int:  # number of layers from the heads down
        if block := _BLOCK.match(name):
            return num_blks - int(block[1])
        return num_blks + 1 if name.startswith("encoder.") else 0

    return {
        name: TensorRate(
            config.layer_decay ** depth(name),
            0.0 if _NOT_DECAYED.search(name) else config.weight_decay,
        )
        for name in names
    }


def dense_moments(arrays: Arrays, name: str, shape: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Read a tensor's moments m and v, each of the tensor's shape, from Adam's arrays."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        return m, v
    dense_m, dense_v = np.zeros((2, *shape), np.float32)
    dense_m[rows], dense_v[rows] = m, v
    return dense_m, dense_v


def row_moments(arrays: Arrays, name: str) -> tuple[NDArray, NDArray, NDArray]:
    """Read a table's row indices (n,), and the moments m and v of these rows, (n, H) each."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        rows = np.flatnonzero((m != 0).any(axis=1) | (v != 0).any(axis=1))
        m, v = m[rows], v[rows]
    return rows, m, v


class BaseWeightAverage(ABC):
    """The uniform mean of a run's last weights (Izmailov et al., 2018), to evaluate and to save.

    A backend stores the mean beside the weights, and swaps the two to use the mean: no second net
    is needed.

    Attributes:
        count: number of weights in the mean.
        in_use: whether the net has the mean now; see `in_place`.
    """

    count = 0
    in_use = False

    def update(self) -> None:
        """Add the net's weights to the mean: ``mean += (weights - mean) / count``."""
        self.count += 1
        self._add(1 / self.count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context manager in which the mean, if there is one, replaces the net's weights."""
        if not self.count:
            yield
            return
        self._swap()
        self.in_use = True
        try:
            yield
        finally:
            self._swap()
            self.in_use = False

    def finish(self) -> None:
        """Replace the net's weights by their mean, if there is one."""
        if self.count:
            self._swap()
        self.load_arrays({})

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays of the mean; they may share memory with it, and change with it."""
        if not self.count:
            return {}
        means = {MEAN + name: mean for name, mean in self._means().items()}
        return {COUNT: np.array([self.count], np.int64), **means}

    def load_arrays(self, arrays: Arrays) -> None:
        """Restore the mean from a run's arrays, of either backend; forget it if they have none."""
        means = {n.removeprefix(MEAN): mean for n, mean in arrays.items() if n.startswith(MEAN)}
        self.count = int(arrays[COUNT][0]) if means else 0
        self._set_means(means)

    @abstractmethod
    def _add(self, weight: float) -> None:
        """Move the mean towards the weights: ``mean += weight * (weights - mean)``."""

    @abstractmethod
    def _swap(self) -> None:
        """Exchange weights and mean, on all devices."""

    @abstractmethod
    def _means(self) -> dict[str, NDArray[np.float32]]:
        """Return the mean of each tensor, by canonical name."""

    @abstractmethod
    def _set_means(self, means: Arrays) -> None:
        """Set the mean of each tensor, by canonical name; an empty dictionary removes the mean."""
