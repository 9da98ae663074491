"""Devices of PyTorch: the CPU and GPUs, their precision; batches and data sets as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertnli.backends.device_list import Devices
from bertnli.bert.config import check_precision
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset
from bertnli.errors import BackendError

Device = torch.device


class TorchDevices(Devices):
    """PyTorch's CPU and GPUs."""

    framework, kind, local_rank = "torch", Device, "LOCAL_RANK"

    def num_gpus(self) -> int:
        return torch.cuda.device_count()

    def cpu(self, i: int = 0) -> Device:
        return torch.device("cpu")

    def gpu(self, i: int) -> Device:
        return torch.device("cuda", i)

    def gpu_index(self, device: Device) -> int | None:
        return device.index or 0 if device.type == "cuda" else None

    def check_several(self, devices: Sequence[Device]) -> None:
        if any(device.type != "cuda" for device in devices):
            raise BackendError(
                "torch runs several devices at once with DataParallel, which takes GPUs only, not "
                f"{list(map(str, devices))}; on the CPU give one device: it uses all cores"
            )


_devices = TorchDevices()
cpu, try_gpu = _devices.cpu, _devices.try_gpu
try_all_gpus, as_devices = _devices.try_all_gpus, _devices.as_devices


def as_precision(precision: str, device: Device) -> tuple[str, str]:
    """Choose the precision of matrix products on a device.

    Args:
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``: bf16 where the hardware has it.
        device: the device that computes.

    Returns:
        ``"fp32"`` or ``"bf16"``, and the reason in words, which may be empty.
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
    """Return the framework's version, threads, libraries and GPUs, for `bertnli doctor`."""
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
    """Copy the inputs of a batch, see `Batch.inputs`, to a device."""
    tensors = [torch.from_numpy(array) for array in batch.inputs()]
    if device.type == "cuda":  # asynchronously, from pinned memory
        return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return [tensor.to(device) for tensor in tensors]


class SNLIBERTDataset(PairDataset, torch.utils.data.Dataset):
    """A PyTorch data set of encoded pairs; item i is ``((token_ids, segments, valid_len), label)``.

    Items are padded to ``max_len`` and int64, as in the book's PyTorch tab.
    """

    def __getitem__(self, index: int) -> tuple[tuple[NDArray, NDArray, NDArray], NDArray]:
        token_ids, segments, valid_len, label = self.padded(index)
        inputs = (token_ids.astype(np.int64), segments.astype(np.int64), np.int64(valid_len))
        return inputs, np.int64(label)  # type: ignore[return-value]
