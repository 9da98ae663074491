"""The NLI dataset as gluon's own DataLoader takes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.data.dataset import PairDataset

Item = tuple[tuple[NDArray, NDArray, NDArray], NDArray]


class SNLIBERTDataset(PairDataset, mx.gluon.data.Dataset):
    """Sentence pairs as token ids; item i is ``((token_ids, segments, valid_len), label)``.

    Items are padded to ``max_len``, ids int32, length and label float32, as the book's MXNet tab
    has them.
    """

    def __getitem__(self, index: int) -> Item:
        token_ids, segments, valid_len, label = self.padded(index)
        inputs = (token_ids, segments, np.float32(valid_len))
        return inputs, np.float32(label)  # type: ignore[return-value]
