"""The one door for data: anything with sentence pairs becomes a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.data.arrow import file_table, names_beside, narrowed
from bertnli.data.classes import decide, option, raw_label
from bertnli.data.corpus import MALFORMED, NO_LABEL, Corpus, check_on_error, is_sentence, shown
from bertnli.data.formats import Written, binary_format, written
from bertnli.data.layouts import (
    SEMEVAL_SPLITS,
    Plan,
    annotators_of,
    has_sentences,
    plan_of,
)
from bertnli.data.parses import SentenceColumn
from bertnli.data.sources import Part, own_dev, parts_of
from bertnli.data.streams import as_text, encoding_of, open_bytes
from bertnli.data.table import BadRow, Row, Table, value_of
from bertnli.data.tables import delimited_table, json_table, long_fields
from bertnli.errors import ConfigError, DataError
from bertnli.hints import hinted
from bertnli.labels import checked_labels
from bertnli.text.tokenize import Tokens

#: Rows by which the columns of a table are told.
SAMPLE = 50
#: What files are read as where a user does not say.
_PLAIN = Written("tsv")


@dataclass(frozen=True)
class Reading:
    """How a source is read; see `read`, whose arguments these are."""

    format: str | None = None
    delimiter: str | None = None
    quoted: bool | None = None
    header: bool | None = None
    encoding: str | None = None
    premise: str | int | None = None
    hypothesis: str | int | None = None
    label: str | int | None = None
    labelled: bool = True
    labels: Sequence[str] | None = None
    label_map: Mapping[Any, str] | None = None
    probabilities: str | None = None
    on_error: str = "raise"

    def __post_init__(self) -> None:
        check_on_error(self.on_error)
        told = self.label_map or {}
        if not (isinstance(told, Mapping) and all(isinstance(to, str) for to in told.values())):
            raise ConfigError(
                f"label_map is {self.label_map!r}; it is a dictionary from what is written to a "
                "class, such as {'0': 'entailment'} (--label-map 0=entailment)"
            )
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self.labels))

    @contextmanager
    def opened(self, part: Part, sample: int = SAMPLE) -> Iterator[tuple[Table, Plan]]:
        """Open a table, and tell which of its columns are read.

        Args:
            part: of a source.
            sample: rows by which that is told; of a pipe one, which comes before the second.
        """
        with ExitStack() as stack:
            if part.opened is not None:
                table = stack.enter_context(part.opened())
            else:
                stack.enter_context(long_fields())
                table = self._table(part, stack)
            first = list(islice(table.rows, sample))
            table.rows = chain(first, table.rows)
            good = [row for _, row in first if isinstance(row, Mapping)]
            if not table.columns and first and not good:  # nothing tells: each row is bad
                table.columns = ("premise", "hypothesis", "label")
            plan = plan_of(
                table,
                good,
                premise=self.premise,
                hypothesis=self.hypothesis,
                label=self.label,
                labelled=self.labelled,
            )
            table.notes += plan.notes
            read = [c for c in plan.columns(self.probabilities) if c in table.columns]
            yield narrowed(table, read), plan

    def _table(self, part: Part, stack: ExitStack) -> Table:
        stream = stack.enter_context(open_bytes(str(part.path)))
        source = str(stream.name)
        binary = self.format if self.format in ("parquet", "arrow") else None
        binary = binary or binary_format(stream.head, source)
        path = None if stream.name == "standard input" else Path(str(part.path))
        if binary:
            stream.bounded = False
            file: Any = stream.source if path is not None and stream.packed is None else stream
            if file is not stream:
                file.seek(0)
            return file_table(file, source, binary, path)
        how = self.written(stream.head, source)
        stream.bounded = how.format != "json"
        file = stack.enter_context(as_text(stream, self.encoding))
        if how.format in ("json", "jsonl"):
            table = json_table(file, how.format, source, part.split, SAMPLE if path else 1)
        else:
            table = delimited_table(file, how, source)
        if path is not None:
            table.class_names = names_beside(path)
        return table

    def written(self, head: bytes, source: str) -> Written:
        """Return how a text that begins so is written."""
        encoding, mark = encoding_of(head, self.encoding)
        given = {
            name: value
            for name in ("format", "delimiter", "quoted", "header")
            if (value := getattr(self, name)) is not None
        }
        text = head[mark:].decode(encoding, errors="replace")
        return written(text, source, self._known, replace(_PLAIN, **given), given)

    def _known(self, columns: Sequence[str]) -> bool:
        """Return whether a first line is one of names: those that the user gives, or a layout's."""
        names = [column.strip().lower() for column in columns]
        given = [c for c in (self.premise, self.hypothesis, self.label) if isinstance(c, str)]
        if any(column.lower() in names for column in given):
            return True
        return has_sentences(names)


