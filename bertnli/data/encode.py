"""Encode sentence pairs as token ids, in flat arrays without padding."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import LABELS
from bertnli.data.corpus import Corpus
from bertnli.text.pairs import truncated_lengths
from bertnli.text.vocab import Vocab


@dataclass(frozen=True)
class EncodedPairs:
    """Sentence pairs as token ids; the fields are described at `PairDataset`."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    premise_lens: NDArray[np.int32]
    labels: NDArray[np.int32]
    is_cut: NDArray[np.bool_]
    label_names: tuple[str, ...] = LABELS
    skipped: dict[str, int] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()


def encode_corpus(corpus: Corpus, max_len: int, vocab: Vocab, truncation: str) -> EncodedPairs:
    """Encode the pairs of a corpus as token ids; see `PairDataset` for the arguments."""
    cls, sep = vocab.required("<cls>"), vocab.required("<sep>")
    between = [sep] * vocab.separators
    max_tokens = max_len - vocab.num_special
    flat, ends, premise_lens, is_cut = array("i"), array("q", [0]), array("i"), bytearray()
    columns = (vocab.ids_of(column, corpus.tokenized) for column in corpus[:2])
    for a, b in zip(*columns, strict=True):
        is_cut.append(len(a) + len(b) > max_tokens)
        if is_cut[-1]:
            len_a, len_b = truncated_lengths(len(a), len(b), max_tokens, truncation)
            a, b = a[:len_a], b[:len_b]
        flat.append(cls)
        flat.extend(a)
        flat.extend(between)
        flat.extend(b)
        flat.append(sep)
        ends.append(len(flat))
        premise_lens.append(len(a))
    return EncodedPairs(
        np.array(flat, dtype=np.int32),
        np.array(ends, dtype=np.int64),
        np.array(premise_lens, dtype=np.int32),
        np.asarray(corpus.labels, dtype=np.int32),
        np.array(is_cut, dtype=np.bool_),
        corpus.label_names,
        corpus.skipped,
        corpus.source,
        corpus.notes,
    )
