"""The mean of a run's last weights (Izmailov et al., 2018), which is evaluated and saved.

Its arrays are the same on every backend: ``averages`` (1,) int64 is the number of weights in the
mean, ``average/NAME`` a tensor's mean, float32. There are none before the first update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

COUNT, MEAN = "averages", "average/"


class BaseWeightAverage(ABC):
    """The uniform mean of a net's weights after several steps.

    A backend stores the mean beside the weights, and swaps the two to evaluate or save the mean: no
    second net is needed.

    Attributes:
        count: number of weights in the mean.
        in_use: whether the net has the mean now; see `in_place`.
    """

    count = 0
    in_use = False

    def update(self) -> None:
        """Add the present weights: ``mean += (weights - mean) / count``."""
        self.count += 1
        self._add(1 / self.count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within a ``with`` block, give the net the mean as its weights, if there is a mean."""
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
        """Make the mean, if there is one, the net's weights, and discard the others."""
        if self.count:
            self._swap()
        self.load_arrays({})

    def arrays(self) -> dict[str, NDArray]:
        """Return the arrays of the mean; they may share memory with it, and change with it."""
        if not self.count:
            return {}
        means = {MEAN + name: mean for name, mean in self._means().items()}
        return {COUNT: np.array([self.count], np.int64), **means}

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore the mean from arrays of any backend; without a mean among them, have none."""
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
        """Return the mean by canonical name."""

    @abstractmethod
    def _set_means(self, means: Mapping[str, NDArray]) -> None:
        """Set the mean by canonical name; an empty mapping removes it."""
