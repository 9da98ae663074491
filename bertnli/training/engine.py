"""What a backend does of training: a step, an evaluation step, gradients, the optimizer's state.

`bertnli.training.trainer` is the loop above it; `memory` and `run` use it, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.nets.trainable import Trainable
from bertnli.training.average import BaseWeightAverage
from bertnli.training.watch import RANK_TIMEOUT
from bertnli.training.workers import Workers


class StepResult:
    """What a training step's batch gave; reading it waits for the step to end.

    Args:
        parts: of each micro-batch, the sum of its losses in nats and the number predicted right,
            scalars of any framework.
    """

    def __init__(self, parts: Sequence[tuple[Any, Any]]) -> None:
        self._parts = parts

    def read(self) -> tuple[float, float]:
        """Return the sum of the pairs' losses, in nats, and the number predicted right."""
        return sum(float(loss) for loss, _ in self._parts), sum(float(n) for _, n in self._parts)


@dataclass
class Limits:
    """How much of a batch is computed together; see `bertnli.training.trainer.Trainer`."""

    micro_batch_size: int | None = None
    auto_batch: bool = False
    rank_timeout: timedelta = RANK_TIMEOUT


class BaseEngine(ABC):
    """A net on its devices, with its optimizer.

    Args:
        net: a net of the backend.
        config: the settings of a run.
        devices, precision: see `bertnli.training.trainer.Trainer`.
        limits: how much of a batch is computed together; ``micro_batch_size`` may change on the
            way.

    Attributes:
        devices: those that compute.
        workers: the processes of the run.
        precision_reason: why that precision, where there is something to say.
        weight_average: the mean of the last weights, where the settings want one.

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

    def __init__(
        self, net: Any, config: TrainingConfig, devices: Any, precision: str, limits: Limits
    ) -> None:
        self.net, self.config, self.limits = net, config, limits
        self._before_update: Callable[[StepResult], None] | None = None
        self._prepare(devices, precision)

    @abstractmethod
    def _prepare(self, devices: Any, precision: str) -> None:
        """Find the workers, move the net to the devices, set its precision, make the optimizer."""

    def check_same_model(self) -> None:
        """Raise ConfigError if the processes have different models or limits."""
        model = [self.net.config.to_dict(), list(self.net.labels)]
        self.workers.check_same([*model, self.limits.auto_batch])

    def step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take a step of Adam; see `Trainer.train_step`."""
        result = self._backward(batch, seed)
        if self._before_update is not None:
            self._before_update(result)
        self._update(lr)
        return result

    def mean_gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of `step` under canonical names; nothing is updated."""
        self._backward(batch, seed)
        return self._gradients()

    @abstractmethod
    def _backward(self, batch: Batch, seed: int) -> StepResult:
        """Compute the gradients of a batch's mean loss, summed over the processes."""

    @abstractmethod
    def _update(self, lr: float) -> None:
        """Change the weights by the gradients of `_backward`."""

    @abstractmethod
    def _gradients(self) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of `_backward` under canonical names."""

    @contextmanager
    def settled(self, settle: Callable[[StepResult], None] | None) -> Iterator[None]:
        """Have a function called in each step, with its result, before the weights change."""
        self._before_update = settle
        try:
            yield
        finally:
            self._before_update = None

    @abstractmethod
    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Return a batch's outputs for evaluation, (B, num_eval_outputs), float32.

        Those of a classifier are its logits. Computed without dropout, on all devices of this
        process; several processes each evaluate batches of their own.
        """

    @abstractmethod
    def backend_info(self) -> dict[str, Any]:
        """Return the backend's name, and what its framework says of itself."""

    def device_kinds(self) -> list[str]:
        """Return of each device whether it is a ``"cpu"`` or a ``"gpu"``."""
        return ["cpu" if str(device).startswith("cpu") else "gpu" for device in self.devices]

    def optimizer_arrays(self) -> dict[str, NDArray]:
        """Return Adam's state under canonical names; see `bertnli.training.moments`.

        The arrays may share memory with the optimizer, and change with its next step.
        """
        return self.optimizer.arrays()

    def load_optimizer_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Take the state that `optimizer_arrays` returned, on any backend and device."""
        self.optimizer.load_arrays(arrays)

    def loader_batch(self, item: Any) -> Batch:
        """Return the Batch of one item of the framework's own DataLoader."""
        return Batch.from_padded(item, self._to_numpy)

    @abstractmethod
    def _to_numpy(self, tensor: Any) -> NDArray:
        """Return a tensor as an array of its own type."""

    def loader_set(self, loader: Any) -> Any:
        """Return the data set of the framework's own DataLoader; None where there is none."""
        return getattr(loader, "dataset", getattr(loader, "_dataset", None))

    @abstractmethod
    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether this is the framework's way of saying that memory does not suffice."""
