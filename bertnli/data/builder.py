"""A corpus from the rows of tables, whose labels are told when all are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertnli.data.classes import decide, option, raw_label
from bertnli.data.corpus import MALFORMED, NO_LABEL, Corpus, shown
from bertnli.data.layouts import annotators_of
from bertnli.data.plan import Plan
from bertnli.data.reading import Reading, bad_row, rows_of_part, sentence
from bertnli.data.sources import Part
from bertnli.data.table import BadRow, value_of
from bertnli.errors import ConfigError, DataError, LabelError
from bertnli.text.tokenize import Tokens

#: The share of a table's rows from which on an unknown label is a class.
RARE = 0.02


class Builder:
    """Collects the rows of tables; what their labels mean is decided when all are known."""

    def __init__(self, how: Reading) -> None:
        self.how = how
        self.premises: list[str] = []
        self.hypotheses: list[str] = []
        self.codes: list[int] = []
        self.numbers: list[int] = []
        self.raws: dict[str, int] = {}
        self.first: dict[str, tuple[str, int]] = {}
        self.targets: list[Any] = []
        self.groups: dict[str, list[str]] = {}
        self.annotations: dict[int, dict[str, int]] = {}
        self.skipped: Counter[str] = Counter()
        self.parts: dict[str, int] = {}
        self.notes: list[str] = []
        self.plans: list[Plan] = []
        self.called: dict[str, str] = {}

    def bad(self, source: str, number: int, what: object) -> None:
        """Raise a DataError about a bad row, or count it."""
        if self.how.on_error == "raise":
            raise bad_row(source, number, what)
        self.skipped[MALFORMED] += 1

    def read(self, part: Part) -> None:
        """Read a table."""
        before = len(self.codes)
        with self.how.opened(part) as (table, plan):
            self.plans.append(plan)
            self.notes += [f"{table.source}: {note}" for note in table.notes]
            for column in plan.groups:
                self.groups.setdefault(column, [""] * before)
            self.called = self._called(table.source, plan)
            for number, row in rows_of_part(table, plan, part.split):
                if isinstance(row, BadRow):
                    self.bad(table.source, number, row)
                    continue
                try:
                    self._add(table.source, plan, number, row)
                except BadRow as problem:
                    self.bad(table.source, number, problem)
        for values in self.groups.values():
            values += [""] * (len(self.codes) - len(values))
        name, times = table.source, 1
        while name in self.parts and name != next(reversed(self.parts)):  # not the one before
            times += 1
            name = f"{table.source} ({times})"
        self.parts[name] = self.parts.get(name, 0) + len(self.codes) - before

    def _called(self, source: str, plan: Plan) -> dict[str, str]:
        """Return what to call the numbers of a table, which mean others in the first one."""
        own, first = plan.numbers, self.plans[0].numbers
        if own == first:
            return {}
        names = own or [f"{i} of {source}" for i in range(len(first))]
        given = {*map(raw_label, self.how.label_map or ())}
        return {str(i): name for i, name in enumerate(names) if str(i) not in given}

    def _add(self, source: str, plan: Plan, number: int, row: Mapping[str, Any]) -> None:
        empty = plan.may_be_empty
        premise = sentence(plan.premise, row, "premise", empty)
        hypothesis = sentence(plan.hypothesis, row, "hypothesis", empty)
        raw = ""
        if plan.label is not None:
            value = value_of(row, plan.label)
            if value is None and plan.label not in row and "." not in plan.label:
                raise BadRow(f"no {plan.label!r}; the row has {shown.repr(sorted(map(str, row)))}")
            raw = raw_label(value)
            raw = self.called.get(raw, raw)
        if self.how.probabilities is not None:
            target = _probabilities(row, self.how.probabilities)
            if plan.label is None:
                raw = max(target, key=lambda name: target[name])
            if self.targets and {*self.targets[0]} != {*target}:
                raise BadRow(
                    f"the probabilities are {shown.repr(target)}; those of the rows before are of "
                    f"{list(self.targets[0])}"
                )
            self.targets.append(target)
        if plan.annotators and (found := annotators_of(row, plan.annotators)):
            self.annotations[len(self.codes)] = found
        for column in plan.groups:
            value = value_of(row, column)
            self.groups[column].append("" if value is None else str(value))
        self.premises.append(premise)
        self.hypotheses.append(hypothesis)
        if raw not in self.raws:
            self.first[raw] = (source, number)
        self.codes.append(self.raws.setdefault(raw, len(self.raws)))
        self.numbers.append(number)

    def corpus(self, name: str) -> Corpus:
        """Return the rows so far, those without a label left out.

        Raises:
            DataError: see `decide`; or all sentences are empty.
        """
        plan = self.plans[0]
        names, ids = self._ids(plan)
        labels = np.array([ids[raw] for raw in self.raws], np.int64)[self.codes]
        keep = np.flatnonzero(labels >= -1).tolist()
        if len(keep) == len(labels):  # in place: there may be millions
            premises, hypotheses = self.premises, self.hypotheses
        else:
            premises = [self.premises[i] for i in keep]
            hypotheses = [self.hypotheses[i] for i in keep]
        if premises and not any(s.strip() for column in (premises, hypotheses) for s in column):
            columns = ", ".join(map(repr, (*plan.premise.names, *plan.hypothesis.names)))
            raise DataError(
                f"{next(iter(self.parts))}: no column with a sentence in it: {columns} are empty "
                f"in all {len(premises)} rows. Name the columns to read, with premise= and "
                "hypothesis= (--premise-column, --hypothesis-column)"
            )
        order = {name: i for i, name in enumerate(names)}
        kept = np.array(keep, np.int64)
        ends = np.cumsum([0, *self.parts.values()])
        return Corpus(
            premises,
            hypotheses,
            labels[kept].tolist(),
            tokenized=all(isinstance(s, Tokens) for c in (premises, hypotheses) for s in c if s),
            label_names=names,
            targets=self._targets(kept, names),
            annotations=self._annotated(keep, order),
            groups={key: [values[i] for i in keep] for key, values in self.groups.items()},
            rows=np.array(self.numbers, np.int64)[kept],
            parts=dict(zip(self.parts, np.diff(np.searchsorted(kept, ends)).tolist(), strict=True)),
            skipped=+self.skipped,
            source=", ".join(self.parts),
            name=name,
            layout=plan.layout,
            notes=dict.fromkeys(self.notes),
        )

    def _ids(self, plan: Plan) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the classes, and of each label its id, -2 for one that is left out."""
        how = self.how
        if plan.label is None and how.probabilities is None:
            return tuple(how.labels or decide({}, labels=None, label_map=None)[0]), {"": -1}
        source = ", ".join(self.parts)
        times = np.bincount(np.array(self.codes, np.int64), minlength=len(self.raws)).tolist()
        counts = dict(zip(self.raws, times, strict=True))
        names, meaning = decide(
            counts,
            labels=how.labels,
            label_map=how.label_map,
            numbers=plan.numbers,
            source=source,
            column=plan.label or str(how.probabilities),
            lines={raw: number for raw, (_, number) in self.first.items()},
        )
        ids = {raw: -2 if name is None else names.index(name) for raw, name in meaning.items()}
        known = {name for name in meaning.values() if name is not None}
        unknown = {raw: count for raw, count in counts.items() if raw not in meaning}
        if unknown:
            often = max(unknown, key=lambda raw: unknown[raw])
            what = (
                f"label {shown.repr(often)} is none of {list(names)}; say what the file writes "
                f"for each class with {option([*unknown], names, known)}"
            )
            # A class that comes back is no bad row.
            if unknown[often] > 1 and unknown[often] > RARE * len(self.codes):
                where, number = self.first[often]
                raise LabelError(f"{where}, line {number} and {unknown[often] - 1} others: {what}")
            if how.on_error == "raise":
                raise bad_row(*self.first[often], what)
            counted = ", ".join(f"{shown.repr(raw)} in {n}" for raw, n in unknown.items())
            self.notes.append(f"{source}: rows with unknown labels are left out: {counted}")
            self.skipped[MALFORMED] += sum(unknown.values())
            ids |= dict.fromkeys(unknown, -2)
        if without := sum(counts[raw] for raw, name in meaning.items() if name is None):
            self.skipped[NO_LABEL] += without
        return names, ids

    def _annotated(self, keep: Sequence[int], order: Mapping[str, int]) -> Any:
        """Return how many annotators chose each class, (N, classes); None where nobody tells."""
        if not self.annotations:
            return None
        found: Any = np.zeros((len(keep), len(order)), np.int32)
        counts: Counter[str] = Counter()
        for one in self.annotations.values():
            counts.update(dict.fromkeys(one, 1))
        try:
            _, meaning = decide(
                counts, labels=[*order], label_map=self.how.label_map, numbers=self.plans[0].numbers
            )
        except (DataError, ConfigError):  # of others than the classes: they say nothing
            return None
        for place, i in enumerate(keep):
            for raw, n in self.annotations.get(i, {}).items():
                name = meaning.get(raw)
                if name is not None:
                    found[place, order[name]] += n
        return found if found.any() else None

    def _targets(self, kept: Any, names: Sequence[str]) -> Any:
        if self.how.probabilities is None:
            return None
        rows = []
        for i in kept.tolist():
            found = {str(key).lower(): value for key, value in self.targets[i].items()}
            if {*found} != {name.lower() for name in names}:
                part = next(iter(self.parts))
                raise DataError(
                    f"{part}, line {self.numbers[i]}: the probabilities are "
                    f"{shown.repr(self.targets[i])}; an object with a number for each of "
                    f"{list(names)} is expected"
                )
            rows.append([found[name.lower()] for name in names])
        return np.array(rows, np.float32).reshape(len(rows), len(names))


def _probabilities(row: Mapping[str, Any], column: str) -> Mapping[str, float]:
    """Return what a row says of each class.

    Raises:
        BadRow: it is something else.
    """
    found = value_of(row, column)
    if not isinstance(found, Mapping):
        raise BadRow(
            f"{column!r} is {shown.repr(found)}; probabilities are expected, an object "
            "with one for each class"
        )
    values = list(found.values())
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values) or not (
        all(v >= 0 for v in values) and abs(sum(values) - 1) < 1e-3
    ):
        raise BadRow(f"the probabilities {shown.repr(found)} are not, or do not sum to 1")
    return found
