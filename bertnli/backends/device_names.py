"""What a user may write for devices, on any backend."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from bertnli.errors import BackendError

_HELP = "write 'cpu', 'gpu' or 'gpu:0'"


def listed(devices: Any, kind: type, framework: str) -> list[Any]:
    """Return names, stripped, and devices of a framework, one or several of which were given.

    Raises:
        BackendError: something that is neither.
    """
    if isinstance(devices, str):
        devices = devices.split(",")
    elif isinstance(devices, kind) or not isinstance(devices, Iterable):
        devices = [devices]
    found = [device.strip() if isinstance(device, str) else device for device in devices]
    for device in found:
        if not isinstance(device, str | kind):
            raise BackendError(
                f"{device!r:.80} is neither a device's name nor a device of {framework}; {_HELP}"
            )
    if not found:
        raise BackendError("the list of devices is empty; give at least one, such as 'cpu'")
    return found


def parsed(name: str) -> tuple[str, int | None]:
    """Return what a device's name says: ``"cpu"`` or ``"gpu"``, and its number, if there is one.

    Raises:
        BackendError: it says nothing.
    """
    match = re.fullmatch(r"(cpu|gpu|cuda)(?:[:(](\d+)\)?)?", name)
    if match is None:
        raise BackendError(f"unknown device {name!r}; {_HELP}")
    return match[1].replace("cuda", "gpu"), None if match[2] is None else int(match[2])


def check_gpu(index: int, count: int, name: object, framework: str) -> None:
    """Raise BackendError if a framework does not see a GPU, before it is asked to use it."""
    if index >= count:
        raise BackendError(
            f"device {str(name)!r} is not here: {framework} sees {count} GPUs; use 'cpu'"
        )
