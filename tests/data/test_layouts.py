"""The published layouts, as files of sentences written for these tests."""

import csv
import gzip
import io
import json
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest

import bertnli
from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.errors import DataError

E, C, N = LABELS
NO = TWO_WAY[1]


@dataclass(frozen=True)
class Case:
    """A layout's rows, and what must be read.

    Args:
        layouts: what the layout may be called: sets of the same columns cannot be told apart.
        files: name (perhaps with a folder) to the format in which the set is published.
        rows: of the file; all columns, in their order.
        pairs: premise, hypothesis and class of each row that has one.
        lists: columns that JSON has in place of others: new name to the old ones.
        skipped: rows without a class.
        groups: column to the values; a layout may have others besides.
        annotations: how many annotators chose entailment, contradiction and neutral, for each row.
        names: of the classes.
        options: of `read`.
    """

    layouts: str
    files: dict[str, str]
    rows: list[dict[str, Any]]
    pairs: list[tuple[str, str, str | None]]
    lists: dict[str, list[str]] = field(default_factory=dict)
    skipped: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    annotations: list[list[int]] | None = None
    names: tuple[str, ...] = LABELS
    options: dict[str, Any] = field(default_factory=dict)

    def check(self, corpus):
        """Compare the sentences and the classes."""
        labels = [None if i < 0 else corpus.label_names[i] for i in corpus.labels]
        assert list(zip(corpus.premises, corpus.hypotheses, labels, strict=True)) == self.pairs
        assert corpus.label_names == self.names
        assert corpus.skipped == ({"no gold label": self.skipped} if self.skipped else {})


def unquoted(rows):
    """Tab-separated lines in which a quotation mark is a character like others."""
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def quoted(rows, delimiter=","):
    """Lines as the csv module and pandas write them."""
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue()


def text_of(case, format):
    """The rows in a format."""
    rows = [dict(row) for row in case.rows]
    if format in ("jsonl", "json"):
        for row in rows:
            for new, old in case.lists.items():
                row[new] = [label for label in map(row.pop, old) if label]
        if format == "json":
            return json.dumps(rows, indent=1, ensure_ascii=False)
        return "".join(json.dumps(row) + "\n" for row in rows)
    table = [list(row.values()) for row in rows]
    if format != "headless":
        table.insert(0, list(rows[0]))
    if format in ("tsv", "headless"):
        return unquoted(table)
    return quoted(table, {"csv": ",", "quoted tsv": "\t", ";": ";"}[format])


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


#: (text, binary parse): a quotation mark at the beginning, at the end, at both, or odd.
BREAD = ('"Rye bread" is what the sign says', "( ( `` ( Rye bread ) '' ) ( is ( what ... ) ) )")
BAKER = ("It's the baker's (old) song.", "( It ( 's ( the ( baker ( 's ( old song ) ) ) ) . ) )")
GOATS = ('Zwei Ziegen schlafen "tief"', "( ( Zwei Ziegen ) ( schlafen ( `` tief '' ) ) )")
NOBODY = ('"No," said nobody.', "( `` ( No ( , ( '' ( said ( nobody . ) ) ) ) ) )")
FEET = ('"six" feet of 6" planks are "a lot"', "")
PARSED = {
    BREAD[0]: "`` Rye bread '' is what ...",
    BAKER[0]: "It 's the baker 's old song .",
    GOATS[0]: "Zwei Ziegen schlafen `` tief ''",
    NOBODY[0]: "`` No , '' said nobody .",
    FEET[0]: FEET[0],
}
SENTENCES = [(BREAD, NOBODY), (BAKER, FEET), (GOATS, BAKER), (FEET, GOATS)]
#: The same without parses, of raw text.
PLAIN = [(first[0], second[0]) for first, second in SENTENCES]
WORDS = [(PARSED[first], PARSED[second]) for first, second in PLAIN]
ANNOTATORS = [f"label{i}" for i in range(1, 6)]
OPINIONS = [(N, N, E, N, C), (E, "", "", "", ""), (C, E, N, C, E), (C, C, C, C, C)]
COUNTS = [[1, 1, 3], [1, 0, 0], [0, 5, 0]]
GOLD = [N, E, "-", C]


