"""A table of any format: named columns and an iterator of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What files call a split, and our name for it.
ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "validation", "val", "trial"), "dev"),
    **dict.fromkeys(("test", "testing", "evaluation", "eval"), "test"),
}


class BadRow(Exception):
    """A malformed row, and what is wrong with it."""


#: The line or number of a row, from 1, and its fields or what is wrong with it.
Row = tuple[int, Mapping[str, Any] | BadRow]


@dataclass
class Table:
    """Rows with named fields.

    Args:
        source: its name in messages.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, ``"arrow"``,
            ``"frame"`` or ``"pairs"``.
        columns: names as written; ``"1"``, ``"2"``, ... without a header; of JSON, the keys of the
            first rows, those of nested objects after a dot.
        rows: each row; a malformed one as a `BadRow`, which is not raised.
        class_names: of columns of integers, the class of 0, 1, ... where the source has them.
        notes: guesses, and the options that decide them.
        repeated: column names that stand several times.
        is_part: whether the rows are already those of the wanted split.
        batches: yields some columns as pyarrow record batches, from the first row; None where
            pyarrow cannot.
    """

    source: str
    format: str
    columns: tuple[str, ...]
    rows: Iterator[Row]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    repeated: frozenset[str] = frozenset()
    is_part: bool = False
    batches: Callable[[Sequence[str]], Iterator[Any]] | None = None


def distinct_names(names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return column names, repeated ones with their number added, and those that are repeated.

    >>> distinct_names(["label", "text", "label"])
    (('label', 'text', 'label (column 3)'), frozenset({'label'}))
    """
    seen: dict[str, None] = {}
    repeated = set()
    for number, name in enumerate(names, 1):
        if name in seen:
            repeated.add(name)
            name = f"{name} (column {number})"
        seen[name] = None
    return tuple(seen), frozenset(repeated)


def named_split(name: str) -> str:
    """Return our name of a split."""
    return ALIASES.get(name.lower(), name)


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return a row's value; dots lead into nested objects. None for a missing value."""
    if column in row:
        return row[column]
    key, dot, rest = column.partition(".")
    inner = row.get(key) if dot else None
    return value_of(inner, rest) if isinstance(inner, Mapping) else None


def keys_of(row: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """Yield the keys of a row, and those of nested objects after a dot."""
    for key, value in row.items():
        yield str(key)
        if depth and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in keys_of(value, depth - 1))
