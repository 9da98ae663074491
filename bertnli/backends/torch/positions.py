"""The distances of tokens in DeBERTa's disentangled attention (He et al., 2021 and 2023).

A score is not only query times key, but also query times the key of the distance of the two tokens,
and key times the query of this distance. The vectors of distances are projected to keys and
queries by the layers of each block that project the tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bertnli.bert.config import BERTConfig
from bertnli.bert.positions import distance_ranges


class Distances(NamedTuple):
    """The vectors (R, H) of the ranges of distances between T tokens, and `distance_ranges`."""

    vectors: Tensor
    ranges: Tensor  # (2, 2 T), rows of vectors


class DistanceTable(nn.Module):
    """The vectors of all ranges of distances, which the blocks share."""

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.sizes = config.position_buckets, config.max_len
        self.embedding = nn.Embedding(2 * config.position_buckets, config.num_hiddens)
        self.ln = nn.LayerNorm(config.num_hiddens, config.norm_eps)

    def forward(self, T: int) -> Distances:
        ranges = torch.from_numpy(distance_ranges(*self.sizes, T))
        first, last = int(ranges.min()), int(ranges.max())
        vectors = self.ln(self.embedding.weight[first : last + 1])
        return Distances(vectors, (ranges - first).to(vectors.device))


def distance_products(X: Tensor, distances: Tensor) -> Tensor:
    """Multiply each token's vector with that of its distance to each token.

    Args:
        X: (..., h, T, d), a vector of each token and head.
        distances: (2 T, h, d), a vector of each distance from -T to T - 1.

    Returns:
        (..., h, T, T), by token and by the token to which there is a distance.
    """
    T = X.shape[-2]
    products = X @ distances.permute(1, 2, 0)  # (..., h, T, 2 T)
    # Token i needs j - i + T for all j: with rows of 2 T - 1, this is column j from the T-th on.
    return products.flatten(-2)[..., T:].unflatten(-1, (T, 2 * T - 1))[..., :T]
