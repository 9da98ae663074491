"""The mean of a run's last weights (Izmailov et al., 2018), which is evaluated and saved.

As arrays, the same on every backend and device: ``averages`` (1,) int64 counts the weights that it
is the mean of, and ``average/NAME`` is a tensor's mean, float32; there is nothing before the first.
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

    A backend adds where it is kept, beside the weights. It changes places with them to be evaluated
    or saved: training never sees it, and no second net is needed.

    Attributes:
        count: of how many weights; 0 before the first.
    """

    count = 0

    def update(self) -> None:
        """Take in the weights as they are: ``mean += (weights - mean) / count``."""
        self.count += 1
        self._add(1 / self.count)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the net have the mean, if there is one, for a while."""
        if self.count:
            self._swap()
        try:
            yield
        finally:
            if self.count:
                self._swap()

    def finish(self) -> None:
        """Leave the net the mean, if there is one, and forget what it had before."""
        if self.count:
            self._swap()
        self.load_arrays({})

    def arrays(self) -> dict[str, NDArray]:
        """Return the mean under canonical names; nothing if there is none.

        The arrays may share memory with it, and change with the next step.
        """
        if not self.count:
            return {}
        means = {MEAN + name: mean for name, mean in self._means().items()}
        return {COUNT: np.array([self.count], np.int64), **means}

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Take what `arrays` returned, on whatever backend and device; other names do not count."""
        found = {
            name.removeprefix(MEAN): array
            for name, array in arrays.items()
            if name.startswith(MEAN)
        }
        self.count = int(arrays[COUNT][0]) if found else 0
        self._set_means(found)

    @abstractmethod
    def _add(self, weight: float) -> None:
        """Move the mean so far towards the weights; all the way if the weight is 1."""

    @abstractmethod
    def _swap(self) -> None:
        """Exchange weights and mean, on all devices."""

    @abstractmethod
    def _means(self) -> dict[str, NDArray[np.float32]]:
        """Return the mean by canonical name."""

    @abstractmethod
    def _set_means(self, means: Mapping[str, NDArray]) -> None:
        """Take a mean by canonical name; nothing for none."""
