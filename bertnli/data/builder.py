"""A corpus from the rows of tables; the labels are decided when all rows are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import LABELS
from bertnli.data.classes import NO_CLASS, class_of_number, decide, proposed_map, raw_label
from bertnli.data.corpus import MALFORMED, NO_LABEL, Corpus, short_repr
from bertnli.data.layouts import annotators_of
from bertnli.data.plan import Plan
from bertnli.data.reading import Reading, bad_row, check_column, sentences_of
from bertnli.data.sources import Part
from bertnli.data.table import BadRow, Table, value_of
from bertnli.errors import ConfigError, DataError, LabelError
from bertnli.text.tokenize import Tokens

#: The share of all rows above which an unknown label is a class, and not a bad row.
RARE = 0.02
#: The id of an unknown label.
_UNKNOWN = -2


def read_parts(parts: Iterable[Part], how: Reading) -> Corpus:
    """Read tables one after the other, as one corpus, with the options of `bertnli.read`."""
    builder, names = _Builder(how), dict[str, None]()
    for part in parts:
        builder.read(part)
        names[part.name if part.split is None else f"{part.name}, {part.split}"] = None
    return builder.corpus(", ".join(names))


class _Builder:
    """Collects the rows of tables in lists, with one entry per row."""

    def __init__(self, how: Reading) -> None:
        self.how = how
        self.premises, self.hypotheses = list[str](), list[str]()
        self.raws, self.numbers = list[str](), list[int]()
        #: Each label as it is written, to itself and the table and number of its first row.
        self.first: dict[str, tuple[str, str, int]] = {}
        self.targets: list[Mapping[str, float]] = []
        self.groups: dict[str, list[str]] = {}
        self.annotations: dict[int, Mapping[str, int]] = {}
        self.skipped: Counter[str] = Counter()
        self.parts: dict[str, int] = {}
        self.notes: list[str] = []
        self.plans: list[Plan] = []

    def read(self, part: Part) -> None:
        """Add the rows of a table."""
        before = len(self.raws)
        with self.how.opened(part) as (table, plan):
            self.plans.append(plan)
            self.notes += [f"{table.source}: {note}" for note in table.notes]
            for column in plan.groups:
                self.groups.setdefault(column, [""] * before)
            rows = self.how.rows(table, partial(self._add, table, plan))
            self.skipped[MALFORMED] += sum(bad is not None for _, bad in rows)
        for values in self.groups.values():
            values += [""] * (len(self.raws) - len(values))
        name, times = table.source, 1
        while name in self.parts and name != next(reversed(self.parts)):
            times += 1
            name = f"{table.source} ({times})"
        self.parts[name] = self.parts.get(name, 0) + len(self.raws) - before

    def _add(self, table: Table, plan: Plan, number: int, row: Mapping[str, Any]) -> None:
        premise, hypothesis = sentences_of(row, plan)
        raw = ""
        if plan.label is not None:
            value = value_of(row, plan.label)
            if value is None:
                check_column(row, [plan.label])
            raw = class_of_number(raw_label(value), plan.numbers, self.how.label_map)
        if self.how.probabilities is not None:
            target = _probabilities(row, self.how.probabilities)
            if plan.label is None:
                raw = max(target, key=lambda name: target[name])
            if self.targets and {*self.targets[0]} != {*target}:
                raise BadRow(
                    f"the probabilities are {short_repr(target)}; those of the rows before are of "
                    f"{list(self.targets[0])}"
                )
            self.targets.append(target)
        if plan.annotators and (annotators := annotators_of(row, plan.annotators)):
            self.annotations[len(self.raws)] = annotators
        for column in plan.groups:
            value = value_of(row, column)
            self.groups[column].append("" if value is None else str(value))
        self.premises.append(premise)
        self.hypotheses.append(hypothesis)
        self.raws.append(self.first.setdefault(raw, (raw, table.source, number))[0])
        self.numbers.append(number)

    def corpus(self, title: str) -> Corpus:
        """Make a corpus named ``title`` of the labelled rows; of all rows in unlabelled tables."""
        plan, kept = self.plans[0], np.arange(len(self.raws))
        names, labels = tuple(self.how.labels or LABELS), np.full(len(kept), NO_CLASS)
        if plan.label is not None or self.how.probabilities is not None:
            names, ids = self._classes(plan)
            labels = np.array([ids.get(raw, _UNKNOWN) for raw in self.raws], np.int64)
            kept = np.flatnonzero(labels >= 0)
            self.skipped[NO_LABEL] += int((labels == NO_CLASS).sum())

        order = kept.tolist()

        def taken(column: list[str]) -> list[str]:
            return [column[i] for i in order] if len(order) < len(column) else column

        sentences = taken(self.premises), taken(self.hypotheses)
        if len(kept) and not any(text.strip() for column in sentences for text in column):
            columns = ", ".join(map(repr, (*plan.premise.names, *plan.hypothesis.names)))
            raise DataError(
                f"{next(iter(self.parts))}: no column with a sentence in it: {columns} are empty "
                f"in all {len(kept)} rows. Name the columns to read, with premise= and "
                "hypothesis= (--premise-column, --hypothesis-column)"
            )
        ends = np.searchsorted(kept, np.cumsum([0, *self.parts.values()]))
        return Corpus(
            *sentences,
            labels[kept].tolist(),
            tokenized=all(isinstance(text, Tokens) for c in sentences for text in c if text),
            label_names=names,
            targets=self._targets(kept, names),
            annotations=self._annotations(kept, names),
            groups={key: taken(values) for key, values in self.groups.items()},
            rows=np.array(self.numbers, np.int64)[kept],
            parts=dict(zip(self.parts, np.diff(ends).tolist(), strict=True)),
            skipped=+self.skipped,
            source=", ".join(self.parts),
            name=title,
            layout=plan.layout,
            notes=dict.fromkeys(self.notes),
        )

    def _classes(self, plan: Plan) -> tuple[tuple[str, ...], dict[str, int]]:
        """Decide and return the class names, and a dictionary of each label to its id."""
        how, counts = self.how, Counter(self.raws)
        where = ", ".join(self.parts), plan.label or str(how.probabilities)
        lines = {raw: number for raw, (_, _, number) in self.first.items()}
        names, ids = decide(counts, how.labels, how.label_map, plan.numbers, *where, lines)
        unknown = {raw: count for raw, count in counts.items() if raw not in ids}
        if unknown:
            often = max(unknown, key=lambda raw: unknown[raw])
            known = {names[i] for i in ids.values() if i >= 0}
            what = (
                f"label {short_repr(often)} is none of {list(names)}; say what the file writes "
                f"for each class with {proposed_map([*unknown], names, known)}"
            )
            _, source, number = self.first[often]
            if unknown[often] > max(1, RARE * len(self.raws)):
                others = unknown[often] - 1
                raise LabelError(f"{source}, line {number} and {others} others: {what}")
            if how.on_error == "raise":
                raise bad_row(source, number, what)
            counted = ", ".join(f"{short_repr(raw)} in {n}" for raw, n in unknown.items())
            self.notes.append(f"{source}: rows with unknown labels are left out: {counted}")
            self.skipped[MALFORMED] += sum(unknown.values())
        return names, ids

    def _annotations(
        self, rows: NDArray[np.int64], names: Sequence[str]
    ) -> NDArray[np.int32] | None:
        """Count, for each row, the annotators who chose each class, (rows, classes).

        None if no row has annotators' labels.
        """
        numbers, label_map = self.plans[0].numbers, self.how.label_map
        raws = {raw for counts in self.annotations.values() for raw in counts}
        classes = {raw: class_of_number(raw, numbers, label_map) for raw in raws}
        try:
            _, ids = decide(Counter(classes.values()), names, label_map)
        except (DataError, ConfigError):  # other classes than the labels'
            return None
        annotations = np.zeros((len(self.raws), len(names)), np.int32)
        for row, counts in self.annotations.items():
            for raw, count in counts.items():
                if (label := ids.get(classes[raw], NO_CLASS)) >= 0:
                    annotations[row, label] += count
        annotations = annotations[rows]
        return annotations if annotations.any() else None

    def _targets(self, rows: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.float32] | None:
        """Stack the probabilities, (rows, classes); None if they are not read."""
        if self.how.probabilities is None:
            return None
        targets = [self.targets[i] for i in rows.tolist()]
        keys = {str(key).lower(): key for target in targets[:1] for key in target}
        lowered = [name.lower() for name in names]
        if targets and {*keys} != {*lowered}:  # the other rows have the same keys
            raise DataError(
                f"{next(iter(self.parts))}, line {self.numbers[rows[0]]}: the probabilities are "
                f"{short_repr(targets[0])}; an object with a number for each of {list(names)} is "
                "expected"
            )
        values = [[target[keys[name]] for name in lowered] for target in targets]
        return np.array(values, np.float32).reshape(len(rows), len(names))


def _probabilities(row: Mapping[str, Any], column: str) -> Mapping[str, float]:
    """Read the dictionary of class names to probabilities in a row; BadRow if it is malformed."""
    target = value_of(row, column)
    if not isinstance(target, Mapping):
        raise BadRow(
            f"{column!r} is {short_repr(target)}; probabilities are expected, an object "
            "with one for each class"
        )
    values = list(target.values())
    are_numbers = all(type(value) in (int, float) and value >= 0 for value in values)
    if not are_numbers or not abs(sum(values) - 1) < 1e-3:
        raise BadRow(f"the probabilities {short_repr(target)} are negative, or do not sum to 1")
    return target
