"""The processes that train together, each on its share of every batch.

All of them see the same batches in the same order and take the same steps; what differs is which
pairs of a batch each computes. The first writes the run's files and speaks. Here is what does not
depend on how they reach each other: a backend adds the sum over them, and everything else is made
of sums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli import errors
from bertnli.data.batches import Batch
from bertnli.errors import BERTNLIError, ConfigError, RankError
from bertnli.training.watch import Watch

T = TypeVar("T")

#: Bytes that are sent at a time, two in a number.
_PIECE = 1 << 21


class Workers:
    """The processes of a run; of this class itself, a single one.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        watch: what says, and does, something about others that are silent.
    """

    rank = 0
    size = 1
    watch = Watch()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def sum(self, values: NDArray) -> NDArray:
        """Return the sum of all processes' values, the same in each.

        Args:
            values: (N,) float32 or float64, N the same in each process.

        Raises:
            RankError: a process is gone.
        """
        return values

    def share(self, batch: Batch) -> Batch:
        """Return this process's pairs of a batch: as many tokens as the others', about.

        Of a batch with fewer pairs than there are processes some get none.
        """
        if self.size == 1:
            return batch
        longest_first = np.argsort(-batch.valid_lens, kind="stable")
        return batch[longest_first[self.rank :: self.size]]

    def set_exit_together(self, together: bool) -> None:
        """Say whether the processes leave together from here on, or each as it may fail."""

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum(np.zeros(1, np.float32))

    def on_rank0(
        self,
        work: Callable[[], T],
        pack: Callable[[T], bytes] = lambda _: b"",
        unpack: Callable[[bytes], Any] = lambda _: None,
    ) -> T:
        """Do something in the first process alone, and return in each what it gave.

        Args:
            work: what to do.
            pack, unpack: what it gives, to bytes and back; not needed where that is nothing.

        Raises:
            BERTNLIError: in each process, what it raised in the first; in the others a
                TrainingError where that was none.
        """
        if self.size == 1:
            return work()
        result: T
        message = b""
        if self.is_first:
            try:
                result = work()
                message = b"+" + pack(result)
            except Exception as error:
                known = isinstance(error, BERTNLIError)
                kind, text = (type(error).__name__, str(error)) if known else ("", repr(error))
                self._broadcast(b"-" + json.dumps([kind or "TrainingError", text]).encode())
                raise
        message = self._broadcast(message)
        if message[:1] == b"-":
            kind, text = json.loads(message[1:])
            raise getattr(errors, kind)(text)
        if not self.is_first:
            result = unpack(message[1:])
        return result

    def check_same(self, settings: Any) -> None:
        """Raise ConfigError in each process if what JSON makes of the settings is not the same."""
        if self.size == 1:
            return
        text = json.dumps(settings, sort_keys=True, default=str).encode()
        own = np.frombuffer(hashlib.sha1(text).digest(), "<u2").astype(np.float32)
        first = self.sum(own if self.is_first else np.zeros_like(own))
        differ = int(self.sum(np.array([(own != first).any()], np.float32))[0])
        if differ:
            raise ConfigError(
                f"{differ} of the run's {self.size} processes have other settings or data than the "
                "first; start all with the same command, on the same files"
            )

    def _broadcast(self, data: bytes) -> bytes:
        """Return the first process's bytes in each."""
        length = np.frombuffer(np.array([len(data)], "<u8").tobytes(), "<u2").astype(np.float32)
        total = int(np.frombuffer(self._words(length), "<u8")[0])
        return b"".join(self._pieces(data, total))[:total]

    def _pieces(self, data: bytes, total: int) -> Iterator[bytes]:
        for start in range(0, total, _PIECE):
            words = np.zeros(-(-min(_PIECE, total - start) // 2), np.float32)
            if self.is_first:
                piece = data[start : start + _PIECE]
                words[:] = np.frombuffer(piece + bytes(len(piece) % 2), "<u2")
            yield self._words(words)

    def _words(self, words: NDArray[np.float32]) -> bytes:
        """Return numbers below 2^16 of the first process, as bytes, in each."""
        sent = words if self.is_first else np.zeros_like(words)
        return self.sum(sent).astype("<u2").tobytes()


def lost(error: Exception) -> RankError:
    """Return the error that stands for a process that does not answer any more."""
    return RankError(
        f"another process of the run is gone, or cannot be reached: {error}. If it ended with a "
        "message, that says why"
    )
