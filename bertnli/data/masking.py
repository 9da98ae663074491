"""Masked language modelling: draw the tokens of a batch to predict, and replace them.

Devlin et al. (2019), section 3.1: 15 % of the tokens of each sequence are predicted; 80 % of these
are replaced by ``<mask>``, 10 % by a random token, and 10 % are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch
from bertnli.errors import ConfigError
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

#: The prefix of a word piece that continues a word.
CONTINUES = "##"


@dataclass(frozen=True)
class PretrainingBatch(Batch):
    """A batch of masked sequences; ``labels`` are 1 where the second sentence follows the first.

    Args:
        pred_positions: (B, P) int32 positions of the tokens to predict; -1 is padding.
        pred_ids: (B, P) int32 ids of the tokens to predict; padding is 0.
        pred_weights: (B, P) float32 weights of the losses: B divided by the number of predictions
            in the batch; 0 for padding. The sum of the weighted losses is B times their mean.
    """

    pred_positions: NDArray[np.int32] = field(kw_only=True)
    pred_ids: NDArray[np.int32] = field(kw_only=True)
    pred_weights: NDArray[np.float32] = field(kw_only=True)

    def inputs(self) -> tuple[NDArray[np.int32], ...]:
        """Return the model's inputs: token_ids, segments, valid_lens and pred_positions."""
        return *super().inputs(), self.pred_positions


class Masking:
    """Masks random tokens of a batch; call it with a `Batch` to get a `PretrainingBatch`.

    Args:
        vocab: the vocabulary of the tokens.
        rate: the share of each sequence's tokens to predict, at least one token. Special tokens
            count as tokens of the sequence, but are never predicted.
        whole_words: whether to choose words instead of tokens, and mask all pieces of a word.
    """

    def __init__(self, vocab: Vocab, rate: float = 0.15, whole_words: bool = False) -> None:
        if not 0 < rate < 1:
            raise ConfigError(f"the masking rate is {rate}; it is a share between 0 and 1")
        self.rate, self.whole_words = rate, whole_words
        self.mask_id = vocab.required("<mask>")
        self.is_special = np.zeros(len(vocab), bool)
        self.is_special[[vocab.required(token) for token in RESERVED_TOKENS]] = True
        self.ordinary = np.flatnonzero(~self.is_special).astype(np.int32)
        begins = [t.startswith(vocab.word_start or CONTINUES) for t in vocab.idx_to_token]
        self.continues = np.array(begins) ^ bool(vocab.word_start)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> PretrainingBatch:
        """Return a masked copy of a batch."""
        token_ids, lens = batch.token_ids, batch.valid_lens
        columns = np.arange(token_ids.shape[1])
        maskable = (columns < lens[:, None]) & ~self.is_special[token_ids]
        keys = rng.random(token_ids.shape, np.float32)  # a row's lowest keys are predicted
        if self.whole_words:  # all pieces of a word get the key of its first piece
            starts = np.where(self.continues[token_ids] & maskable, 0, columns)
            keys = np.take_along_axis(keys, np.maximum.accumulate(starts, axis=1), axis=1)
        keys[~maskable] = 2
        num_preds = np.maximum(1, np.rint(lens * self.rate)).astype(np.int64)
        last = np.take_along_axis(np.sort(keys, axis=1), num_preds[:, None] - 1, axis=1)
        chosen = (keys <= last) & maskable
        counts = chosen.sum(1)
        places = np.argsort(~chosen, axis=1, kind="stable")[:, : max(int(counts.max()), 1)]
        is_pred = np.arange(places.shape[1]) < counts[:, None]
        ids = np.where(is_pred, np.take_along_axis(token_ids, places, axis=1), np.int32(0))
        choice = rng.random(token_ids.shape, np.float32)
        random_ids = self.ordinary[rng.integers(0, len(self.ordinary), token_ids.shape)]
        masked = np.where(choice < 0.8, np.int32(self.mask_id), token_ids)
        masked = np.where(choice >= 0.9, random_ids, masked)
        return PretrainingBatch(
            np.where(chosen, masked, token_ids).astype(np.int32, copy=False),
            batch.segments,
            lens,
            batch.labels,
            pred_positions=np.where(is_pred, places, -1).astype(np.int32),
            pred_ids=ids.astype(np.int32, copy=False),
            pred_weights=is_pred * np.float32(len(batch) / max(int(counts.sum()), 1)),
        )
