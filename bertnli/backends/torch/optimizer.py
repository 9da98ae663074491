"""Adam on PyTorch, with updates of single rows on a CPU; the average of a run's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adam import adam

from bertnli.backends.row_moments import RowMoments
from bertnli.training.optimizer import (
    BaseWeightAverage,
    TensorRate,
    dense_moments,
    row_moments,
)

#: Parameters by name.
Parameters = Mapping[str, nn.Parameter]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
#: Settings of PyTorch's function `adam`.
_ADAM: Any = {"fused": True, "amsgrad": False, "maximize": False, "weight_decay": 0.0}
_ADAM |= {"beta1": BETA1, "beta2": BETA2, "eps": EPSILON}
#: Rows of a table that are updated together, in a processor's cache.
_BLOCK = 4096


class RowAdam(RowMoments):
    """Adam for a table (V, H) on the CPU, which updates only rows that have had a gradient."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, *(torch.empty(table.shape, dtype=torch.float32) for _ in range(2)))

    def step(self, rows: NDArray[np.int64], gradients: Tensor, num_updates: int, lr: float) -> None:
        """Update some rows of the table by their gradients.

        Args:
            rows: (N,) row numbers; the gradients of a row that occurs several times are added.
            gradients: (N, H) float32.
            num_updates: the number of steps so far, this one included.
            lr: the learning rate.
        """
        self.add(np.unique(rows[self.slots[rows] < 0]))
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
            m, v = self.m[block][: len(used)], self.v[block][: len(used)]
            step = torch.tensor(num_updates - 1, dtype=torch.float32)
            adam([w], [g], [m], [v], [], [step], lr=lr, **_ADAM)
            self.table.index_copy_(0, used, w)


class Adam:
    """`torch.optim.AdamW`, which without weight decay is Adam.

    Args:
        named: the parameters to train, by name.
        table: the name of a parameter that is looked up by row, and may have a sparse gradient;
            None if there is none.
        rates: the learning rate's factor and the weight decay of each parameter, by name.
        clip_norm: the largest norm of the gradients; see `TrainingConfig`.
    """

    def __init__(
        self, named: Parameters, table: str | None, rates: dict[str, TensorRate], clip_norm: float
    ) -> None:
        self.dense = {name: parameter for name, parameter in named.items() if name != table}
        self.tables = {} if table is None else {table: named[table]}
        self.rows = {name: RowAdam(parameter.data) for name, parameter in self.tables.items()}
        groups: dict[TensorRate, list[nn.Parameter]] = {}
        for name, parameter in self.dense.items():
            groups.setdefault(rates[name], []).append(parameter)
        members = [{"params": group, **rate._asdict()} for rate, group in groups.items()]
        self.adam = torch.optim.AdamW(members, betas=(BETA1, BETA2), eps=EPSILON, fused=True)
        self.rates, self.clip_norm = rates, clip_norm
        self.num_updates = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the parameters by their gradients with the learning rate ``lr``."""
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
        """Return the state as arrays; `bertnli.training.optimizer` describes their names."""
        state = {"updates": np.array([self.num_updates], np.int64)}
        for name, parameter in self.dense.items():
            for key, moment in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                # Before the first step there is none.
                tensor = self.adam.state[parameter].get(moment, torch.zeros_like(parameter))
                state[f"{key}/{name}"] = tensor.detach().cpu().numpy()
        for name, used in self.rows.items():
            n = len(used.rows)
            state[f"rows/{name}"] = used.rows
            state[f"m/{name}"], state[f"v/{name}"] = used.m[:n].numpy(), used.v[:n].numpy()
        return state

    def load_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore a state that `arrays` returned, on any backend and device."""
        self.num_updates = int(arrays["updates"][0])
        for name, parameter in self.dense.items():
            m, v = dense_moments(arrays, name, tuple(parameter.shape))
            device = parameter.device  # where the fused kernel wants all of them
            self.adam.state[parameter] = {
                "step": torch.tensor(self.num_updates, dtype=torch.float32, device=device),
                "exp_avg": torch.tensor(m, device=device),
                "exp_avg_sq": torch.tensor(v, device=device),
            }
        for name, used in self.rows.items():
            rows, m, v = row_moments(arrays, name)
            used.load(rows, torch.from_numpy(m), torch.from_numpy(v))


def clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale gradients in place so that their joint norm is at most ``max_norm``."""
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    scale = (max_norm / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)


class WeightAverage(BaseWeightAverage):
    """The average of named parameters over the last steps, kept on their device."""

    def __init__(self, named: Parameters) -> None:
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
