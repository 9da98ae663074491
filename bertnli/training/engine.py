"""The engine of a trainer, which each backend implements: steps, gradients, optimizer state."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.errors import TrainingError
from bertnli.nets.trainable import Trainable
from bertnli.training.optimizer import BaseWeightAverage
from bertnli.training.watch import RANK_TIMEOUT
from bertnli.training.workers import Workers

T = TypeVar("T")


class StepResult:
    """Loss and number of right predictions of a step; reading them waits for the step to end.

    Args:
        parts: for each micro-batch, the sum of its losses in nats and the number of pairs
            classified right, as scalars of any framework.
    """

    def __init__(self, parts: Sequence[tuple[Any, Any]]) -> None:
        self._parts = parts

    def read(self) -> tuple[float, float]:
        """Return the sum of the pairs' losses, in nats, and the number classified right."""
        return sum(float(loss) for loss, _ in self._parts), sum(float(n) for _, n in self._parts)


@dataclass
class Limits:
    """Limits on memory and waiting time; see `bertnli.training.trainer.Trainer`."""

    micro_batch_size: int | None = None
    auto_batch: bool = False
    rank_timeout: timedelta = RANK_TIMEOUT


class BaseEngine(ABC):
    """A net on its devices, with its optimizer.

    Args:
        net: a net of the backend.
        config: the settings of a run.
        devices, precision: where and how to compute; see `bertnli.training.trainer.Trainer`.
        limits: limits on memory and waiting time; `within_memory` may lower ``micro_batch_size``.

    Attributes:
        devices: the devices that compute.
        workers: the processes of the run.
        precision_reason: why the precision was chosen, if there is something to say.
        weight_average: the mean of the last weights; empty unless the settings want one.
        before_update: function that each step calls with its batch and result, before the weights
            change; None for no function.

    Raises:
        ConfigError, BackendError: a setting or a device that cannot work.
    """

    #: The name of its backend.
    backend: str = ""
    net: Trainable
    precision_reason: str
    devices: list
    workers: Workers
    weight_average: BaseWeightAverage
    optimizer: Any
    before_update: Callable[[Batch, StepResult], None] | None = None

    def __init__(
        self, net: Any, config: TrainingConfig, devices: Any, precision: str, limits: Limits
    ) -> None:
        self.net, self.config, self.limits = net, config, limits
        self._prepare(devices, precision)

    @abstractmethod
    def _prepare(self, devices: Any, precision: str) -> None:
        """Find the run's processes, move the net to the devices, and make the optimizer."""

    def check_same_model(self) -> None:
        """Raise ConfigError unless all processes have the same model and ``auto_batch``."""
        model = [self.net.config.to_dict(), list(self.net.labels)]
        self.workers.check_same([*model, self.limits.auto_batch])

    def step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take a step of Adam; see `bertnli.training.trainer.Trainer.train_step`."""
        result = self._backward(batch, seed)
        if self.before_update is not None:
            self.before_update(batch, result)
        self._update(lr)
        return result

    def mean_gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Compute the gradients of `step` under canonical names, without an update."""
        self._backward(batch, seed)
        return self._gradients()

    @abstractmethod
    def _backward(self, batch: Batch, seed: int) -> StepResult:
        """Compute the gradients of a batch's mean loss, summed over the processes."""

    @abstractmethod
    def _update(self, lr: float) -> None:
        """Update the weights with the gradients that `_backward` computed."""

    @abstractmethod
    def _gradients(self) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of `_backward` under canonical names."""

    @abstractmethod
    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Compute a batch's outputs for evaluation, (B, num_eval_outputs), without dropout.

        A classifier's outputs are its logits. Only this process computes, on all its devices.
        """

    @abstractmethod
    def backend_info(self) -> dict[str, Any]:
        """Describe the backend: its name, and its framework's version, threads and devices."""

    def optimizer_arrays(self) -> dict[str, NDArray]:
        """Return Adam's state under canonical names; see `bertnli.training.optimizer`.

        The arrays may share memory with the optimizer, and change with its next step.
        """
        return self.optimizer.arrays()

    def load_optimizer_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Restore Adam's state from the result of `optimizer_arrays`, of either backend."""
        self.optimizer.load_arrays(arrays)

    def loader_batch(self, item: Any) -> Batch:
        """Convert an item of the framework's own DataLoader to a `Batch`."""
        return Batch.from_padded(item, self._to_numpy)

    @abstractmethod
    def _to_numpy(self, tensor: Any) -> NDArray:
        """Convert a tensor to an array of the same type."""

    @abstractmethod
    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether an exception is the framework's error for insufficient memory."""


def within_memory(engine: BaseEngine, compute: Callable[[], T], num_pairs: int) -> T:
    """Call a function that computes ``num_pairs`` pairs in micro-batches, and return its result.

    If memory does not suffice and the engine has ``auto_batch``, its ``micro_batch_size`` is halved
    and the function called again; otherwise a TrainingError says what helps.
    """
    while True:
        try:
            return compute()
        except Exception as error:
            if not engine.is_out_of_memory(error):
                raise
            size = min(engine.limits.micro_batch_size or num_pairs, num_pairs)
            lacks = f"memory does not suffice for {size} pairs at a time"
            if size <= 1:
                raise TrainingError(
                    f"memory does not suffice for one pair at a time: {error}. A smaller model "
                    "may, or shorter pairs (--max-len)"
                ) from error
            if not engine.limits.auto_batch:
                raise TrainingError(
                    f"{lacks}: {error}. With micro_batch_size={size // 2} (--micro-batch-size "
                    f"{size // 2}) the same steps need less, and auto_batch=True (--auto-batch) "
                    "finds the size that fits; a run that was saved can go on"
                ) from error
            engine.limits.micro_batch_size = size // 2
        # Here the error, and with it the tensors of its frames, is gone.
        tqdm.write(f"{lacks}; going on with {size // 2}, and the same batches", file=sys.stderr)
