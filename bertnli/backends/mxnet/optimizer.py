"""Adam on MXNet, as PyTorch computes it, only for the rows of the token embedding in use; mean
weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd
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


class RowAdam:
    """Adam on the rows of a table that have had a gradient.

    The moments of all other rows are zero, so that Adam does not change them. This is Adam, with
    momentum on each row that was ever used, and not a lazy variant.

    Args:
        table: (V, H) float32.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.slots = np.full(len(table), -1, np.int64)  # row to place in the arrays below
        self.rows = np.empty(0, np.int64)
        self.row_indices: Tensor = None  # the same rows, on the table's device
        # Memory beyond the rows in use is never touched.
        self.m, self.v = (nd.empty(table.shape, table.ctx) for _ in range(2))

    def step(self, rows: NDArray[np.int64], gradients: Tensor, num_updates: int, lr: float) -> None:
        """Take one step.

        Args:
            rows: (U,) rows that have a gradient, each once.
            gradients: (U, H) float32.
            num_updates: steps with this one.
            lr: learning rate.
        """
        self._add(rows[self.slots[rows] < 0])
        n = len(self.rows)
        slots = as_nd(self.slots[rows][None], self.table.ctx)
        scattered = nd.scatter_nd(gradients, slots, shape=(n, self.table.shape[1]))
        weights = self.table.take(self.row_indices)
        adam_update(weights, scattered, self.m[:n], self.v[:n], num_updates, lr)
        nd._internal._scatter_set_nd(
            lhs=self.table,
            rhs=weights,
            indices=self.row_indices.reshape((1, -1)),
            shape=self.table.shape,
            out=self.table,
        )

    def arrays(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return the rows in use (n,), and their moments, (n, H) each."""
        n = len(self.rows)
        return self.rows, self.m[:n].asnumpy(), self.v[:n].asnumpy()

    def load_arrays(self, rows: NDArray, m: NDArray, v: NDArray) -> None:
        """Restore the rows and their moments that `arrays` returned."""
        self.slots[:] = -1
        self.rows = np.empty(0, np.int64)
        if len(rows):
            self._add(rows.astype(np.int64))
            self.m[: len(rows)], self.v[: len(rows)] = m, v

    def _add(self, rows: NDArray[np.int64]) -> None:
        """Give rows a place, with moments of zero."""
        if not len(rows):
            return
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.slots[rows] = np.arange(new.start, new.stop)
        self.m[new] = self.v[new] = 0
        self.rows = np.concatenate([self.rows, rows])
        self.row_indices = as_nd(self.rows, self.table.ctx)


class Adam:
    """What `torch.optim.AdamW` computes; without weight decay it is Adam.

    It works on each parameter's first device, and copies the weights to the others.

    Args:
        named: what to train, by canonical name.
        table: name of the parameter that is looked up by row.
        rates: how each is trained, by name.
        clip_norm: see `TrainingConfig`.
    """

    def __init__(
        self,
        named: Mapping[str, Any],
        table: str,
        rates: Mapping[str, TensorRate],
        clip_norm: float,
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
        """Take one step.

        Args:
            rows: (U,) rows of the table that have a gradient, each once.
            gradients: by name; the table's are those of these rows, (U, H). They may be changed.
            lr: learning rate.
        """
        self.num_updates += 1
        if self.clip_norm:
            clip(list(gradients.values()), self.clip_norm)
        for name, (weights, *others) in self.copies.items():
            rate = self.rates[name]
            own_lr = lr * rate.lr_factor
            if rate.weight_decay:
                decay = 1 - own_lr * rate.weight_decay
                nd._internal._mul_scalar(weights, scalar=decay, out=weights)
            if name == self.table:
                self.rows.step(rows, gradients[name], self.num_updates, own_lr)
            else:
                m, v = self.moments[name]
                adam_update(weights, gradients[name], m, v, self.num_updates, own_lr)
            for other in others:
                weights.copyto(other)

    def arrays(self) -> dict[str, NDArray]:
        """Return the state; see `bertnli.training.optimizer`."""
        state = {"updates": np.array([self.num_updates], np.int64)}
        for name, (m, v) in self.moments.items():
            state[f"m/{name}"], state[f"v/{name}"] = m.asnumpy(), v.asnumpy()
        name, (rows, m, v) = self.table, self.rows.arrays()
        return {**state, f"rows/{name}": rows, f"m/{name}": m, f"v/{name}": v}

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore the state that `arrays` returned on any backend and device."""
        self.num_updates = int(arrays["updates"][0])
        for name, moments in self.moments.items():
            for moment, values in zip(
                moments, dense_moments(arrays, name, moments[0].shape), strict=True
            ):
                moment[:] = values
        self.rows.load_arrays(*row_moments(arrays, self.table))


def adam_update(w: Tensor, g: Tensor, m: Tensor, v: Tensor, num_updates: int, lr: float) -> None:
    """Change weights and moments by Adam's formula, all arrays of one shape."""
    # MXNet adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - beta2^t)); scaled, it is the same.
    correction1, correction2 = 1 - BETA1**num_updates, math.sqrt(1 - BETA2**num_updates)
    nd.adam_update(
        w,
        g,
        m,
        v,
        lr=lr * correction2 / correction1,
        beta1=BETA1,
        beta2=BETA2,
        epsilon=EPSILON * correction2,
        out=w,
    )


def clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale all gradients down if their norm is larger, as `torch.nn.utils.clip_grad_norm_`."""
    # MXNet's own norm keeps three digits.
    squares = [nd.dot(g.reshape(-1), g.reshape(-1)) for g in gradients]
    scale = nd.minimum(max_norm / (nd.add_n(*squares).sqrt() + 1e-6), 1.0)
    for gradient in gradients:
        nd.broadcast_mul(gradient, scale.reshape((1,) * gradient.ndim), out=gradient)


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
                nd.sgd_update(mean, first, lr=weight, wd=1.0, rescale_grad=-1.0, out=mean)

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