def official(*order, **columns):
    """Rows in the columns of SNLI and its descendants."""
    rows = []
    for i, ((text1, parse1), (text2, parse2)) in enumerate(SENTENCES):
        row = {
            "gold_label": GOLD[i],
            "sentence1_binary_parse": parse1,
            "sentence2_binary_parse": parse2,
            "sentence1_parse": f"(ROOT {parse1})",
            "sentence2_parse": f"(ROOT {parse2})",
            "sentence1": text1,
            "sentence2": text2,
            "captionID": f"{i}.jpg#0",
            "promptID": i,
            "pairID": f"{i}.jpg#0r1n",
            **dict(zip(ANNOTATORS, OPINIONS[i], strict=True)),
            **{name: values[i] for name, values in columns.items()},
        }
        rows.append({name: row[name] for name in order or row})
    return rows


def table(names, *rows):
    return [dict(zip(names.split(","), row, strict=True)) for row in rows]


def kept(pairs):
    """Those of `official`'s rows that have a class."""
    return [(*pair, label) for pair, label in zip(pairs, GOLD, strict=True) if label != "-"]


def classed(*classes, pairs=PLAIN):
    return [(*pair, label) for pair, label in zip(pairs, classes, strict=False)]


COMMON = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse"]
COMMON += ["sentence2_parse", "sentence1", "sentence2"]
GENRES = ["fiction", "letters", "fiction", "travel"]
ENTAILS_NOT = ("entailment", "not_entailment")
CASES = {
    "SNLI": Case(
        "SNLI",
        {"snli_1.0_dev.txt": "tsv", "snli_1.0_dev.jsonl": "jsonl"},
        official(*COMMON, "captionID", "pairID", *ANNOTATORS),
        kept(WORDS),
        {"annotator_labels": ANNOTATORS},
        skipped=1,
        annotations=COUNTS,
    ),
    "MultiNLI": Case(
        "MultiNLI",
        {"multinli_1.0_dev_matched.txt": "tsv", "multinli_1.0_dev_matched.jsonl": "jsonl"},
        official(*COMMON, "promptID", "pairID", "genre", *ANNOTATORS, genre=GENRES),
        kept(WORDS),
        {"annotator_labels": ANNOTATORS},
        skipped=1,
        groups={"genre": ["fiction", "letters", "travel"]},
        annotations=COUNTS,
    ),
    "XNLI": Case(
        "XNLI",
        {"xnli.dev.tsv": "tsv", "xnli.test.jsonl": "jsonl"},
        [
            {
                "language": language,
                **row,
                "sentence1_binary_parse": "",
                "sentence2_binary_parse": "",
            }
            | {"sentence1_tokenized": "a b", "sentence2_tokenized": "c", "match": "True"}
            for language, row in zip(
                ["ar", "de", "de", "fr"],
                official(*COMMON, "promptID", "pairID", "genre", *ANNOTATORS, genre=GENRES),
                strict=True,
            )
        ],
        kept(PLAIN),
        {"annotator_labels": ANNOTATORS},
        skipped=1,
        groups={"language": ["ar", "de", "fr"], "genre": ["fiction", "letters", "travel"]},
        annotations=COUNTS,
    ),
    "XNLI's translations": Case(
        "XNLI",
        {"multinli.train.de.tsv": "tsv"},
        table(
            "premise,hypo,label",
            *((*PLAIN[i], word) for i, word in enumerate(["neutral", "contradictory", E])),
        ),
        classed(N, C, E),
    ),
    "ANLI": Case(
        "ANLI",
        {"R1/dev.jsonl": "jsonl"},
        table(
            "uid,context,hypothesis,label,model_label,emturk,genre,reason,tag",
            ("a1", *PLAIN[0], "e", "n", True, "wiki_anli", "I said e", ""),
            ("a2", *PLAIN[1], "c", "e", False, "wiki_anli", "It's c", ""),
            ("a3", *PLAIN[2], "n", "c", False, "news", "n, clearly", ""),
        ),
        classed(E, C, N),
    ),
    "WANLI": Case(
        "WANLI",
        {"wanli/train.jsonl": "jsonl"},
        table(
            "id,premise,hypothesis,gold,genre,pairID",
            (7, *PLAIN[0], N, "generated", "171408"),
            (8, *PLAIN[1], E, "generated_revised", "71408"),
            (9, *PLAIN[2], C, "generated", "1408"),
        ),
        classed(N, E, C),
        groups={"genre": ["generated", "generated_revised", "generated"]},
    ),
    "e-SNLI": Case(
        "e-SNLI",
        {"esnli_train_1.csv": "csv"},
        table(
            "pairID,gold_label,Sentence1,Sentence2,Explanation_1,WorkerId,Sentence1_marked_1,"
            "Sentence2_marked_1,Sentence1_Highlighted_1,Sentence2_Highlighted_1",
            ("1#1", N, *PLAIN[0], "Bread, or\nnot.", "W1", "*Rye*", "*No*", "0,1", "{}"),
            ("1#2", E, *PLAIN[1], 'So "it" is', "W2", "*It*", "*six*", "0", "0,1"),
            ("1#3", C, *PLAIN[2], "", "W1", "", "", "", ""),
        ),
        classed(N, E, C),
    ),
    "FEVER-NLI": Case(
        "FEVER-NLI",
        {"nli_fever/dev_fitems.jsonl": "jsonl"},
        table(
            "cid,fid,verifiable,label,query,context",
            ("1", "91", "VERIFIABLE", "SUPPORTS", NOBODY[0], BREAD[0]),
            ("2", "92", "VERIFIABLE", "REFUTES", FEET[0], BAKER[0]),
            ("3", "93", "NOT VERIFIABLE", "NOT ENOUGH INFO", BAKER[0], GOATS[0]),
        ),
        classed(E, C, N),
    ),
    "VitaminC": Case(
        "claims",
        {"vitaminc/dev.jsonl": "jsonl", "claims.csv": "csv", "claims.tsv": "quoted tsv"},
        table(
            "unique_id,case_id,wiki_revision_id,FEVER_id,claim,evidence,page,label,revision_type",
            ("u1", "c1", "9", "", NOBODY[0], BREAD[0], "Bread", "SUPPORTS", "real"),
            ("u2", "c1", "9", "", FEET[0], BAKER[0], "Bread", "REFUTES", "synthetic"),
            ("u3", "c2", "8", "", BAKER[0], GOATS[0], "Goats", "NOT ENOUGH INFO", "real"),
        ),
        classed(E, C, N),
    ),
    "SciTail": Case(
        "SciTail",
        {"tsv_format/scitail_1.0_dev.tsv": "headless", "science.txt": "headless"},
        table(
            "1,2,3",
            (*PLAIN[0], "entails"),
            (*PLAIN[1], "neutral"),
            (*PLAIN[2], "entails"),
            (*PLAIN[3], "neutral"),
        ),
        classed(E, N, E, N),
    ),
    "SciTail as SNLI": Case(
        "SciTail|SNLI",
        {"snli_format/scitail_1.0_dev.txt": "jsonl", "scitail.jsonl": "jsonl"},
        [
            row | {"gold_label": label, "annotator_labels": [label]}
            for row, label in zip(official(*COMMON), ["entails", N, N, "entailment"], strict=True)
        ],
        classed(E, N, N, E, pairs=WORDS),
    ),
    "SciTail for predictors": Case(
        "SciTail",
        {"predictor_format/scitail_1.0_structure_dev.jsonl": "jsonl"},
        table(
            "answer,sentence2_structure,sentence1,sentence2,gold_label,question",
            ("no", "nobody<>says$$$no", *PLAIN[0], "neutral", "Who says no?"),
            ("planks", "feet<>are$$$planks", *PLAIN[1], "entails", "What are feet?"),
        ),
        classed(N, E),
    ),
    "RTE": Case(
        "RTE|GLUE RTE|GLUE|table",
        {"RTE/dev.tsv": "tsv"},
        table(
            "index,sentence1,sentence2,label",
            (0, *PLAIN[0], "not_entailment"),
            (1, *PLAIN[1], "entailment"),
        ),
        classed(NO, E),
        names=TWO_WAY,
    ),
    "QNLI": Case(
        "QNLI|GLUE QNLI",
        {"QNLI/dev.tsv": "tsv", "x.tsv": "tsv"},
        table(
            "index,question,sentence,label",
            (0, *PLAIN[0], "entailment"),
            (1, *PLAIN[1], "not_entailment"),
        ),
        classed(E, NO),
        names=TWO_WAY,
    ),
    "WNLI": Case(
        "WNLI|GLUE WNLI",
        {"WNLI/train.tsv": "tsv"},
        table("index,sentence1,sentence2,label", (0, *PLAIN[0], 1), (1, *PLAIN[1], 0)),
        classed(E, NO),
        names=TWO_WAY,
    ),
    "MNLI's training set": Case(
        "MNLI|MultiNLI|GLUE MNLI",
        {"MNLI/train.tsv": "tsv"},
        [
            {"index": i, **row}
            for i, row in enumerate(
                official(
                    *["promptID", "pairID", "genre", *COMMON[1:], "label1", "gold_label"],
                    genre=GENRES,
                )
            )
        ],
        kept(WORDS),
        skipped=1,
        groups={"genre": ["fiction", "letters", "travel"]},
    ),
    "MNLI's dev set": Case(
        "MNLI|MultiNLI|GLUE MNLI",
        {"MNLI/dev_matched.tsv": "tsv"},
        [
            {"index": i, **row}
            for i, row in enumerate(
                official(
                    *["promptID", "pairID", "genre", *COMMON[1:], *ANNOTATORS, "gold_label"],
                    genre=GENRES,
                )
            )
        ],
        kept(WORDS),
        skipped=1,
        groups={"genre": ["fiction", "letters", "travel"]},
        annotations=COUNTS,
    ),
    "MNLI's test set": Case(
        "MNLI|MultiNLI|GLUE MNLI",
        {"MNLI/test_matched.tsv": "tsv"},
        [
            {"index": i, **row}
            for i, row in enumerate(
                official("promptID", "pairID", "genre", *COMMON[1:], genre=GENRES)
            )
        ],
        classed(None, None, None, None, pairs=WORDS),
        options={"labelled": False},
    ),
    "AX": Case(
        "GLUE",
        {"AX/AX.tsv": "tsv", "diagnostic.tsv": "tsv"},
        table("index,sentence1,sentence2", *((i, *pair) for i, pair in enumerate(PLAIN))),
        classed(None, None, None, None),
        options={"labelled": False},
    ),
    "GLUE's diagnostics": Case(
        "AX|GLUE AX|GLUE diagnostics|GLUE diagnostic",
        {"AX/diagnostic-full.tsv": "tsv"},
        table(
            "Lexical Semantics,Predicate-Argument Structure,Logic,Knowledge,Domain,Premise,"
            "Hypothesis,Label",
            ("", "", "Negation", "", "Artificial", *PLAIN[0], N),
            ("Lexical entailment", "", "", "World knowledge", "News", *PLAIN[1], C),
            ("", "Core args", "", "", "ACL", *PLAIN[2], E),
        ),
        classed(N, C, E),
    ),
    "CB": Case(
        "CB|SuperGLUE CB|SuperGLUE|table",
        {"CB/val.jsonl": "jsonl"},
        table(
            "premise,hypothesis,label,idx",
            ("B: And yet,\nuh,\nI said so. A: Did you? ", "he said so", E, 0),
            (*PLAIN[1], C, 1),
            (*PLAIN[2], N, 2),
        ),
        [
            ("B: And yet,\nuh,\nI said so. A: Did you? ", "he said so", E),
            *classed(C, N, pairs=PLAIN[1:]),
        ],
    ),
    "RTE of SuperGLUE": Case(
        "RTE|SuperGLUE RTE|SuperGLUE|table",
        {"RTE/val.jsonl": "jsonl"},
        table(
            "premise,hypothesis,label,idx",
            (*PLAIN[0], "not_entailment", 0),
            (*PLAIN[1], "entailment", 1),
        ),
        classed(NO, E),
        names=TWO_WAY,
    ),
    "AX-b": Case(
        "AX-b|AX|SuperGLUE AX-b|SuperGLUE|RTE|table",
        {"AX-b/AX-b.jsonl": "jsonl"},
        table(
            "sentence1,sentence2,idx,label,logic",
            (*PLAIN[0], 0, "entailment", "Negation"),
            (*PLAIN[1], 1, "not_entailment", "Negation;Double negation"),
        ),
        classed(E, NO),
        names=TWO_WAY,
    ),
    "SuperGLUE's test sets": Case(
        "CB|RTE|SuperGLUE|SuperGLUE CB|SuperGLUE RTE|table",
        {"CB/test.jsonl": "jsonl"},
        table("premise,hypothesis,idx", (*PLAIN[0], 0), (*PLAIN[1], 1)),
        classed(None, None),
        options={"labelled": False},
    ),
    "SICK": Case(
        "SICK",
        {"SICK.txt": "tsv"},
        table(
            "pair_ID,sentence_A,sentence_B,entailment_label,relatedness_score,entailment_AB,"
            "entailment_BA,sentence_A_original,sentence_B_original,sentence_A_dataset,"
            "sentence_B_dataset,SemEval_set",
            (1, *PLAIN[0], "NEUTRAL", 4.5, "A_neutral_B", "", "x", "y", "F", "F", "TRAIN"),
            (2, *PLAIN[1], "ENTAILMENT", 3.2, "A_entails_B", "", "x", "y", "F", "F", "TRIAL"),
            (3, *PLAIN[2], "CONTRADICTION", 4, "A_contr", "", "x", "y", "F", "F", "TEST"),
        ),
        classed(N, E, C),
        groups={"SemEval_set": ["TRAIN", "TRIAL", "TEST"]},
    ),
    "SICK of SemEval": Case(
        "SICK",
        {"SICK_train.txt": "tsv", "SICK_trial.txt": "tsv", "SICK_test_annotated.txt": "tsv"},
        table(
            "pair_ID,sentence_A,sentence_B,relatedness_score,entailment_judgment",
            (1, *PLAIN[0], 4.5, "NEUTRAL"),
            (2, *PLAIN[1], 3.2, "ENTAILMENT"),
            (3, *PLAIN[2], 1.0, "CONTRADICTION"),
        ),
        classed(N, E, C),
    ),
    "HANS": Case(
        "HANS",
        {"heuristics_evaluation_set.txt": "tsv", "heuristics_evaluation_set.jsonl": "jsonl"},
        table(
            "gold_label,sentence1_binary_parse,sentence2_binary_parse,sentence1_parse,"
            "sentence2_parse,sentence1,sentence2,pairID,heuristic,subcase,template",
            (
                *("non-entailment", "( ( The goat ) ( saw ( the ( bakers . ) ) ) )"),
                *("( ( The bakers ) ( saw ( the ( goat . ) ) ) )", "(ROOT)", "(ROOT)"),
                *("The goat saw the bakers .", "The bakers saw the goat .", "ex0"),
                *("lexical_overlap", "ln_subject/object_swap", "temp1"),
            ),
            (
                *("entailment", "( ( The goat ) ( slept . ) )", "( ( A goat ) ( slept . ) )"),
                *("(ROOT)", "(ROOT)", "The goat slept .", "A goat slept .", "ex1"),
                *("constituent", "ce_x", "temp2"),
            ),
        ),
        [
            ("The goat saw the bakers .", "The bakers saw the goat .", NO),
            ("The goat slept .", "A goat slept .", E),
        ],
        groups={"heuristic": ["lexical_overlap", "constituent"]},
        names=TWO_WAY,
    ),
    "MedNLI": Case(
        "MedNLI|SNLI",
        {"mli_dev_v1.jsonl": "jsonl"},
        [
            {**row, "gold_label": label}
            for row, label in zip(official(*COMMON, "pairID"), [E, C, N, E], strict=True)
        ],
        classed(E, C, N, E, pairs=WORDS),
    ),
    "DocNLI": Case(
        "DocNLI|table",
        {"DocNLI_release/dev.json": "json"},
        table(
            "premise,hypothesis,label",
            (" ".join([GOATS[0]] * 400), "They sleep.", "not_entailment"),
            (*PLAIN[1], "entailment"),
        ),
        [(" ".join([GOATS[0]] * 400), "They sleep.", NO), *classed(E, pairs=PLAIN[1:])],
        names=TWO_WAY,
    ),
    "Breaking NLI": Case(
        "Breaking NLI|Breaking-NLI|BreakingNLI",
        {"data/dataset.jsonl": "jsonl"},
        table(
            "annotator_labels,category,gold_label,pairID,sentence1,sentence2",
            ([C, C, N], "antonyms", C, 0, *PLAIN[0]),
            ([E, E, E], "synonyms", E, 1, *PLAIN[1]),
            ([N, N, C], "drinks", N, 2, *PLAIN[2]),
        ),
        classed(C, E, N),
        groups={"category": ["antonyms", "synonyms", "drinks"]},
        annotations=[[0, 2, 1], [3, 0, 0], [0, 1, 2]],
    ),
    "counterfactually augmented": Case(
        "SNLI|table|counterfactually augmented SNLI|CAD",
        {"NLI/revised_premise/dev.tsv": "quoted tsv"},
        table("sentence1,sentence2,gold_label", *((*PLAIN[i], GOLD[i]) for i in (0, 1, 3))),
        kept(PLAIN),
    ),
    "ChaosNLI": Case(
        "ChaosNLI",
        {"chaosNLI_snli.jsonl": "jsonl", "chaosNLI_mnli_m.jsonl": "jsonl"},
        [
            {
                "uid": f"{i}n",
                "label_counter": counter,
                "majority_label": label,
                "label_dist": [counter.get(key, 0) / 100 for key in "enc"],
                "label_count": [counter.get(key, 0) for key in "enc"],
                "entropy": 0.95,
                "example": {
                    "uid": f"{i}n",
                    "premise": PLAIN[i][0],
                    "hypothesis": PLAIN[i][1],
                    "source": "snli_agree_3",
                },
                "old_label": "n",
                "old_labels": ["neutral", "entailment", "neutral", "neutral", "contradiction"],
            }
            for i, (label, counter) in enumerate(
                [("e", {"e": 76, "n": 20, "c": 4}), ("n", {"n": 100}), ("c", {"c": 51, "e": 49})]
            )
        ],
        classed(E, N, C),
        annotations=[[76, 4, 20], [0, 0, 100], [49, 51, 0]],
    ),
}
FILES = [(case, file) for case in CASES for file in CASES[case].files]
TABLES = [name for name, case in CASES.items() if "headless" not in case.files.values()]
FLAT = [name for name in TABLES if name not in ("ChaosNLI", "WNLI")]


