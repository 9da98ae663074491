"""Adam's state as arrays: the same on every backend and device.

A run that was begun on one can end on another.

``updates`` (1,) int64 counts the steps; ``m/NAME`` and ``v/NAME`` are a tensor's moments, float32.
Of a table that is updated by row they are those of the rows that ever had a gradient, (n, H), and
``rows/NAME`` (n,) int64 says which these are, in the order in which they were first used; the
moments of all others are zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray]


def dense_moments(arrays: Arrays, name: str, shape: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """Return the moments of all of a tensor, of its shape."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        return m, v
    whole = np.zeros((2, *shape), np.float32)
    whole[0][rows], whole[1][rows] = m, v
    return whole[0], whole[1]


def row_moments(arrays: Arrays, name: str) -> tuple[NDArray, NDArray, NDArray]:
    """Return the rows of a table that have moments (n,), and these, (n, H) each."""
    m, v = arrays[f"m/{name}"], arrays[f"v/{name}"]
    rows = arrays.get(f"rows/{name}")
    if rows is None:
        rows = np.flatnonzero((m != 0).any(axis=1) | (v != 0).any(axis=1))
        m, v = m[rows], v[rows]
    return rows, m, v
