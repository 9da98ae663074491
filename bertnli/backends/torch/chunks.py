"""A batch as rows, and which of them attend to which: what `packed` computes.

Shapes in comments: B pairs, T tokens, N rows, n pairs of a chunk, m of them with spare ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bertnli.backends.torch.kernels import AttentionGroup
from bertnli.data.packing import CHUNK_TOKENS, pack


def attention_bias(valid_lens: Tensor, num_keys: int) -> Tensor:
    """Return what to add to the scores so that no query sees padding, (n, 1, t) float32.

    The scores of padding become -1e30 exactly, for float32 has no digits left for them: its weights
    are 0, and where no key is valid all keys weigh the same, as in the book.

    Args:
        valid_lens: (n,) keys that may be seen.
        num_keys: t.
    """
    keys = torch.arange(num_keys, device=valid_lens.device)
    return -1e30 * (keys >= valid_lens[:, None, None]).float()


@dataclass(frozen=True)
class PackedChunk:
    """A `Chunk` as tensors on a device: N rows of n pairs.

    Args:
        tokens: (N,) places in the flattened batch.
        used: how many of them are the pairs' tokens; what follows is to spare.
        pairs, firsts: (m,); of the last m - n, which nothing depends on, the pair is B.
        groups: all rows of a pair see all of them.
        cls_groups: query i h + j, which is that of pair i of the chunk for head j, sees the rows
            of its own pair.
    """

    tokens: Tensor
    used: int
    pairs: Tensor
    firsts: Tensor
    groups: list[AttentionGroup]
    cls_groups: list[AttentionGroup]


def packed_chunks(valid_lens: Tensor, width: int, num_heads: int) -> Iterator[PackedChunk]:
    """Yield the chunks of a padded batch, T wide; see `pack`. A GPU gets a single one."""
    device = valid_lens.device

    def tensor(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    lens = valid_lens.cpu().numpy()
    max_tokens = CHUNK_TOKENS if device.type == "cpu" else lens.size * width
    for chunk in pack(lens, width, max_tokens):
        groups, cls_groups = [], []
        start = 0
        for bucket in chunk.buckets:
            rows = tensor(bucket.rows)  # (n, t)
            bias = None
            if bucket.valid_lens is not None:
                bias = attention_bias(tensor(bucket.valid_lens), rows.shape[1])
            end = start + len(rows) * num_heads
            queries = torch.arange(start, end, device=device).view(-1, num_heads)  # (n, h)
            groups.append(AttentionGroup(rows, rows, bias))
            cls_groups.append(AttentionGroup(queries, rows, bias))
            start = end
        spare = len(chunk.firsts) - len(chunk.pairs)
        yield PackedChunk(
            tensor(chunk.tokens),
            chunk.used,
            functional.pad(tensor(chunk.pairs), (0, spare), value=len(lens)),
            tensor(chunk.firsts),
            groups,
            cls_groups,
        )
