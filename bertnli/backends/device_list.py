"""Devices of a framework, and the names by which a user gives them."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from bertnli.errors import BackendError


class Devices(ABC):
    """The devices of a framework.

    Attributes:
        framework: the framework's name.
        kind: the framework's class of devices.
        local_rank: the environment variable that holds a process's rank on its host.
    """

    framework: str
    kind: type
    local_rank: str

    @abstractmethod
    def num_gpus(self) -> int:
        """Return the number of GPUs that the framework sees."""

    @abstractmethod
    def cpu(self, i: int = 0) -> Any:
        """Return the CPU as a device; on MXNet its part ``i``."""

    @abstractmethod
    def gpu(self, i: int) -> Any:
        """Return GPU ``i`` as a device."""

    @abstractmethod
    def gpu_index(self, device: Any) -> int | None:
        """Return the number of a GPU; None for other devices."""

    @abstractmethod
    def check_several(self, devices: Sequence[Any]) -> None:
        """Raise BackendError if the framework cannot use several devices together."""

    def try_gpu(self, i: int = 0) -> Any:
        """Return GPU ``i`` if it exists, else the CPU."""
        return self.gpu(i) if i < self.num_gpus() else self.cpu()

    def try_all_gpus(self) -> list[Any]:
        """Return a list of all GPUs, or of the CPU if there are none.

        A process that `torchrun` or `bertnli launch` started gets the one GPU of its local rank.
        """
        count, rank = self.num_gpus(), os.environ.get(self.local_rank)
        if rank is not None and count:
            return [self.gpu(int(rank) % count)]
        return [self.gpu(i) for i in range(count)] or [self.cpu()]

    def as_devices(self, devices: Any = None) -> list[Any]:
        """Convert names of devices to a list of the framework's devices.

        Args:
            devices: one or several devices or names (``"cpu"``, ``"gpu"`` for all GPUs,
                ``"gpu:1"``, ``"gpu:0,gpu:1"``); None for all GPUs, or the CPU if there are none.

        Raises:
            BackendError: a name is unknown, a GPU does not exist, or the framework cannot use the
                devices together.
        """
        if devices is None:
            return self.try_all_gpus()
        if isinstance(devices, str):
            devices = devices.split(",")
        elif isinstance(devices, self.kind) or not isinstance(devices, Iterable):
            devices = [devices]
        chosen = [device for each in devices for device in self._parse(each)]
        if not chosen:
            raise BackendError("the list of devices is empty; give at least one, such as 'cpu'")
        if len(chosen) > 1:
            self.check_several(chosen)
        return chosen

    def _parse(self, device: Any) -> list[Any]:
        """Convert one name, or a device object, to a list of devices."""
        usage = "write 'cpu', 'gpu' or 'gpu:0'"
        index: int | None
        if isinstance(device, str):
            match = re.fullmatch(r"(cpu|gpu|cuda)(?:[:(](\d+)\)?)?", device.strip())
            if match is None:
                raise BackendError(f"unknown device {device.strip()!r}; {usage}")
            index = int(match[2] or 0)
            if match[1] == "cpu":
                return [self.cpu(index)]
            if match[2] is None and self.num_gpus():
                return self.try_all_gpus()
        elif not isinstance(device, self.kind):
            raise BackendError(
                f"{device!r:.80} is neither a device's name nor a device of {self.framework}; "
                f"{usage}"
            )
        elif (index := self.gpu_index(device)) is None:
            return [device]
        if index >= self.num_gpus():
            raise BackendError(
                f"device {str(device)!r} is not here: {self.framework} sees {self.num_gpus()} "
                "GPUs; use 'cpu'"
            )
        return [self.gpu(index)]
