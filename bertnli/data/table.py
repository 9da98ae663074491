"""A table of any format: named columns and an iterator over its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Names of a split in files, and our name of it.
ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "validation", "val", "trial"), "dev"),
    **dict.fromkeys(("test", "testing", "evaluation", "eval"), "test"),
}


class BadRow(Exception):
    """A malformed row; the message says what is wrong with it."""


#: The number of a row (its line in a text file), from 1, and its fields or what is wrong with it.
Row = tuple[int, Mapping[str, Any] | BadRow]


@dataclass
class Table:
    """Rows with named fields.

    Args:
        source: the table's name in messages.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, ``"arrow"``,
            ``"frame"`` or ``"pairs"``.
        columns: the column names as written; ``"1"``, ``"2"``, ... without a header; for JSON, the
            keys of the first rows, with a dot before each key of a nested object.
        rows: each row in order; a malformed one is yielded as a `BadRow`, which is not raised.
        class_names: for columns of integers, the classes of 0, 1, ... where the source names them.
        notes: guesses, and the options that decide them.
        repeated: column names that occur more than once.
        is_part: whether the rows are already those of the requested split.
        batches: a function of column names that yields these columns of all rows as pyarrow record
            batches; None where pyarrow cannot read the table.
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
    """Make column names distinct; also return the set of those that were repeated.

    >>> distinct_names(["label", "text", "label"])
    (('label', 'text', 'label (column 3)'), frozenset({'label'}))
    """
    distinct: dict[str, None] = {}
    repeated = set()
    for number, name in enumerate(names, 1):
        if name in distinct:
            repeated.add(name)
            name = f"{name} (column {number})"
        distinct[name] = None
    return tuple(distinct), frozenset(repeated)


def named_split(name: str) -> str:
    """Return our name of a split: "dev" for "validation", for example; keep unknown names."""
    return ALIASES.get(name.lower(), name)


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return a field of a row; in "a.b", b is a field of the nested object a. None if missing."""
    if column in row:
        return row[column]
    key, dot, rest = column.partition(".")
    inner = row.get(key) if dot else None
    return value_of(inner, rest) if isinstance(inner, Mapping) else None


def keys_of(row: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """Yield the keys of a row, and those of objects nested up to ``depth`` levels, as "a.b"."""
    for key, value in row.items():
        yield str(key)
        if depth and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in keys_of(value, depth - 1))
