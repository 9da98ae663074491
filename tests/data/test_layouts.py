"""The published layouts, as files of sentences written for these tests."""

import gzip
import json
import re
from dataclasses import dataclass, field

import pyarrow
import pytest
from corpus_files import csv_of, feather, lines, parquet, rows_of, write
from refusals import refused

import bertnli
from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.errors import DataError

E, C, N = LABELS
NO = TWO_WAY[1]
#: Letters of `case`: "-" is a row whose gold label is "-", "?" one without a label.
CLASSES = {"E": E, "C": C, "N": N, "X": NO, "?": None}


@dataclass(frozen=True)
class Case:
    """A layout's rows, and what must be read.

    Args:
        layouts: the layouts that may be recognised, separated by "|": some have the same columns.
        files: file name (perhaps with a folder) to the format in which the set is published.
        rows: rows of the file, with all columns in their order.
        expected: premise, hypothesis and class of each row that has a class.
        skipped: number of rows without a class.
        lists: whether JSON has a list of the annotators' labels in place of five columns.
        groups: column to its values; the corpus may have others as well.
        annotations: for each row, how many annotators chose each of `LABELS`.
    """

    layouts: str
    files: dict
    rows: list
    expected: list
    skipped: int
    lists: bool = False
    groups: dict = field(default_factory=dict)
    annotations: list | None = None

    @property
    def options(self):
        return {} if self.expected[0][2] else {"labelled": False}

    def check(self, corpus):
        """Compare a corpus's sentences and classes with what must be read."""
        assert rows_of(corpus) == self.expected
        names = TWO_WAY if any(row[2] == NO for row in self.expected) else LABELS
        assert corpus.label_names == names
        assert corpus.skipped == ({"no gold label": self.skipped} if self.skipped else {})

    def content(self, format, spell=str):
        """Make the bytes of a file in a format; `spell` changes the names of the columns."""
        rows = [dict(row) for row in self.rows]
        if self.lists and "json" in format:
            for row in rows:
                row["annotator_labels"] = [x for x in map(row.pop, ANNOTATORS) if x]
        rows = [spelled(row, spell) for row in rows]
        if format == "json":
            return json.dumps(rows, indent=1, ensure_ascii=False)
        if format == "jsonl":
            return "".join(json.dumps(row) + "\n" for row in rows)
        if format in ("parquet", "feather"):
            return {"parquet": parquet, "feather": feather}[format](pyarrow.Table.from_pylist(rows))
        table, header = [list(row.values()) for row in rows], list(rows[0])
        if format in ("tsv", "headless"):
            return lines(table, None if format == "headless" else header)
        return csv_of(table, header, {"csv": ",", "quoted": "\t", ";": ";"}[format], "\n")


def spelled(value, spell):
    """Apply `spell` to the keys of nested dictionaries."""
    if not isinstance(value, dict):
        return value
    return {spell(name): spelled(one, spell) for name, one in value.items()}


#: (text, binary parse): a quotation mark at the beginning, at the end, at both, or odd.
BREAD = ('"Rye bread" is what the sign says', "( ( `` ( Rye bread ) '' ) ( is ( what ... ) ) )")
BAKER = ("It's the baker's (old) song.", "( It ( 's ( the ( baker ( 's ( old song ) ) ) ) . ) )")
GOATS = ('Zwei Ziegen schlafen "tief"', "( ( Zwei Ziegen ) ( schlafen ( `` tief '' ) ) )")
NOBODY = ('"No," said nobody.', "( `` ( No ( , ( '' ( said ( nobody . ) ) ) ) ) )")
FEET = ('"six" feet of 6" planks are "a lot"', "")
SENTENCES = [(BREAD, NOBODY), (BAKER, FEET), (GOATS, BAKER), (FEET, GOATS)]
#: Premise and hypothesis: the raw text, and the words of the parse (of the text without one).
PLAIN = [(first[0], second[0]) for first, second in SENTENCES]
PARSED = {
    BREAD[0]: "`` Rye bread '' is what ...",
    BAKER[0]: "It 's the baker 's old song .",
    GOATS[0]: "Zwei Ziegen schlafen `` tief ''",
    NOBODY[0]: "`` No , '' said nobody .",
    FEET[0]: FEET[0],
}
WORDS = [(PARSED[first], PARSED[second]) for first, second in PLAIN]
ANNOTATORS = [f"label{i}" for i in range(1, 6)]
OPINIONS = [(N, N, E, N, C), (E, "", "", "", ""), (C, E, N, C, E), (C, C, C, C, C)]
COUNTS = [[1, 1, 3], [1, 0, 0], [0, 5, 0]]


