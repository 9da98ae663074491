"""Which columns of a table are read: those of a layout, of the user, or what is in them tells.

A guess is a note with the option that decides it, and one that would change classes is not made: an
exchanged answer looks like a right one.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertnli._util.hints import did_you_mean
from bertnli.data.classes import LIKELY, NAMES, is_number, is_spelling, raw_label
from bertnli.data.corpus import TABLE, shown
from bertnli.data.layouts import (
    ANNOTATORS,
    COUNTER,
    COUNTS,
    LABEL_COLUMNS,
    LAYOUTS,
    MAX_COLUMNS,
    SEMEVAL,
    WNLI,
    Layout,
    is_laid_out,
    key_of,
)
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.table import BadRow, Table, value_of
from bertnli.errors import DataError, LabelError

#: Columns of which some are proposed.
MAX_PROPOSED = 100
_FRACTION = re.compile(r"\d*\.\d*[1-9]\d*(e-?\d+)?")
#: What in a name means the hypothesis, more than anything else; and what the premise.
_SIDES = (
    (r"hyp|claim|statement|aussage|behauptung|these", 2),
    (r"quer|question|frage|summary|second|(^|[^a-z])(2|b)$|[a-z]2$", 1),
    (r"text|context|doc|passage|evidence|article|first|(^|[^a-z])(1|a)$|[a-z]1$", -1),
    (r"pr[eä]m", -2),
)


@dataclass(frozen=True)
class Plan:
    """Which columns of a table are read.

    Args:
        premise, hypothesis: where the sentences are, as the table writes it.
        label: the column of the class; None for none.
        layout: the name of the layout.
        groups: columns whose values are kept.
        annotators: columns of annotators' labels.
        part: the column that says which split a row is of.
        numbers: the classes of 0, 1 and so on, where they are known.
        may_be_empty: an empty sentence is no fault, as in SNLI, which has some.
        notes: what was guessed.
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
    notes: tuple[str, ...] = field(default=())

    def columns(self, *more: str | None) -> list[str]:
        """Return the columns that are read, each once."""
        sentences = (*self.premise.names, *self.hypothesis.names)
        others = (self.label, self.part, *self.groups, *self.annotators, *more)
        return list(dict.fromkeys(name for name in (*sentences, *others) if name is not None))


def plan_of(
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    premise: str | int | None = None,
    hypothesis: str | int | None = None,
    label: str | int | None = None,
    labelled: bool = True,
    probabilities: str | None = None,
) -> Plan:
    """Return which columns of a table to read.

    Args:
        table: of any format.
        rows: the first of them.
        premise, hypothesis, label: the user's columns, by name or by number from 1.
        labelled: whether a column of the class is needed.
        probabilities: the column of the classes' probabilities, which tell the class where no
            column does.

    Raises:
        DataError: a column is not there, or twice, with those that there are.
    """
    names = {key_of(column): column for column in reversed(table.columns[:MAX_COLUMNS])}
    given = [premise, hypothesis, label]
    numbers = {str(one) for one in given if one is not None and str(one).isdecimal()}
    if numbers <= {*table.columns}:  # a header of numbers, of which one is meant
        given = [None if one is None else str(one) for one in given]
    else:
        given = [int(str(one)) if str(one) in numbers else one for one in given]
    columns = [_column(table, names, one) for one in given]
    by_place = {c for c, one in zip(columns, given, strict=True) if type(one) is int}
    layout = next((one for one in LAYOUTS if is_laid_out(one, names)), None)
    if layout is not None and layout.name == "GLUE" and "wnli" in table.source.lower():
        layout = WNLI
    notes: list[str] = []
    if columns[0] is not None and columns[1] is not None:
        found = SentenceColumn(columns[0]), SentenceColumn(columns[1])
        layout = None if layout is None or layout.name == TABLE else layout
    elif layout is not None:
        first, second = columns[:2]
        found = (
            SentenceColumn(first) if first else _written(layout.premise, names),
            SentenceColumn(second) if second else _written(layout.hypothesis, names),
        )
    else:
        places, note = _by_content(table, rows, labelled)
        found = SentenceColumn(columns[0] or places[0]), SentenceColumn(columns[1] or places[1])
        columns[2] = columns[2] or places[2]
        notes += note
    _check_once(table, [n for one in found for n in one.names], by_place)
    what = columns[2]
    if labelled and what is None:
        wanted = LABEL_COLUMNS if layout is None else layout.labels
        what = next((names[key_of(name)] for name in wanted if key_of(name) in names), None)
        if what is None and probabilities is None:
            raise LabelError(_no_label(table, rows, found, wanted))
    if what is not None:
        _check_once(table, [what], by_place)
    if not labelled:
        what = None
    groups = () if layout is None else layout.groups
    return Plan(
        *found,
        what,
        _name_of(layout, table, rows, what),
        tuple(names[key_of(group)] for group in groups if key_of(group) in names),
        tuple(
            names[name]
            for name in (COUNTER, COUNTS, *ANNOTATORS)
            if name in names and labelled and not (name == COUNTS and COUNTER in names)
        ),
        names.get(key_of(SEMEVAL), names.get("split")),
        table.class_names.get(what or "", () if layout is None else layout.numbers),
        any(one.parse is not None and one.parse in table.columns for one in (PREMISE, HYPOTHESIS)),
        tuple(notes),
    )


