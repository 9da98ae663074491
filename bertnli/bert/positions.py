"""The ranges of distances that share a bias of scores in MPNet, or a vector in DeBERTa."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Distances from here on share a range in MPNet (Song et al., 2020).
MAX_DISTANCE = 128


def relative_ranges(num_buckets: int, width: int) -> NDArray[np.int64]:
    """Return the range, 0 to num_buckets - 1, of each query's distance to each key, (width, width).

    Half of the ranges are for keys after the query. A quarter are single distances, and a quarter
    grow with the logarithm of the distance (Raffel et al., 2020), computed in float32 as by the
    model's authors.
    """
    half, exact = num_buckets // 2, num_buckets // 4
    ahead = np.arange(width) - np.arange(width)[:, None]
    distance = np.abs(ahead)
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    growth = ratio / np.float32(np.log(MAX_DISTANCE / exact)) * np.float32(half - exact)
    far = np.minimum(exact + growth.astype(np.int64), half - 1)
    return np.where(distance < exact, distance, far) + half * (ahead > 0)


def distance_ranges(position_buckets: int, max_len: int, width: int) -> NDArray[np.int64]:
    """Return the range of each distance as in DeBERTa-v3 (He et al., 2023), (2, 2 * width).

    The first row has the distances of a key from a query, the second those of a query from a key,
    -width to width - 1 each; the first distance of all does not occur. Half of the ranges,
    1 to 2 * position_buckets - 1, are single distances. The others grow with the logarithm, up to
    max_len, computed in float32 as by the model's authors.
    """
    exact = position_buckets // 2
    distance = np.arange(-width, width)
    steps = np.maximum(np.abs(distance), exact).astype(np.float32) / np.float32(exact)
    whole = np.log(np.float32(max(max_len - 1, exact + 1) / exact))
    far = np.ceil(np.log(steps) / whole * np.float32(exact - 1)).astype(np.int64) + exact
    bucket = np.where(np.abs(distance) <= exact, distance, far * np.sign(distance))
    of_query = np.clip(position_buckets + bucket, 1, 2 * position_buckets - 1)
    return np.stack((2 * position_buckets - of_query, of_query))