GENRES, LANGUAGES = ("fiction", "letters", "fiction", "travel"), ("ar", "de", "de", "fr")


def official(columns, **values):
    """Make four rows in the columns of SNLI and its descendants, the third without a gold label.

    Args:
        columns: the names, separated by spaces.
        values: values of columns, one for all rows or one for each.
    """
    rows = []
    for i, ((text1, parse1), (text2, parse2)) in enumerate(SENTENCES):
        row = {"gold_label": (N, E, "-", C)[i], "sentence1": text1, "sentence2": text2}
        row |= {"sentence1_binary_parse": parse1, "sentence2_binary_parse": parse2}
        row |= {"sentence1_parse": f"(ROOT {parse1})", "sentence2_parse": f"(ROOT {parse2})"}
        row |= {"captionID": f"{i}.jpg#0", "promptID": i, "pairID": f"{i}.jpg#0r1n", "index": i}
        row |= {"genre": GENRES[i], "language": LANGUAGES[i], "sentence1_tokenized": "a b"}
        row |= zip(ANNOTATORS, OPINIONS[i], strict=True)
        row |= {name: v if isinstance(v, str) else v[i] for name, v in values.items()}
        rows.append({name: row[name] for name in columns.split()})
    return rows


def official_case(head, columns, pairs=WORDS, lists=False, **values):
    """Make a case of `official` rows, with the groups and annotations that its columns have."""
    rows, classes = official(columns, **values), head.rpartition("; ")[2]
    kept = [row for row, c in zip(rows, classes, strict=True) if c != "-"]
    names = [name for name in ("genre", "language") if name in rows[0]]
    groups = {name: [row[name] for row in kept] for name in names}
    annotations = COUNTS if "label5" in rows[0] else None
    return case(head, rows, pairs, lists=lists, groups=groups, annotations=annotations)


def case(head, rows, pairs=PLAIN, **more):
    """Make a `Case` from short notations.

    Args:
        head: "layouts; files; classes". Layouts are those of `Case`; files are names, separated by
            spaces, with ":format" where the ending does not tell it; classes are a letter of
            `CLASSES` for each row.
        rows: dictionaries; or lines of text, of which the first has the columns' names and each
            other one the cells of a row (" / " separates lines, too). P and H stand for the
            sentences of the row's pair; a cell that is JSON is that JSON value.
        pairs: premise and hypothesis of each row as they must be read.
        more: see `Case`.
    """
    if isinstance(rows, str):
        names, *cells = [line.strip().split("|") for line in re.split("\n| / ", rows)]
        rows = [
            {name: cell_value(cell, *pair) for name, cell in zip(names, row, strict=True)}
            for row, pair in zip(cells, pairs, strict=False)
        ]
    layouts, files, classes = head.split("; ")
    formats = {}
    for file in files.split():
        name, _, format = file.partition(":")
        formats[name] = format or name.rpartition(".")[2].replace("txt", "tsv")
    expected = [
        (*pair, CLASSES[c]) for pair, c in zip(pairs, classes, strict=False) if c in CLASSES
    ]
    return Case(layouts, formats, rows, expected, classes.count("-"), **more)


def cell_value(cell, premise, hypothesis):
    """Parse a cell of the text that `case` takes."""
    if cell in ("P", "H"):
        return premise if cell == "P" else hypothesis
    try:
        return json.loads(cell)
    except ValueError:
        return cell.replace("\\n", "\n")


