"""A table of any format, as the layouts see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What the splits are called in files and in names of files.
ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "validation", "val", "trial"), "dev"),
    **dict.fromkeys(("test", "testing", "evaluation", "eval"), "test"),
}


class BadRow(Exception):
    """What is wrong with a row."""


#: Number of a row (its line, or its place from 1) and its fields; or what is wrong with it.
Row = tuple[int, Mapping[str, Any] | BadRow]


@dataclass
class Table:
    """Rows with named fields.

    Args:
        source: what to call it in messages.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"``, ``"arrow"``,
            ``"frame"`` or ``"pairs"``.
        columns: names as they are written. A table without a header has ``"1"``, ``"2"`` and so on;
            JSON has the keys of its first rows, where a dot stands between those of nested objects.
        rows: each of them; a bad one is given, not raised.
        class_names: columns of integers of which the source says what each of them means.
        notes: what was guessed, and which option decides it.
        twice: names that stand twice; the later ones are called by their place as well.
        is_part: the rows are those of the split that is wanted, and of no other.
        batches: gives the rows of some columns as pyarrow's record batches; None where it cannot.
    """

    source: str
    format: str
    columns: tuple[str, ...]
    rows: Iterator[Row]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    twice: frozenset[str] = frozenset()
    is_part: bool = False
    batches: Callable[[Sequence[str]], Iterator[Any]] | None = None


def told_apart(names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return names of columns with the place beside those that stand before, and which these are.

    >>> told_apart(["label", "text", "label"])
    (('label', 'text', 'label (column 3)'), frozenset({'label'}))
    """
    seen, twice, found = set[str](), set[str](), []
    for place, name in enumerate(names, 1):
        if name in seen:
            twice.add(name)
            name = f"{name} (column {place})"
        seen.add(name)
        found.append(name)
    return tuple(found), frozenset(twice)


def named_split(name: str) -> str:
    """Return a split by the name that it has here."""
    return ALIASES.get(name.lower(), name)


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """Return a row's value of a column, also of a nested object; None for none."""
    if column in row:
        return row[column]
    key, dot, rest = column.partition(".")
    inner = row.get(key) if dot else None
    return value_of(inner, rest) if isinstance(inner, Mapping) else None
