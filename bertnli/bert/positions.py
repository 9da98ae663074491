"""The ranges of distances that share a bias of attention scores, in MPNet (Song et al., 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Distances from here on share a range.
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
