"""Adam on PyTorch, on a CPU only for the rows of the token embedding in use; mean weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adam import adam

from bertnli.training.optimizer import (
    BaseWeightAverage,
    TensorRate,
    dense_moments,
    row_moments,
)

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

#: Rows of a table that are updated together, in a processor's cache.
_BLOCK = 4096


class RowAdam:
    """Adam on the rows of a table that have had a gradient.

    The moments of all other rows are zero, so that Adam does not change them. This is Adam, with
    momentum on each row that was ever used, and not a lazy variant.

    Args:
        table: (V, H) float32, on the CPU.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.slots = np.full(len(table), -1, np.int64)  # row to place in the arrays below
        self.rows = np.empty(0, np.int64)
        # Memory beyond the rows in use is never touched.
        self.m, self.v = (torch.empty(table.shape, dtype=torch.float32) for _ in range(2))

    def step(self, rows: NDArray[np.int64], gradients: Tensor, num_updates: int, lr: float) -> None:
        """Take one step.

        Args:
            rows: (N,) rows that have a gradient, in any order; the gradients of a row that is there
                several times are added up.
            gradients: (N, H) float32.
            num_updates: steps with this one.
            lr: learning rate.
        """
        self._add(np.unique(rows[self.slots[rows] < 0]))
        slots = self.slots[rows]
        order = np.argsort(slots, kind="stable")
        starts = np.arange(0, len(self.rows), _BLOCK)
        bounds = np.append(np.searchsorted(slots[order], starts), len(slots))
        for start, low, high in zip(starts.tolist(), bounds[:-1], bounds[1:], strict=True):
            block = slice(start, start + _BLOCK)
            in_block, used = order[low:high], torch.from_numpy(self.rows[block])
            g = torch.zeros(len(used), self.table.shape[1], dtype=torch.float32)
            places = torch.from_numpy(slots[in_block] - start)
            g.index_add_(0, places, gradients[torch.from_numpy(in_block)])
            w = self.table.index_select(0, used)
            adam(
                [w],
                [g],
                [self.m[block][: len(used)]],
                [self.v[block][: len(used)]],
                [],
                [torch.tensor(num_updates - 1, dtype=torch.float32)],
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=lr,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )
            self.table.index_copy_(0, used, w)

    def arrays(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return the rows in use (n,), and their moments, (n, H) each."""
        n = len(self.rows)
        return self.rows, self.m[:n].numpy(), self.v[:n].numpy()

    def load_arrays(self, rows: NDArray, m: NDArray, v: NDArray) -> None:
        """Restore the rows and their moments that `arrays` returned."""
        self.slots[:] = -1
        self.rows = np.empty(0, np.int64)
        self._add(rows.astype(np.int64))
        self.m[: len(rows)], self.v[: len(rows)] = torch.from_numpy(m), torch.from_numpy(v)

    def _add(self, rows: NDArray[np.int64]) -> None:
        """Give rows a place, with moments of zero."""
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.slots[rows] = np.arange(new.start, new.stop)
        self.m[new] = self.v[new] = 0
        self.rows = np.concatenate([self.rows, rows])


class Adam:
    """`torch.optim.AdamW`; without weight decay it is Adam.

    Args:
        named: what to train, by canonical name.
        table: name of a parameter that is looked up by row, and may have a sparse gradient; None
            for no such parameter.
        rates: how each is trained, by name.
        clip_norm: see `TrainingConfig`.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        table: str | None,
        rates: Mapping[str, TensorRate],
        clip_norm: float,
    ) -> None:
        self.dense = {name: parameter for name, parameter in named.items() if name != table}
        self.tables = {} if table is None else {table: named[table]}
        self.rows = {name: RowAdam(parameter.data) for name, parameter in self.tables.items()}
        groups: dict[TensorRate, list[nn.Parameter]] = {}
        for name, parameter in self.dense.items():
            groups.setdefault(rates[name], []).append(parameter)
        self.adam = torch.optim.AdamW(
            [{"params": members, **rate._asdict()} for rate, members in groups.items()],
            betas=(BETA1, BETA2),
            eps=EPSILON,
            fused=True,
        )
        self.rates, self.clip_norm = rates, clip_norm
        self.num_updates = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step on the parameters' gradients.

        Args:
            lr: learning rate.
        """
        self.num_updates += 1
        gradients = [p.grad for p in self.dense.values() if p.grad is not None]
        for parameter in self.tables.values():
            assert parameter.grad is not None
            if not parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_sparse(1)
            if self.clip_norm:  # the norm is that of a row's sum
                parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad._values())
        if self.clip_norm:
            clip(gradients, self.clip_norm)
        for group in self.adam.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.adam.step()
        for name, parameter in self.tables.items():
            rate, gradient = self.rates[name], parameter.grad
            assert gradient is not None
            if rate.weight_decay:
                parameter.mul_(1 - lr * rate.lr_factor * rate.weight_decay)
            rows = gradient._indices()[0].numpy()
            self.rows[name].step(rows, gradient._values(), self.num_updates, lr * rate.lr_factor)

    def arrays(self) -> dict[str, NDArray]:
        """Return the state; see `bertnli.training.optimizer`."""
        state = {"updates": np.array([self.num_updates], np.int64)}
        for name, parameter in self.dense.items():
            for key, moment in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                # Before the first step there is none.
                tensor = self.adam.state[parameter].get(moment, torch.zeros_like(parameter))
                state[f"{key}/{name}"] = tensor.detach().cpu().numpy()
        for name, rows in self.rows.items():
            for key, array in zip(("rows", "m", "v"), rows.arrays(), strict=True):
                state[f"{key}/{name}"] = array
        return state

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore the state that `arrays` returned on any backend and device."""
        self.num_updates = int(arrays["updates"][0])
        for name, parameter in self.dense.items():
            m, v = dense_moments(arrays, name, tuple(parameter.shape))
            device = parameter.device  # where the fused kernel wants all of them
            self.adam.state[parameter] = {
                "step": torch.tensor(self.num_updates, dtype=torch.float32, device=device),
                "exp_avg": torch.tensor(m, device=device),
                "exp_avg_sq": torch.tensor(v, device=device),
            }
        for name, rows in self.rows.items():
            rows.load_arrays(*row_moments(arrays, name))


def clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale all gradients down if their norm is larger, as `torch.nn.utils.clip_grad_norm_`."""
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    scale = (max_norm / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)


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
