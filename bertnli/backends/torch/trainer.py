"""The PyTorch side of the trainer: a step of Adam, an evaluation step, on one or several GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bertnli.backends.torch.dataset import batch_of
from bertnli.backends.torch.devices import as_devices, data_parallel, to_device
from bertnli.backends.torch.model import BERTClassifier
from bertnli.checkpoints import names
from bertnli.data.batches import Batch
from bertnli.training.trainer import BaseTrainer


class Trainer(BaseTrainer):
    """Fine-tunes a classifier with `torch.optim.Adam`; see `BaseTrainer`."""

    net: BERTClassifier

    def _prepare(self, devices: Any) -> None:
        self.devices = as_devices(devices)
        self.parallel = data_parallel(self.net, self.devices)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=self.config.lr, fused=True)

    def train_step(self, batch: Batch, lr: float, seed: int) -> tuple[float, int]:
        """See `BaseTrainer.train_step`."""
        loss_sum, num_correct = self._backward(batch, seed)
        self._update(lr)
        return loss_sum, num_correct

    def gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """See `BaseTrainer.gradients`."""
        self._backward(batch, seed)
        return {
            names.from_torch(name): parameter.grad.cpu().numpy().copy()
            for name, parameter in self.net.named_parameters()
            if parameter.grad is not None
        }

    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """See `BaseTrainer.apply_gradients`."""
        for name, parameter in self.net.named_parameters():
            gradient = torch.from_numpy(np.array(gradients[names.from_torch(name)], np.float32))
            parameter.grad = gradient.to(self.devices[0])
        self._update(lr)

    def _backward(self, batch: Batch, seed: int) -> tuple[float, int]:
        """Compute the gradients of the mean loss; return the sum of losses and the number right."""
        labels = torch.from_numpy(batch.labels).to(self.devices[0]).long()
        self.net.train()
        with _dropout_seed(seed, self.devices):
            logits = self.parallel(to_device(batch, self.devices[0]))  # (B, labels)
        loss_sum = nn.functional.cross_entropy(logits, labels, reduction="sum")
        self.optimizer.zero_grad()
        (loss_sum / len(batch)).backward()
        return loss_sum.item(), int((logits.argmax(1) == labels).sum())

    def _update(self, lr: float) -> None:
        """Take a step of Adam on the parameters' gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """See `BaseTrainer.eval_step`."""
        self.net.eval()
        with torch.no_grad():
            return self.parallel(to_device(batch, self.devices[0])).float().cpu().numpy()

    def loader_batch(self, item: Any) -> Batch:
        """See `BaseTrainer.loader_batch`."""
        return batch_of(item)


@contextmanager
def _dropout_seed(seed: int, devices: list[torch.device]) -> Iterator[None]:
    """Draw dropout masks from a seed, and leave the user's own random state as it was."""
    with torch.random.fork_rng(devices=[d for d in devices if d.type == "cuda"]):
        torch.manual_seed(seed)
        yield
