"""The MXNet side of the trainer: a step of Adam, an evaluation step, on one or several devices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.dataset import batch_of
from bertnli.backends.mxnet.devices import as_devices, move, split_batch, to_device
from bertnli.backends.mxnet.model import BERTClassifier
from bertnli.checkpoints import names
from bertnli.data.batches import Batch
from bertnli.training.trainer import BaseTrainer

BETA2, EPSILON = 0.999, 1e-8


class Trainer(BaseTrainer):
    """Fine-tunes a classifier with gluon's Adam, made to compute PyTorch's; see `BaseTrainer`.

    Each step seeds MXNet's generator on its devices for dropout, and MXNet has no way to put back
    the state that it had.
    """

    net: BERTClassifier

    @mx.util.use_np
    def _prepare(self, devices: Any) -> None:
        self.devices = as_devices(devices)
        move(self.net, self.devices)
        self.optimizer = mx.optimizer.Adam(learning_rate=self.config.lr, beta2=BETA2)
        self.trainer = mx.gluon.Trainer(
            self.net.collect_params(), self.optimizer, update_on_kvstore=False
        )
        self.loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self.num_updates = 0

    def train_step(self, batch: Batch, lr: float, seed: int) -> tuple[float, int]:
        """See `BaseTrainer.train_step`."""
        loss_sum, num_correct = self._backward(batch, seed)
        self._update(len(batch), lr)
        return loss_sum, num_correct

    def gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """See `BaseTrainer.gradients`."""
        self._backward(batch, seed)
        return {
            names.from_mxnet(name): sum(part.asnumpy() for part in parameter.list_grad())
            / np.float32(len(batch))
            for name, parameter in self.net._collect_params_with_prefix().items()
        }

    @mx.util.use_np
    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """See `BaseTrainer.apply_gradients`."""
        for name, parameter in self.net._collect_params_with_prefix().items():
            gradient = np.asarray(gradients[names.from_mxnet(name)], np.float32)
            for i, device in enumerate(self.devices):
                part = gradient if i == 0 else np.zeros_like(gradient)
                parameter.grad(device)[:] = mx.np.array(part, dtype="float32", ctx=device)
                parameter.data(device)._fresh_grad = True
        self._update(1, lr)

    @mx.util.use_np
    def _backward(self, batch: Batch, seed: int) -> tuple[float, int]:
        """Compute the gradients of the summed loss; return that sum and the number right."""
        for i, device in enumerate(self.devices):
            mx.random.seed(seed + i, ctx=device)
        parts = split_batch(batch, self.devices)
        outputs = []
        with mx.autograd.record():
            for part, device in zip(parts, self.devices, strict=True):
                # A device without a pair of its own computes one that counts nothing, so that its
                # gradients are of this step, and zero.
                used, weight = (part, 1) if len(part) else (batch[:1], 0)
                logits = self.net(to_device(used, device))  # (b, labels)
                labels = mx.np.array(used.labels, dtype="float32", ctx=device)
                outputs.append((logits, self.loss(logits, labels).sum() * weight))
        mx.autograd.backward([loss_sum for _, loss_sum in outputs])
        num_correct = sum(
            int((logits.asnumpy().argmax(1) == part.labels).sum())
            for part, (logits, _) in zip(parts, outputs, strict=True)
            if len(part)
        )
        return sum(float(loss_sum.asnumpy()) for _, loss_sum in outputs), num_correct

    @mx.util.use_np
    def _update(self, batch_size: int, lr: float) -> None:
        """Take a step of Adam on the parameters' gradients, divided by the batch's size."""
        # gluon adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - beta2^t)); scaled, it is the same.
        self.num_updates += 1
        self.optimizer.epsilon = EPSILON * math.sqrt(1 - BETA2**self.num_updates)
        self.trainer.set_learning_rate(lr)
        self.trainer.step(batch_size, ignore_stale_grad=True)

    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """See `BaseTrainer.eval_step`."""
        with mx.autograd.pause(train_mode=False):
            parts = zip(split_batch(batch, self.devices), self.devices, strict=True)
            logits = [self.net(to_device(part, d)) for part, d in parts if len(part)]
        return np.concatenate([part.asnumpy() for part in logits])

    def loader_batch(self, item: Any) -> Batch:
        """See `BaseTrainer.loader_batch`."""
        return batch_of(item)
