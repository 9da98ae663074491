"""The NLI dataset as PyTorch's own DataLoader takes it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bertnli.data.dataset import PairDataset

Item = tuple[tuple[NDArray, NDArray, NDArray], NDArray]


class SNLIBERTDataset(PairDataset, torch.utils.data.Dataset):
    """Sentence pairs as token ids; item i is ``((token_ids, segments, valid_len), label)``.

    Items are padded to ``max_len`` and int64, as the book's PyTorch tab has them.
    """

    def __getitem__(self, index: int) -> Item:
        token_ids, segments, valid_len, label = self.padded(index)
        inputs = (token_ids.astype(np.int64), segments.astype(np.int64), np.int64(valid_len))
        return inputs, np.int64(label)  # type: ignore[return-value]
