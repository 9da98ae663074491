"""Data sets of encoded sentence pairs, stored without padding."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.data.batches import Batch, ExampleSet
from bertnli.data.corpus import Corpus
from bertnli.data.direct import encode_source
from bertnli.data.encode import EncodedPairs, encode_corpus
from bertnli.data.read import read_parts
from bertnli.data.reading import Reading
from bertnli.data.sources import parts_of
from bertnli.errors import ConfigError, DataError
from bertnli.text.pairs import DEFAULT_MAX_LEN, PairEncoding, check_truncation
from bertnli.text.tokenize import lower_tokens
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

Dataset = TypeVar("Dataset", bound="PairDataset")


def build_vocab(corpus: Corpus, min_freq: int = 5) -> Vocab:
    """Make the vocabulary of a corpus, with the special tokens of BERT's inputs.

    Args:
        corpus: the training pairs.
        min_freq: the number of occurrences below which a token becomes ``<unk>``.
    """
    sentences = chain(corpus.premises, corpus.hypotheses)
    return Vocab(lower_tokens(sentences, corpus.tokenized), min_freq, RESERVED_TOKENS)


def _checked_vocab(vocab: Vocab | None, max_len: int, truncation: str) -> Vocab:
    if vocab is None:
        raise ConfigError("give the vocabulary of the model that will read the pairs")
    check_truncation(max_len, truncation, vocab.num_special)
    return vocab


class PairDataset(ExampleSet):
    """Sentence pairs as token ids ``<cls> premise <sep> hypothesis <sep>``.

    RoBERTa's vocabularies put two ``<sep>`` between the sentences.

    Args:
        dataset: a `Corpus`; or the book's three lists of premises, hypotheses (sentences whose
            tokens are separated by spaces) and labels; or pairs encoded with the same settings.
        max_len: the maximum number of tokens of a pair, special tokens included.
        vocab: the vocabulary of the model.
        truncation: the rule by which longer pairs are truncated, ``"book"``, ``"longest_first"``
            or ``"ratio"``; see `truncated_lengths`.
        verbose: whether to print the number of examples, as the book does.

    Attributes:
        token_ids: (number of all tokens,) int32 token ids, pair after pair.
        offsets: (N + 1,) int64; pair i is ``token_ids[offsets[i] : offsets[i + 1]]``.
        premise_lens: (N,) int32 numbers of tokens of the premises after truncation.
        labels: (N,) int32 class ids, indices into ``label_names``; -1 for a pair without a label.
        is_cut: (N,) bool, whether a pair was truncated.
        targets: (N, classes) float32 probabilities or None; see `with_targets`.
        skipped: dictionary of a reason to the number of rows of the source left out for it.
        source: the names of the files or tables.
        notes: guesses about the source.

    Raises:
        ConfigError: there is no vocabulary, or ``max_len`` is too short for two sentences.
        DataError: the vocabulary lacks a special token, or the lists differ in length.
    """

    targets: NDArray[np.float32] | None = None

    @hinted()
    def __init__(
        self,
        dataset: Corpus | EncodedPairs | Sequence,
        max_len: int,
        vocab: Vocab | None = None,
        *,
        truncation: str = "book",
        verbose: bool = True,
    ) -> None:
        self.vocab = vocab = _checked_vocab(vocab, max_len, truncation)
        if isinstance(dataset, str | Path):
            raise DataError(
                f"pairs are expected, and not {str(dataset)!r}; bertnli.read(path) reads a "
                "file's, and PairDataset.read(path, split, max_len, vocab) encodes them, too"
            )
        if not isinstance(dataset, Corpus | EncodedPairs):
            premises, hypotheses, labels = map(list, dataset)
            dataset = Corpus(premises, hypotheses, labels, tokenized=True)
        targets = getattr(dataset, "targets", None)
        if isinstance(dataset, Corpus):
            dataset = encode_corpus(dataset, max_len, vocab, truncation)
        pairs: EncodedPairs = dataset
        self.max_len, self.truncation = max_len, truncation
        self.token_ids, self.offsets = pairs.token_ids, pairs.offsets
        self.premise_lens, self.is_cut = pairs.premise_lens, pairs.is_cut
        self.labels, self.label_names = pairs.labels, pairs.label_names
        self.skipped, self.source, self.notes = pairs.skipped, pairs.source, pairs.notes
        if targets is not None:
            self.targets = self._checked_targets(targets)
        self._pad = vocab.required("<pad>")
        if verbose:
            print(f"read {len(self)} examples")

    @classmethod
    def read(
        cls: type[Dataset],
        source: Any,
        split: str | bool | None = None,
        max_len: int = DEFAULT_MAX_LEN,
        vocab: Vocab | None = None,
        *,
        truncation: str = "book",
        cache: bool = True,
        verbose: bool = True,
        **options: Any,
    ) -> Dataset:
        """Read a source and encode its pairs, faster than `bertnli.read` followed by this class.

        Args:
            source, split, options: the pairs to read; see `bertnli.read`.
            max_len, vocab, truncation, verbose: the encoding; see `PairDataset`.
            cache: whether to store the ids in a folder beside the source's files, and to load them
                from there the next time.

        Raises:
            ConfigError, DataError: see `bertnli.read` and `PairDataset`.
        """
        vocab = _checked_vocab(vocab, max_len, truncation)
        how = Reading(**options)
        pairs: Corpus | EncodedPairs
        if how.probabilities is None:
            pairs = encode_source(source, split, max_len, vocab, truncation, how, cache)
        else:
            pairs = read_parts(parts_of(source, split), how)
        return cls(pairs, max_len, vocab, truncation=truncation, verbose=verbose)

    def with_targets(self: Dataset, targets: NDArray) -> Dataset:
        """Return a copy of the set with probabilities to train on, such as a teacher's.

        Args:
            targets: (N, classes) probabilities of each pair's classes, in the order of
                ``label_names``; each row sums to 1.

        Raises:
            DataError: the shape is wrong, or the values are not probabilities.
        """
        dataset = copy.copy(self)
        dataset.targets = self._checked_targets(targets)
        return dataset

    def _checked_targets(self, targets: NDArray) -> NDArray[np.float32]:
        targets = np.ascontiguousarray(targets, np.float32)
        expected = (len(self), len(self.label_names))
        if targets.shape != expected:
            raise DataError(
                f"the targets are {targets.shape}, and must be {expected}: a row for each pair, "
                f"with the probabilities of {', '.join(self.label_names)}"
            )
        wrong = ~((targets >= 0).all(axis=1) & (np.abs(targets.sum(axis=1) - 1) < 1e-3))
        if wrong.any():
            raise DataError(
                f"the targets of {int(wrong.sum())} pairs are no probabilities, or do not sum to "
                f"1; the first are pair {int(wrong.argmax())}'s, {targets[wrong.argmax()]}"
            )
        return targets

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        sha256 = hashlib.sha256(repr(self.label_names).encode())
        for array in (self.token_ids, self.offsets, self.premise_lens, self.labels, self.targets):
            if array is not None:
                sha256.update(np.ascontiguousarray(array).data)
        return sha256.hexdigest()

    def at_epoch(self, seed: int, epoch: int) -> PairDataset:
        return self  # its pairs are the same in each epoch

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.diff(self.offsets).astype(np.int32)

    @property
    def encoding(self) -> PairEncoding:
        """The maximum length and the rule of truncation of the pairs."""
        return PairEncoding(self.max_len, self.truncation)

    @property
    def unknown_shares(self) -> NDArray[np.float64]:
        """(N,) shares of ``<unk>`` among each pair's tokens, without special tokens."""
        before = np.concatenate([[0], np.cumsum(self.token_ids == self.vocab.unk)])
        return np.diff(before[self.offsets]) / np.maximum(self.lengths - self.vocab.num_special, 1)

    def batch(self, indices: NDArray[np.int64], pad_to: int | None = None) -> Batch:
        """Return the pairs with the given indices (B,) as a batch.

        Args:
            indices: (B,) indices of the pairs.
            pad_to: the length of the padded pairs; None for the length of the longest pair.

        Raises:
            DataError: a pair is longer than ``pad_to``.
        """
        starts = self.offsets[indices]
        lengths = self.offsets[np.asarray(indices) + 1] - starts
        longest = int(lengths.max(initial=0))
        width = longest if pad_to is None else pad_to
        if longest > width:
            raise DataError(f"a pair has {longest} tokens and cannot be padded to {width}")
        columns = np.arange(width)
        valid = columns < lengths[:, None]
        places = np.where(valid, starts[:, None] + columns, 0)
        token_ids = np.where(valid, self.token_ids[places], np.int32(self._pad))
        second = valid & (columns >= self.premise_lens[indices][:, None] + 2)
        return Batch(
            token_ids.astype(np.int32, copy=False),
            second.astype(np.int32),
            lengths.astype(np.int32),
            self.labels[indices],
            None if self.targets is None else self.targets[indices],
        )

    def padded(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int32], int, int]:
        """Return token_ids (max_len,), segments (max_len,), valid length and label of one pair.

        Raises:
            IndexError: the index is out of range.
            DataError: the set has targets, for which the book's items have no place.
        """
        if self.targets is not None:
            raise DataError(
                "a loader's items have labels alone, and the targets of this set would be lost; "
                "give the trainer the set itself"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        batch = self.batch(np.array([index % len(self)]), pad_to=self.max_len)
        valid_len, label = int(batch.valid_lens[0]), int(batch.labels[0])
        return batch.token_ids[0], batch.segments[0], valid_len, label
