"""Which columns of a table are read: a layout's, the user's, or those that the content suggests.

A guess is a note that names the option which decides it. A doubtful guess is only proposed in an
error message: premise and hypothesis exchanged give answers that look right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertnli._util.hints import did_you_mean
from bertnli.data.classes import LIKELY, NAMES, is_number, is_spelling, raw_label
from bertnli.data.corpus import TABLE, short_repr
from bertnli.data.layouts import ANNOTATORS, LAYOUTS, SPLIT_COLUMNS, WNLI, key_of, names_by_key
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.table import BadRow, Table, value_of
from bertnli.errors import DataError, LabelError

#: Columns that are considered for a proposal.
MAX_PROPOSED = 100
_FRACTION = re.compile(r"\d*\.\d*[1-9]\d*(e-?\d+)?")
#: Words in a column's name that suggest the hypothesis (positive) or the premise (negative weight).
_SIDES = (
    (r"hyp|claim|statement|aussage|behauptung|these", 2),
    (r"quer|question|frage|summary|second|(^|[^a-z])(2|b)$|[a-z]2$", 1),
    (r"text|context|doc|passage|evidence|article|first|(^|[^a-z])(1|a)$|[a-z]1$", -1),
    (r"pr[eä]m", -2),
)
_CLASS_NAME = re.compile(r"label|class|gold|target|judg")
#: Advice for an error about columns.
NAME_THEM = (
    "Name the columns to read, with premise=, hypothesis= and label= (--premise-column, "
    "--hypothesis-column, --label-column), by name or by number from 1"
)
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """The columns of a table that are read.

    Args:
        premise, hypothesis: the columns of the sentences, as the table writes them.
        label: the column of the class; None for none.
        layout: the name of the layout.
        groups: the columns whose values are kept, to break down scores.
        annotators: the columns of annotators' labels.
        part: the column that names the split of a row.
        numbers: the classes of 0, 1, ... where they are known.
        may_be_empty: whether an empty sentence is allowed; SNLI has some.
    """

    premise: SentenceColumn
    hypothesis: SentenceColumn
    label: str | None
    layout: str = TABLE
    groups: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()
    part: str | None = None
    numbers: tuple[str, ...] = ()
    may_be_empty: bool = False

    def columns(self, *more: str | None) -> list[str]:
        """List the distinct columns that are read, and ``more`` ones that are not None."""
        sentences = (*self.premise.names, *self.hypothesis.names)
        others = (self.label, self.part, *self.groups, *self.annotators, *more)
        return list(dict.fromkeys(name for name in (*sentences, *others) if name is not None))


def plan_of(table: Table, rows: Rows, how: Any) -> Plan:
    """Choose the columns of a table to read; a guess is added to the table's notes.

    Args:
        table: the table.
        rows: its first rows, without malformed ones.
        how: the `bertnli.data.reading.Reading` with the user's options.

    Raises:
        DataError: no such column, or the columns of the sentences are unclear.
        LabelError: there is no column of classes.
    """
    names = names_by_key(table.columns)
    given = (how.premise, how.hypothesis, how.label)
    digits = {str(column) for column in given if str(column).isdecimal()}
    by_number = not digits <= {*table.columns}  # else the header itself has these numbers
    columns = [_column(table, names, column, by_number) for column in given]
    numbered = {name for name, c in zip(columns, given, strict=True) if str(c).isdecimal()}
    first, second, label = columns
    fitting = next((layout for layout in LAYOUTS if layout.fits(names)), None)
    layout = fitting or LAYOUTS[-1]
    if layout.name == "GLUE" and "wnli" in table.source.lower():
        layout = WNLI
    if fitting is None and not (first and second):
        guess = _guess(table, rows, how.labelled)
        first, second, label = first or guess[0], second or guess[1], label or guess[2]
    premise = SentenceColumn(first) if first else _as_written(layout.premise, names)
    hypothesis = SentenceColumn(second) if second else _as_written(layout.hypothesis, names)
    sentences = (*premise.names, *hypothesis.names)
    if not how.labelled:
        label = None
    elif label is None:
        label = next((names[key_of(n)] for n in layout.labels if key_of(n) in names), None)
        if label is None and how.probabilities is None:
            raise LabelError(_no_label(table, rows, sentences, layout.labels))
    for name in sentences if label is None else (*sentences, label):
        is_ambiguous = name in table.repeated and name not in numbered
        if is_ambiguous or table.columns.count(name) > 1:
            raise DataError(
                f"{table.source}, line 1: two columns {name!r}; the header has "
                f"{short_repr(list(table.columns))}. Rename one. {NAME_THEM}"
            )
    title = layout.name
    if fitting is None and table.columns[:1] == ("1",) and label is not None:
        # Khot et al. (2018): SciTail's tables have no header, and two classes.
        is_scitail = {str(value_of(row, label)) for row in rows} <= {"entails", "neutral"}
        title = "SciTail" if is_scitail else title
    return Plan(
        premise,
        hypothesis,
        label,
        title,
        groups=tuple(names[key_of(group)] for group in layout.groups if key_of(group) in names),
        annotators=tuple(names[n] for n in ANNOTATORS if n in names and how.labelled),
        part=next((names[name] for name in SPLIT_COLUMNS if name in names), None),
        numbers=table.class_names.get(label or "", layout.numbers),
        may_be_empty=any(side.parse in table.columns for side in (PREMISE, HYPOTHESIS)),
    )


def _column(
    table: Table, names: Mapping[str, str], given: str | int | None, by_number: bool
) -> str | None:
    """Find the column that the user named or numbered, and return its name in the table."""
    if given is None:
        return None
    text = str(given)
    if by_number and text.isdecimal() and 1 <= int(text) <= len(table.columns):
        return table.columns[int(text) - 1]
    if text in table.columns or not table.columns:
        return text
    if key_of(text) in names:
        return names[key_of(text)]
    if key_of(text.partition(".")[0]) in names and table.format in ("json", "jsonl", "pairs"):
        return text  # a key of later rows
    raise DataError(
        f"{table.source}, line 1: no column {given!r}; the header has "
        f"{short_repr(list(table.columns))}. {NAME_THEM}{did_you_mean(text, table.columns)}"
    )


def _as_written(column: SentenceColumn, names: Mapping[str, str]) -> SentenceColumn:
    parse = None if column.parse is None else names.get(key_of(column.parse))
    return SentenceColumn(names.get(key_of(column.text), column.text), parse)


def _guess(table: Table, rows: Rows, labelled: bool) -> tuple[str, str, str | None]:
    """Guess the columns of premise, hypothesis and label of a table with unknown names."""
    has_header = bool(table.columns) and table.columns[0] not in ("0", "1")
    classes = [column for column in table.columns[:3] if _is_class(rows, column, has_header)]
    label = classes[0] if len(classes) == 1 and len(table.columns) == 3 else None
    sentences = [column for column in table.columns if column != label]
    if len(sentences) != 2 or (labelled and label is None):
        raise DataError(_no_columns(table, rows, labelled))
    first, second = _in_order(*sentences)
    note = f"premise is column {first!r}, hypothesis column {second!r}"
    options = "--premise-column, --hypothesis-column"
    if label is not None and labelled:
        note, options = f"{note}, class {label!r}", f"{options}, --label-column"
    if label is not None or has_header:
        table.notes.append(f"{note} ({options})")
    return first, second, label


def _is_class(rows: Rows, column: str, has_header: bool) -> bool:
    """Check whether a column has classes: their names or, in a table without a header, numbers."""
    try:
        raws = [raw_label(value_of(row, column)) for row in rows]
    except BadRow:
        return False
    is_named = any(raw.lower() in NAMES for raw in raws)
    is_index = len({*raws}) == len(raws)
    return all(map(is_spelling, raws)) and (is_named or not (has_header or is_index))


def _sides(name: str) -> list[int]:
    return [side for words, side in _SIDES if re.search(words, name.lower())]


def _in_order(first: str, second: str) -> tuple[str, str]:
    """Sort two columns of sentences by their names: the premise first; unchanged if unclear."""
    sides = [0 if name.isdecimal() else sum(_sides(name)) for name in (first, second)]
    return (second, first) if sides[0] > sides[1] else (first, second)


def _values(table: Table, rows: Rows) -> dict[str, list[Any]]:
    """Collect the non-missing values of each column that may be the label, for a message."""
    columns = [c for c in table.columns[:MAX_PROPOSED] if c not in table.repeated]
    values = {column: [value_of(row, column) for row in rows] for column in columns}
    return {c: [value for value in cells if value is not None] for c, cells in values.items()}


def _no_label(table: Table, rows: Rows, sentences: Sequence[str], wanted: Sequence[str]) -> str:
    near = _label_column(_values(table, rows), sentences)
    return (
        f"{table.source}, line 1: no column {' or '.join(map(repr, wanted))}; its columns are "
        f"{short_repr(list(table.columns))}. Name the column of the class with label= "
        f"(--label-column{'' if near is None else ' ' + _quoted(near)}); pairs without classes are "
        "for `bertnli predict`, and read with labelled=False"
    )


def _no_columns(table: Table, rows: Rows, labelled: bool) -> str:
    text = (
        f"{table.source}, line 1: no known columns of sentences; its columns are "
        f"{short_repr(list(table.columns))}. {NAME_THEM}"
    )
    if len(table.columns) == 1 and table.format in ("tsv", "csv"):
        return f"{text}; or give the delimiter with delimiter= (--delimiter): it has one column"
    values = _values(table, rows)
    texts = [
        column
        for column, cells in values.items()
        if cells and all(isinstance(cell, str) and not is_number(cell) for cell in cells)
        if len(cells) < 3 or len({*cells}) > 1
        if _sides(column) or any(" " in cell for cell in cells)
    ]
    texts.sort(key=lambda c: (not _sides(c), -sum(map(len, values[c])) / len(values[c])))
    if len(texts) < 2:
        return text
    first, second = _in_order(*sorted(texts[:2], key=table.columns.index))
    proposal = f"--premise-column {_quoted(first)} --hypothesis-column {_quoted(second)}"
    label = _label_column(values, (first, second)) if labelled else None
    return f"{text}. Perhaps {proposal}" + (f" --label-column {_quoted(label)}" if label else "")


def _label_column(values: Mapping[str, list[Any]], taken: Sequence[str]) -> str | None:
    """Choose the likely column of classes, by its values and name; not one of the ``taken``."""
    scores = {}
    for column, cells in values.items():
        raws = {str(cell).strip().lower() for cell in cells}
        is_nested = any(isinstance(cell, list | dict) for cell in cells)
        if column in taken or not cells or is_nested or any(map(_FRACTION.fullmatch, raws)):
            continue
        is_known = all(map(is_spelling, raws))
        has_few = len(raws) <= max(3, len(cells) // 4) and max(map(len, raws)) < 30
        varies = has_few and (len(raws) > 1 or len(cells) == 1)
        is_named = _CLASS_NAME.search(column.lower()) is not None
        score = (
            *(is_known and not raws.isdisjoint(NAMES), varies and is_named),
            *(has_few and raws <= {*LIKELY}, varies and is_known, varies),
        )
        if any(score):
            scores[column] = score
    return max(scores, key=lambda column: scores[column], default=None)


def _quoted(text: str) -> str:
    return text if text.replace("_", "").replace(".", "").isalnum() else f'"{text}"'
