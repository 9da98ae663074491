"""Test sets in the layouts that they are published in, known by their columns."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertnli.data.corpus import BadRow, Corpus, CorpusBuilder, shown
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.snli import LABEL, format_of, read_pairs, rows_of
from bertnli.data.tables import long_fields, open_text
from bertnli.errors import ConfigError, DataError
from bertnli.hints import near_path
from bertnli.labels import LABELS, TWO_WAY, canonical_label

#: A file of somebody's own, in none of the layouts below.
TABLE = "table"
#: The columns of HANS's and SICK's sentences.
_HANS = SentenceColumn(PREMISE.text), SentenceColumn(HYPOTHESIS.text)
_SICK = SentenceColumn("sentence_A"), SentenceColumn("sentence_B")
#: SICK's column of parts, and what they are called there.
SEMEVAL = "SemEval_set"
SEMEVAL_SPLITS = {"train": "TRAIN", "dev": "TRIAL", "test": "TEST"}


@dataclass(frozen=True)
class Layout:
    """How a published set is laid out.

    Args:
        name: of the set.
        premise, hypothesis: where the sentences are.
        label: name of the column.
        mark: a further column by which the layout is known; None where there is none.
        group: the column whose values are scored apart, where the file has it.
        labels: names of the classes; a file may write them in upper case.
    """

    name: str
    premise: SentenceColumn
    hypothesis: SentenceColumn
    label: str = LABEL
    mark: str | None = None
    group: str | None = None
    labels: tuple[str, ...] = LABELS

    @property
    def columns(self) -> list[str]:
        """The columns by which a file is known to have the layout."""
        found = [self.premise.preferred, self.hypothesis.preferred, self.label]
        return found if self.mark is None else [*found, self.mark]


#: The first whose columns a file has is its layout. HANS's sentences are tokens with spaces, and of
#: its parses nothing is needed; SICK's test file, and the training and trial files, call the class
#: a judgment, the file of all three a label.
LAYOUTS = (
    Layout("HANS", *_HANS, mark="heuristic", group="heuristic", labels=TWO_WAY),
    Layout("MultiNLI", PREMISE, HYPOTHESIS, mark="genre", group="genre"),
    Layout("SNLI", PREMISE, HYPOTHESIS),
    Layout("SICK", *_SICK, "entailment_label", group=SEMEVAL),
    Layout("SICK", *_SICK, "entailment_judgment", group=SEMEVAL),
)


@dataclass(frozen=True)
class LabelledSet:
    """Labelled pairs to score on.

    Args:
        name: what to call it in a report.
        corpus: the pairs; their label names are those of the set.
        layout: the name of a `Layout`, or ``"table"``.
        groups: column to each pair's value of it, such as ``{"genre": ["fiction", ...]}``.
    """

    name: str
    corpus: Corpus
    layout: str = TABLE
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def pairs(self) -> set[tuple[str, str]]:
        """Return the different pairs of sentences, without their labels."""
        return set(zip(self.corpus.premises, self.corpus.hypotheses, strict=True))

    def digest(self) -> str:
        """Return the SHA-256 of the set of pairs: the same whatever their order, in hexadecimal."""
        found = hashlib.sha256()
        for pair in sorted(self.pairs()):
            found.update(repr(pair).encode())
        return found.hexdigest()


def read_labelled(
    path: str | Path,
    *,
    labels: Sequence[str] = LABELS,
    split: str | None = None,
    on_error: str = "raise",
    **table: Any,
) -> LabelledSet:
    """Read a file of labelled pairs, whose columns say which layout it has.

    Known are the official files of SNLI and MultiNLI (``.txt``, ``.jsonl``), whose sentences are
    the words of the parses or, where these are empty or missing, ``sentence1`` and ``sentence2``;
    SICK (``SICK.txt`` and the files of SemEval 2014); and HANS
    (``heuristics_evaluation_set.txt``, ``.jsonl``). Any other is read by `read_pairs`. If it has
    entailment and non-entailment (or not_entailment) for its classes, it becomes a two-way set.

    Args:
        path: the file, perhaps gzipped.
        labels: the classifier's classes, for a file in none of the layouts.
        split: ``"train"``, ``"dev"`` or ``"test"``, of SICK's one file with a column of parts.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.
        table: options of `read_pairs`; if there are any, the file is read by it.

    Raises:
        DataError: as `read_pairs`; or two-way and three-way classes in one file.
        ConfigError: a split of a file that has none.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file{near_path(path)}")
    layout = None
    if not table:
        format = format_of(path)
        columns = _columns(path, format)
        layout = next((one for one in LAYOUTS if set(one.columns) <= columns), None)
        if split is not None and SEMEVAL not in columns:
            layout = None
    if layout is None:
        if split is not None:
            raise ConfigError("--split is for --data; a file has no splits, save SICK's SICK.txt")
        return LabelledSet(path.name, _own_table(path, labels, on_error, table))
    return _read(path, format, layout, layout.group in columns, split, on_error)


