"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, with the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [zip(row, widths, strict=True) for row in cells]
    return ["  ".join(f"{cell:<{width}}" for cell, width in row).rstrip() for row in rows]
