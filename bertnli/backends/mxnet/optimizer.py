"""Adam on MXNet: gluon's, made to compute PyTorch's, and for a table of which batches use few rows,
the same numbers with less work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd
from bertnli.training.moments import dense_moments, row_moments
from bertnli.training.recipe import TensorRate

nd: Any = mx.nd

#: An mx.nd.NDArray; mxnet ships no types.
Tensor = Any

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class RowAdam:
    """Adam on those rows of a table that have had a gradient.

    The moments of all others are zero, and Adam leaves them where they are: what is computed is
    Adam, with momentum on each row that was ever used, and not a lazy variant of it.

    Args:
        tables: (V, H) float32, the same on each device.
    """

    def __init__(self, tables: Sequence[Tensor]) -> None:
        self.tables = tables
        table = tables[0]
        self.slots = np.full(len(table), -1, np.int64)  # row to place in the lists below
        self.rows = np.empty(0, np.int32)
        self.indices: list[Tensor] = []  # the rows, on each device
        # Places beyond the rows in use are not touched, and take no memory.
        self.m, self.v = (nd.empty(table.shape, table.ctx) for _ in range(2))
        self.num_updates = 0

    def step(
        self, rows: NDArray[np.int64], gradients: Tensor, lr: float, weight_decay: float = 0.0
    ) -> None:
        """Take one step.

        Args:
            rows: (U,) rows that have a gradient, each once.
            gradients: (U, H) float32, on the first device.
            lr: learning rate.
            weight_decay: of all rows, also of those that never had a gradient, as in AdamW; one
                pass over the table costs little beside a step.
        """
        if weight_decay:
            for table in self.tables:
                nd._internal._mul_scalar(table, scalar=1 - lr * weight_decay, out=table)
        self._add(rows[self.slots[rows] < 0])
        table = self.tables[0]
        n = len(self.rows)
        slots = as_nd(self.slots[rows][None], table.ctx)
        scattered = nd.scatter_nd(gradients, slots, shape=(n, table.shape[1]))
        weights = table.take(self.indices[0])
        self.num_updates += 1
        correction1 = 1 - BETA1**self.num_updates
        correction2 = math.sqrt(1 - BETA2**self.num_updates)
        nd.adam_update(
            weights,
            scattered,
            self.m[:n],
            self.v[:n],
            lr=lr * correction2 / correction1,
            beta1=BETA1,
            beta2=BETA2,
            epsilon=EPSILON * correction2,
            out=weights,
        )
        for table, indices in zip(self.tables, self.indices, strict=True):
            values = weights.as_in_context(table.ctx)
            nd._internal._scatter_set_nd(
                lhs=table,
                rhs=values,
                indices=indices.reshape((1, -1)),
                shape=table.shape,
                out=table,
            )

    def arrays(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return the rows that are followed (n,), and their moments, (n, H) each."""
        n = len(self.rows)
        return self.rows.astype(np.int64), self.m[:n].asnumpy(), self.v[:n].asnumpy()

    def load_arrays(self, rows: NDArray, m: NDArray, v: NDArray, num_updates: int) -> None:
        """Take what `arrays` returned, after so many steps."""
        self.slots[:] = -1
        self.rows = np.empty(0, np.int32)
        self._add(rows.astype(np.int64))
        if len(rows):
            self.m[: len(rows)], self.v[: len(rows)] = m, v
        self.num_updates = num_updates

    def _add(self, rows: NDArray[np.int64]) -> None:
        """Begin to follow some rows."""
        if not len(rows):
            return
        self.slots[rows] = len(self.rows) + np.arange(len(rows))
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.m[new] = self.v[new] = 0
        self.rows = np.concatenate([self.rows, rows.astype(np.int32)])
        self.indices = [as_nd(self.rows, table.ctx) for table in self.tables]


class FactorAdam(mx.optimizer.Adam):
    """Adam whose learning rate is multiplied by a factor of each parameter's own.

    A parameter's ``lr_mult`` would stay with the net, whoever trains it next.

    Args:
        factors: in the parameters' order.
    """

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__(beta1=BETA1, beta2=BETA2)
        self.factors = factors

    def _get_lr(self, index: int) -> float:
        return super()._get_lr(index) * self.factors[index]