READING = Reading()


def _rows(table: Table, plan: Plan, split: str | None) -> Iterator[Row]:
    """Yield the rows of a table, or those of one of its parts."""
    if split is None or table.format == "json":
        yield from table.rows
        return
    if plan.part is None:
        raise ConfigError(
            f"{table.source} is one table without splits, so there is no {split}; leave split= "
            "(--split) out"
        )
    wanted = {split, split.lower(), SEMEVAL_SPLITS.get(split, split)}
    for number, row in table.rows:
        if isinstance(row, BadRow) or value_of(row, plan.part) in wanted:
            yield number, row


def _sentence(column: SentenceColumn, row: Mapping[str, Any], what: str, may_be_empty: bool) -> str:
    """Return a sentence of a row.

    Raises:
        BadRow: there is none.
    """
    found = column.read(row)
    if found is None:
        found = column.read({name: value_of(row, name) for name in column.names})
        if found is None and not any(name in row for name in column.names):
            expected = " or ".join(map(repr, column.names))
            raise BadRow(f"no {expected}; the row has {shown.repr(sorted(map(str, row)))}")
    if not isinstance(found, str) or not (may_be_empty or found.strip()):
        raise BadRow(f"the {what} is {shown.repr(found)}; a sentence is expected")
    if not found.isascii():
        try:
            found.encode()
        except UnicodeEncodeError as error:  # "\\ud800" in JSON
            raise BadRow(f"the {what} has half a character: {error.reason}") from None
    return found


class _Builder:
    """Collects the rows of tables; what their labels mean is decided when all are known."""

    def __init__(self, how: Reading) -> None:
        self.how = how
        self.premises: list[str] = []
        self.hypotheses: list[str] = []
        self.codes: list[int] = []
        self.numbers: list[int] = []
        self.raws: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.first: dict[str, tuple[str, int]] = {}
        self.targets: list[Any] = []
        self.groups: dict[str, list[str]] = {}
        self.annotations: dict[int, dict[str, int]] = {}
        self.skipped: Counter[str] = Counter()
        self.parts: dict[str, int] = {}
        self.notes: list[str] = []
        self.plans: list[Plan] = []

    def bad(self, source: str, number: int, what: object) -> None:
        """Raise a DataError about a bad row, or count it."""
        if self.how.on_error == "raise":
            raise DataError(
                f"{source}, line {number}: {what}. Mend the line, or leave such rows out with "
                "on_error='skip' (--skip-bad-rows)"
            )
        self.skipped[MALFORMED] += 1

    def read(self, part: Part) -> None:
        """Read a table."""
        before = len(self.codes)
        with self.how.opened(part) as (table, plan):
            self.plans.append(plan)
            self.notes += [f"{table.source}: {note}" for note in table.notes]
            for column in plan.groups:
                self.groups.setdefault(column, [""] * before)
            for number, row in _rows(table, plan, part.split):
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

    def _add(self, source: str, plan: Plan, number: int, row: Mapping[str, Any]) -> None:
        empty = plan.may_be_empty
        premise = _sentence(plan.premise, row, "premise", empty)
        hypothesis = _sentence(plan.hypothesis, row, "hypothesis", empty)
        raw = ""
        if plan.label is not None:
            value = value_of(row, plan.label)
            if value is None and plan.label not in row and "." not in plan.label:
                raise BadRow(f"no {plan.label!r}; the row has {shown.repr(sorted(map(str, row)))}")
            raw = raw_label(value)
        if self.how.probabilities is not None:
            target = _probabilities(row, self.how.probabilities)
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
        self.counts[raw] += 1
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
        if plan.label is None:
            return tuple(how.labels or decide({}, labels=None, label_map=None)[0]), {"": -1}
        source = ", ".join(self.parts)
        names, meaning = decide(
            self.counts,
            labels=how.labels,
            label_map=how.label_map,
            numbers=plan.numbers,
            source=source,
            column=plan.label,
            lines={raw: number for raw, (_, number) in self.first.items()},
        )
        ids = {raw: -2 if name is None else names.index(name) for raw, name in meaning.items()}
        for raw, count in self.counts.items():
            if raw not in meaning:
                known = {name for name in meaning.values() if name is not None}
                unknown = [one for one in self.counts if one not in meaning]
                what = (
                    f"label {shown.repr(raw)} is none of {list(names)}; say what the file writes "
                    f"for each class with {option(unknown, names, known)}"
                )
                if how.on_error == "raise":
                    self.bad(*self.first[raw], what)
                self.skipped[MALFORMED] += count
                ids[raw] = -2
            elif meaning[raw] is None:
                self.skipped[NO_LABEL] += count
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


