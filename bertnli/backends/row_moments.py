"""Adam's moments for the rows of a table, on any backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowMoments:
    """Adam's moments for the rows of a table that have had a gradient.

    The moments of all other rows are zero, so Adam does not change these rows. Rows that had a
    gradient once are updated in every step, as by Adam on the whole table.

    Args:
        table: the parameter, (V, H) float32.
        m, v: uninitialised arrays of the table's shape, of which only rows in use are touched.

    Attributes:
        rows: (n,) the rows in use, whose moments are the first n rows of ``m`` and ``v``.
        slots: (V,) the position of each row in ``rows``; -1 for rows that are not in use.
    """

    def __init__(self, table: Any, m: Any, v: Any) -> None:
        self.table, self.m, self.v = table, m, v
        self.clear()

    def clear(self) -> None:
        self.rows = np.empty(0, np.int64)
        self.slots = np.full(len(self.table), -1, np.int64)

    def add(self, rows: NDArray[np.int64]) -> None:
        """Add distinct new rows, one or more, with moments of zero."""
        new = slice(len(self.rows), len(self.rows) + len(rows))
        self.slots[rows] = np.arange(new.start, new.stop)
        self.m[new] = self.v[new] = 0
        self.rows = np.concatenate([self.rows, rows])

    def load(self, rows: NDArray[np.int64], m: Any, v: Any) -> None:
        """Replace all rows by new ones, (n,), with the moments m and v, (n, H) each."""
        self.clear()
        if len(rows):
            self.add(rows.astype(np.int64))
            self.m[: len(rows)], self.v[: len(rows)] = m, v
