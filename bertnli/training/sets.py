"""A trainer's batches, from a set of examples or a framework's own DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.data.batches import Batch, ExampleSet, batches, sorted_batches
from bertnli.data.corpus import Corpus, short_repr
from bertnli.errors import ConfigError, DataError
from bertnli.nets.trainable import Trainable

#: A set of bertnli, or the framework's own DataLoader over one.
Data = ExampleSet | Iterable


@dataclass
class Source:
    """A data set and its batches.

    Args:
        data: a set, or a framework's DataLoader, whose batches are used in its order.
        net: the net to train or evaluate.
        loader_batch: converts a loader's item to a batch.
    """

    data: Data
    net: Trainable
    loader_batch: Callable[[Any], Batch]

    @property
    def examples(self) -> ExampleSet | None:
        """The set; None for a loader."""
        return self.data if isinstance(self.data, ExampleSet) else None

    def name(self) -> str:
        """Return the set's digest, or the loader's type, to identify the data in settings."""
        data = self.data
        return data.digest() if isinstance(data, ExampleSet) else type(data).__name__

    def num_batches(self, batch_size: int) -> int | None:
        """Return the number of batches in an epoch; None if it is not known."""
        if isinstance(self.data, ExampleSet):
            return -(-len(self.data) // batch_size)
        return len(self.data) if isinstance(self.data, Sized) else None

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, first: int = 0
    ) -> Iterator[Batch]:
        """Yield an epoch's batches from number ``first`` on, shuffled by (seed, epoch)."""
        data = self.data
        if not isinstance(data, ExampleSet):
            return map(self.loader_batch, data)
        examples = data.at_epoch(seed, epoch)
        in_order = batches(examples, batch_size, seed=seed, epoch=epoch, shuffle=True, first=first)
        return (self.net.with_net_labels(batch, data) for batch in in_order)

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the batches of an evaluation; those of a set have examples of similar length."""
        data = self.data
        if not isinstance(data, ExampleSet):
            return map(self.loader_batch, data)
        by_length = sorted_batches(data.at_epoch(0, 0), batch_size)
        return (self.net.with_net_labels(batch, data) for _, batch in by_length)

    def check(self, what: str, num_workers: int) -> None:
        """Raise ConfigError or DataError if the net, or several processes, cannot use the data.

        Args:
            what: name of the set in an error's message, such as "training".
            num_workers: number of processes that share the data.
        """
        data, net = self.data, self.net
        if not isinstance(data, ExampleSet):
            self._check_loader(what, num_workers)
            return
        if len(data) == 0:
            left_out = "".join(f"; {n} left out ({why})" for why, n in data.skipped.items())
            raise DataError(
                f"the {what} set is empty: {data.source or 'it'} has no pairs{left_out}"
            )
        net.check_set(data, what)
        if net.vocab is not None and data.vocab.idx_to_token != net.vocab.idx_to_token:
            raise DataError(
                f"the {what} set was encoded with another vocabulary than the model's; encode it "
                "with net.vocab"
            )
        if len(data.vocab) > net.config.vocab_size:
            raise DataError(
                f"the {what} set's vocabulary has {len(data.vocab)} tokens, the model "
                f"{net.config.vocab_size}"
            )

    def _check_loader(self, what: str, num_workers: int) -> None:
        if not _is_loader(self.data):
            article = "an" if what[0] in "aeiou" else "a"
            raise DataError(
                f"{article} {what} set is expected, such as a SNLIBERTDataset, and not "
                f"{short_repr(self.data)}; SNLIBERTDataset(bertnli.read(source), max_len, "
                "net.vocab) makes one"
            )
        if not self.net.labels:
            raise ConfigError(
                "a loader gives labelled pairs, and this net has no classes; give a PretrainingSet"
            )
        if num_workers > 1:
            raise ConfigError(
                f"a loader of your own cannot be shared by {num_workers} processes, for its "
                "batches need not be the same in each; give the data set itself"
            )


def _is_loader(data: object) -> bool:
    """Return whether an object is an iterable of batches, rather than of sentence pairs."""
    if isinstance(data, str | Path | Corpus) or not isinstance(data, Iterable):
        return False
    if not isinstance(data, list | tuple):
        return True
    first = data[0] if data else ""
    if isinstance(first, list | tuple) and first:
        first = first[0]
    return not isinstance(first, str | Mapping)


def smoothed(batch: Batch, label_smoothing: float, num_labels: int) -> Batch:
    """Smooth a batch's targets or labels: ``(1 - s) * target + s / K``.

    As in Szegedy et al. (2016, section 7) and `torch.nn.functional.cross_entropy`, with the
    strength s, ``label_smoothing``, and the number of classes K, ``num_labels``. If s is 0, the
    batch is returned as it is.
    """
    if not label_smoothing:
        return batch
    targets = batch.targets
    if targets is None:
        if ((batch.labels < 0) | (batch.labels >= num_labels)).any():
            raise DataError(
                f"a batch has label ids from {batch.labels.min()} to {batch.labels.max()}; the "
                f"model's classes are 0 to {num_labels - 1}"
            )
        targets = np.eye(num_labels, dtype=np.float32)[batch.labels]
    kept, spread = np.float32(1 - label_smoothing), np.float32(label_smoothing / num_labels)
    return replace(batch, targets=kept * targets + spread)
