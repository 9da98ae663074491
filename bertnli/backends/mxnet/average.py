"""The mean of the last weights, on MXNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd
from bertnli.training.average import BaseWeightAverage


class WeightAverage(BaseWeightAverage):
    """The mean of parameters, beside them on the first device; see `BaseWeightAverage`.

    Args:
        named: the parameters by canonical name.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named = named
        self.means: dict[str, Any] = {}

    def _add(self, weight: float) -> None:
        for name, (first, *_) in self._copies():
            if weight == 1:
                self.means[name] = first.copy()
            else:  # w - lr (wd w - g), in one pass over the memory
                mean = self.means[name]
                mx.nd.sgd_update(mean, first, lr=weight, wd=1.0, rescale_grad=-1.0, out=mean)

    def _swap(self) -> None:
        for name, copies in self._copies():
            weights = copies[0].copy()
            for copy in copies:
                self.means[name].copyto(copy)
            self.means[name] = weights

    def _copies(self) -> list[tuple[str, list[Any]]]:
        return [
            (k, [data.as_nd_ndarray() for data in p.list_data()]) for k, p in self.named.items()
        ]

    def _means(self) -> dict[str, NDArray[np.float32]]:
        return {name: mean.asnumpy() for name, mean in self.means.items()}

    def _set_means(self, means: Mapping[str, NDArray]) -> None:
        self.means = {name: as_nd(m, self.named[name].list_ctx()[0]) for name, m in means.items()}