PARSES = "sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
COMMON = f"gold_label {PARSES} sentence1 sentence2"
FIVE = " ".join(ANNOTATORS)
OF_GLUE = f"index promptID pairID genre {PARSES} sentence1 sentence2"
LONG = " ".join([GOATS[0]] * 400)
OF_HANS = [
    ("The goat saw the bakers .", "The bakers saw the goat ."),
    ("The goat slept .", "A goat slept ."),
]
DIALOGUE = [("B: And yet,\nuh,\nI said so. A: Did you? ", "he said so"), *PLAIN[1:]]
COUNTERS = [("e", {"e": 76, "n": 20, "c": 4}), ("n", {"n": 100}), ("c", {"c": 51, "e": 49})]
CASES = {
    "SNLI": official_case(
        "SNLI; snli_1.0_dev.txt snli_1.0_dev.jsonl; NE-C",
        f"{COMMON} captionID pairID {FIVE}",
        lists=True,
    ),
    "MultiNLI": official_case(
        "MultiNLI; multinli_1.0_dev_matched.txt multinli_1.0_dev_matched.jsonl; NE-C",
        f"{COMMON} promptID pairID genre {FIVE}",
        lists=True,
    ),
    "XNLI": official_case(
        "XNLI; xnli.dev.tsv xnli.test.jsonl; NE-C",
        f"language {COMMON} promptID pairID genre {FIVE} sentence1_tokenized",
        PLAIN,
        lists=True,
        sentence1_binary_parse="",
        sentence2_binary_parse="",
    ),
    "XNLI's translations": case(
        "XNLI; multinli.train.de.tsv; NCE",
        "premise|hypo|label / P|H|neutral / P|H|contradictory / P|H|entailment",
    ),
    "ANLI": case(
        "ANLI; R1/dev.jsonl; ECN",
        """uid|context|hypothesis|label|model_label|emturk|genre|reason|tag
        a1|P|H|e|n|true|wiki_anli|I said e|
        a2|P|H|c|e|false|wiki_anli|It's c|
        a3|P|H|n|c|false|news|n, clearly|""",
    ),
    "WANLI": case(
        "WANLI; wanli/train.jsonl; NEC",
        """id|premise|hypothesis|gold|genre|pairID
        7|P|H|neutral|generated|"171408"
        8|P|H|entailment|generated_revised|"71408"
        9|P|H|contradiction|generated|"1408\"""",
        groups={"genre": ["generated", "generated_revised", "generated"]},
    ),
    "e-SNLI": case(
        "e-SNLI; esnli_train_1.csv; NEC",
        """pairID|gold_label|Sentence1|Sentence2|Explanation_1|WorkerId|Sentence1_marked_1
        1#1|neutral|P|H|Bread, or\\nnot.|W1|*Rye*
        1#2|entailment|P|H|So "it" is|W2|*It*
        1#3|contradiction|P|H||W1|""",
    ),
    "FEVER-NLI": case(
        "FEVER-NLI; nli_fever/dev_fitems.jsonl; ECN",
        """cid|fid|verifiable|label|query|context
        "1"|"91"|VERIFIABLE|SUPPORTS|H|P
        "2"|"92"|VERIFIABLE|REFUTES|H|P
        "3"|"93"|NOT VERIFIABLE|NOT ENOUGH INFO|H|P""",
    ),
    "VitaminC": case(
        "claims; vitaminc/dev.jsonl claims.csv claims.tsv:quoted; ECN",
        """unique_id|case_id|wiki_revision_id|FEVER_id|claim|evidence|page|label|revision_type
        u1|c1|"9"||H|P|Bread|SUPPORTS|real
        u2|c1|"9"||H|P|Bread|REFUTES|synthetic
        u3|c2|"8"||H|P|Goats|NOT ENOUGH INFO|real""",
    ),
    "SciTail": case(
        "SciTail; tsv_format/scitail_1.0_dev.tsv:headless science.txt:headless; ENEN",
        "1|2|3 / P|H|entails / P|H|neutral / P|H|entails / P|H|neutral",
    ),
    "SciTail as SNLI": official_case(
        "SciTail|SNLI; snli_format/scitail_1.0_dev.txt:jsonl scitail.jsonl; ENNE",
        f"{COMMON} annotator_labels",
        gold_label=("entails", N, N, E),
        annotator_labels=[["entails"], [N], [N], [E]],
    ),
    "SciTail for predictors": case(
        "SciTail; predictor_format/scitail_1.0_structure_dev.jsonl; NE",
        """answer|sentence2_structure|sentence1|sentence2|gold_label|question
        no|nobody<>says$$$no|P|H|neutral|Who says no?
        planks|feet<>are$$$planks|P|H|entails|What are feet?""",
    ),
    "RTE": case(
        "RTE|GLUE RTE|GLUE|table; RTE/dev.tsv; XE",
        "index|sentence1|sentence2|label / 0|P|H|not_entailment / 1|P|H|entailment",
    ),
    "QNLI": case(
        "QNLI|GLUE QNLI; QNLI/dev.tsv x.tsv; EX",
        "index|question|sentence|label / 0|P|H|entailment / 1|P|H|not_entailment",
    ),
    "WNLI": case(
        "WNLI|GLUE WNLI; WNLI/train.tsv; EX", "index|sentence1|sentence2|label / 0|P|H|1 / 1|P|H|0"
    ),
    "MNLI's training set": official_case(
        "MNLI|MultiNLI|GLUE MNLI; MNLI/train.tsv; NE-C", f"{OF_GLUE} label1 gold_label"
    ),
    "MNLI's dev set": official_case(
        "MNLI|MultiNLI|GLUE MNLI; MNLI/dev_matched.tsv; NE-C", f"{OF_GLUE} {FIVE} gold_label"
    ),
    "MNLI's test set": official_case(
        "MNLI|MultiNLI|GLUE MNLI; MNLI/test_matched.tsv; ????", OF_GLUE
    ),
    "AX": case(
        "GLUE; AX/AX.tsv diagnostic.tsv; ????",
        "index|sentence1|sentence2 / 0|P|H / 1|P|H / 2|P|H / 3|P|H",
    ),
    "GLUE's diagnostics": case(
        "AX|GLUE AX|GLUE diagnostics|GLUE diagnostic; AX/diagnostic-full.tsv; NCE",
        """Lexical Semantics|Predicate-Argument Structure|Logic|Domain|Premise|Hypothesis|Label
        ||Negation|Artificial|P|H|neutral
        Lexical entailment|||News|P|H|contradiction
        |Core args||ACL|P|H|entailment""",
    ),
    "CB": case(
        "CB|SuperGLUE CB|SuperGLUE|table; CB/val.jsonl; ECN",
        "premise|hypothesis|label|idx / P|H|entailment|0 / P|H|contradiction|1 / P|H|neutral|2",
        DIALOGUE,
    ),
    "RTE of SuperGLUE": case(
        "RTE|SuperGLUE RTE|SuperGLUE|table; RTE/val.jsonl; XE",
        "premise|hypothesis|label|idx / P|H|not_entailment|0 / P|H|entailment|1",
    ),
    "AX-b": case(
        "AX-b|AX|SuperGLUE AX-b|SuperGLUE|RTE|table; AX-b/AX-b.jsonl; EX",
        """sentence1|sentence2|idx|label|logic
        P|H|0|entailment|Negation
        P|H|1|not_entailment|Negation;Double negation""",
    ),
    "SuperGLUE's test sets": case(
        "CB|RTE|SuperGLUE|SuperGLUE CB|SuperGLUE RTE|table; CB/test.jsonl; ??",
        "premise|hypothesis|idx / P|H|0 / P|H|1",
    ),
    "SICK": case(
        "SICK; SICK.txt; NEC",
        """pair_ID|sentence_A|sentence_B|entailment_label|relatedness_score|entailment_AB|SemEval_set
        1|P|H|NEUTRAL|4.5|A_neutral_B|TRAIN
        2|P|H|ENTAILMENT|3.2|A_entails_B|TRIAL
        3|P|H|CONTRADICTION|4|A_contr|TEST""",
        groups={"SemEval_set": ["TRAIN", "TRIAL", "TEST"]},
    ),
    "SICK of SemEval": case(
        "SICK; SICK_train.txt SICK_trial.txt SICK_test_annotated.txt; NEC",
        """pair_ID|sentence_A|sentence_B|relatedness_score|entailment_judgment
        1|P|H|4.5|NEUTRAL
        2|P|H|3.2|ENTAILMENT
        3|P|H|1.0|CONTRADICTION""",
    ),
    "HANS": case(
        "HANS; heuristics_evaluation_set.txt heuristics_evaluation_set.jsonl; XE",
        """gold_label|sentence1_binary_parse|sentence2_binary_parse|sentence1|sentence2|heuristic
        non-entailment|( ( The goat ) ( saw ( the ( bakers . ) ) ) )|"""
        """( ( The bakers ) ( saw ( the ( goat . ) ) ) )|P|H|lexical_overlap
        entailment|( ( The goat ) ( slept . ) )|( ( A goat ) ( slept . ) )|P|H|constituent""",
        OF_HANS,
        groups={"heuristic": ["lexical_overlap", "constituent"]},
    ),
    "MedNLI": official_case(
        "MedNLI|SNLI; mli_dev_v1.jsonl; ECNE", f"{COMMON} pairID", gold_label=(E, C, N, E)
    ),
    "DocNLI": case(
        "DocNLI|table; DocNLI_release/dev.json; XE",
        "premise|hypothesis|label / P|H|not_entailment / P|H|entailment",
        [(LONG, "They sleep."), PLAIN[1]],
    ),
    "Breaking NLI": case(
        "Breaking NLI|Breaking-NLI|BreakingNLI; data/dataset.jsonl; CEN",
        """annotator_labels|category|gold_label|pairID|sentence1|sentence2
        ["contradiction", "contradiction", "neutral"]|antonyms|contradiction|0|P|H
        ["entailment", "entailment", "entailment"]|synonyms|entailment|1|P|H
        ["neutral", "neutral", "contradiction"]|drinks|neutral|2|P|H""",
        groups={"category": ["antonyms", "synonyms", "drinks"]},
        annotations=[[0, 2, 1], [3, 0, 0], [0, 1, 2]],
    ),
    "counterfactually augmented": case(
        "SNLI|table|counterfactually augmented SNLI|CAD; revised_premise/dev.tsv:quoted; NEC",
        "sentence1|sentence2|gold_label / P|H|neutral / P|H|entailment / P|H|contradiction",
    ),
    "ChaosNLI": case(
        "ChaosNLI; chaosNLI_snli.jsonl chaosNLI_mnli_m.jsonl; ENC",
        [
            {
                "uid": f"{i}n",
                "label_counter": counter,
                "majority_label": label,
                "label_dist": [counter.get(key, 0) / 100 for key in "enc"],
                "label_count": [counter.get(key, 0) for key in "enc"],
                "example": {"uid": f"{i}n", "premise": PLAIN[i][0], "hypothesis": PLAIN[i][1]},
                "old_label": "n",
                "old_labels": [N, E, N, N, C],
            }
            for i, (label, counter) in enumerate(COUNTERS)
        ],
        annotations=[[76, 4, 20], [0, 0, 100], [49, 51, 0]],
    ),
}
FILES = [(name, file) for name in CASES for file in CASES[name].files]
TABLES = [name for name, made in CASES.items() if "headless" not in made.files.values()]
#: The case and a format in which its layout is not published; text in columns has no lists.
OTHER_FORMATS = [
    (name, format)
    for name in TABLES
    if name not in ("ChaosNLI", "WNLI")
    for format in ("csv", ";", "quoted", "jsonl", "json", "parquet", "feather")
    if format in ("jsonl", "json", "parquet", "feather")
    or not any(isinstance(value, list) for value in CASES[name].rows[0].values())
]


