"""What a trainer takes its batches of: a set of examples, or a framework's own DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from bertnli.data.batches import Batch, ExampleSet, batches, sorted_batches
from bertnli.data.corpus import Corpus, shown
from bertnli.errors import ConfigError, DataError
from bertnli.nets.trainable import Trainable

#: A set of bertnli, or the framework's own DataLoader over one.
Data = ExampleSet | Iterable


class Source:
    """Where a trainer's batches come from.

    Args:
        data: a set, or a loader, whose batches and their order are taken as they come.
        net: what they are for.
        loader_batch: makes a batch of a loader's item.
    """

    def __init__(self, data: Data, net: Trainable, loader_batch: Callable[[Any], Batch]) -> None:
        self.data, self.net, self.loader_batch = data, net, loader_batch

    @property
    def examples(self) -> ExampleSet | None:
        """The set; None of a loader."""
        return self.data if isinstance(self.data, ExampleSet) else None

    def name(self) -> str:
        """Return what tells it from others: a set's digest."""
        data = self.data
        return data.digest() if isinstance(data, ExampleSet) else type(data).__name__

    def num_batches(self, batch_size: int) -> int | None:
        """Return the batches of an epoch, if that is known."""
        if isinstance(self.data, ExampleSet):
            return -(-len(self.data) // batch_size)
        return len(self.data) if isinstance(self.data, Sized) else None

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, first: int = 0
    ) -> Iterator[Batch]:
        """Yield an epoch's batches, from one of them on, in an order of its own."""
        if not isinstance(self.data, ExampleSet):
            return (self.loader_batch(item) for item in self.data)
        examples = self.data.at_epoch(seed, epoch)
        found = batches(examples, batch_size, seed=seed, epoch=epoch, shuffle=True, first=first)
        return self._prepared(found, self.data)

    def eval_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the batches of an evaluation: of a set, examples of similar length together."""
        if not isinstance(self.data, ExampleSet):
            return (self.loader_batch(item) for item in self.data)
        examples = self.data.at_epoch(0, 0)
        return self._prepared((b for _, b in sorted_batches(examples, batch_size)), self.data)

    def _prepared(self, found: Iterable[Batch], data: ExampleSet) -> Iterator[Batch]:
        return (self.net.with_net_labels(batch, data) for batch in found)

    def check(self, what: str, num_workers: int) -> None:
        """Raise what is wrong with the data before anything is computed.

        Args:
            what: the set's name in a message.
            num_workers: processes that share it.

        Raises:
            ConfigError: a loader cannot be shared, or is of no use to the net.
            DataError: an empty set, labels missing, a vocabulary that is not the model's.
        """
        data, net = self.data, self.net
        if not isinstance(data, ExampleSet):
            if not _is_loader(data):
                article = "an" if what[0] in "aeiou" else "a"
                raise DataError(
                    f"{article} {what} set is expected, such as a SNLIBERTDataset, and not "
                    f"{shown.repr(data)}; SNLIBERTDataset(bertnli.read(source), max_len, "
                    "net.vocab) makes one"
                )
            if not net.labels:
                raise ConfigError(
                    "a loader gives labelled pairs, and this net has no classes; give a "
                    "PretrainingSet"
                )
            if num_workers > 1:
                raise ConfigError(
                    f"a loader of your own cannot be shared by {num_workers} processes, for "
                    "its batches need not be the same in each; give the data set itself"
                )
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


def _is_loader(data: object) -> bool:
    """Return whether something gives batches: an iterable, but for a list of pairs of sentences."""
    if isinstance(data, str | Path | Corpus) or not isinstance(data, Iterable):
        return False
    return not isinstance(data, list | tuple) or (len(data) > 0 and not _is_text(data[0]))


def _is_text(item: object) -> bool:
    """Return whether something is a sentence, a pair of sentences, or an object with them."""
    first = item[0] if isinstance(item, list | tuple) and item else item
    return isinstance(first, str | Mapping)
