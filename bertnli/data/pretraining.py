"""Examples for pretraining: pairs of sentences that are drawn and masked again in each epoch."""

from __future__ import annotations

import copy
import hashlib
from array import array

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch, ExampleSet
from bertnli.data.masking import Masking, PretrainingBatch
from bertnli.data.text import Text
from bertnli.errors import DataError
from bertnli.text.pairs import check_truncation, truncated_lengths
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

#: Numbers of the random streams, so that the draws of one do not change those of the other.
_SECONDS, _MASKS = 1, 2


class PretrainingSet(ExampleSet):
    """Masked examples ``<cls> a <sep> b <sep>`` of consecutive sentences a and b of a text.

    Args:
        text: the sentences.
        max_len: the maximum number of tokens of an example, special tokens included; longer
            examples are truncated by the book's rule.
        vocab: the vocabulary of the model.
        next_sentence: whether to make examples for next sentence prediction: in each epoch, b is a
            random sentence of another document in half of the examples (Devlin et al., 2019,
            section 3.1). Otherwise b always follows a, and a document of a single sentence is an
            example ``<cls> a <sep>``.
        whole_words, mask_rate: the masking; see ``whole_words`` and ``rate`` of `Masking`.

    Attributes:
        num_tokens: the number of tokens of the text, without special tokens.

    Raises:
        ConfigError: ``max_len`` is too short for two sentences, or the rate is not in (0, 1).
        DataError: the vocabulary lacks a special token, or there is no example.
    """

    def __init__(
        self,
        text: Text,
        max_len: int,
        vocab: Vocab,
        *,
        next_sentence: bool = True,
        whole_words: bool = False,
        mask_rate: float = 0.15,
    ) -> None:
        check_truncation(max_len, "book", vocab.num_special)
        self.vocab, self.max_len, self.next_sentence = vocab, max_len, next_sentence
        self.masking = Masking(vocab, mask_rate, whole_words)
        self.source = text.source
        self.cls, self.sep, self.pad = (vocab.required(t) for t in ("<cls>", "<sep>", "<pad>"))
        special = {vocab.required(token) for token in RESERVED_TOKENS}  # these are never predicted
        flat, ends, documents = array("i"), array("q", [0]), array("q")
        for ids, document in zip(vocab.ids_of(text.sentences, False), text.documents, strict=True):
            if not special.issuperset(ids):
                flat.extend(ids)
                ends.append(len(flat))
                documents.append(document)
        self.token_ids = np.array(flat, np.int32)
        self.num_tokens = len(flat)
        self.ends = np.array(ends, np.int64)
        self.sentence_lengths = np.diff(self.ends)  # (S,)
        self.documents = np.array(documents, np.int64)
        continues = self.documents[1:] == self.documents[:-1]
        has_next, has_previous = np.append(continues, False), np.append(False, continues)
        is_lone = ~has_next & ~has_previous
        self.firsts = np.flatnonzero(has_next if next_sentence else has_next | is_lone)
        self.nexts = np.where(has_next[self.firsts], self.firsts + 1, -1)  # -1: there is none
        counts = {
            "no words": len(text) - len(documents),
            "the only sentence of a document": int(is_lone.sum()) if next_sentence else 0,
        }
        self.skipped = {reason: count for reason, count in counts.items() if count}
        self._check_not_empty()
        self._draw(0, 0)

    def _check_not_empty(self) -> None:
        if not self.next_sentence and not len(self):
            raise DataError(f"{self.source} has no sentence with a word in it")
        if not len(self):
            raise DataError(
                f"{self.source}: no document has two sentences; an empty line ends a document, and "
                "masked words alone (--tasks mlm) need no pairs"
            )
        if self.next_sentence and self.documents[0] == self.documents[-1]:
            raise DataError(
                f"{self.source} is one document, so there is no sentence of another to tell from "
                "the next; put an empty line between documents, or mask words alone (--tasks mlm)"
            )

    def __len__(self) -> int:
        return len(self.firsts)

    def digest(self) -> str:
        settings = (self.max_len, self.next_sentence, self.masking.rate, self.masking.whole_words)
        sha256 = hashlib.sha256(repr(settings).encode())
        for part in (self.token_ids, self.ends, self.documents):
            sha256.update(part.data)
        return sha256.hexdigest()

    def at_epoch(self, seed: int, epoch: int) -> PretrainingSet:
        drawn = copy.copy(self)
        drawn._draw(seed, epoch)
        return drawn

    def _draw(self, seed: int, epoch: int) -> None:
        """Draw the second sentences ``seconds`` and the ``labels``, 1 if b follows a, both (N,)."""
        self.seeds, self.seconds = (seed, epoch), self.nexts.copy()
        self.labels = np.ones(len(self), np.int32)
        if self.next_sentence:
            rng = np.random.default_rng([seed, epoch, _SECONDS])
            self.labels = rng.integers(0, 2, len(self)).astype(np.int32)
            negatives = np.flatnonzero(self.labels == 0)
            document = self.documents[self.firsts[negatives]]
            starts = np.searchsorted(self.documents, document)
            sizes = np.searchsorted(self.documents, document, "right") - starts
            # Draw a sentence outside the document, then skip the document's sentences.
            drawn = rng.integers(0, len(self.documents) - sizes)
            self.seconds[negatives] = np.where(drawn < starts, drawn, drawn + sizes)

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.sum(self._lengths(np.arange(len(self))), axis=0, dtype=np.int32)

    def batch(self, indices: NDArray[np.int64]) -> PretrainingBatch:
        start_a = self.ends[self.firsts[indices], None]
        start_b = self.ends[self.seconds[indices], None]
        len_a, len_b, num_special = (lens[:, None] for lens in self._lengths(indices))
        lens = len_a + len_b + num_special
        columns = np.arange(int(lens.max(initial=1)))
        in_a = (columns > 0) & (columns <= len_a)
        second = (columns > len_a + 1) & (columns < lens)
        before_b = len_a + num_special - 1  # (B, 1), without b it is the end
        is_word = in_a | ((columns >= before_b) & (columns < lens - 1))
        places = np.where(in_a, start_a + columns - 1, start_b + columns - before_b)
        words = self.token_ids[np.where(is_word, places, 0)]
        special = np.where(columns == 0, self.cls, np.where(columns < lens, self.sep, self.pad))
        batch = Batch(
            np.where(is_word, words, special).astype(np.int32),
            second.astype(np.int32),
            lens[:, 0].astype(np.int32),
            self.labels[indices],
        )
        return self.masking(batch, np.random.default_rng([*self.seeds, _MASKS, int(indices[0])]))

    def _lengths(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return the numbers of tokens of a, of b, and of special tokens in the given examples."""
        seconds = self.seconds[indices]
        is_lone = seconds < 0
        len_a = self.sentence_lengths[self.firsts[indices]]
        len_b = np.where(is_lone, 0, self.sentence_lengths[seconds])
        num_special = np.where(is_lone, 2, self.vocab.num_special)
        room = self.max_len - num_special
        for i in np.flatnonzero(len_a + len_b > room):
            lens = truncated_lengths(int(len_a[i]), int(len_b[i]), int(room[i]))
            len_a[i], len_b[i] = (room[i], 0) if is_lone[i] else lens
        return len_a, len_b, num_special
