"""Adam's state as arrays, the same on every backend: a run may begin on one and end on another.

``updates`` (1,) int64 counts the steps; ``m/NAME`` and ``v/NAME`` are a tensor's moments, float32.
For a table that is updated by row, they are (n, H), of the n rows that ever had a gradient;
``rows/NAME`` (n,) int64 has the indices of these rows, in the order of their first use. Other rows'
moments are zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def dense_moments(
    arrays: Mapping[str, NDArray], name: str, shape: tuple[int, ...]
) -> tuple[NDArray, NDArray]:
    """Read a tensor's moments m and v, each of the tensor's shape, from Adam's arrays."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        return m, v
    dense_m, dense_v = np.zeros((2, *shape), np.float32)
    dense_m[rows], dense_v[rows] = m, v
    return dense_m, dense_v


def row_moments(arrays: Mapping[str, NDArray], name: str) -> tuple[NDArray, NDArray, NDArray]:
    """Read the indices (n,) of a table's rows that have moments, and m and v of these, (n, H)."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        rows = np.flatnonzero((m != 0).any(axis=1) | (v != 0).any(axis=1))
        m, v = m[rows], v[rows]
    return rows, m, v
