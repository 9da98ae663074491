"""The processes that torchrun started, and what PyTorch sends between them."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertnli.errors import BackendError
from bertnli.training.workers import Workers, lost

#: How long a process waits for the others: while the first saves, say.
TIMEOUT = timedelta(minutes=10)
#: What torchrun tells each process.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class DistributedWorkers(Workers):
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, values: NDArray) -> NDArray:
        """See `Workers.sum`."""
        summed = torch.tensor(values)
        with lost_is_an_error():
            all_reduce(summed)
        return summed.numpy()


def find_workers() -> Workers:
    """Return the processes that torchrun started with this one, or those of the user's own group.

    The group is made where there is none yet: gloo for what is on the CPU, nccl on GPUs.
    """
    if not dist.is_available():
        return Workers()
    if not dist.is_initialized():
        if not all(os.environ.get(name) for name in VARIABLES) or os.environ["WORLD_SIZE"] == "1":
            return Workers()
        kinds = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with lost_is_an_error():
            dist.init_process_group(kinds, timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)
    return DistributedWorkers() if dist.get_world_size() > 1 else Workers()


def distributed(net: nn.Module, devices: Sequence[torch.device]) -> DistributedDataParallel:
    """Return the net, wrapped so that its gradients become their mean over the processes.

    All begin with the weights of the first.
    """
    if len(devices) > 1:
        raise BackendError(
            f"{len(devices)} devices in a process of several; start a process for each GPU "
            "(torchrun --nproc-per-node), and name none or one"
        )
    with lost_is_an_error():
        ids = list(devices) if devices[0].type == "cuda" else None
        if ids:  # or each process would take some memory of the first GPU
            torch.cuda.set_device(ids[0])
        return DistributedDataParallel(net, ids)


def exchanging(net: nn.Module, exchange: bool) -> AbstractContextManager[Any]:
    """Have a backward pass exchange the gradients, with those of passes before, or not yet."""
    if isinstance(net, DistributedDataParallel) and not exchange:
        return net.no_sync()
    return nullcontext()


def all_reduce(tensor: Tensor) -> None:
    """Sum a tensor over all processes, in place.

    A thread of gloo's holds on to the tensor for a moment after the sum is there. Were it the last
    to hold it, it would need Python to free it; and where Python is ending, that aborts the process
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    use_count = tensor._use_count  # type: ignore[attr-defined]
    holders = use_count()
    dist.all_reduce(tensor)
    while tensor.device.type == "cpu" and use_count() > holders:
        time.sleep(0)  # which lets the thread have its turn


def mean_gradients(parameters: Iterable[nn.Parameter], workers: Workers) -> None:
    """Do what a backward pass through DistributedDataParallel does, after it.

    A pass that lacks memory cannot be done again once it has begun to exchange.
    """
    with lost_is_an_error():
        for parameter in parameters:
            assert parameter.grad is not None
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            all_reduce(parameter.grad)
            parameter.grad.div_(workers.size)


@contextmanager
def lost_is_an_error() -> Iterator[None]:
    """Raise TrainingError where PyTorch's error says that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        known = ("gloo", "nccl", "connection", "timed out", "timeout")
        if isinstance(error, dist.DistError) or any(word in text for word in known):
            raise lost(error) from error
        raise
