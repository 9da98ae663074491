"""Adam on MXNet, with updates of single rows; the average of a run's weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import device_of, mx
from bertnli.backends.mxnet.devices import as_nd
from bertnli.backends.row_moments import RowMoments
from bertnli.training.optimizer import (
    BaseWeightAverage,
    TensorRate,
    dense_moments,
    row_moments,
)

nd: Any = mx.nd

#: An mx.nd.NDArray; mxnet ships no types.
Tensor = Any

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class RowAdam(RowMoments):
    """Adam for a table (V, H), which updates only rows that have had a gradient."""

    row_indices: Tensor  # `rows` on the table's device

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, *(nd.empty(table.shape, device_of(table)) for _ in range(2)))

    def add(self, rows: NDArray[np.int64]) -> None:
        super().add(rows)
        self.row_indices = as_nd(self.rows, device_of(self.table))

    def step(self, rows: NDArray[np.int64], gradients: Tensor, num_updates: int, lr: float) -> None:
        """Update some rows of the table by their gradients.

        Args:
            rows: (U,) distinct row numbers.
            gradients: (U, H) float32.
            num_updates: the number of steps so far, this one included.
            lr: the learning rate.
        """
        new = rows[self.slots[rows] < 0]
        if len(new):
            self.add(new)
        n = len(self.rows)
        slots = as_nd(self.slots[rows][None], device_of(self.table))
        scattered = nd.scatter_nd(gradients, slots, shape=(n, self.table.shape[1]))
        weights = self.table.take(self.row_indices)
        adam_update(weights, scattered, self.m[:n], self.v[:n], num_updates, lr)
        indices, table = self.row_indices.reshape((1, -1)), self.table
        nd._internal._scatter_set_nd(table, weights, indices, shape=table.shape, out=table)


class Adam:
    """Adam with decoupled weight decay, by the formula of `torch.optim.AdamW`.

    It updates the weights on each parameter's first device, and copies them to the others.

    Args:
        named: dictionary of the name of each parameter to train to the parameter.
        table: the name of the parameter that is looked up by row.
        rates: dictionary of each name to the learning rate's factor and the weight decay.
        clip_norm: the largest norm of the gradients; see `TrainingConfig`.
    """

    def __init__(
        self, named: Mapping[str, Any], table: str, rates: dict[str, TensorRate], clip_norm: float
    ) -> None:
        self.copies = {
            name: [data.as_nd_ndarray() for data in parameter.list_data()]
            for name, parameter in named.items()
        }
        self.moments = {
            name: (nd.zeros_like(first), nd.zeros_like(first))
            for name, (first, *_) in self.copies.items()
            if name != table
        }
        self.table, self.rows = table, RowAdam(self.copies[table][0])
        self.rates, self.clip_norm = rates, clip_norm
        self.num_updates = 0

    def step(self, rows: NDArray[np.int64], gradients: Mapping[str, Tensor], lr: float) -> None:
        """Update the parameters.

        Args:
            rows: (U,) numbers of the table's rows that have a gradient, all distinct.
            gradients: the gradient of each parameter by name, which clipping changes in place; the
                table's is that of ``rows``, (U, H).
            lr: the learning rate.
        """
        self.num_updates += 1
        if self.clip_norm:
            clip(list(gradients.values()), self.clip_norm)
        for name, (weights, *others) in self.copies.items():
            rate = self.rates[name]
            tensor_lr = lr * rate.lr_factor
            if rate.weight_decay:
                decay = 1 - tensor_lr * rate.weight_decay
                nd._internal._mul_scalar(weights, scalar=decay, out=weights)
            if name == self.table:
                self.rows.step(rows, gradients[name], self.num_updates, tensor_lr)
            else:
                m, v = self.moments[name]
                adam_update(weights, gradients[name], m, v, self.num_updates, tensor_lr)
            for other in others:
                weights.copyto(other)

    def arrays(self) -> dict[str, NDArray]:
        """Return the state as arrays; `bertnli.training.optimizer` describes their names."""
        n = len(self.rows.rows)
        moments = {**self.moments, self.table: (self.rows.m[:n], self.rows.v[:n])}
        state = {"updates": np.array([self.num_updates], np.int64)}
        for name, (m, v) in moments.items():
            state[f"m/{name}"], state[f"v/{name}"] = m.asnumpy(), v.asnumpy()
        return {**state, f"rows/{self.table}": self.rows.rows}

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore a state that `arrays` returned, on any backend and device."""
        self.num_updates = int(arrays["updates"][0])
        for name, (m, v) in self.moments.items():
            m[:], v[:] = dense_moments(arrays, name, m.shape)
        self.rows.load(*row_moments(arrays, self.table))


def adam_update(w: Tensor, g: Tensor, m: Tensor, v: Tensor, num_updates: int, lr: float) -> None:
    """Update weights w and moments m and v in place with gradients g, by Adam's formula."""
    # MXNet adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - beta2^t)); scaled, it is the same.
    correction1, correction2 = 1 - BETA1**num_updates, math.sqrt(1 - BETA2**num_updates)
    rates = {"lr": lr * correction2 / correction1, "epsilon": EPSILON * correction2}
    nd.adam_update(w, g, m, v, beta1=BETA1, beta2=BETA2, out=w, **rates)


def clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale gradients in place so that the norm of all of them together is at most ``max_norm``."""
    # MXNet's own norm keeps three digits.
    squares = [nd.dot(g.reshape(-1), g.reshape(-1)) for g in gradients]
    scale = nd.minimum(max_norm / (nd.add_n(*squares).sqrt() + 1e-6), 1.0)
    for gradient in gradients:
        nd.broadcast_mul(gradient, scale.reshape((1,) * gradient.ndim), out=gradient)


class WeightAverage(BaseWeightAverage):
    """The average of parameters over the last steps, kept on their first device.

    Args:
        copies: dictionary of each parameter's name to its arrays on all devices.
    """

    def __init__(self, copies: Mapping[str, list[Tensor]]) -> None:
        self.copies = copies
        self.means: dict[str, Tensor] = {}

    def _add(self, weight: float) -> None:
        for name, (first, *_) in self.copies.items():
            if weight == 1:
                self.means[name] = first.copy()
            else:  # w - lr (wd w - g), in one pass over the memory
                mean = self.means[name]
                nd.sgd_update(mean, first, lr=weight, wd=1.0, rescale_grad=-1.0, out=mean)

    def _swap(self) -> None:
        for name, copies in self.copies.items():
            weights = copies[0].copy()
            for copy in copies:
                self.means[name].copyto(copy)
            self.means[name] = weights

    def _means(self) -> dict[str, NDArray[np.float32]]:
        return {name: mean.asnumpy() for name, mean in self.means.items()}

    def _set_means(self, means: Mapping[str, NDArray]) -> None:
        self.means = {name: as_nd(m, device_of(self.copies[name][0])) for name, m in means.items()}