@pytest.mark.parametrize(("case", "file"), FILES)
def test_each_layout_is_read_without_options(tmp_path, case, file):
    made = CASES[case]
    path = write(tmp_path / file, text_of(made, made.files[file]))
    corpus = bertnli.read(path, **made.options)
    made.check(corpus)
    assert corpus.layout in made.layouts.split("|")
    assert len(corpus.labels) + sum(corpus.skipped.values()) == len(made.rows)
    assert {**corpus.groups, **made.groups} == corpus.groups
    assert all(len(values) == len(corpus.labels) for values in corpus.groups.values())
    if made.annotations is not None:
        assert corpus.annotations is not None
        assert corpus.annotations.tolist() == made.annotations
    packed = write(path.with_name(path.name + ".gz"), path.read_text())
    assert bertnli.read(str(packed), **made.options) == corpus


@pytest.mark.parametrize("case", TABLES)
@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
def test_columns_are_found_without_regard_to_case(tmp_path, case, spell):
    made = CASES[case]
    file, format = next(iter(made.files.items()))

    def spelled(value):
        if not isinstance(value, dict):
            return value
        return {spell(name): spelled(value[name]) for name in value}

    lists = {spell(new): [spell(old) for old in names] for new, names in made.lists.items()}
    rows = [spelled(row) for row in made.rows]
    other = Case("", {}, rows, made.pairs, lists)
    made.check(bertnli.read(write(tmp_path / file, text_of(other, format)), **made.options))


