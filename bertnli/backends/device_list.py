"""What a user may write for devices, on any backend."""

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
        framework: its name.
        kind: the class of its devices.
        local_rank: environment variable with a process's rank among those on its host.
    """

    framework: str
    kind: type
    local_rank: str

    @abstractmethod
    def num_gpus(self) -> int:
        """Return how many GPUs the framework sees."""

    @abstractmethod
    def cpu(self, i: int = 0) -> Any:
        """Return the CPU."""

    @abstractmethod
    def gpu(self, i: int) -> Any:
        """Return GPU i."""

    @abstractmethod
    def gpu_index(self, device: Any) -> int | None:
        """Return a GPU's number; None for other devices."""

    @abstractmethod
    def check_several(self, devices: Sequence[Any]) -> None:
        """Raise BackendError if the framework cannot use these devices together."""

    def try_gpu(self, i: int = 0) -> Any:
        """Return GPU i if there is one, else the CPU."""
        return self.gpu(i) if i < self.num_gpus() else self.cpu()

    def try_all_gpus(self) -> list[Any]:
        """Return all GPUs, or a list of the CPU where there is none.

        In a process that a launcher started, the one GPU that is this process's.
        """
        count, rank = self.num_gpus(), os.environ.get(self.local_rank)
        if rank is not None and count:
            return [self.gpu(int(rank) % count)]
        return [self.gpu(i) for i in range(count)] or [self.cpu()]

    def as_devices(self, devices: Any = None) -> list[Any]:
        """Return a list of devices from what a user may write.

        Args:
            devices: devices or their names (``"cpu"``, ``"gpu"`` for all of them, ``"gpu:1"``), one
                or several, also ``"gpu:0,gpu:1"``; None for all GPUs or else the CPU.

        Raises:
            BackendError: an unknown name, a GPU that is not here, the CPU named twice.
        """
        if devices is None:
            return self.try_all_gpus()
        if isinstance(devices, str):
            devices = devices.split(",")
        elif isinstance(devices, self.kind) or not isinstance(devices, Iterable):
            devices = [devices]
        chosen = [device for each in devices for device in self._resolved(each)]
        if not chosen:
            raise BackendError("the list of devices is empty; give at least one, such as 'cpu'")
        if len(chosen) > 1:
            self.check_several(chosen)
        return chosen

    def _resolved(self, device: Any) -> list[Any]:
        """Return the devices that a name, or a device, stands for."""
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
        elif isinstance(device, self.kind):
            index = self.gpu_index(device)
            if index is None:
                return [device]
        else:
            raise BackendError(
                f"{device!r:.80} is neither a device's name nor a device of {self.framework}; "
                f"{usage}"
            )
        if index >= self.num_gpus():
            raise BackendError(
                f"device {str(device)!r} is not here: {self.framework} sees {self.num_gpus()} "
                "GPUs; use 'cpu'"
            )
        return [self.gpu(index)]
