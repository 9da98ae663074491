"""Training and evaluation steps on MXNet, on one or several devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import (
    as_devices,
    as_precision,
    backend_info,
    split_batch,
    to_device,
)
from bertnli.backends.mxnet.kernels import dropout_seed
from bertnli.backends.mxnet.layers import take
from bertnli.backends.mxnet.model import BERTClassifier, BERTForPretraining
from bertnli.backends.mxnet.optimizer import Adam, WeightAverage
from bertnli.backends.mxnet.workers import DistributedWorkers, find_workers
from bertnli.bert.parameters import TOKEN_TABLE
from bertnli.data.batches import Batch
from bertnli.data.packing import split_by_length
from bertnli.training import trainer
from bertnli.training.engine import BaseEngine, StepResult, within_memory
from bertnli.training.optimizer import tensor_rates

#: Tokens of a micro-batch. Fewer need less memory, but more Python, which takes a core from MXNet.
PART_TOKENS = 8192


class Engine(BaseEngine):
    """Trains a net on MXNet; see `BaseEngine`. Adam follows PyTorch's formula.

    The token embedding's gradient has only the rows that a batch uses. On GPUs each step seeds
    MXNet's random generator for dropout; MXNet cannot restore the generator's state.
    """

    backend = "mxnet"
    net: BERTClassifier | BERTForPretraining

    @mx.util.use_np
    def _prepare(self, devices: Any, precision: str) -> None:
        self.devices = as_devices(devices)
        self.workers = find_workers(self.limits.rank_timeout)
        self.check_same_model()
        self.net.precision, self.precision_reason = as_precision(precision, self.devices[0])
        self.net.move_to(self.devices)
        named = self.net.named_tensors()
        if isinstance(self.workers, DistributedWorkers):
            for parameter in named.values():
                parameter.set_data(self.workers.of_first(parameter.data(self.devices[0])))
        rates = tensor_rates(named, self.config, self.net.config.num_blks)
        self.optimizer = Adam(named, TOKEN_TABLE, rates, self.config.clip_norm)
        self.weight_average = WeightAverage(self.optimizer.copies)
        self.table = named[TOKEN_TABLE]
        self.dense = {name: tensor for name, tensor in named.items() if name != TOKEN_TABLE}
        #: The rows of the table that the last batch used, (U,), and its gradients.
        self.rows: NDArray[np.int64]
        self.gradients: dict[str, Any]

    def _update(self, lr: float) -> None:
        self.optimizer.step(self.rows, self.gradients, lr)

    def _gradients(self) -> dict[str, NDArray[np.float32]]:
        gradients = {name: gradient.asnumpy() for name, gradient in self.gradients.items()}
        table = np.zeros(self.table.shape, np.float32)
        table[self.rows] = gradients[TOKEN_TABLE]
        return {**gradients, TOKEN_TABLE: table}

    @mx.util.use_np
    def _backward(self, batch: Batch, seed: int) -> StepResult:
        share = self.workers.share(batch)
        is_used = np.zeros(self.table.shape[0], bool)
        is_used[batch.token_ids] = True
        self.rows = np.flatnonzero(is_used)
        place_of = np.cumsum(is_used, dtype=np.int32) - 1
        share, first = (
            replace(part, token_ids=place_of[part.token_ids]) for part in (share, batch[:1])
        )
        backward = partial(self._backward_share, share, first, 1 / len(batch), seed)
        result = within_memory(self, backward, len(share))
        self.gradients = self._summed(self.gradients)
        return result

    def _backward_share(self, share: Batch, first: Batch, weight: float, seed: int) -> StepResult:
        """Compute the gradients of ``weight`` times the summed loss of this process's share.

        The token_ids index the rows in use. A device without pairs runs the pair ``first`` with
        weight 0, so that no gradients of an earlier step remain.
        """
        results, tables = [], []
        with dropout_seed(seed, self.devices):
            for shard, device in zip(split_batch(share, self.devices), self.devices, strict=True):
                table = take(self.table.data(device), self.rows)
                table.attach_grad("add")
                tables.append(table)
                parts = [first]
                if len(shard):
                    parts = split_by_length(shard, PART_TOKENS, self.limits.micro_batch_size)
                for i, part in enumerate(parts):
                    with self._added_gradients(device, i > 0):
                        with mx.autograd.record():
                            outputs = self.net(to_device(part, device), table)
                            loss_sum, hits = self.net.loss(outputs, part)
                            loss = loss_sum * (weight if len(shard) else 0.0)
                        loss.backward()
                    if len(shard):
                        results.append((loss_sum, hits))
        if self.limits.auto_batch:
            mx.nd.waitall()  # on a GPU, where a lack of memory shows later
        first_device = self.devices[0]
        copies = {name: parameter.list_grad() for name, parameter in self.dense.items()}
        copies[TOKEN_TABLE] = [table.grad for table in tables]
        self.gradients = {
            name: reduce(add, (g.as_nd_ndarray().as_in_context(first_device) for g in several))
            for name, several in copies.items()
        }
        return StepResult(results)

    @contextmanager
    def _added_gradients(self, device: Any, added: bool) -> Iterator[None]:
        """Context manager: if ``added``, backward passes add to the gradients on the device.

        Otherwise, and after the context, they replace the gradients.
        """
        if not added:
            yield
            return
        data = [parameter.data(device) for parameter in self.dense.values()]
        gradients = [parameter.grad(device) for parameter in self.dense.values()]
        mx.autograd.mark_variables(data, gradients, "add")
        try:
            yield
        finally:
            mx.autograd.mark_variables(data, gradients, "write")

    def _summed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        """Sum gradients over all processes, sent as one array to save round trips."""
        if not isinstance(self.workers, DistributedWorkers):
            return gradients
        flat = mx.nd.concat(*(gradient.reshape(-1) for gradient in gradients.values()), dim=0)
        summed, end = self.workers.sum_on_device(flat).as_in_context(self.devices[0]), 0
        sums = {}
        for name, gradient in gradients.items():
            start, end = end, end + gradient.size
            sums[name] = summed[start:end].reshape(gradient.shape)
        return sums

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        with mx.autograd.pause(train_mode=False):
            parts = zip(split_batch(batch, self.devices), self.devices, strict=True)
            outputs = [(self.net(to_device(p, d)), p) for p, d in parts if len(p)]
            return np.concatenate([self.net.eval_outputs(*each) for each in outputs])

    def backend_info(self) -> dict[str, Any]:
        return {"backend": "mxnet", **backend_info()}

    def is_out_of_memory(self, error: Exception) -> bool:
        texts = ("Failed to allocate CPU Memory", "out of memory", "bad_alloc")
        by_mxnet = isinstance(error, mx.MXNetError) and any(text in str(error) for text in texts)
        return by_mxnet or isinstance(error, MemoryError)

    def _to_numpy(self, tensor: Any) -> NDArray:
        return tensor.asnumpy()


class Trainer(trainer.Trainer):
    """Trains a net with MXNet; see `bertnli.training.trainer.Trainer`."""

    Engine = Engine