def has_lists(case):
    return any(isinstance(value, list) for value in CASES[case].rows[0].values())


#: Text in columns has no lists.
OTHER_FORMATS = [
    (case, format)
    for case in FLAT
    for format in ("csv", ";", "quoted tsv", "jsonl", "json", "parquet", "feather")
    if format in ("jsonl", "json", "parquet", "feather") or not has_lists(case)
]


@pytest.mark.parametrize(("case", "format"), OTHER_FORMATS)
def test_a_layout_is_the_same_in_other_formats(tmp_path, case, format):
    made = CASES[case]
    first, its = next(iter(made.files.items()))
    if format in ("parquet", "feather"):
        pa = import_module("pyarrow")
        feather, parquet = (import_module(f"pyarrow.{name}") for name in ("feather", "parquet"))
        path = tmp_path / f"x.{format}"
        writer = parquet.write_table if format == "parquet" else feather.write_feather
        writer(pa.Table.from_pylist(made.rows), str(path))
    else:
        ending = {";": "csv", "quoted tsv": "tsv"}.get(format, format)
        path = write(tmp_path / f"x.{ending}", text_of(made, format))
    corpus = bertnli.read(path, **made.options)
    made.check(corpus)
    plain = bertnli.read(write(tmp_path / first, text_of(made, its)), **made.options)
    assert corpus == plain and corpus.layout == plain.layout and corpus.groups == plain.groups