def read_first(folder, made, spell=str):
    """Write a case's first file and read it."""
    file, format = next(iter(made.files.items()))
    return bertnli.read(write(folder / file, made.content(format, spell)), **made.options)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_each_layout_is_read_without_options(tmp_path, name, file):
    made = CASES[name]
    path = write(tmp_path / file, made.content(made.files[file]))
    corpus = bertnli.read(path, **made.options)
    made.check(corpus)
    assert corpus.layout in made.layouts.split("|")
    assert {**corpus.groups, **made.groups} == corpus.groups
    assert all(len(values) == len(corpus.labels) for values in corpus.groups.values())
    if made.annotations is not None:
        assert corpus.annotations.tolist() == made.annotations
    packed = write(path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes()))
    assert bertnli.read(str(packed), **made.options) == corpus
    if made.options:
        refused(DataError, "labelled=False", bertnli.read, path)


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_found_without_regard_to_case(tmp_path, name):
    for spell in (str.upper, str.title):
        CASES[name].check(read_first(tmp_path, CASES[name], spell))


@pytest.mark.parametrize(("name", "format"), OTHER_FORMATS)
def test_a_layout_is_the_same_in_other_formats(tmp_path, name, format):
    made = CASES[name]
    ending = {";": "csv", "quoted": "tsv"}.get(format, format)
    corpus = bertnli.read(write(tmp_path / f"x.{ending}", made.content(format)), **made.options)
    made.check(corpus)
    plain = read_first(tmp_path, made)
    assert corpus == plain and corpus.layout == plain.layout and corpus.groups == plain.groups


