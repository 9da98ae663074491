"""The processes that torchrun started, and PyTorch's communication between them."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertnli.errors import BackendError
from bertnli.training.watch import RANK_TIMEOUT, checked
from bertnli.training.workers import Workers, lost

#: Environment variables that torchrun sets in each process.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class DistributedWorkers(Workers):
    """The processes of torch.distributed's default process group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, values: NDArray) -> NDArray:
        summed = torch.tensor(values)
        with lost_is_an_error():
            all_reduce(summed)
        return summed.numpy()


def find_workers(rank_timeout: timedelta | None = None) -> Workers:
    """Find the processes of the user's process group, or those that torchrun started.

    For the latter a group is made, with gloo for the CPU and nccl for GPUs.

    Args:
        rank_timeout: the timeout of a new group; see `bertnli.training.trainer.Trainer`.
    """
    rank_timeout = checked(rank_timeout or RANK_TIMEOUT)
    if not dist.is_available():
        return Workers()
    if not dist.is_initialized():
        if not all(os.environ.get(name) for name in VARIABLES) or os.environ["WORLD_SIZE"] == "1":
            return Workers()
        kinds = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with lost_is_an_error():
            dist.init_process_group(kinds, timeout=rank_timeout)
        atexit.register(dist.destroy_process_group)
    return DistributedWorkers() if dist.get_world_size() > 1 else Workers()


def distributed(
    net: nn.Module, devices: Sequence[torch.device], ignored: Sequence[Tensor] = ()
) -> DistributedDataParallel:
    """Copy rank 0's weights to all processes, and wrap the net to average their gradients.

    The gradients of the ``ignored`` parameters are left to `mean_gradients`.

    Raises:
        BackendError: this process has several devices.
    """
    if len(devices) > 1:
        raise BackendError(
            f"{len(devices)} devices in a process of several; start a process for each GPU "
            "(torchrun --nproc-per-node), and name none or one"
        )
    with lost_is_an_error():
        ids = list(devices) if devices[0].type == "cuda" else None
        if ids:  # otherwise each process takes some memory of the first GPU
            torch.cuda.set_device(ids[0])
        for parameter in ignored:
            dist.broadcast(parameter.detach(), 0)
        names = [name for name, p in net.named_parameters() if any(p is x for x in ignored)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(net, names)
        return DistributedDataParallel(net, ids)


def all_reduce(tensor: Tensor) -> None:
    """Sum a tensor over all processes, in place.

    A thread of gloo keeps a reference to the tensor for a moment longer. If Python ends before, the
    process aborts (https://github.com/pytorch/pytorch/pull/179291), so we wait.
    """
    use_count = tensor._use_count  # type: ignore[attr-defined]
    holders, references = use_count(), sys.getrefcount(tensor)
    dist.all_reduce(tensor)
    if tensor.device.type == "cpu":
        while use_count() > holders or sys.getrefcount(tensor) > references:
            time.sleep(0)


def mean_gradients(
    parameters: Iterable[Tensor], workers: Workers, used: NDArray[np.integer]
) -> None:
    """Average gradients over the processes, after a backward pass without exchange.

    Used for sparse gradients, and for all with ``auto_batch``: a backward pass that ran out of
    memory cannot be repeated once it has begun to exchange. PyTorch's own sum of sparse tensors is
    avoided: in gloo (ProcessGroupGloo::runLoop in 2.13) two threads may write its long name at the
    same time, and free the memory twice.

    ``used`` are the rows of sparse gradients that any process has, with repetitions.
    """
    rows = torch.from_numpy(np.unique(used).astype(np.int64))
    with lost_is_an_error():
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            if not gradient.is_sparse:
                all_reduce(gradient)
            else:
                gradient = gradient.coalesce()
                summed = torch.zeros(len(rows), gradient.shape[1], dtype=gradient.dtype)
                summed[torch.searchsorted(rows, gradient.indices()[0])] = gradient.values()
                all_reduce(summed)
                parameter.grad = gradient = torch.sparse_coo_tensor(
                    rows[None], summed, gradient.shape, check_invariants=False, is_coalesced=True
                )
            gradient.div_(workers.size)


@contextmanager
def lost_is_an_error() -> Iterator[None]:
    """Turn PyTorch's errors about another process into RankError within a ``with`` block."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        known = ("gloo", "nccl", "connection", "timed out", "timeout")
        if isinstance(error, dist.DistError) or any(word in text for word in known):
            raise lost(error) from error
        raise
