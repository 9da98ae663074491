"""The MXNet engine of training: a step of Adam, an evaluation step, on one or several devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.average import WeightAverage
from bertnli.backends.mxnet.dataset import batch_of
from bertnli.backends.mxnet.devices import (
    as_devices,
    as_precision,
    backend_info,
    move,
    split_batch,
    to_device,
)
from bertnli.backends.mxnet.kernels import dropout_seed, take
from bertnli.backends.mxnet.model import BERTClassifier, BERTForPretraining
from bertnli.backends.mxnet.optimizer import Adam
from bertnli.backends.mxnet.workers import DistributedWorkers, find_workers
from bertnli.data.batches import Batch
from bertnli.data.packing import split_by_length
from bertnli.formats import names
from bertnli.training import trainer
from bertnli.training.engine import BaseEngine, StepResult
from bertnli.training.memory import within_memory
from bertnli.training.recipe import tensor_rates

#: Tokens of a part. Fewer need less memory, and more of Python, which takes a core from MXNet.
PART_TOKENS = 8192

TABLE = "encoder.token_embedding.weight"


class Engine(BaseEngine):
    """Trains a net with gluon's Adam, made to compute PyTorch's; see `BaseEngine`.

    On GPUs each step seeds MXNet's generator for dropout, and MXNet has no way to put back the
    state that it had.
    """

    backend = "mxnet"
    net: BERTClassifier | BERTForPretraining

    @mx.util.use_np
    def _prepare(self, devices: Any, precision: str) -> None:
        self.devices = as_devices(devices)
        self.workers = find_workers(self.limits.rank_timeout)
        self.check_same_model()
        self.net.precision, self.precision_reason = as_precision(precision, self.devices[0])
        move(self.net, self.devices)
        parameters = self.net._collect_params_with_prefix()
        self.table = parameters.pop(TABLE)
        self.parameters = parameters
        names_in_order = [*self._names(), names.from_mxnet(TABLE)]
        rates = tensor_rates(names_in_order, self.config, self.net.config.num_blks)
        own = list(parameters.values())
        self.optimizer = Adam(
            own, self.table, self.devices, list(rates.values()), self.config.clip_norm
        )
        self.weight_average = WeightAverage(
            dict(zip(names_in_order, [*own, self.table], strict=True))
        )
        if isinstance(self.workers, DistributedWorkers):
            for parameter in (*parameters.values(), self.table):
                parameter.set_data(self.workers.of_first(parameter.data(self.devices[0])))

    @mx.util.use_np
    def step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """See `BaseEngine.step`."""
        result, rows, row_gradients = self._backward(batch, seed)
        self.before_update(result)
        self.optimizer.step(len(batch), rows, row_gradients, lr)
        return result

    def mean_gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """See `BaseEngine.mean_gradients`."""
        _, rows, row_gradients = self._backward(batch, seed)
        size = np.float32(len(batch))
        gradients = {
            names.from_mxnet(name): sum(part.asnumpy() for part in parameter.list_grad()) / size
            for name, parameter in self.parameters.items()
        }
        table = np.zeros(self.table.shape, np.float32)
        table[rows] = row_gradients.asnumpy() / size
        return {**gradients, names.from_mxnet(TABLE): table}

    @mx.util.use_np
    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """See `BaseEngine.apply_gradients`."""
        for name, parameter in self.parameters.items():
            gradient = np.asarray(gradients[names.from_mxnet(name)], np.float32)
            self._set_gradient(parameter, mx.np.array(gradient, dtype="float32"))
        table = np.asarray(gradients[names.from_mxnet(TABLE)], np.float32)
        row_gradients = mx.np.array(table, dtype="float32", ctx=self.devices[0])
        self.optimizer.step(1, np.arange(len(table)), row_gradients, lr)

    def _set_gradient(self, parameter: Any, gradient: Any) -> None:
        """Put a gradient on the first device, and zero on the others, for they are added up."""
        for i, device in enumerate(self.devices):
            value = gradient.as_in_context(device) if i == 0 else 0
            parameter.grad(device)[:] = value
            parameter.data(device)._fresh_grad = True

    def _summed(self, row_gradients: Any) -> Any:
        """Make all gradients their sums over the processes; return those of the table's rows.

        They are sent as one array: a key of the store for each tensor would cost a round trip each.
        Of the token table only the batch's rows are sent, for the rest is zeros.
        """
        if not isinstance(self.workers, DistributedWorkers):
            return row_gradients
        own = [
            sum(part.as_in_context(self.devices[0]) for part in parameter.list_grad())
            for parameter in self.parameters.values()
        ]
        flat = [part.reshape(-1).as_nd_ndarray() for part in (*own, row_gradients)]
        summed = self.workers.sum_on_device(mx.nd.concat(*flat, dim=0)).as_np_ndarray()
        end = 0
        for parameter in self.parameters.values():
            start, end = end, end + math.prod(parameter.shape)
            self._set_gradient(parameter, summed[start:end].reshape(parameter.shape))
        return summed[end:].reshape(row_gradients.shape).as_in_context(self.devices[0])

    def backend_info(self) -> dict[str, Any]:
        """See `BaseEngine.backend_info`."""
        return {"backend": "mxnet", **backend_info()}

    def device_kinds(self) -> list[str]:
        """See `BaseEngine.device_kinds`."""
        return ["cpu" if device.device_type == "cpu" else "gpu" for device in self.devices]

    def optimizer_arrays(self) -> dict[str, NDArray]:
        """See `BaseEngine.optimizer_arrays`."""
        return self.optimizer.arrays(self._names(), names.from_mxnet(TABLE))

    def load_optimizer_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """See `BaseEngine.load_optimizer_arrays`."""
        self.optimizer.load_arrays(self._names(), names.from_mxnet(TABLE), arrays)

    def _names(self) -> list[str]:
        return [names.from_mxnet(name) for name in self.parameters]

    @mx.util.use_np
    def _backward(self, batch: Batch, seed: int) -> tuple[StepResult, NDArray[np.int64], Any]:
        """Compute the gradients of a batch's summed loss.

        Returns:
            What this process's share gave, the rows (U,) of the token embedding that the batch
            uses, and their gradients (U, H): its other rows have none.
        """
        share = self.workers.share(batch)
        result, rows, row_gradients = within_memory(
            self, lambda: self._backward_share(batch, share, seed), len(share)
        )
        return result, rows, self._summed(row_gradients)

    def _backward_share(
        self, batch: Batch, share: Batch, seed: int
    ) -> tuple[StepResult, NDArray[np.int64], Any]:
        used_ids = np.zeros(self.table.shape[0], bool)
        used_ids[batch.token_ids] = True
        rows = np.flatnonzero(used_ids)
        places = np.cumsum(used_ids, dtype=np.int32) - 1
        counted, nothing = (
            replace(pairs, token_ids=places[pairs.token_ids]) for pairs in (share, batch[:1])
        )
        results, tables = [], []
        with dropout_seed(seed, self.devices):
            for shard, device in zip(split_batch(counted, self.devices), self.devices, strict=True):
                tables.append(take(self.table.data(device), rows))
                tables[-1].attach_grad("add")
                # An empty shard runs one pair with weight 0: its gradients must not be stale.
                parts = [nothing]
                if len(shard):
                    parts = split_by_length(shard, PART_TOKENS, self.limits.micro_batch_size)
                for i, part in enumerate(parts):
                    with self._gradients_summed(device, i > 0):
                        loss_sum, hits = self._loss(part, device, tables[-1], len(shard) > 0)
                        loss_sum.backward()
                    if len(shard):
                        results.append((loss_sum, hits))
        if self.limits.auto_batch:
            mx.nd.waitall()  # beside a GPU, where what lacks memory is told later
        row_gradients = tables[0].grad
        for table in tables[1:]:
            row_gradients = row_gradients + table.grad.as_in_context(self.devices[0])

        def read() -> tuple[float, float]:
            return (
                sum(float(loss_sum.asnumpy()) for loss_sum, _ in results),
                sum(float(hits.asnumpy()) for _, hits in results),
            )

        return StepResult(read), rows, row_gradients

    def _loss(self, part: Batch, device: Any, table: Any, counts: bool) -> tuple[Any, Any]:
        """Return the sum of the losses, or 0 of what does not count, and the number right."""
        with mx.autograd.record():
            loss_sum, hits = self.net.loss(self.net(to_device(part, device), table), part)
            return loss_sum * int(counts), hits

    @contextmanager
    def _gradients_summed(self, device: Any, summed: bool) -> Iterator[None]:
        """Have a backward pass add to the parameters' gradients, if so, and not replace them."""
        if not summed:
            yield
            return
        data = [parameter.data(device) for parameter in self.parameters.values()]
        gradients = [parameter.grad(device) for parameter in self.parameters.values()]
        mx.autograd.mark_variables(data, gradients, "add")
        try:
            yield
        finally:
            mx.autograd.mark_variables(data, gradients, "write")
            for array in data:  # marked anew, they pass for having no gradient of this step
                array._fresh_grad = True

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """See `BaseEngine.eval_step`."""
        with mx.autograd.pause(train_mode=False):
            parts = zip(split_batch(batch, self.devices), self.devices, strict=True)
            outputs = [(self.net(to_device(p, d)), p) for p, d in parts if len(p)]
            return np.concatenate([self.net.eval_outputs(*found) for found in outputs])

    def is_out_of_memory(self, error: Exception) -> bool:
        """See `BaseEngine.is_out_of_memory`."""
        if isinstance(error, MemoryError):
            return True
        told = ("Failed to allocate CPU Memory", "out of memory", "bad_alloc")
        return isinstance(error, mx.MXNetError) and any(text in str(error) for text in told)

    def loader_batch(self, item: Any) -> Batch:
        """See `BaseEngine.loader_batch`."""
        return batch_of(item)

    def loader_set(self, loader: Any) -> Any:
        """See `BaseEngine.loader_set`."""
        return getattr(loader, "_dataset", None)


class Trainer(trainer.Trainer):
    """Trains a net on the engine above; see `bertnli.training.trainer.Trainer`."""

    Engine = Engine