def _name_of(
    layout: Layout | None, table: Table, rows: Sequence[Mapping[str, Any]], label: str | None
) -> str:
    if layout is not None:
        return layout.name
    # Khot et al. (2018): SciTail's tables have no header, and these two classes.
    classes = {value_of(row, label) for row in rows} if label else set()
    return "SciTail" if table.columns[:1] == ("1",) and classes <= {"entails", "neutral"} else TABLE


def _column(table: Table, names: Mapping[str, str], given: str | int | None) -> str | None:
    """Return a column that the user names, as the table writes it."""
    if given is None:
        return None
    text = str(given)
    if isinstance(given, int) and 1 <= given <= len(table.columns):
        return table.columns[given - 1]
    if text in table.columns:
        return text
    if key_of(text) in names:
        spelled = [one for one in table.columns if key_of(one) == key_of(text)]
        if len(spelled) > 1:
            raise DataError(
                f"{table.source}, line 1: two columns {text!r}: {', '.join(spelled)}; give the one "
                "that is meant as it is written there"
            )
        return names[key_of(text)]
    if key_of(text.partition(".")[0]) in names and table.format in ("json", "jsonl", "pairs"):
        return text
    if not table.columns:
        return text
    raise DataError(
        f"{table.source}, line 1: no column {given!r}; the header has "
        f"{shown.repr(list(table.columns))}. Name the columns to read, with premise=, hypothesis= "
        "and label= (--premise-column, --hypothesis-column, --label-column), by name or by number "
        f"from 1{did_you_mean(text, table.columns)}"
    )


def _written(one: SentenceColumn, names: Mapping[str, str]) -> SentenceColumn:
    """Return a sentence's columns as a table writes them."""
    parse = None if one.parse is None else names.get(key_of(one.parse))
    return SentenceColumn(names.get(key_of(one.text), one.text), parse)


def _check_once(table: Table, columns: Sequence[str], by_place: Container[str | None]) -> None:
    for name in columns:
        if (name in table.twice and name not in by_place) or table.columns.count(name) > 1:
            raise DataError(
                f"{table.source}, line 1: two columns {name!r}; the header has "
                f"{shown.repr(list(table.columns))}. Rename one, or name the columns to read, with "
                "premise=, hypothesis= and label= (--premise-column, --hypothesis-column, "
                "--label-column), by number from 1"
            )


def _by_content(
    table: Table, rows: Sequence[Mapping[str, Any]], labelled: bool
) -> tuple[tuple[str, str, str | None], list[str]]:
    """Return the columns of a table whose names are not known: by what stands in them."""
    has_header = bool(table.columns) and table.columns[0] not in ("0", "1")
    if len(table.columns) == 2 and not labelled:
        first, second = _in_order(*table.columns)
        said = f"premise is column {first!r}, hypothesis column {second!r}"
        options = " (--premise-column, --hypothesis-column)"
        return (first, second, None), [said + options] if has_header else []
    if len(table.columns) == 3 and rows:
        classes = [c for c in table.columns if _is_class(rows, c, has_header)]
        if len(classes) == 1:
            first, second = _in_order(*(c for c in table.columns if c != classes[0]))
            said = f"premise is column {first!r}, hypothesis column {second!r}"
            options = " (--premise-column, --hypothesis-column"
            if labelled:
                said, options = f"{said}, class {classes[0]!r}", f"{options}, --label-column"
            return (first, second, classes[0]), [f"{said}{options})"]
    raise DataError(_no_columns(table, rows, "no columns of sentences that are known", labelled))


def _in_order(first: str, second: str) -> tuple[str, str]:
    """Return two columns of sentences, the premise's first, as far as their names tell."""
    return (second, first) if _side(first) > _side(second) else (first, second)