def _columns(path: Path, format: str) -> set[str]:
    """Return the names of a file's columns, as far as its first line tells them."""
    with open_text(path) as file, long_fields():
        line = file.readline()
    if format == "tsv":
        return set(line.rstrip("\r\n").split("\t"))
    try:
        return set(json.loads(line) if format == "jsonl" else next(csv.reader([line])))
    except (ValueError, TypeError, RecursionError, StopIteration, csv.Error):
        return set()  # whoever reads the rows says what is wrong with them


def _read(
    path: Path, format: str, layout: Layout, grouped: bool, split: str | None, on_error: str
) -> LabelledSet:
    builder = CorpusBuilder(str(path), on_error, layout.labels)
    maybe = layout.label, layout.mark, layout.group if grouped else None
    strings = [column for column in maybe if column is not None]
    groups: list[str] = []
    wanted = None if split is None else SEMEVAL_SPLITS[split]
    with open_text(path) as file, long_fields():
        for line, row in rows_of(file, format, ((name,) for name in layout.columns), builder):
            try:
                for column in strings:
                    if not isinstance(row.get(column), str):
                        found = shown.repr(row.get(column))
                        raise BadRow(f"{column!r} is {found}; a string is expected")
                group = row[str(layout.group)] if grouped else ""
                if wanted is not None and group != wanted:
                    continue
                sentences = layout.premise.read(row), layout.hypothesis.read(row)
                before = len(builder.rows[2])
                label = row[layout.label].strip()
                label = label if label == "-" else canonical_label(label)
                builder.add(*sentences, label, official=True)
                groups += [group] * (len(builder.rows[2]) - before)  # none of a row left out
            except BadRow as problem:
                builder.bad(line, str(problem))
    named = {str(layout.group): groups} if grouped else {}
    name = path.name if split is None else f"{path.name}, {wanted}"
    corpus = builder.corpus(layout.premise, layout.hypothesis)
    return LabelledSet(name, corpus, layout.name, named)


def _own_table(
    path: Path, labels: Sequence[str], on_error: str, options: Mapping[str, Any]
) -> Corpus:
    """Read somebody's own table, in the classifier's classes or in two."""
    known = {canonical_label(name): name for name in labels}
    no = known.get(TWO_WAY[1], TWO_WAY[1])
    names = list(labels)
    if TWO_WAY[0] in known and no not in names:
        names.append(no)
    given = dict(options.get("label_map") or {})
    if no in names:
        given = {
            key: no if canonical_label(name) == TWO_WAY[1] else name for key, name in given.items()
        }
    corpus = read_pairs(path, labels=names, on_error=on_error, **{**options, "label_map": given})
    used = Counter(names[label] for label in corpus.labels)
    if len(names) > len(labels) and used[no]:
        return _two_way(corpus, used)
    return _relabelled(corpus, corpus.labels, labels)


def _two_way(corpus: Corpus, used: Counter[str]) -> Corpus:
    ids = []
    others = {name: n for name, n in used.items() if canonical_label(name) not in TWO_WAY}
    if others:
        raise DataError(
            f"{corpus.source}: it has {used[TWO_WAY[1]]} pairs of the class {TWO_WAY[1]}, and "
            + ", ".join(f"{n} of {name}" for name, n in sorted(others.items()))
            + "; expected are two classes, or the classifier's own. Say what the file writes for "
            "each with label_map= (--label-map)"
        )
    for label in corpus.labels:
        ids.append(TWO_WAY.index(canonical_label(corpus.label_names[label])))
    return _relabelled(corpus, ids, TWO_WAY)


def _relabelled(corpus: Corpus, ids: list[int], names: Sequence[str]) -> Corpus:
    return Corpus(
        corpus.premises,
        corpus.hypotheses,
        ids,
        tokenized=corpus.tokenized,
        label_names=names,
        skipped=corpus.skipped,
        source=corpus.source,
    )