@hinted()
def read(
    source: Any,
    split: str | bool | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    quoted: bool | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    premise: str | int | None = None,
    hypothesis: str | int | None = None,
    label: str | int | None = None,
    labelled: bool = True,
    labels: Sequence[str] | None = None,
    label_map: Mapping[Any, str] | None = None,
    probabilities: str | None = None,
    on_error: str = "raise",
) -> Corpus:
    """Read sentence pairs and their labels from whatever has them.

    The published sets are known by their columns, in upper or lower case (see
    `bertnli.data.layouts.LAYOUTS`). A sentence of SNLI, MultiNLI and sets laid out as they are is
    the words of its binary parse or, where that is empty or missing, the text. What is guessed is
    in the corpus's ``notes``.

    Args:
        source: the path of a file (TSV, CSV, JSON lines, a document of JSON, parquet, Arrow or
            feather; perhaps packed by gzip, bz2, xz or zstd), of a folder or an archive of such
            files, ``"-"`` for standard input; a name of the hub (``"SNLI"``, ``"sample"``); any of
            these with a split, ``"SNLI:dev"``; a table of pandas, polars, pyarrow, datasets, or
            whatever has Arrow's PyCapsule or the DataFrame interchange protocol; a mapping of
            splits to tables; an iterable of pairs, of pairs with a label, or of dictionaries; or a
            list of several of these, which are read one after the other.
        split: ``"train"``, ``"dev"`` or ``"test"`` (validation means dev), or what else a folder's
            files are called; the book's True is train, False is test.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"`` or ``"arrow"``; None
            for what name and content tell.
        delimiter: the character between fields; None to find it.
        quoted: whether fields may stand in quotation marks; None to tell by the file.
        header: whether the first line names the columns; None to tell by the file.
        encoding: of the text; None for UTF-8, or UTF-16 or UTF-32 with a mark.
        premise, hypothesis, label: columns, by name or by number from 1; a dot leads into nested
            objects of JSON.
        labelled: False for pairs without labels, whose ids are -1.
        labels: the classes that are wanted, in the order of their ids, such as a classifier's; None
            for the file's own.
        label_map: what the file writes to what it means, such as ``{"0": "entailment"}``; ``"-"``
            means none. Without it names are known in the field's spellings, and numbers only where
            the source says what they mean.
        probabilities: the key of an object with each class's probability, to be trained on in place
            of the label: what ``bertnli predict --json`` writes. None for none.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        ConfigError: an option that is none; a source of several splits, of which none is named.
        DataError: no such file or column, a malformed row (with file and line), labels whose
            meaning nobody says, or a file whose sentences are all empty.
    """
    given = {key: value for key, value in locals().items() if key not in ("source", "split")}
    return read_parts(parts_of(source, split), Reading(**given))


def read_parts(parts: Iterable[Part], how: Reading) -> Corpus:
    """Read tables one after the other, as one corpus; see `read`."""
    builder, names = _Builder(how), dict[str, None]()
    for part in parts:
        builder.read(part)
        names[part.name if part.split is None else f"{part.name}, {part.split}"] = None
    return builder.corpus(", ".join(names))


