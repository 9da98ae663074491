"""Devices of PyTorch: finding them, naming them, moving batches there, splitting work over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bertnli.backends.device_names import check_gpu, listed, parsed
from bertnli.bert.config import check_precision
from bertnli.data.batches import Batch
from bertnli.errors import BackendError

Device = torch.device


def cpu() -> Device:
    """Return the CPU."""
    return torch.device("cpu")


def try_gpu(i: int = 0) -> Device:
    """Return GPU i if there is one, else the CPU."""
    return torch.device("cuda", i) if torch.cuda.device_count() > i else cpu()


def try_all_gpus() -> list[Device]:
    """Return all GPUs, or a list of the CPU where there is none.

    In a process that torchrun started, the one GPU that is this process's.
    """
    count = torch.cuda.device_count()
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is not None and count:
        return [torch.device("cuda", int(local_rank) % count)]
    return [torch.device("cuda", i) for i in range(count)] or [cpu()]


def as_devices(devices: str | Device | Sequence[str | Device] | None) -> list[Device]:
    """Return a list of devices from what a user may write.

    Args:
        devices: devices or their names (``"cpu"``, ``"gpu"`` for all of them, ``"gpu:1"``), one or
            several, also ``"gpu:0,gpu:1"``; None for all GPUs or else the CPU.

    Raises:
        BackendError: a name that means nothing, a GPU that is not here, the CPU named twice.
    """
    if devices is None:
        return try_all_gpus()
    found: list[Device] = []
    for device in listed(devices, Device, "torch"):
        if isinstance(device, str):
            found += _named(device)
            continue
        if device.type == "cuda":
            check_gpu(device.index or 0, torch.cuda.device_count(), device, "torch")
        found.append(device)
    if len(found) > 1 and any(device.type != "cuda" for device in found):
        raise BackendError(
            f"torch runs several devices at once with DataParallel, which takes GPUs only, not "
            f"{[str(device) for device in found]}; on the CPU give one device: it uses all cores"
        )
    return found


def _named(name: str) -> list[Device]:
    kind, index = parsed(name)
    if kind == "cpu":
        return [cpu()]
    count = torch.cuda.device_count()
    if index is None and count:
        return try_all_gpus()
    check_gpu(index or 0, count, name, "torch")
    return [torch.device("cuda", index or 0)]


def as_precision(precision: str, device: Device) -> tuple[str, str]:
    """Return what to compute matrix products in on a device, and the reason.

    Args:
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 where the hardware has it.
        device: where.

    Returns:
        ``"fp32"`` or ``"bf16"``, and a sentence to show.
    """
    check_precision(precision)
    if device.type == "cuda":
        in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
        in_hardware = device.type == "cpu" and any(check() for check in known)
    if precision != "auto":
        slow = precision == "bf16" and not in_hardware
        return precision, f"{device} has no bf16 instructions: bf16 is slow here" if slow else ""
    if in_hardware:
        return "bf16", f"{device} has bf16 instructions"
    return "fp32", f"{device} has no bf16 instructions"


def backend_info() -> dict[str, Any]:
    """Return what `bertnli doctor` shows of the framework: version, threads, libraries, GPUs."""
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "libraries": {
            "oneDNN": torch.backends.mkldnn.is_available(),
            "MKL": torch.backends.mkl.is_available(),
            "CUDA": torch.version.cuda or False,
        },
        "code for": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def device_of(model: nn.Module) -> Device:
    """Return the device that holds a model's parameters."""
    return next(model.parameters()).device


def to_device(batch: Batch, device: Device) -> list[Tensor]:
    """Return the inputs of a batch, see `Batch.inputs`, on a device."""
    tensors = [torch.from_numpy(array) for array in batch.inputs()]
    if device.type == "cuda":  # from pinned memory, while the device works on
        return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return [tensor.to(device) for tensor in tensors]


def data_parallel(net: nn.Module, devices: Sequence[Device]) -> nn.Module:
    """Return the net, on the first device; over several GPUs, wrapped so that batches are split."""
    net.to(devices[0])
    return nn.DataParallel(net, list(devices)) if len(devices) > 1 else net
