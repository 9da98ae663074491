"""The processes that `bertnli launch` started, and MXNet's key-value store between them."""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_nd
from bertnli.errors import BackendError, ConfigError
from bertnli.training.launch import LIFELINE, RANK
from bertnli.training.watch import RANK_TIMEOUT, Watch, checked
from bertnli.training.workers import Workers

nd: Any = mx.nd

#: Maximum and minimum number of values under one key of the store.
PIECE, SMALLEST = 1 << 20, 16


class DistributedWorkers(Workers):
    """The workers of MXNet's key-value store ``dist_sync``, whose servers sum what workers push.

    Args:
        rank_timeout: how long to wait for the others; see `bertnli.training.trainer.Trainer`.
    """

    #: The instance of this process, which can join the store only once.
    joined: DistributedWorkers | None = None

    def __init__(self, rank_timeout: timedelta) -> None:
        rank = os.environ.get(RANK)
        self.watch = Watch(rank_timeout, None if rank is None else LIFELINE)
        with self.watch.exchange():
            self.store = mx.kv.create("dist_sync")
        atexit.register(self._leave)  # the store must end before MXNet's threads
        self.size = self.store.num_workers
        self.rank = int(rank or self.store.rank)
        self._keys: set[str] = set()
        self.set_exit_together(together=False)
        present = np.zeros(self.size, np.float32)
        present[self.rank % self.size] = 1
        if not (self.sum(present) == 1).all():
            raise ConfigError(
                f"several of the {self.size} workers have the same rank; give each host a number "
                "of its own (bertnli launch --host)"
            )

    def _leave(self) -> None:
        with self.watch.exchange():
            self.store = None

    @contextmanager
    def saving(self, save: Callable[[], str]) -> Iterator[None]:
        before, self.watch.save = self.watch.save, save
        try:
            yield
        finally:
            self.watch.save = before

    def set_exit_together(self, together: bool) -> None:
        # By default a worker that exits waits for all others, and one that failed would never end.
        flag = ctypes.c_int(together)
        mx.base.check_call(mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self.store.handle, flag))

    def sum(self, values: NDArray) -> NDArray:
        if values.dtype == np.float32:
            return self.sum_on_device(as_nd(values, mx.cpu())).asnumpy()
        # The store adds float32, so the rest of each number is sent separately.
        high = values.astype(np.float32)
        parts = np.concatenate([high, (values - high).astype(np.float32)])
        return self.sum(parts).astype(np.float64).reshape(2, -1).sum(0)

    def sum_on_device(self, values: Any) -> Any:
        """Sum an `mx.nd` array (N,) float32 over all processes; the result is on the CPU."""
        with self.watch.exchange():
            summed = self._sum(values)
            summed.wait_to_read()
            return summed

    def _sum(self, values: Any) -> Any:
        sums = []
        for i, start in enumerate(range(0, len(values), PIECE)):
            piece = values[start : start + PIECE].as_in_context(mx.cpu())
            n = len(piece)
            size = max(1 << (n - 1).bit_length(), SMALLEST)
            key = f"{i}/{size}"
            if key not in self._keys:
                self.store.init(key, nd.zeros(size))
                self._keys.add(key)
            # Pushing gives the memory away: a pull overwrites it.
            buffer = nd.concat(piece, nd.zeros(size - n), dim=0) if n < size else piece.copy()
            self.store.push(key, buffer, priority=-i)
            summed = nd.empty(size)
            self.store.pull(key, summed, priority=-i)
            sums.append(summed[:n])
        return nd.concat(*sums, dim=0) if len(sums) > 1 else sums[0]

    def of_first(self, values: Any) -> Any:
        """Broadcast the first process's `mx.np` array, float32, to all processes."""
        flat = values.reshape(-1).as_nd_ndarray() * float(self.is_first)
        return self.sum_on_device(flat).as_np_ndarray().reshape(values.shape)


def find_workers(rank_timeout: timedelta | None = None) -> Workers:
    """Find the processes that `bertnli launch` or one of MXNet's launchers started.

    They find each other by ps-lite's environment variables, ``DMLC_ROLE`` and others.

    Args:
        rank_timeout: how long to wait for the others; see `bertnli.training.trainer.Trainer`.

    Raises:
        BackendError: torchrun started this process.
    """
    rank_timeout = checked(rank_timeout or RANK_TIMEOUT)
    if os.environ.get("DMLC_ROLE") != "worker" or os.environ.get("DMLC_NUM_WORKER") == "1":
        if os.environ.get("TORCHELASTIC_RUN_ID") and os.environ.get("WORLD_SIZE") != "1":
            raise BackendError("torchrun is for PyTorch; for MXNet: bertnli launch")
        return Workers()
    if DistributedWorkers.joined is None:
        DistributedWorkers.joined = DistributedWorkers(rank_timeout)
    return DistributedWorkers.joined
