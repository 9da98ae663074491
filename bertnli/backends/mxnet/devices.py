"""Devices of MXNet: the CPU and GPUs, batches and arrays on them."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.machine import openmp_threads
from bertnli.backends.device_list import Devices
from bertnli.backends.mxnet._framework import mx
from bertnli.bert.config import check_precision
from bertnli.data.batches import Batch
from bertnli.errors import BackendError
from bertnli.training.launch import LOCAL_RANK

_NO_BF16 = "MXNet 1.9.1 has no bfloat16 arrays in Python, and no training in bfloat16"

nd: Any = mx.nd
Device = mx.context.Context
Tensor = Any


class MXNetDevices(Devices):
    """MXNet's contexts: parts of the CPU, and GPUs."""

    framework, kind, local_rank = "mxnet", Device, LOCAL_RANK

    def num_gpus(self) -> int:
        return mx.context.num_gpus()

    def cpu(self, i: int = 0) -> Any:
        return mx.cpu(i)

    def gpu(self, i: int) -> Any:
        return mx.gpu(i)

    def gpu_index(self, device: Any) -> int | None:
        return device.device_id if device.device_type == "gpu" else None

    def check_several(self, devices: Sequence[Any]) -> None:
        if len(set(devices)) < len(devices):
            raise BackendError(
                f"a device is named twice in {list(map(str, devices))}; several parts of the CPU "
                "are 'cpu:0,cpu:1'"
            )


_devices = MXNetDevices()
cpu, try_gpu = _devices.cpu, _devices.try_gpu
try_all_gpus, as_devices = _devices.try_all_gpus, _devices.as_devices


def as_precision(precision: str, device: Any) -> tuple[str, str]:
    """Return the precision of matrix products on a device, and the reason.

    Args:
        precision: ``"fp32"``, or ``"auto"``, which is that too.
        device: the device that computes.

    Returns:
        ``"fp32"``, and the reason, a sentence.

    Raises:
        BackendError: ``"bf16"``.
    """
    check_precision(precision)
    if precision == "bf16":
        raise BackendError(f"{_NO_BF16}; use precision='fp32', or the torch backend")
    return "fp32", _NO_BF16 if precision == "auto" else ""


def backend_info() -> dict[str, Any]:
    """Return the framework's version, threads, libraries and GPUs, for `bertnli doctor`."""
    built = mx.runtime.Features()
    has = {name for name in built if built.is_enabled(name)}
    threads, limit = openmp_threads(), os.environ.get("MXNET_OMP_MAX_THREADS", "")
    if threads is not None and limit.isdigit():
        threads = min(threads, int(limit))
    return {
        "version": mx.__version__,
        "threads": threads,
        "libraries": {
            "oneDNN": bool(has & {"MKLDNN", "ONEDNN"}),
            "MKL": "BLAS_MKL" in has,
            "CUDA": "CUDA" in has,
        },
        "code for": "",  # oneDNN chooses as it runs, and does not tell
        "gpus": [str(mx.gpu(i)) for i in range(mx.context.num_gpus())],
    }


def devices_of(model: Any) -> list:
    """Return the devices that hold a model's parameters."""
    return next(iter(model.collect_params().values())).list_ctx()


@mx.util.use_np
def to_device(batch: Batch, device: Any) -> list[Tensor]:
    """Return the inputs of a batch, see `Batch.inputs`, on a device."""
    return [as_nd(array, device).as_np_ndarray() for array in batch.inputs()]


def as_nd(values: NDArray, device: Any) -> Tensor:
    """Return an `mx.nd` array of integers, as int32, or numbers, as float32."""
    dtype = np.float32 if values.dtype.kind == "f" else np.int32
    if device.device_type != "cpu" or not values.size:
        return nd.array(values, device, dtype=dtype)
    array, memory = new_array(values.shape, dtype, device)
    memory[...] = values
    return array


def new_array(shape: tuple[int, ...], dtype: type, device: Any) -> tuple[Tensor, NDArray]:
    """Return an `mx.nd` array on the CPU, and its memory, to be filled before the array is used.

    MXNet's own way of filling an array waits in the queue behind all operations under way.
    """
    array = nd.empty(shape, device, dtype)
    pointer = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_char * size).from_address(pointer.value or 0))
    return array, np.frombuffer(memory, dtype).reshape(shape)


def split_batch(batch: Batch, devices: Sequence[Any]) -> list[Batch]:
    """Return one part of a batch for each device, in order, as even as can be.

    A batch of fewer pairs than devices leaves the last devices an empty part.
    """
    bounds = np.linspace(0, len(batch), len(devices) + 1).round().astype(int)
    return [batch[low:high] for low, high in pairwise(bounds)]
