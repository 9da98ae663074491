"""Training and evaluation steps on PyTorch, on the CPU or on one or several GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bertnli.backends.memory import keep_freed_memory
from bertnli.backends.torch import workers
from bertnli.backends.torch.devices import as_devices, as_precision, backend_info, to_device
from bertnli.backends.torch.model import BERTClassifier, BERTForPretraining
from bertnli.backends.torch.optimizer import Adam, WeightAverage
from bertnli.bert.parameters import TOKEN_TABLE
from bertnli.data.batches import Batch
from bertnli.data.packing import CHUNK_TOKENS, split_by_length
from bertnli.training import trainer
from bertnli.training.engine import BaseEngine, StepResult, within_memory
from bertnli.training.optimizer import tensor_rates


class Engine(BaseEngine):
    """Trains a net with `torch.optim.AdamW`; see `BaseEngine`.

    On a CPU the token embedding's gradient is sparse: it has only the rows that a batch uses.
    """

    backend = "torch"
    net: BERTClassifier | BERTForPretraining

    def _prepare(self, devices: Any, precision: str) -> None:
        self.devices = as_devices(devices)
        self.on_cpu = self.devices[0].type == "cpu"
        if self.on_cpu:
            keep_freed_memory()
        self.workers = workers.find_workers(self.limits.rank_timeout)
        self.check_same_model()
        self.net.precision, self.precision_reason = as_precision(precision, self.devices[0])
        self.net.move_to(self.devices)
        named = self.net.named_tensors()
        rates = tensor_rates(named, self.config, self.net.config.num_blks)
        self.optimizer = Adam(
            named, TOKEN_TABLE if self.on_cpu else None, rates, self.config.clip_norm
        )
        self.weight_average = WeightAverage(named)
        self.parallel: nn.Module = self.net
        if len(self.devices) > 1:
            self.parallel = nn.DataParallel(self.net, self.devices)
        if self.workers.size > 1:
            tables = list(self.optimizer.tables.values())
            self.parallel = workers.distributed(self.parallel, self.devices, tables)

    def _update(self, lr: float) -> None:
        self.optimizer.step(lr)

    def _gradients(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: parameter.grad.to_dense().cpu().numpy().copy()
            for name, parameter in self.net.named_tensors().items()
            if parameter.grad is not None
        }

    def _backward(self, batch: Batch, seed: int) -> StepResult:
        share = self.workers.share(batch)
        # DistributedDataParallel takes the mean over the processes, and we want the sum.
        weight = self.workers.size / len(batch) if len(share) else 0.0
        # An empty share runs one pair with weight 0, since all-reduce is collective.
        computed = share if len(share) else batch[:1]
        backward = partial(self._backward_share, computed, weight, seed)
        result = within_memory(self, backward, len(share))
        if self.workers.size > 1:
            tables = self.optimizer.tables.values()
            remaining = self.net.parameters() if self.limits.auto_batch else tables
            workers.mean_gradients(remaining, self.workers, batch.token_ids)
        return result

    def _backward_share(self, share: Batch, weight: float, seed: int) -> StepResult:
        """Compute the gradients of ``weight`` times the summed loss of this process's share.

        With weight 0 the result is empty.
        """
        self.net.train()
        for parameter in self.net.parameters():
            parameter.grad = None
        # On a CPU, parts whose activations fit its cache; a GPU is fastest with everything at once.
        max_tokens = CHUNK_TOKENS if self.on_cpu else None
        parts = split_by_length(share, max_tokens, self.limits.micro_batch_size)
        results = []
        ddp = self.parallel if isinstance(self.parallel, DistributedDataParallel) else None
        gpus = [device for device in self.devices if device.type == "cuda"]
        # Dropout is seeded, and the user's own random state stays as it was.
        with self._sparse_table(), torch.random.fork_rng(devices=gpus):
            torch.manual_seed(seed)
            for i, part in enumerate(parts):
                exchange = i == len(parts) - 1 and not self.limits.auto_batch
                with nullcontext() if exchange or ddp is None else ddp.no_sync():
                    outputs = self.parallel(to_device(part, self.devices[0]))
                    loss_sum, hits = self.net.loss(outputs, part)
                    with workers.lost_is_an_error():
                        (loss_sum * weight).backward()
                if weight:
                    results.append((loss_sum.detach(), hits))
        return StepResult(results)

    @contextmanager
    def _sparse_table(self) -> Iterator[None]:
        embedding = self.net.encoder.token_embedding
        before, embedding.sparse = embedding.sparse, self.on_cpu
        try:
            yield
        finally:
            embedding.sparse = before

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        self.net.eval()
        net = self.net if self.workers.size > 1 else self.parallel
        with torch.no_grad():
            return self.net.eval_outputs(net(to_device(batch, self.devices[0])), batch)

    def backend_info(self) -> dict[str, Any]:
        return {"backend": "torch", **backend_info()}

    def is_out_of_memory(self, error: Exception) -> bool:
        text = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError
        return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or text in str(error)

    def _to_numpy(self, tensor: Any) -> NDArray:
        return tensor.cpu().numpy()


class Trainer(trainer.Trainer):
    """Trains a net with PyTorch; see `bertnli.training.trainer.Trainer`."""

    Engine = Engine