def _side(name: str) -> int:
    """Return how far a name means the hypothesis; the number of a column means nothing."""
    return not name.isdecimal() and sum(
        sign for words, sign in _SIDES if re.search(words, name.lower())
    )


def _is_sided(name: str) -> bool:
    return any(re.search(words, name.lower()) for words, _ in _SIDES)


def _no_label(
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    sentences: Sequence[SentenceColumn],
    wanted: Sequence[str],
) -> str:
    """Return what to say where the column of the class is missing."""
    taken = [name for one in sentences for name in one.names]
    values = {c: [value_of(row, c) for row in rows] for c in table.columns[:MAX_PROPOSED]}
    near = _proposed_label(values, (taken[0], taken[-1]))
    return (
        f"{table.source}, line 1: no column {' or '.join(map(repr, wanted))}; its columns are "
        f"{shown.repr(list(table.columns))}. Name the column of the class with label= "
        f"(--label-column{'' if near is None else ' ' + _quoted(near)}); pairs without classes are "
        "for `bertnli predict`, and read with labelled=False"
    )


def _is_class(rows: Sequence[Mapping[str, Any]], column: str, has_header: bool) -> bool:
    try:
        written = [raw_label(value_of(row, column)) for row in rows]
    except BadRow:
        return False
    # A table of a header's own names is somebody's own; that needs more than a number to be told.
    # Numbers that count the rows are an index.
    known, counts = any(r.lower() in NAMES for r in written), len({*written}) == len(written)
    return all(map(is_spelling, written)) and (known or not (has_header or counts))


def _no_columns(table: Table, rows: Sequence[Mapping[str, Any]], what: str, labelled: bool) -> str:
    """Return what to say where columns are missing, with the line that reads the table."""
    where = "its columns are" if table.columns else "it has no columns:"
    text = (
        f"{table.source}, line 1: {what}; {where} {shown.repr(list(table.columns))}. Name the "
        "columns to read, with premise=, hypothesis= and label= (--premise-column, "
        "--hypothesis-column, --label-column), by name or by number from 1"
    )
    if len(table.columns) == 1 and table.format in ("tsv", "csv"):
        return text + (
            "; or say what stands between the fields, with delimiter= (--delimiter), for one "
            "column was found"
        )
    near = did_you_mean("sentence1", table.columns)
    proposal = _proposed(table, rows, labelled)
    return f"{text}. Perhaps {proposal}" if proposal else text + near


def _proposed(table: Table, rows: Sequence[Mapping[str, Any]], labelled: bool) -> str | None:
    """Return options that read a table of unknown columns, as far as they can be guessed."""
    values = {
        column: [value for row in rows if (value := value_of(row, column)) is not None]
        for column in table.columns[:MAX_PROPOSED]
        if column not in table.twice
    }
    texts = [
        column
        for column, found in values.items()
        if found and all(isinstance(v, str) and not is_number(v) for v in found)
        if len(found) < 3 or len({*found}) > 1  # the same in all rows is no sentence
        if _is_sided(column) or any(" " in v for v in found)
    ]
    texts.sort(key=lambda c: (not _is_sided(c), -sum(map(len, values[c])) / len(values[c])))
    if len(texts) < 2:
        return None
    first, second = _in_order(*sorted(texts[:2], key=table.columns.index))
    named = {"premise": first, "hypothesis": second}
    label = _proposed_label(values, (first, second))
    if label is not None and labelled:
        named["label"] = label
    return " ".join(f"--{what}-column {_quoted(column)}" for what, column in named.items())


def _proposed_label(values: Mapping[str, list[Any]], taken: tuple[str, str]) -> str | None:
    """Return the column that seems to be the class's: of few values, known or with a name."""
    best = None
    for column, found in values.items():
        if column in taken or not found or any(isinstance(v, list | dict) for v in found):
            continue
        raws = [str(value).strip() for value in found]
        if any(_FRACTION.fullmatch(raw) for raw in raws):  # a probability is no class
            continue
        few = len({*raws}) <= max(3, len(raws) // 4) and max(map(len, raws)) < 30
        known = all(map(is_spelling, raws))
        named = any(word in column.lower() for word in ("label", "class", "gold", "target", "judg"))
        likely = few and all(r.lower() in LIKELY for r in raws)
        few &= len({*raws}) > 1 or len(raws) == 1
        is_class = known and any(r.lower() in NAMES for r in raws)
        score = (is_class, named and few, likely, known and few, few)
        if any(score) and (best is None or score > best[0]):
            best = (score, column)
    return None if best is None else best[1]


def _quoted(text: str) -> str:
    return text if text.replace("_", "").replace(".", "").isalnum() else f'"{text}"'