def read_sets(
    sources: Iterable[Any], split: str | None = None, *, default: str | None = None, **options: Any
) -> list[Corpus]:
    """Read several sources, each as a corpus; one that shares its name is called by its source.

    Args:
        sources, split, options: see `read`.
        default: the split of a source that has some, where nobody says.
    """
    how, listed = Reading(**options), list(sources)
    found = [read_parts(parts_of(one, split, default), how) for one in listed]
    times = Counter(one.name for one in found)
    for one in found:
        if times[one.name] > 1:
            one.name = one.source
    return found


def pairs(
    source: Any,
    split: str | None = None,
    *,
    on_note: Callable[[str], Any] = lambda note: None,
    **options: Any,
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a source as they come, without their labels.

    Args:
        source, split, options: see `read`.
        on_note: is told what was guessed, and with ``on_error="skip"`` of each row left out.
    """
    how = Reading(**{**options, "labelled": False})
    for part in parts_of(source, split):
        is_file = part.path is not None and Path(str(part.path)).is_file()
        with how.opened(part, SAMPLE if is_file else 1) as (table, plan):
            for note in table.notes:
                on_note(f"{table.source}: {note}")
            for number, row in _rows(table, plan, part.split):
                try:
                    if isinstance(row, BadRow):
                        raise row
                    found = (
                        _sentence(plan.premise, row, "premise", plan.may_be_empty),
                        _sentence(plan.hypothesis, row, "hypothesis", plan.may_be_empty),
                    )
                    if not any(s.strip() for s in found) or not all(map(is_sentence, found)):
                        raise BadRow("both sentences are empty, and so are their parses")
                except BadRow as problem:
                    what = f"{table.source}, line {number}: {problem}"
                    if how.on_error == "raise":
                        raise DataError(
                            f"{what}. Mend the line, or leave such rows out with on_error='skip' "
                            "(--skip-bad-rows)"
                        ) from None
                    on_note(f"{what}; left out")
                    continue
                yield found


def train_and_dev(
    train: Any, dev: Any = None, *, seed: int = 0, **options: Any
) -> tuple[Corpus, Corpus | None]:
    """Read a training set, and the set that the best epoch is chosen by.

    Args:
        train: a source; its train split, where it has several.
        dev: a source; its dev split, where it has several; or a share of the training pairs between
            0 and 1, which is held out: of whole premises, so that none is on both sides. None for
            the training source's own dev split, if it has one.
        seed: of what is held out.
        options: see `read`.

    Raises:
        ConfigError, DataError: as `read`; or a share that leaves one side empty.
    """
    how = Reading(**options)
    corpus = read_parts(parts_of(train, None, "train"), how)
    if isinstance(dev, float):
        return held_out(corpus, dev, seed)
    if dev is None:
        whole = own_dev(train)
        if whole is None:
            return corpus, None
        dev = parts_of(whole, "dev")
    else:
        dev = parts_of(dev, None, "dev")
    how = replace(how, probabilities=None, labels=how.labels or corpus.label_names)
    return corpus, read_parts(dev, how)


def held_out(corpus: Corpus, share: float, seed: int = 0) -> tuple[Corpus, Corpus]:
    """Return a corpus without some of its pairs, and these: all those of some of its premises.

    Args:
        corpus: the pairs.
        share: of them, about as many.
        seed: of the premises' order.
    """
    if not 0 < share < 1:
        raise ConfigError(f"dev is {share}; a share to hold out is between 0 and 1 (--dev 0.1)")
    distinct = {premise: i for i, premise in enumerate(dict.fromkeys(corpus.premises))}
    premises = np.array([distinct[premise] for premise in corpus.premises], np.int64)
    sizes = np.bincount(premises, minlength=len(distinct))
    order = np.random.default_rng(seed).permutation(len(distinct))
    taken = order[: int(np.searchsorted(np.cumsum(sizes[order]), share * len(premises))) + 1]
    is_dev = np.isin(premises, taken)
    if is_dev.all() or not is_dev.any():
        raise ConfigError(
            f"{corpus.source}: {share} of its {len(premises)} pairs, of {len(distinct)} different "
            "premises, cannot be held out; give a set of its own with dev= (--dev)"
        )
    rest, dev = np.flatnonzero(~is_dev), np.flatnonzero(is_dev)
    kept = corpus.subset(rest)
    kept.skipped, kept.notes = corpus.skipped, corpus.notes
    return kept, corpus.subset(dev, f"{share:.0%} of {corpus.name}")