def test_numbers_mean_something_in_wnli_alone(tmp_path):
    text = CASES["WNLI"].content("tsv")
    for folder in ("glue_data/WNLI", "wnli"):
        CASES["WNLI"].check(bertnli.read(write(tmp_path / folder / "dev.tsv", text)))
        CASES["WNLI"].check(bertnli.read(tmp_path / folder, "dev"))
    for file in ("RTE/train.tsv", "x.tsv"):
        refused(DataError, "label_map", bertnli.read, write(tmp_path / file, text))
    two = bertnli.read(tmp_path / "x.tsv", label_map={"0": "entailment", "1": "not_entailment"})
    assert [two.label_names[i] for i in two.labels] == [NO, E]


PARTS = {"train": [0], "dev": [1], "validation": [1], "test": [2], None: [0, 1, 2]}


@pytest.mark.parametrize("split", PARTS)
def test_sick_in_one_file_has_parts(tmp_path, split):
    path = write(tmp_path / "SICK.txt", CASES["SICK"].content("tsv"))
    for corpus in (bertnli.read(path, split), bertnli.read(f"{path}:{split}" if split else path)):
        assert corpus.premises == [PLAIN[i][0] for i in PARTS[split]]
        # Lines of the file, also of a part.
        (part,) = corpus.parts
        lines = [corpus.where(i) for i in range(len(corpus.labels))]
        assert lines == [f"{part}, line {i + 2}" for i in PARTS[split]]


