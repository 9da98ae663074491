"""Devices of MXNet: the CPU and GPUs; batches, data sets and arrays on them."""

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
from bertnli.backends.mxnet._framework import Device, devices_of_parameter, mx
from bertnli.bert.config import check_precision
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset
from bertnli.errors import BackendError
from bertnli.training.launch import LOCAL_RANK

_NO_BF16 = "MXNet 1.9.1 has no bfloat16 arrays in Python, and no training in bfloat16"

nd: Any = mx.nd
Tensor = Any


class MXNetDevices(Devices):
    """MXNet's devices: parts of the CPU, and GPUs."""

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
    """Choose the precision of matrix products on a device, which is always fp32 on MXNet.

    Args:
        precision: ``"fp32"`` or ``"auto"``; ``"bf16"`` raises BackendError.
        device: the device that computes.

    Returns:
        ``"fp32"``, and the reason in words, which may be empty.
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
    return devices_of_parameter(next(iter(model.collect_params().values())))


@mx.util.use_np
def to_device(batch: Batch, device: Any) -> list[Tensor]:
    """Copy the inputs of a batch, see `Batch.inputs`, to a device."""
    return [as_nd(array, device).as_np_ndarray() for array in batch.inputs()]


def as_nd(values: NDArray, device: Any) -> Tensor:
    """Copy a NumPy array to an `mx.nd` array on a device: integers to int32, floats to float32."""
    dtype = np.float32 if values.dtype.kind == "f" else np.int32
    if device.device_type != "cpu" or not values.size:
        return nd.array(values, device, dtype=dtype)
    array, memory = new_array(values.shape, dtype, device)
    memory[...] = values
    return array


def new_array(shape: tuple[int, ...], dtype: type, device: Any) -> tuple[Tensor, NDArray]:
    """Allocate an `mx.nd` array on the CPU, and view its memory as a NumPy array.

    The memory must be filled before the array is used. MXNet's own assignment would wait behind all
    operations in its queue.
    """
    array = nd.empty(shape, device, dtype)
    pointer = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_char * size).from_address(pointer.value or 0))
    return array, np.frombuffer(memory, dtype).reshape(shape)


def split_batch(batch: Batch, devices: Sequence[Any]) -> list[Batch]:
    """Split a batch into one part for each device, in order, of almost equal sizes.

    If there are fewer pairs than devices, some parts are empty.
    """
    bounds = np.linspace(0, len(batch), len(devices) + 1).round().astype(int)
    return [batch[low:high] for low, high in pairwise(bounds)]


class SNLIBERTDataset(PairDataset, mx.gluon.data.Dataset):
    """A gluon data set of encoded pairs; item i is ``((token_ids, segments, valid_len), label)``.

    Items are padded to ``max_len``; ids are int32, length and label float32, as in the book's
    MXNet tab.
    """

    def __getitem__(self, index: int) -> tuple[tuple[NDArray, NDArray, NDArray], NDArray]:
        token_ids, segments, valid_len, label = self.padded(index)
        inputs = (token_ids, segments, np.float32(valid_len))
        return inputs, np.float32(label)  # type: ignore[return-value]
