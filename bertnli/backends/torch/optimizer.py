"""Adam on PyTorch: the framework's own, and for a table of which batches use few rows, the same
numbers with less work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adam import adam

from bertnli.training.moments import dense_moments, row_moments
from bertnli.training.recipe import TensorRate

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


#: Rows of a table that are updated together.
_BLOCK = 4096


class RowAdam:
    """Adam on those rows of a table that have had a gradient.

    The moments of all others are zero, and Adam leaves them where they are: what is computed is
    Adam, with momentum on each row that was ever used, and not a lazy variant of it.

    Args:
        table: (V, H) float32, on the CPU.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.slots = np.full(len(table), -1, np.int64)  # row to place in the lists below
        self.rows = torch.empty(0, dtype=torch.int64)
        # Moments of the rows in use. Places beyond them are not touched, and take no memory.
        self.m, self.v = (torch.empty(table.shape, dtype=torch.float32) for _ in range(2))
        self.num_updates = torch.zeros((), dtype=torch.float32)

    def step(
        self, rows: NDArray[np.int64], gradients: Tensor, lr: float, weight_decay: float = 0.0
    ) -> None:
        """Take one step.

        Args:
            rows: (N,) rows that have a gradient, in any order, also several times.
            gradients: (N, H) float32; those of the same row add up.
            lr: learning rate.
            weight_decay: of all rows, also of those that never had a gradient, as in AdamW; one
                pass over the table costs little beside a step.
        """
        if weight_decay:
            self.table.mul_(1 - lr * weight_decay)
        self._add(np.unique(rows[self.slots[rows] < 0]))
        slots = self.slots[rows]
        order = np.argsort(slots, kind="stable")
        starts = np.arange(0, len(self.rows), _BLOCK)
        bounds = np.append(np.searchsorted(slots[order], starts), len(slots))
        g = torch.empty(_BLOCK, self.table.shape[1], dtype=torch.float32)
        for start, low, high in zip(starts.tolist(), bounds[:-1], bounds[1:], strict=True):
            block = slice(start, start + _BLOCK)
            own = order[low:high]
            used = self.rows[block]
            g.zero_().index_add_(
                0, torch.from_numpy(slots[own] - start), gradients[torch.from_numpy(own)]
            )
            w = self.table.index_select(0, used)
            adam(
                [w],
                [g[: len(w)]],
                [self.m[block][: len(w)]],
                [self.v[block][: len(w)]],
                [],
                [self.num_updates.clone()],
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
        self.num_updates += 1

    def arrays(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return the rows that are followed (n,), and their moments, (n, H) each."""
        n = len(self.rows)
        return self.rows.numpy(), self.m[:n].numpy(), self.v[:n].numpy()

    def load_arrays(self, rows: NDArray, m: NDArray, v: NDArray, num_updates: int) -> None:
        """Take what `arrays` returned, after so many steps."""
        self.slots[:] = -1
        self.rows = torch.empty(0, dtype=torch.int64)
        self._add(rows.astype(np.int64))
        n = len(rows)
        self.m[:n], self.v[:n] = torch.from_numpy(m), torch.from_numpy(v)
        self.num_updates.fill_(num_updates)

    def _add(self, rows: NDArray[np.int64]) -> None:
        """Begin to follow some rows."""
        if not len(rows):
            return
        self.slots[rows] = len(self.rows) + np.arange(len(rows))
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.m[new] = self.v[new] = 0
        self.rows = torch.cat([self.rows, torch.from_numpy(rows)])


class Adam:
    """`torch.optim.AdamW`; on the CPU the tables' gradients may be sparse.

    Without weight decay it is Adam (Loshchilov and Hutter, 2019).

    Args:
        named: what to train, by canonical name.
        tables: those of the parameters that are tables, looked up by row.
        rates: how each is trained, by the same names.
        clip_norm: see `TrainingConfig`.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        tables: Iterable[Tensor],
        rates: Mapping[str, TensorRate],
        clip_norm: float,
    ) -> None:
        self.tables = {table: RowAdam(table.data) for table in tables}
        self.table_rates: dict[Tensor, TensorRate] = {}
        groups: dict[TensorRate, list[nn.Parameter]] = {}
        for name, parameter in named.items():
            if parameter in self.tables:
                self.table_rates[parameter] = rates[name]
            else:
                groups.setdefault(rates[name], []).append(parameter)
        self.dense = torch.optim.AdamW(
            [{"params": members, **rate._asdict()} for rate, members in groups.items()],
            betas=(BETA1, BETA2),
            eps=EPSILON,
            fused=True,
        )
        self.clip_norm = clip_norm
        self.num_updates = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step on the parameters' gradients.

        Args:
            lr: learning rate.
        """
        self.num_updates += 1
        if self.clip_norm:
            self._clip()
        for group in self.dense.param_groups:
            group["lr"] = lr * group["lr_factor"]
        self.dense.step()
        for table, optimizer in self.tables.items():
            gradient = table.grad
            if gradient is None:
                continue
            if not gradient.is_sparse:
                gradient = gradient.to_sparse(1)
            rows, gradients = gradient._indices()[0].numpy(), gradient._values()
            rate = self.table_rates[table]
            optimizer.step(rows, gradients, lr * rate.lr_factor, rate.weight_decay)

    def _clip(self) -> None:
        """Scale all gradients down, where their norm is too large."""
        clipped = [p for group in self.dense.param_groups for p in group["params"]]
        for table in self.tables:
            gradient = table.grad
            if gradient is not None and gradient.is_sparse:
                # The same row may be there several times; and what clip_grad_norm_ takes is dense.
                table.grad = gradient.coalesce()
                rows = table.grad._values()
                stand_in = rows.detach()
                stand_in.grad = rows
                clipped.append(stand_in)
            else:
                clipped.append(table)
        nn.utils.clip_grad_norm_(clipped, self.clip_norm)

    def arrays(self, named: Mapping[str, nn.Parameter]) -> dict[str, NDArray]:
        """Return the state; see `bertnli.training.moments`.

        Args:
            named: all parameters, by the names that the arrays shall have.
        """
        found: dict[str, NDArray] = {"updates": np.array([self.num_updates], np.int64)}
        for name, parameter in named.items():
            if parameter in self.tables:
                rows, m, v = self.tables[parameter].arrays()
                found[f"rows/{name}"] = rows
            else:
                # Before the first step there is none.
                state = self.dense.state.get(parameter) or dict.fromkeys(
                    ("exp_avg", "exp_avg_sq"), torch.zeros_like(parameter)
                )
                m, v = (state[key].cpu().numpy() for key in ("exp_avg", "exp_avg_sq"))
            found[f"m/{name}"], found[f"v/{name}"] = m, v
        return found

    def load_arrays(self, named: Mapping[str, nn.Parameter], arrays: Mapping[str, NDArray]) -> None:
        """Take what `arrays` returned, on whatever backend and device."""
        self.num_updates = int(arrays["updates"][0])
        for name, parameter in named.items():
            if parameter in self.tables:
                self.tables[parameter].load_arrays(*row_moments(arrays, name), self.num_updates)
                continue
            m, v = dense_moments(arrays, name, tuple(parameter.shape))
            self.dense.state[parameter] = {
                # Where the fused kernel wants it.
                "step": torch.tensor(
                    float(self.num_updates), dtype=torch.float32, device=parameter.device
                ),
                "exp_avg": torch.tensor(m, device=parameter.device),
                "exp_avg_sq": torch.tensor(v, device=parameter.device),
            }
