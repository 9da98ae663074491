"""A table of any format, as the layouts see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class BadRow(Exception):
    """What is wrong with a row."""


@dataclass
class Table:
    """Rows with named fields.

    Args:
        source: what to call it in messages.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, ``"arrow"``,
            ``"frame"`` or ``"pairs"``.
        columns: names as they are written. A table without a header has ``"1"``, ``"2"`` and so on;
            JSON has the keys of its first rows, where a dot stands between those of nested objects.
        rows: number (the line, or the row, from 1) and fields of each row; a bad one is given, not
            raised.
        class_names: columns of integers of which the source says what each of them means.
        notes: what was guessed, and which option decides it.
        batches: gives the rows of some columns as pyarrow's record batches; None where it cannot.
    """

    source: str
    format: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[int, Mapping[str, Any] | BadRow]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    batches: Callable[[Sequence[str]], Iterator[Any]] | None = None
