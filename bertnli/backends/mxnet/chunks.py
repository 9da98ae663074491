"""A batch as rows, and which of them attend to which: what `packed` computes.

Shapes in comments: B pairs, T tokens, Q queries, N rows, n pairs of a chunk, m with spare ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.mxnet.devices import as_nd
from bertnli.backends.mxnet.kernels import AttentionGroups, Bucket, ClsGroups
from bertnli.data.packing import pack

#: Tokens computed together; more than PyTorch's, for an operator more costs more of Python here.
CHUNK_TOKENS = 4096


def attention_bias(valid_lens: NDArray, num_keys: int) -> NDArray[np.float32]:
    """Return what to add to the scores so that no query sees padding, (n, 1, t) float32.

    The scores of padding become -1e30 exactly, for float32 has no digits left for them: its weights
    are 0, and where no key is valid all keys weigh the same, as in the book.

    Args:
        valid_lens: (n,) keys that may be seen.
        num_keys: t.
    """
    padding = np.arange(num_keys) >= valid_lens[:, None, None]
    return np.where(padding, np.float32(-1e30), np.float32(0))


@dataclass(frozen=True)
class PackedChunk:
    """A `Chunk`, made ready for a device: N rows of n pairs.

    Args:
        tokens: (N,) NumPy, places in the flattened batch.
        used: how many of them are the pairs' tokens; what follows is to spare.
        pairs, firsts: (m,) NumPy; of the last m - n, which nothing depends on, the pair is B.
        groups: all rows of a pair see all of them.
        cls_groups: pair i of the chunk, as query i, sees the rows of its own.
    """

    tokens: NDArray[np.int64]
    used: int
    pairs: NDArray[np.int64]
    firsts: NDArray[np.int64]
    groups: AttentionGroups
    cls_groups: ClsGroups


def packed_chunks(
    valid_lens: NDArray, width: int, num_heads: int, device: Any
) -> Iterator[PackedChunk]:
    """Yield the chunks of a padded batch, T wide; see `pack`. A GPU gets a single one."""
    max_tokens = CHUNK_TOKENS if device.device_type == "cpu" else valid_lens.size * width
    for chunk in pack(valid_lens, width, max_tokens):
        groups, cls_groups = [], []
        for bucket in chunk.buckets:
            rows, lens = bucket.rows, bucket.valid_lens
            bias = each_head = None
            if lens is not None:
                bias = attention_bias(lens, rows.shape[1])  # (n, 1, t)
                each_head = as_nd(bias.repeat(num_heads, 1), device)
            groups.append(Bucket(rows, rows, bias))
            cls_groups.append((as_nd(rows, device), each_head))
        spare = len(chunk.firsts) - len(chunk.pairs)
        yield PackedChunk(
            chunk.tokens,
            chunk.used,
            np.pad(chunk.pairs, (0, spare), constant_values=len(valid_lens)),
            chunk.firsts,
            AttentionGroups(groups, len(chunk.tokens), num_heads, device),
            ClsGroups(cls_groups),
        )