def test_sets_without_labels_say_how_they_are_read(tmp_path):
    for name in ("AX", "MNLI's test set", "SuperGLUE's test sets"):
        made = CASES[name]
        file, format = next(iter(made.files.items()))
        path = write(tmp_path / file, text_of(made, format))
        with pytest.raises(DataError, match="labelled=False"):
            bertnli.read(path)


def test_numbers_mean_something_in_wnli_alone(tmp_path):
    made = CASES["WNLI"]
    text = text_of(made, "tsv")
    for folder in ("glue_data/WNLI", "wnli"):
        made.check(bertnli.read(write(tmp_path / folder / "dev.tsv", text)))
        made.check(bertnli.read(tmp_path / folder, "dev"))
    for file in ("RTE/train.tsv", "x.tsv"):
        with pytest.raises(DataError, match="label_map"):
            bertnli.read(write(tmp_path / file, text))
    two = bertnli.read(tmp_path / "x.tsv", label_map={"0": "entailment", "1": "not_entailment"})
    assert [two.label_names[i] for i in two.labels] == [NO, E]


@pytest.mark.parametrize("split", [None, "train", "dev", "validation", "test"])
def test_sick_in_one_file_has_parts(tmp_path, split):
    path = write(tmp_path / "SICK.txt", text_of(CASES["SICK"], "tsv"))
    place = {"train": [0], "dev": [1], "validation": [1], "test": [2], None: [0, 1, 2]}[split]
    for corpus in (bertnli.read(path, split), bertnli.read(f"{path}:{split}" if split else path)):
        assert corpus.premises == [PLAIN[i][0] for i in place]
        # Lines of the file, also of a part.
        assert [corpus.where(i) for i in range(len(place))] == [
            f"{next(iter(corpus.parts))}, line {i + 2}" for i in place
        ]


