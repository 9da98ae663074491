"""What a backend does of training: a step, an evaluation step, gradients, the optimizer's state.

`bertnli.training.trainer` is the loop above it; `memory` and `run` use it, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
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
    """What a training step's batch gave, once it is asked for: reading waits for the step.

    Args:
        read: gives the sum of the pairs' losses, in nats, and the number predicted right.
    """

    def __init__(self, read: Callable[[], tuple[float, float]]) -> None:
        self._read = read

    def read(self) -> tuple[float, float]:
        """Return the sum of the pairs' losses, in nats, and the number predicted right."""
        return self._read()


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
        """Raise ConfigError if the processes have different ones; before any weights travel."""
        model = [self.net.config.to_dict(), list(self.net.labels)]
        self.workers.check_same([*model, self.limits.auto_batch])

    @abstractmethod
    def step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        """Take a step, summed in the framework's own way; see `Trainer.train_step`."""

    @abstractmethod
    def mean_gradients(self, batch: Batch, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return the gradients of `step` under canonical names; nothing is updated."""

    def before_update(self, result: StepResult) -> None:
        """Called in each step with what it gave, before the weights change."""
        if self._before_update is not None:
            self._before_update(result)

    @contextmanager
    def settled(self, settle: Callable[[StepResult], None] | None) -> Iterator[None]:
        """Have a function called in each step, before the weights change."""
        self._before_update = settle
        try:
            yield
        finally:
            self._before_update = None

    @abstractmethod
    def apply_gradients(self, gradients: Mapping[str, NDArray], lr: float) -> None:
        """Take the step of Adam that `step` would take with these gradients, clipped."""

    @abstractmethod
    def backend_info(self) -> dict[str, Any]:
        """Return the backend's name, and what its framework says of itself; see `Backend.about`."""

    @abstractmethod
    def device_kinds(self) -> list[str]:
        """Return of each device whether it is a ``"cpu"`` or a ``"gpu"``."""

    @abstractmethod
    def optimizer_arrays(self) -> dict[str, NDArray]:
        """Return Adam's state under canonical names; see `bertnli.training.moments`.

        The arrays may share memory with the optimizer, and change with its next step.
        """

    @abstractmethod
    def load_optimizer_arrays(self, arrays: Mapping[str, NDArray]) -> None:
        """Take the state that `optimizer_arrays` returned, on whatever backend and device."""

    @abstractmethod
    def eval_step(self, batch: Batch) -> NDArray[np.float32]:
        """Return a batch's outputs for evaluation, (B, num_eval_outputs), float32.

        Those of a classifier are its logits. Computed without dropout, on all devices.

        Of this process alone: several each evaluate batches of their own.
        """

    @abstractmethod
    def loader_batch(self, item: Any) -> Batch:
        """Return the Batch of one item of the framework's own DataLoader."""

    @abstractmethod
    def loader_set(self, loader: Any) -> Any:
        """Return the data set of the framework's own DataLoader; None where there is none."""

    @abstractmethod
    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether this is the framework's way of saying that memory does not suffice."""
