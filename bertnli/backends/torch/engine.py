"""The PyTorch engine of training: a step of Adam, an evaluation step, on one or several GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bertnli.backends.memory import keep_freed_memory
from bertnli.backends.torch.average import WeightAverage
from bertnli.backends.torch.dataset import batch_of
from bertnli.backends.torch.devices import (
    as_devices,
    as_precision,
    backend_info,
    data_parallel,
    to_device,
)
from bertnli.backends.torch.model import BERTClassifier, BERTForPretraining
from bertnli.backends.torch.optimizer import Adam
from bertnli.backends.torch.workers import (
    distributed,
    exchanging,
    find_workers,
    lost_is_an_error,
    mean_gradients,
)
from bertnli.data.batches import Batch
from bertnli.data.packing import CHUNK_TOKENS, split_by_length
from bertnli.formats import names
from bertnli.training import trainer
from bertnli.training.engine import BaseEngine, StepResult
from bertnli.training.memory import within_memory
from bertnli.training.recipe import tensor_rates


class Engine(BaseEngine):
    """Trains a net with what `torch.optim.Adam` computes; see `BaseEngine`."""

    backend = "torch"
    net: BERTClassifier | BERTForPretraining

    def _prepare(self, devices: Any, precision: str) -> None:
        self.devices = as_devices(devices)
        if self.devices[0].type == "cpu":
            keep_freed_memory()
        self.workers = find_workers(self.limits.rank_timeout)
        self.check_same_model()
        self.net.precision, self.precision_reason = as_precision(precision, self.devices[0])
        self.parallel = data_parallel(self.net, self.devices)
        # Row-sparse Adam only pays on CPUs.
        table = self.net.encoder.token_embedding.weight
        tables = [table] if self.devices[0].type == "cpu" else []
        if self.workers.size > 1:
            self.parallel = distributed(self.parallel, self.devices, tables)
        named = self._named()
        rates = tensor_rates(named, self.config, self.net.config.num_blks)
        self.optimizer = Adam(named, tables, rates, self.config.clip_norm)
        self.weight_average = WeightAverage(named)

    def step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """See `BaseEngine.step`."""
        result = self._backward(batch, seed)
        self.before_update(result)
        self.optimizer.step(lr)
        return result

    def mean_gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """See `BaseEngine.mean_gradients`."""
        self._backward(batch, seed)
        return {
            names.from_torch(name): parameter.grad.to_dense().cpu().numpy().copy()
            for name, parameter in self.net.named_parameters()
            if parameter.grad is not None
        }

    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """See `BaseEngine.apply_gradients`."""
        for name, parameter in self.net.named_parameters():
            gradient = torch.from_numpy(np.array(gradients[names.from_torch(name)], np.float32))
            parameter.grad = gradient.to(self.devices[0])
        self.optimizer.step(lr)

    def backend_info(self) -> dict[str, Any]:
        """See `BaseEngine.backend_info`."""
        return {"backend": "torch", **backend_info()}

    def device_kinds(self) -> list[str]:
        """See `BaseEngine.device_kinds`."""
        return ["cpu" if device.type == "cpu" else "gpu" for device in self.devices]

    def optimizer_arrays(self) -> dict[str, NDArray]:
        """See `BaseEngine.optimizer_arrays`."""
        return self.optimizer.arrays(self._named())

    def load_optimizer_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """See `BaseEngine.load_optimizer_arrays`."""
        self.optimizer.load_arrays(self._named(), arrays)

    def _named(self) -> dict[str, nn.Parameter]:
        return {names.from_torch(name): p for name, p in self.net.named_parameters()}

    def _backward(self, batch: Batch, seed: int) -> StepResult:
        """Compute the gradients of a batch's mean loss; return what this process's share gave."""
        share = self.workers.share(batch)
        # DistributedDataParallel takes the mean over the processes, and we want the sum.
        weight = self.workers.size / len(batch) if len(share) else 0.0
        with self.workers.watch.exchange(computes=True):
            result = within_memory(
                self, lambda: self._backward_share(batch, share, seed, weight), len(share)
            )
            if self.workers.size > 1:
                left = self.net.parameters() if self.limits.auto_batch else self.optimizer.tables
                mean_gradients(left, self.workers, batch.token_ids)
        return result

    def _backward_share(self, batch: Batch, share: Batch, seed: int, weight: float) -> StepResult:
        """Compute the gradients of a share's summed loss, times a weight."""
        self.net.train()
        for parameter in self.net.parameters():
            parameter.grad = None
        # On a CPU, parts whose activations fit its cache; a GPU is fastest with everything at once.
        max_tokens = CHUNK_TOKENS if self.devices[0].type == "cpu" else None
        # An empty share runs one pair with weight 0, since all-reduce is collective.
        counted = len(share) > 0
        parts = split_by_length(
            share if counted else batch[:1], max_tokens, self.limits.micro_batch_size
        )
        results = []
        with self._sparse_table(), _dropout_seed(seed, self.devices):
            for i, part in enumerate(parts):
                last = i == len(parts) - 1 and not self.limits.auto_batch
                with exchanging(self.parallel, last):
                    outputs = self.parallel(to_device(part, self.devices[0]))
                    loss_sum, hits = self.net.loss(outputs, part)
                    with lost_is_an_error():
                        (loss_sum * weight).backward()
                if counted:
                    results.append((loss_sum.detach(), hits))

        def read() -> tuple[float, float]:
            return sum(loss.item() for loss, _ in results), sum(hits.item() for _, hits in results)

        return StepResult(read)

    @contextmanager
    def _sparse_table(self) -> Iterator[None]:
        """Have the token embedding's gradient hold the rows of the batch alone, on the CPU."""
        embedding = self.net.encoder.token_embedding
        before = embedding.sparse
        embedding.sparse = self.devices[0].type == "cpu"
        try:
            yield
        finally:
            embedding.sparse = before

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """See `BaseEngine.eval_step`."""
        self.net.eval()
        net = self.net if self.workers.size > 1 else self.parallel
        with torch.no_grad():
            return self.net.eval_outputs(net(to_device(batch, self.devices[0])), batch)

    def is_out_of_memory(self, error: Exception) -> bool:
        """See `BaseEngine.is_out_of_memory`."""
        cpu = "DefaultCPUAllocator: can't allocate memory"  # a plain RuntimeError
        return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or cpu in str(error)

    def loader_batch(self, item: Any) -> Batch:
        """See `BaseEngine.loader_batch`."""
        return batch_of(item)

    def loader_set(self, loader: Any) -> Any:
        """See `BaseEngine.loader_set`."""
        return getattr(loader, "dataset", None)


@contextmanager
def _dropout_seed(seed: int, devices: list[torch.device]) -> Iterator[None]:
    """Draw dropout masks from a seed, and leave the user's own random state as it was."""
    with torch.random.fork_rng(devices=[d for d in devices if d.type == "cuda"]):
        torch.manual_seed(seed)
        yield


class Trainer(trainer.Trainer):
    """Trains a net on the engine above; see `bertnli.training.trainer.Trainer`."""

    Engine = Engine
