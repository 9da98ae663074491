"""The mean of the last weights, on PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertnli.training.average import BaseWeightAverage


class WeightAverage(BaseWeightAverage):
    """The mean of parameters, beside them on their device; see `BaseWeightAverage`.

    Args:
        named: the parameters by canonical name.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = named
        self.means: dict[str, Tensor] = {}

    def _add(self, weight: float) -> None:
        for name, parameter in self.named.items():
            if weight == 1:
                self.means[name] = parameter.data.clone()
            else:
                self.means[name].lerp_(parameter.data, weight)

    def _swap(self) -> None:
        for name, parameter in self.named.items():
            weights = parameter.data.clone()
            parameter.data.copy_(self.means[name])
            self.means[name] = weights

    def _means(self) -> dict[str, NDArray[np.float32]]:
        return {name: mean.cpu().numpy() for name, mean in self.means.items()}

    def _set_means(self, means: Mapping[str, NDArray]) -> None:
        self.means = {
            name: torch.tensor(m, device=self.named[name].device) for name, m in means.items()
        }