class Adam:
    """What `torch.optim.AdamW` computes.

    Without weight decay it is Adam (Loshchilov and Hutter, 2019).

    Args:
        parameters: what to train, without the table.
        table: a parameter that is looked up by row.
        devices: where they are.
        rates: how each is trained, and at last the table.
        clip_norm: see `TrainingConfig`.
    """

    def __init__(
        self,
        parameters: Sequence[Any],
        table: Any,
        devices: Sequence[Any],
        rates: Sequence[TensorRate],
        clip_norm: float,
    ) -> None:
        *self.rates, self.table_rate = rates
        self.optimizer = FactorAdam([rate.lr_factor for rate in self.rates])
        self.trainer = mx.gluon.Trainer(parameters, self.optimizer, update_on_kvstore=False)
        self.table = RowAdam([table.data(device).as_nd_ndarray() for device in devices])
        self.clip_norm = clip_norm
        self.num_updates = 0

    def step(self, batch_size: int, rows: NDArray[np.int64], gradients: Tensor, lr: float) -> None:
        """Take one step on the parameters' gradients, and on those of some of the table's rows.

        Args:
            batch_size: what all gradients are divided by.
            rows: (U,) rows of the table, each once.
            gradients: (U, H) of these rows, an mx.np array.
            lr: learning rate.
        """
        # gluon adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - beta2^t)); scaled, it is the same.
        self.num_updates += 1
        self.optimizer.epsilon = EPSILON * math.sqrt(1 - BETA2**self.num_updates)
        self.trainer.set_learning_rate(lr)
        self.trainer.allreduce_grads()
        gradients = gradients.as_nd_ndarray() / batch_size
        if self.clip_norm:
            self._clip(batch_size, gradients)
        self._decay(lr)
        # All have a gradient of this step, and one that has not must not be passed over in silence.
        self.trainer.update(batch_size, ignore_stale_grad=False)
        rate = self.table_rate
        self.table.step(rows, gradients, lr * rate.lr_factor, rate.weight_decay)

    def _clip(self, batch_size: int, gradients: Tensor) -> None:
        """Scale all gradients down, where their norm is too large.

        Args:
            batch_size: what those of the parameters are yet to be divided by.
            gradients: (U, H) those of the table's rows.
        """
        own = [[g.as_nd_ndarray() for g in p.list_grad()] for p in self.trainer._params]
        squares = [_square(copies[0]) / batch_size**2 for copies in own] + [_square(gradients)]
        # As torch.nn.utils.clip_grad_norm_.
        scale = nd.minimum(self.clip_norm / (nd.add_n(*squares).sqrt() + 1e-6), 1.0)
        for gradient in (gradients, *(copy for copies in own for copy in copies)):
            factor = scale.as_in_context(gradient.ctx).reshape((1,) * gradient.ndim)
            nd.broadcast_mul(gradient, factor, out=gradient)

    def _decay(self, lr: float) -> None:
        """Make the parameters' weights smaller, as AdamW does before its step."""
        for parameter, rate in zip(self.trainer._params, self.rates, strict=True):
            if rate.weight_decay:
                factor = 1 - lr * rate.lr_factor * rate.weight_decay
                for data in parameter.list_data():
                    weights = data.as_nd_ndarray()
                    nd._internal._mul_scalar(weights, scalar=factor, out=weights)

    def arrays(self, names: Sequence[str], table_name: str) -> dict[str, NDArray]:
        """Return the state; see `bertnli.training.moments`.

        Args:
            names: what the arrays of the parameters shall be called, in their order.
            table_name: and that of the table.
        """
        found: dict[str, NDArray] = {"updates": np.array([self.num_updates], np.int64)}
        states = self.trainer._updaters[0].states
        for i, (name, parameter) in enumerate(zip(names, self.trainer._params, strict=True)):
            zeros = np.zeros(parameter.shape, np.float32)
            moments = (part.asnumpy() for part in states[i]) if i in states else (zeros, zeros)
            found[f"m/{name}"], found[f"v/{name}"] = moments
        rows, m, v = self.table.arrays()
        return {**found, f"rows/{table_name}": rows, f"m/{table_name}": m, f"v/{table_name}": v}

    def load_arrays(
        self, names: Sequence[str], table_name: str, arrays: Mapping[str, NDArray]
    ) -> None:
        """Take what `arrays` returned, on whatever backend and device."""
        self.num_updates = n = int(arrays["updates"][0])
        self.optimizer.num_update = n
        for updater, device in zip(self.trainer._updaters, self.trainer._contexts, strict=True):
            self.optimizer._set_current_context(device.device_id)
            for i, (name, parameter) in enumerate(zip(names, self.trainer._params, strict=True)):
                moments = dense_moments(arrays, name, parameter.shape)
                updater.states[i] = tuple(as_nd(np.array(part), device) for part in moments)
                updater.states_synced[i] = True
                self.optimizer._index_update_count[i] = n
        self.table.load_arrays(*row_moments(arrays, table_name), n)


def _square(x: Tensor) -> Tensor:
    """Return the sum of the elements' squares, (1,). MXNet's own norm keeps three digits."""
    flat = x.reshape(-1)
    return nd.dot(flat, flat)