# ----- the Hub's parquet files


def hub_file(path, columns, names):
    """Write a file as `datasets` does, with what the integers of the label mean."""
    pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    made = pa.table(dict(columns))
    if names is not None:
        features = {
            name: {"names": list(names), "_type": "ClassLabel"}
            if name == "label"
            else {"dtype": "string", "_type": "Value"}
            for name in columns
        }
        info = json.dumps({"info": {"features": features}})
        made = made.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(made, path)
    else:
        import_module("pyarrow.feather").write_feather(made, str(path))
    return path


HUB = [
    ("premise", "hypothesis", (E, N, C), LABELS),
    ("sentence1", "sentence2", ENTAILS_NOT, TWO_WAY),
    ("question", "sentence", ("not_entailment", "entailment"), TWO_WAY),
    ("premise", "hypothesis", ("Contradiction", "Entailment", "Neutral"), LABELS),
    ("context", "hypothesis", ("e", "n", "c"), LABELS),
    ("evidence", "claim", ("REFUTES", "SUPPORTS", "NOT ENOUGH INFO"), LABELS),
]
CALLED = {"contradiction": C, "entailment": E, "neutral": N, "not_entailment": NO}
CALLED |= {"e": E, "n": N, "c": C, "refutes": C, "supports": E, "not enough info": N}


@pytest.mark.parametrize(("premise", "hypothesis", "names", "expected"), HUB)
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_the_hub_s_files_say_what_their_numbers_mean(
    tmp_path, premise, hypothesis, names, expected, ending
):
    ids = [len(names) - 1, 0, -1, 1]
    columns = {
        premise: [p for p, _ in PLAIN],
        hypothesis: [h for _, h in PLAIN],
        "label": ids,
        "idx": [0, 1, 2, 3],
    }
    path = hub_file(tmp_path / f"validation-00000-of-00001.{ending}", columns, names)
    corpus = bertnli.read(path)
    classes = [CALLED[names[i].lower()] for i in ids if i >= 0]
    pairs = [pair for pair, i in zip(PLAIN, ids, strict=True) if i >= 0]
    Case("", {}, [], classed(*classes, pairs=pairs), skipped=1, names=expected).check(corpus)
    bare = hub_file(tmp_path / f"bare.{ending}", columns, None)
    with pytest.raises(DataError, match="label_map"):
        bertnli.read(bare)