# ----- the Hub's parquet files


CALLED = {"contradiction": C, "entailment": E, "neutral": N, "not_entailment": NO}
CALLED |= {"e": E, "n": N, "c": C, "refutes": C, "supports": E, "not enough info": N}


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("premise hypothesis", (E, N, C)),
        ("sentence1 sentence2", (E, "not_entailment")),
        ("question sentence", ("not_entailment", E)),
        ("premise hypothesis", ("Contradiction", "Entailment", "Neutral")),
        ("context hypothesis", ("e", "n", "c")),
        ("evidence claim", ("REFUTES", "SUPPORTS", "NOT ENOUGH INFO")),
    ],
)
@pytest.mark.parametrize("make", [parquet, feather])
def test_the_hub_s_files_say_what_their_numbers_mean(tmp_path, columns, names, make):
    """Class names are in the schema's metadata, as `datasets` writes them."""
    ids = [len(names) - 1, 0, -1, 1]
    table = dict(zip(columns.split(), zip(*PLAIN, strict=True), strict=True))
    bare = pyarrow.table({**table, "label": ids, "idx": [0, 1, 2, 3]})
    features = {name: {"dtype": "string", "_type": "Value"} for name in bare.column_names}
    features["label"] = {"names": list(names), "_type": "ClassLabel"}
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    path = write(
        tmp_path / "validation-00000-of-00001.arrow", make(bare.replace_schema_metadata(info))
    )
    expected = [
        (*pair, CALLED[names[i].lower()]) for pair, i in zip(PLAIN, ids, strict=True) if i >= 0
    ]
    Case("", {}, [], expected, 1).check(bertnli.read(path))
    refused(DataError, "label_map", bertnli.read, write(tmp_path / "bare.arrow", make(bare)))
