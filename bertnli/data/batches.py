"""Batches of encoded examples: the input of a backend, and the order of the examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.errors import ConfigError, DataError
from bertnli.text.vocab import Vocab

AnyBatch = TypeVar("AnyBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Encoded pairs, padded to the longest of them.

    Args:
        token_ids: (B, T) int32 token ids; padding has the id of ``<pad>``.
        segments: (B, T) int32; 0 for the premise and padding, 1 for the hypothesis.
        valid_lens: (B,) int32 numbers of tokens that are not padding.
        labels: (B,) int32 class ids; -1 for a pair without a label.
        targets: (B, classes) float32 probabilities of the classes to train on in place of the
            labels, or None.
    """

    token_ids: NDArray[np.int32]
    segments: NDArray[np.int32]
    valid_lens: NDArray[np.int32]
    labels: NDArray[np.int32]
    targets: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self: AnyBatch, rows: slice | NDArray[np.int64]) -> AnyBatch:
        """Return the pairs at the given rows, with the same padding."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: a[rows] for n, a in arrays.items() if a is not None})

    def relabelled(self: AnyBatch, ids: NDArray[np.int32]) -> AnyBatch:
        """Replace each class id i by ``ids[i]``, a permutation (classes,), also in the targets."""
        targets = None if self.targets is None else self.targets[:, np.argsort(ids)]
        return replace(self, labels=ids[self.labels], targets=targets)

    def inputs(self) -> tuple[NDArray[np.int32], ...]:
        """Return the model's inputs: token_ids, segments and valid_lens."""
        return self.token_ids, self.segments, self.valid_lens

    @classmethod
    def from_padded(cls, item: Any, to_numpy: Callable[[Any], NDArray]) -> Batch:
        """Make a batch of a loader's item ``((token_ids, segments, valid_lens), labels)``.

        Padding beyond the longest pair is removed.

        Args:
            item: the item, with arrays of a framework.
            to_numpy: a function that converts such an array to NumPy.

        Raises:
            DataError: the item has another form.
        """
        try:
            inputs, labels = item
            arrays = [np.asarray(to_numpy(x), np.int32) for x in (*inputs, labels)]
            ids, segments, lens, labels = arrays
            width = int(lens.max(initial=1))
            ids, segments = (np.ascontiguousarray(array[:, :width]) for array in (ids, segments))
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                "a loader's item must be ((token_ids, segments, valid_lens), labels), as a loader "
                f"over SNLIBERTDataset gives; got {type(item).__name__}: {error}"
            ) from error
        return cls(ids, segments, np.ascontiguousarray(lens), np.ascontiguousarray(labels))


class ExampleSet(ABC):
    """A fixed-size set of examples that may be redrawn every epoch.

    Attributes:
        vocab: the vocabulary of the token ids.
        max_len: the maximum number of tokens of an example.
        skipped: dictionary of a reason to the number of rows of the source left out for it.
        source: the names of the files or tables.
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
        """(N,) int32 numbers of tokens of the examples, special tokens included."""

    @abstractmethod
    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the examples with the given indices (B,) as a batch."""

    @abstractmethod
    def digest(self) -> str:
        """Return a SHA-256 in hexadecimal of everything on which the examples depend."""

    @abstractmethod
    def at_epoch(self, seed: int, epoch: int) -> ExampleSet:
        """Return the set of an epoch's examples, which depend on seed and epoch alone."""


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a random order of n examples, (n,), which depends on seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def batches(
    dataset: ExampleSet,
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = False,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of a set, the last of which may be smaller.

    Args:
        dataset: the set of examples.
        batch_size: the number of examples of a batch.
        seed, epoch: the arguments of `epoch_order`.
        shuffle: whether to take the examples in `epoch_order`.
        first: the number of batches to skip at the beginning.
    """
    n = len(dataset)
    order = epoch_order(n, seed, epoch) if shuffle else np.arange(n)
    for indices in split_indices(order, batch_size, first):
        yield dataset.batch(indices)


def sorted_batches(
    dataset: ExampleSet, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield pairs of indices (B,) and batch, of examples of similar length, the longest first."""
    order = np.argsort(-dataset.lengths, kind="stable")
    for indices in split_indices(order, batch_size):
        yield indices, dataset.batch(indices)


def split_indices(
    order: NDArray[np.int64], batch_size: int, first: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Split indices (N,) into parts of ``batch_size``, without the first ``first`` parts."""
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size!r}; a whole number from 1 on is expected")
    for start in range(first * batch_size, len(order), batch_size):
        yield order[start : start + batch_size]
