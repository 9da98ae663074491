"""The layouts that sets of sentence pairs are published in, known by their columns.

Names of columns are the same in upper and lower case, with spaces, dashes or underscores. Where a
set comes in several forms that differ in columns, each has an entry; a form that is another set's
needs none (MedNLI is laid out as SNLI is). Facts are of the sets' own files and of the papers or
pages that are named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bertnli.bert.labels import TWO_WAY
from bertnli.data.corpus import TABLE
from bertnli.data.parses import HYPOTHESIS, PREMISE, SentenceColumn
from bertnli.data.table import value_of

_TEXTS = SentenceColumn("sentence1"), SentenceColumn("sentence2")
_NAMED = SentenceColumn("premise"), SentenceColumn("hypothesis")
LABEL_COLUMNS = ("gold_label", "label", "gold")
#: Columns among which names are looked for; a damaged file may have millions.
MAX_COLUMNS = 1 << 12
#: SICK's column of parts.
SEMEVAL = "SemEval_set"


@dataclass(frozen=True)
class Layout:
    """How a published set is laid out.

    Args:
        name: of the set.
        premise, hypothesis: where the sentences are.
        labels: names that the column of the class may have.
        marks: further columns by which the layout is known.
        groups: columns whose values are scored apart, where the file has them.
        numbers: the classes of 0, 1 and so on, where the set itself defines them.
    """

    name: str
    premise: SentenceColumn
    hypothesis: SentenceColumn
    labels: tuple[str, ...] = LABEL_COLUMNS
    marks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


def _pair(premise: str, hypothesis: str) -> tuple[SentenceColumn, SentenceColumn]:
    return SentenceColumn(premise), SentenceColumn(hypothesis)


#: The first whose columns a table has is its layout. A new set is a line here; the guide's table is
#: made of this one.
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
        groups=(SEMEVAL,),
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
#: GLUE's WNLI has numbers, which its own page defines, and columns that tell it from no other.
WNLI = replace(LAYOUTS[-3], name="WNLI", numbers=TWO_WAY[::-1])
#: Columns with what each annotator chose.
ANNOTATORS = ("annotator_labels", "old_labels", *(f"label{i}" for i in range(1, 6)))
#: ChaosNLI's column of counts, and the classes of a list of counts in its order.
COUNTER, COUNTED, COUNTS = "label_counter", ("e", "n", "c"), "label_count"


def has_sentences(columns: Sequence[str]) -> bool:
    """Return whether columns of these names are known as those of sentences."""
    names = {key_of(column): column for column in columns[:MAX_COLUMNS]}
    return any(is_laid_out(layout, names) for layout in LAYOUTS)


def key_of(name: str) -> str:
    """Return what is the same of a name in upper and lower case, with spaces and with dashes."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def is_laid_out(layout: Layout, names: Mapping[str, str]) -> bool:
    """Return whether a table with these names, by `key_of`, has the columns of a layout."""
    sentences = layout.premise, layout.hypothesis
    return all(any(key_of(n) in names for n in column.names) for column in sentences) and all(
        key_of(mark) in names for mark in layout.marks
    )


def annotators_of(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, int]:
    """Return how many annotators chose each label, as they are written."""
    found: dict[str, int] = {}
    for column in columns:
        value = value_of(row, column)
        if isinstance(value, str):
            if text := value.strip():
                found[text] = found.get(text, 0) + 1
            continue
        if column.lower() == COUNTS and isinstance(value, list):
            value = dict(zip(COUNTED, value, strict=False))
        if isinstance(value, Mapping):
            return {str(k): v for k, v in value.items() if type(v) is int and 0 <= v < 1 << 20}
        for one in value if isinstance(value, list) else []:
            if isinstance(one, str) and one.strip():
                found[one.strip()] = found.get(one.strip(), 0) + 1
        if isinstance(value, list) and found:  # ChaosNLI's old labels are a part of its others
            return found
    return found
