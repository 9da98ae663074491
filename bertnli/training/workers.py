"""The processes that train together, each on its share of every batch.

All see the same batches in the same order and take the same steps. The first one alone writes files
and prints. A backend provides the sum over the processes; everything else is made of sums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli import errors
from bertnli.data.batches import Batch
from bertnli.errors import BERTNLIError, ConfigError, RankError

T = TypeVar("T")

#: Number of bytes that are broadcast at a time.
_PIECE = 1 << 21


class Workers:
    """The processes of a run, and what they exchange; this base class is a single process.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def sum(self, values: NDArray) -> NDArray:
        """Sum arrays (N,), float32 or float64, over all processes; each gets the result (N,).

        A RankError is raised if a process is gone.
        """
        return values

    def share(self, batch: Batch) -> Batch:
        """Select this process's pairs of a batch, with about as many tokens as the others'.

        If a batch has fewer pairs than there are processes, some get none.
        """
        if self.size == 1:
            return batch
        longest_first = np.argsort(-batch.valid_lens, kind="stable")
        return batch[longest_first[self.rank :: self.size]]

    def set_exit_together(self, together: bool) -> None:
        """Set whether a process that exits waits for the others."""

    @contextmanager
    def saving(self, save: Callable[[], str]) -> Iterator[None]:
        """Context manager that saves the run's state if another process is lost.

        ``save`` saves the state and returns a sentence that says how to go on, which becomes the
        end of the RankError's message.
        """
        try:
            yield
        except RankError as error:
            raise RankError(f"{error}. {save()}") from error

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum(np.zeros(1, np.float32))

    def on_rank0(
        self,
        work: Callable[[], T],
        pack: Callable[[T], bytes] = lambda _: b"",
        unpack: Callable[[bytes], Any] = lambda _: None,
    ) -> T:
        """Call a function in the first process, and return its result in all.

        If it raises a BERTNLIError, all processes raise that; for any other exception, the others
        raise TrainingError.

        Args:
            work: the function.
            pack, unpack: convert the result to bytes and back; not needed if it is None.
        """
        if self.size == 1:
            return work()
        if not self.is_first:
            message = self._broadcast(b"")
            if message[:1] == b"-":
                kind, text = json.loads(message[1:])
                raise getattr(errors, kind)(text)
            return unpack(message[1:])
        try:
            result = work()
            message = b"+" + pack(result)
        except Exception as error:
            kind, text = type(error).__name__, str(error)
            if not isinstance(error, BERTNLIError):
                kind, text = "TrainingError", repr(error)
            self._broadcast(b"-" + json.dumps([kind, text]).encode())
            raise
        self._broadcast(message)
        return result

    def check_same(self, settings: Any) -> None:
        """Raise ConfigError in each process unless all have the same settings, compared as JSON."""
        text = json.dumps(settings, sort_keys=True, default=str).encode()
        digest = hashlib.sha1(text).digest()
        first = self.on_rank0(lambda: digest, bytes, bytes)
        differ = int(self.sum(np.array([digest != first], np.float32))[0])
        if differ:
            raise ConfigError(
                f"{differ} of the run's {self.size} processes have other settings or data than the "
                "first; start all with the same command, on the same files"
            )

    def _broadcast(self, data: bytes) -> bytes:
        """Send ``data`` of the first process to all processes."""
        length = int(self.sum(np.array([len(data)], np.float64))[0])
        received = bytearray()
        for start in range(0, length, _PIECE):
            # Two bytes in a float32, which holds numbers below 2^16 exactly.
            words = np.zeros(-(-min(_PIECE, length - start) // 2), np.float32)
            if self.is_first:
                piece = data[start : start + _PIECE]
                words[:] = np.frombuffer(piece + bytes(len(piece) % 2), "<u2")
            received += self.sum(words).astype("<u2").tobytes()
        return bytes(received[:length])


def lost(error: Exception) -> RankError:
    """Return the RankError to raise after a framework's error that another process is gone."""
    return RankError(
        f"another process of the run is gone, or cannot be reached: {error}. If it ended with a "
        "message, that says why"
    )
