"""The layouts of published sets of sentence pairs, recognised by their columns.

Case, spaces, dashes and underscores in column names do not matter. A set that comes in several
forms has several entries. A set with another's columns has none: MedNLI has SNLI's columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bertnli.bert.labels import TWO_WAY
from bertnli.data.corpus import TABLE
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.table import value_of

LABEL_COLUMNS = ("gold_label", "label", "gold")
#: Columns that are looked at; a damaged file may have millions.
MAX_COLUMNS = 1 << 12
#: Columns that name the split of a row: SICK's, and others'.
SPLIT_COLUMNS = ("semeval_set", "split")
#: Columns of annotators' labels. ChaosNLI counts them, by name or in the order e, n, c.
COUNTS = "label_count"
ANNOTATORS = (
    *("label_counter", COUNTS, "annotator_labels", "old_labels"),
    *(f"label{i}" for i in range(1, 6)),
)


@dataclass(frozen=True)
class Layout:
    """The columns of a published set.

    Args:
        name: the name of the set.
        premise, hypothesis: the columns of the sentences.
        labels: the names that the column of the class may have.
        marks: further columns that a table must have.
        groups: columns by whose values scores are broken down, if the file has them.
        numbers: the classes of 0, 1, ... if the set defines them.
    """

    name: str
    premise: SentenceColumn
    hypothesis: SentenceColumn
    labels: tuple[str, ...] = LABEL_COLUMNS
    marks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def fits(self, names: Mapping[str, str]) -> bool:
        """Return whether a table has the layout's columns; ``names`` is from `names_by_key`."""
        columns = (self.premise.names, self.hypothesis.names, *((mark,) for mark in self.marks))
        return all(any(key_of(name) in names for name in either) for either in columns)


def _pair(premise: str, hypothesis: str) -> tuple[SentenceColumn, SentenceColumn]:
    return SentenceColumn(premise), SentenceColumn(hypothesis)


_TEXTS, _NAMED = _pair("sentence1", "sentence2"), _pair("premise", "hypothesis")

#: The first that fits is a table's layout. The guide's table is made of these.
LAYOUTS = (
    # McCoy et al. (2019), heuristics_evaluation_set.txt: its texts are tokens, its parses not read.
    Layout("HANS", *_TEXTS, marks=("heuristic",), groups=("heuristic",)),
    # Nie et al. (2020), chaosNLI_*.jsonl: a hundred labels of each pair.
    Layout("ChaosNLI", *_pair("example.premise", "example.hypothesis"), ("majority_label",)),
    # Conneau et al. (2018), xnli.dev.tsv and .jsonl: MultiNLI's columns, and the language.
    Layout("XNLI", PREMISE, HYPOTHESIS, marks=("language",), groups=("language", "genre")),
    # The same, multinli.train.LANGUAGE.tsv.
    Layout("XNLI", *_pair("premise", "hypo")),
    # Williams et al. (2018), also GLUE's MNLI, whose test files have no class.
    Layout("MultiNLI", PREMISE, HYPOTHESIS, marks=("genre", "promptID"), groups=("genre",)),
    Layout("MultiNLI", *_NAMED, marks=("genre", "promptID"), groups=("genre",)),
    # Glockner et al. (2018), dataset.jsonl.
    Layout("Breaking NLI", *_TEXTS, marks=("category", "annotator_labels"), groups=("category",)),
    # Khot et al. (2018), the form for predictors: of a question and an answer.
    Layout("SciTail", *_TEXTS, marks=("question", "answer")),
    # Camburu et al. (2018), esnli_train_1.csv.
    Layout("e-SNLI", *_TEXTS, marks=("Explanation_1",)),
    # Bowman et al. (2015); MedNLI (Romanov & Shivade, 2018); SciTail's form of SNLI.
    Layout("SNLI", PREMISE, HYPOTHESIS, marks=("sentence1_binary_parse",)),
    Layout("SNLI", *_TEXTS, marks=("annotator_labels",)),
    # Marelli et al. (2014): SICK.txt calls the class a label, the files of SemEval a judgment.
    Layout(
        "SICK",
        *_pair("sentence_A", "sentence_B"),
        ("entailment_label", "entailment_judgment"),
        groups=("SemEval_set",),
    ),
    # Nie et al. (2020), rounds R1 to R3.
    Layout("ANLI", *_pair("context", "hypothesis")),
    # Nie, Chen & Bansal (2019), FEVER as pairs: the query is the claim.
    Layout("FEVER-NLI", *_pair("context", "query")),
    # Schuster et al. (2021), VitaminC, and other tables of claims.
    Layout("claims", *_pair("evidence", "claim")),
    # Liu et al. (2022).
    Layout("WANLI", *_NAMED, ("gold",), marks=("gold",), groups=("genre",)),
    # Wang et al. (2019), GLUE: QNLI, in the order that BERT's own reader has; the diagnostic set.
    Layout("QNLI", *_pair("question", "sentence")),
    Layout("GLUE diagnostics", *_NAMED, marks=("Lexical Semantics",), groups=("Domain",)),
    Layout("GLUE", *_TEXTS, ("label",), marks=("index",)),
    # The Hub's columns; SuperGLUE's CB and RTE; DocNLI (Yin et al., 2021).
    Layout(TABLE, *_NAMED),
    Layout(TABLE, PREMISE, HYPOTHESIS),
)
#: GLUE's WNLI has numbers, which its page defines, and the columns of GLUE's other sets.
WNLI = replace(LAYOUTS[-3], name="WNLI", numbers=TWO_WAY[::-1])


def key_of(name: str) -> str:
    """Normalise a column name: lower case, with underscores for spaces and dashes."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def names_by_key(columns: Sequence[str]) -> dict[str, str]:
    """Map each normalised name (see `key_of`) to the first column that has it."""
    return {key_of(column): column for column in reversed(columns[:MAX_COLUMNS])}


def has_sentences(columns: Sequence[str]) -> bool:
    """Check whether columns of these names fit any layout."""
    names = names_by_key(columns)
    return any(layout.fits(names) for layout in LAYOUTS)


def annotators_of(row: Mapping[str, Any], columns: Sequence[str]) -> Mapping[str, int]:
    """Count the annotators that chose each label of a row.

    Args:
        row: the fields of the row.
        columns: the columns that have an annotator's label, or the number of annotators of a label.

    Returns:
        A dictionary of each label, in the file's spelling, to its number of annotators.
    """
    counts = Counter[str]()
    for column in columns:
        value = value_of(row, column)
        if isinstance(value, list) and column.lower() == COUNTS:
            value = dict(zip("enc", value, strict=False))
        if isinstance(value, Mapping):
            return {str(k): v for k, v in value.items() if type(v) is int and 0 <= v < 1 << 20}
        if isinstance(value, list) and any(isinstance(label, str) for label in value):
            return Counter(label.strip() for label in value if isinstance(label, str))
        if isinstance(value, str) and value.strip():
            counts[value.strip()] += 1
    return counts
