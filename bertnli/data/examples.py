"""What a trainer asks of a set of examples, be they labelled pairs or masked text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bertnli.text.vocab import Vocab

if TYPE_CHECKING:
    from bertnli.data.batches import Batch


class Examples(ABC):
    """Examples that batches are made of.

    Attributes:
        vocab: what they are encoded with.
        max_len: tokens of an example, at most.
        skipped: reason to number of rows of the source that were left out.
        source: where they come from.
    """

    vocab: Vocab
    max_len: int
    skipped: dict[str, int]
    source: str

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each example, special ones included, (N,) int32."""

    @abstractmethod
    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return some examples, (B,), as a batch."""


class ExampleSet(Examples):
    """The examples of a corpus: the same, or others in each epoch, but always as many."""

    @abstractmethod
    def digest(self) -> str:
        """Return the SHA-256 of all that the examples depend on, in hexadecimal."""

    @abstractmethod
    def at_epoch(self, seed: int, epoch: int) -> Examples:
        """Return the examples of an epoch, a function of the seed and the epoch alone."""
