"""A corpus from the rows of tables; the labels are decided when all rows are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import LABELS
from bertnli.data.classes import NO_CLASS, class_of_number, decide, proposed_map, raw_label
from bertnli.data.corpus import MALFORMED, NO_LABEL, Corpus, short_repr
from bertnli.data.layouts import annotators_of
from bertnli.data.plan import Plan
from bertnli.data.reading import Reading, bad_row, check_column, sentence
from bertnli.data.sources import Part
from bertnli.data.table import BadRow, Table, value_of
from bertnli.errors import ConfigError, DataError, LabelError
from bertnli.text.tokenize import Tokens

#: The share of all rows above which an unknown label is a class, and not a bad row.
RARE = 0.02
#: The id of an unknown label.
_UNKNOWN = -2


class Builder:
    """Collects the rows of tables."""

    def __init__(self, how: Reading) -> None:
        self.how = how
        self.premises: list[str] = []
        self.hypotheses: list[str] = []
        self.codes: list[int] = []
        self.numbers: list[int] = []
        self.raws: dict[str, int] = {}
        self.first: dict[str, tuple[str, int]] = {}
        self.targets: list[Mapping[str, float]] = []
        self.groups: dict[str, list[str]] = {}
        self.annotations: dict[int, dict[str, int]] = {}
        self.skipped: Counter[str] = Counter()
        self.parts: dict[str, int] = {}
        self.notes: list[str] = []
        self.plans: list[Plan] = []

    def read(self, part: Part) -> None:
        """Read a table."""
        before = len(self.codes)
        with self.how.opened(part) as (table, plan):
            self.plans.append(plan)
            self.notes += [f"{table.source}: {note}" for note in table.notes]
            for column in plan.groups:
                self.groups.setdefault(column, [""] * before)

            def add(number: int, row: Mapping[str, Any]) -> None:
                self._add(table, plan, number, row)

            def count(*_: Any) -> None:
                self.skipped[MALFORMED] += 1

            for _ in self.how.rows(table, plan, part.split, add, count):
                pass
        for values in self.groups.values():
            values += [""] * (len(self.codes) - len(values))
        name, times = table.source, 1
        while name in self.parts and name != next(reversed(self.parts)):
            times += 1
            name = f"{table.source} ({times})"
        self.parts[name] = self.parts.get(name, 0) + len(self.codes) - before

    def _add(self, table: Table, plan: Plan, number: int, row: Mapping[str, Any]) -> None:
        premise = sentence(plan.premise, row, "premise", plan.may_be_empty)
        hypothesis = sentence(plan.hypothesis, row, "hypothesis", plan.may_be_empty)
        raw = ""
        if plan.label is not None:
            value = value_of(row, plan.label)
            if value is None:
                check_column(row, [plan.label])
            raw = raw_label(value)
            if plan.numbers:
                raw = class_of_number(raw, plan.numbers, self.how.label_map)
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
            self.annotations[len(self.codes)] = annotators
        for column in plan.groups:
            value = value_of(row, column)
            self.groups[column].append("" if value is None else str(value))
        self.premises.append(premise)
        self.hypotheses.append(hypothesis)
        if raw not in self.raws:
            self.first[raw] = (table.source, number)
        self.codes.append(self.raws.setdefault(raw, len(self.raws)))
        self.numbers.append(number)

    def corpus(self, title: str) -> Corpus:
        """Return the rows; those without a label are left out."""
        plan, rows = self.plans[0], np.arange(len(self.codes))
        is_labelled = plan.label is not None or self.how.probabilities is not None
        names, ids = tuple(self.how.labels or LABELS), dict[str, int]()
        if is_labelled:
            names, ids = self._classes(plan)
        labels = np.array([ids.get(raw, _UNKNOWN) for raw in self.raws], np.int64)[self.codes]
        if is_labelled:
            rows = np.flatnonzero(labels >= 0)
            self.skipped += Counter({NO_LABEL: int((labels == NO_CLASS).sum())})
        else:
            labels[:] = NO_CLASS
        premises, hypotheses, kept = self.premises, self.hypotheses, rows.tolist()
        if len(rows) < len(labels):
            premises = [premises[i] for i in kept]
            hypotheses = [hypotheses[i] for i in kept]
        sentences = (premises, hypotheses)
        if premises and not any(text.strip() for column in sentences for text in column):
            columns = ", ".join(map(repr, (*plan.premise.names, *plan.hypothesis.names)))
            raise DataError(
                f"{next(iter(self.parts))}: no column with a sentence in it: {columns} are empty "
                f"in all {len(premises)} rows. Name the columns to read, with premise= and "
                "hypothesis= (--premise-column, --hypothesis-column)"
            )
        ends = np.searchsorted(rows, np.cumsum([0, *self.parts.values()]))
        return Corpus(
            premises,
            hypotheses,
            labels[rows].tolist(),
            tokenized=all(isinstance(text, Tokens) for c in sentences for text in c if text),
            label_names=names,
            targets=self._targets(rows, names),
            annotations=self._annotations(rows, names),
            groups={key: [values[i] for i in kept] for key, values in self.groups.items()},
            rows=np.array(self.numbers, np.int64)[rows],
            parts=dict(zip(self.parts, np.diff(ends).tolist(), strict=True)),
            skipped=+self.skipped,
            source=", ".join(self.parts),
            name=title,
            layout=plan.layout,
            notes=dict.fromkeys(self.notes),
        )

    def _classes(self, plan: Plan) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the classes, and the id of each label."""
        counts = dict(
            zip(self.raws, np.bincount(np.array(self.codes, np.int64)).tolist(), strict=True)
        )
        source = ", ".join(self.parts)
        names, ids = decide(
            counts,
            labels=self.how.labels,
            label_map=self.how.label_map,
            numbers=plan.numbers,
            source=source,
            column=plan.label or str(self.how.probabilities),
            lines={raw: number for raw, (_, number) in self.first.items()},
        )
        unknown = {raw: count for raw, count in counts.items() if raw not in ids}
        if unknown:
            often = max(unknown, key=lambda raw: unknown[raw])
            known = {names[i] for i in ids.values() if i >= 0}
            what = (
                f"label {short_repr(often)} is none of {list(names)}; say what the file writes "
                f"for each class with {proposed_map([*unknown], names, known)}"
            )
            source, number = self.first[often]
            if unknown[often] > max(1, RARE * len(self.codes)):
                others = unknown[often] - 1
                raise LabelError(f"{source}, line {number} and {others} others: {what}")
            if self.how.on_error == "raise":
                raise bad_row(source, number, what)
            counted = ", ".join(f"{short_repr(raw)} in {n}" for raw, n in unknown.items())
            self.notes.append(f"{source}: rows with unknown labels are left out: {counted}")
            self.skipped[MALFORMED] += sum(unknown.values())
        return names, ids

    def _annotations(
        self, rows: NDArray[np.int64], names: Sequence[str]
    ) -> NDArray[np.int32] | None:
        """Return how many annotators chose each class, (rows, classes); None where unknown."""
        numbers = self.plans[0].numbers
        raws = Counter(raw for counts in self.annotations.values() for raw in counts)
        classes = {raw: class_of_number(raw, numbers, self.how.label_map) for raw in raws}
        try:
            _, ids = decide(Counter(classes.values()), labels=names, label_map=self.how.label_map)
        except (DataError, ConfigError):  # other classes than the labels'
            return None
        annotations = np.zeros((len(rows), len(names)), np.int32)
        for place, i in enumerate(rows.tolist() if self.annotations else ()):
            for raw, n in self.annotations.get(i, {}).items():
                if (label := ids.get(classes[raw], NO_CLASS)) >= 0:
                    annotations[place, label] += n
        return annotations if annotations.any() else None

    def _targets(self, rows: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.float32] | None:
        if self.how.probabilities is None:
            return None
        lowered = [name.lower() for name in names]
        targets = np.empty((len(rows), len(names)), np.float32)
        for place, i in enumerate(rows.tolist()):
            target = {str(key).lower(): value for key, value in self.targets[i].items()}
            if {*target} != {*lowered}:
                raise DataError(
                    f"{next(iter(self.parts))}, line {self.numbers[i]}: the probabilities are "
                    f"{short_repr(self.targets[i])}; an object with a number for each of "
                    f"{list(names)} is expected"
                )
            targets[place] = [target[name] for name in lowered]
        return targets


def _probabilities(row: Mapping[str, Any], column: str) -> Mapping[str, float]:
    """Return the probability of each class."""
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
