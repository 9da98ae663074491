"""Encoded sentence pairs, stored ragged: no padding is kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch
from bertnli.data.corpus import Corpus
from bertnli.errors import ConfigError, DataError
from bertnli.text.pairs import NUM_SPECIAL, check_truncation, truncated_lengths
from bertnli.text.tokenize import treebank_tokenize
from bertnli.text.vocab import RESERVED_TOKENS, Vocab


def corpus_tokens(corpus: Corpus, column: int) -> Iterator[list[str]]:
    """Yield the lower-cased tokens of each sentence of a column (0 premises, 1 hypotheses)."""
    sentences = (corpus.premises, corpus.hypotheses)[column]
    if corpus.tokenized:
        return (sentence.lower().split() for sentence in sentences)
    return ([token.lower() for token in treebank_tokenize(sentence)] for sentence in sentences)


def build_vocab(corpus: Corpus, min_freq: int = 5) -> Vocab:
    """Return the vocabulary of a corpus, with the reserved tokens of BERT's inputs.

    Args:
        corpus: the training pairs.
        min_freq: a token seen less often is left to ``<unk>``.
    """
    tokens = [
        token for column in (0, 1) for words in corpus_tokens(corpus, column) for token in words
    ]
    return Vocab(tokens, min_freq, RESERVED_TOKENS)


class PairDataset:
    """Sentence pairs as token ids ``<cls> premise <sep> hypothesis <sep>``.

    Args:
        dataset: a `Corpus`, or the book's three lists of premises, hypotheses (tokens with spaces
            between them) and labels.
        max_len: tokens of a pair, special ones included; longer pairs are cut.
        vocab: the vocabulary of the model.
        truncation: how a pair is cut: ``"book"`` or ``"ratio"``; see `truncated_lengths`.
        verbose: print the number of examples, as the book does.

    Attributes:
        token_ids: (all tokens,) int32, pair after pair.
        offsets: (N + 1,) int64; pair i has the tokens from ``offsets[i]`` to ``offsets[i + 1]``.
        premise_lens: (N,) int32, tokens kept of each premise.
        labels: (N,) int32 class ids, places in ``label_names``; -1 where there is no label.

    Raises:
        ConfigError: no vocabulary, or a max_len without room for two sentences.
        DataError: the vocabulary lacks a special token; lists of different lengths.
    """

    def __init__(
        self,
        dataset: Corpus | Sequence,
        max_len: int,
        vocab: Vocab | None = None,
        *,
        truncation: str = "book",
        verbose: bool = True,
    ) -> None:
        if vocab is None:
            raise ConfigError("give the vocabulary of the model that will read the pairs")
        check_truncation(max_len, truncation)
        if not isinstance(dataset, Corpus):
            premises, hypotheses, labels = dataset
            dataset = Corpus(list(premises), list(hypotheses), list(labels), tokenized=True)
        self.vocab = vocab
        self.max_len = max_len
        self.truncation = truncation
        self.label_names = dataset.label_names
        self.labels = np.asarray(dataset.labels, dtype=np.int32)
        self._encode(dataset)
        if verbose:
            print(f"read {len(self)} examples")

    def _encode(self, corpus: Corpus) -> None:
        cls, sep = self.vocab.required("<cls>"), self.vocab.required("<sep>")
        self._pad = self.vocab.required("<pad>")
        unk, get = self.vocab.unk, self.vocab.token_to_idx.get
        max_tokens = self.max_len - NUM_SPECIAL
        flat, ends, premise_lens = array("i"), array("q", [0]), array("i")
        for a, b in zip(corpus_tokens(corpus, 0), corpus_tokens(corpus, 1), strict=True):
            if len(a) + len(b) > max_tokens:
                len_a, len_b = truncated_lengths(len(a), len(b), max_tokens, self.truncation)
                a, b = a[:len_a], b[:len_b]
            flat.append(cls)
            flat.extend([get(token, unk) for token in a])
            flat.append(sep)
            flat.extend([get(token, unk) for token in b])
            flat.append(sep)
            ends.append(len(flat))
            premise_lens.append(len(a))
        self.token_ids = np.array(flat, dtype=np.int32)
        self.offsets = np.array(ends, dtype=np.int64)
        self.premise_lens = np.array(premise_lens, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each pair, special ones included, (N,) int32: the book's valid_lens."""
        return np.diff(self.offsets).astype(np.int32)

    def batch(self, indices: NDArray[np.int64], pad_to: int | None = None) -> Batch:
        """Return some pairs as a batch.

        Args:
            indices: (B,) which pairs.
            pad_to: pad to this length; None for the longest of them.
        """
        starts = self.offsets[indices]
        lengths = self.offsets[np.asarray(indices) + 1] - starts
        width = int(lengths.max(initial=0)) if pad_to is None else pad_to
        if len(lengths) and int(lengths.max()) > width:
            raise DataError(
                f"a pair has {int(lengths.max())} tokens and cannot be padded to {width}"
            )
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
        )

    def padded(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int32], int, int]:
        """Return token_ids and segments (max_len,), valid length and label of one pair.

        Raises:
            IndexError: there is no such pair.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        batch = self.batch(np.array([index % len(self)]), pad_to=self.max_len)
        return (
            batch.token_ids[0],
            batch.segments[0],
            int(batch.valid_lens[0]),
            int(batch.labels[0]),
        )
