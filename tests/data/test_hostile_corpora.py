"""Corpora with anything in them, in any format: an error, or every row kept or counted."""

import bz2
import csv
import gzip
import json
import lzma
import random
import re

import pandas
import polars
import pyarrow as pa
import pytest
from corpus_files import csv_of, feather, jsonl, lines, parquet, records, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.data import direct
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import pairs, read
from bertnli.errors import BERTNLIError, ConfigError, DataError
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

HEAD = ["gold_label", "sentence1", "sentence2"]
PARSED = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse"]
MB = 1 << 20


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_long_lines_are_kept(tmp_path, format):
    rows = [("neutral", "a" * MB, "b"), ("neutral", "c", "d e " * (MB // 4)), ("neutral", "e", "f")]
    text = lines(rows, HEAD, "\t" if format == "tsv" else ",")
    path = write(tmp_path / f"t.{format}", jsonl(rows, HEAD) if format == "jsonl" else text)
    corpus = read(path)
    expected = [row[1:] for row in rows]
    assert list(zip(*corpus[:2], strict=True)) == list(pairs(path)) == expected
    assert not corpus.skipped and csv.field_size_limit() == 131072


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            'neutral,"a,b',
            r"line 4: not CSV: .*quotation mark that opens here takes all up to line \d",
        ),
        ('neutral,"a" b,c', "line 4: not CSV"),
        ("neutral,a,b,c", "line 4: 4 columns"),
        ("neutral,a\rneutral,b", "line 4: .* carriage return inside"),
    ],
)
def test_a_bad_record_takes_no_others_with_it(tmp_path, row, message):
    # The quotation marks of the last row would close what the bad one opens.
    for end in ('"neutral","4","x"', "neutral,4,x"):
        table = [",".join(HEAD), "neutral,1,x", "-,2,x", row, "neutral,3,x", end, "", ""]
        path = write(tmp_path / "t.csv", "\n".join(table))
        refused(DataError, message, read, path)
        corpus = read(path, on_error="skip")
        assert corpus.premises == ["1", "3", "4"]
        assert corpus.skipped == {"no gold label": 1, "malformed": 1}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "", "is empty, or its first line is"),
        ("t.csv", "\n\n", "is empty, or its first line is"),
        ("t.csv", 'gold_label,"sentence1\nneutral,a\n', "line 1: not CSV"),
        ("t.csv", '\n"x\na,b,c\nneutral,a,b\n', "line 2: not CSV"),
        ("t.tsv", "gold_label\tsentence1\tsentence2\tsentence1\n", "two columns 'sentence1'"),
        ("t.csv", "gold_label,sentence1,sentence2,gold_label\n", "two columns 'gold_label'"),
        ("t.tsv", "gold_label\tsentence1\tsentence2\tx\rneutral\ta\tb\tc\r", "carriage return"),
        ("t.csv", "gold_label,sentence1,sentence2\rneutral,a,b\r", "carriage return"),
        ("t.tsv", b"\xff\xfeg\0o\0l\0d", "utf-16"),
        ("t.tsv.gz", gzip.compress(b"\t".join(b"%d" % i for i in range(9999)))[:-9], "cannot be"),
        ("snli_1.0_dev.txt", "\t".join([*PARSED, PARSED[1]]) + "\n", "two columns"),
        ("snli_1.0_dev.txt", "\t".join(PARSED) + "\tx\rneutral\ta\tb\tc\r", "carriage return"),
    ],
)
def test_no_header_no_file(tmp_path, name, content, message, on_error):
    path = write(tmp_path / name, content)
    for make in (read, lambda path, **how: PairDataset.read(path, None, 16, VOCAB, **how)):
        refused(DataError, message, make, path, on_error=on_error)


GOOD = '{"gold_label": "neutral", "sentence1": "a", "sentence2": "b"}'
BAD_JSON = {
    "deep": "[" * 100_000,
    "deep enough": GOOD[:-1] + ', "gold_label2": ' + "[" * 900 + "]" * 900 + "}",
    "deep label": GOOD.replace('"neutral"', "[" * 500 + "]" * 500),
    "deep sentence": GOOD.replace('"a"', '{"a":' * 500 + "1" + "}" * 500),
    "long number": GOOD.replace('"a"', "9" * 5000),
    "NaN": GOOD.replace('"a"', "NaN"),
    "label NaN": GOOD.replace('"neutral"', "-Infinity"),
    "half a character": GOOD.replace('"a"', '"\\ud800"'),
    "half a label": GOOD.replace('"neutral"', '"\\udfff"'),
    "twice": GOOD[:-1] + ', "sentence1": "c"}',
    "a list": "[1, 2]",
    "a string": '"' + GOOD.replace('"', '\\"') + '"',
    "null": "null",
    "BOM": "\ufeff" + GOOD,
    "cut": GOOD[:-3],
    "two": GOOD + GOOD,
    "CR": GOOD + "\r" + GOOD,
    "NUL": "\0" + GOOD,
    "raw NUL": GOOD.replace("a", "\0"),
    "no sentence": '{"gold_label": "neutral", "sentence1": "a"}',
    "long key": '{"' + "k" * MB + '": 1}',
}


@pytest.mark.parametrize("case", BAD_JSON)
@pytest.mark.parametrize("name", ["t.jsonl", "snli_1.0_dev.jsonl"])
def test_bad_json(tmp_path, case, name):
    path = write(tmp_path / name, f"{GOOD}\n{BAD_JSON[case]}\n\n{GOOD}")
    if case == "deep enough":  # and in a column that nobody reads
        assert len(read(path).labels) == 3
        return
    with pytest.raises(DataError, match="line 2: ") as caught:
        read(path)
    assert len(str(caught.value)) < 2000
    corpus = read(path, on_error="skip")
    assert (len(corpus.labels), corpus.skipped) == (2, {"malformed": 1})


# ----- files and tables of random content

VOCAB = Vocab(["a", "dog", "1", "."], 0, RESERVED_TOKENS)
ODD = " ()\"',\t\r\n\0\x0b\x1c\x85\u2028\ufeff\u3000aé中😀{}[]:;|\\-"
FIXED = ["a dog .", "( a ( dog . ) )", "", " ", '"', '"a', 'a"', 'a "b" c', '"a ""b"""']
SENTENCES = st.one_of(
    st.sampled_from([*FIXED, "a" * 140_000]),
    *(st.text(st.sampled_from(ODD), max_size=6), st.text(max_size=3)),
)
LABELS = st.sampled_from(
    [*bertnli.LABELS, "neutral", "Neutral", "-", "", "-1", "0", "e", "maybe", "\ufeffneutral"]
)


def quoted(sign):
    return lambda rows, head: csv_of(rows, head, sign, quoting=csv.QUOTE_ALL)


def told(delimiter, quoted=True):
    how = {"format": "csv" if quoted else "tsv", "delimiter": delimiter}
    return {**how, "quoted": quoted, "header": True}


def document(rows, head):
    return json.dumps(records(rows, head), indent=1)


#: Formats: a file's name, a function that makes its text, options that tell the format.
FORMATS = {
    "tsv": ("t.tsv", lines, told("\t", False)),
    "snli txt": ("snli_1.0_dev.txt", lines, told("\t", False)),
    "csv": ("t.csv", quoted(","), told(",")),
    "csv ;": ("t.csv", quoted(";"), told(";")),
    "csv |": ("t.csv", quoted("|"), told("|")),
    "quoted tsv": ("t.tsv", quoted("\t"), told("\t")),
    "jsonl": ("t.jsonl", jsonl, {"format": "jsonl"}),
    "snli jsonl": ("snli_1.0_dev.jsonl", jsonl, {"format": "jsonl"}),
    "json": ("t.json", document, {"format": "json"}),
}
PACKERS = {
    "": bytes,
    ".gz": lambda raw: gzip.compress(raw, 1),
    ".bz2": lambda raw: bz2.compress(raw, 1),
    ".xz": lambda raw: lzma.compress(raw, preset=0),
}
#: Values in place of a sentence or a label, in a row that is no text.
VALUES = st.one_of(
    *(SENTENCES, LABELS, st.none(), st.integers(-2, 3), st.floats(), st.booleans()),
    *(st.binary(max_size=3), st.lists(st.integers(0, 1), max_size=2)),
    st.sampled_from([2**70, "9" * 5000, {"a": {"b": "c"}}, "\ud800", float("nan"), ("a",), object]),
)
#: Bytes that are put into files of text.
PIECES = [b"", b'"', b"\n", b"\n\n", b"\r", b"\r\n", b"\0", b"\t", b",", b";", b"\xff", b"\xc3"]
PIECES += [b"\xed\xa0\x80", b"\xef\xbb\xbf", b"-", b"[", b"]", b"{", b"}"]


@st.composite
def files(draw):
    """Draw a format of text, the bytes of a file of it, and the number of its rows, if known."""
    format = draw(st.sampled_from([*FORMATS]))
    _, make, _ = FORMATS[format]
    rows = draw(st.lists(st.tuples(LABELS, SENTENCES, SENTENCES), max_size=6))
    text = make(rows, PARSED if format.startswith("snli") else HEAD)
    expected = len(rows) if make is not lines and all(map(any, rows)) else None
    if make is jsonl and draw(st.booleans()):
        text += BAD_JSON[draw(st.sampled_from(sorted(BAD_JSON)))]
        expected = None
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "latin-1"]))
    content = text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
    if draw(st.booleans()):
        return format, mutated(content, draw(st.integers(0, 1 << 32)), PIECES), None
    return format, content, expected if encoding == "utf-8" else None


def mutated(content, seed, pieces):
    """Replace up to four stretches of bytes by one of `pieces` each."""
    rng = random.Random(seed)
    raw = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(raw))
        raw[place : place + rng.choice([0, 1, 1, 5])] = rng.choice(pieces)
    return bytes(raw)


def outcome(make, *args, **options):
    """Call a function; return its result, or the `BERTNLIError` that it raises."""
    try:
        return make(*args, **options)
    except BERTNLIError as error:
        assert len(str(error)) < 4000  # noqa: PT017
        return error


def check(source, expected, **options):
    """Read a source in every way, and compare the outcomes.

    Args:
        source: the source, or a function that makes it anew.
        expected: the number of its rows; None if unknown.
        options: options of `read`.
    """
    make = source if callable(source) else lambda: source
    lenient = outcome(read, make(), on_error="skip", **options)
    strict = outcome(read, make(), **options)
    if isinstance(lenient, Corpus):
        assert expected in (None, len(lenient.labels) + sum(lenient.skipped.values()))
        assert isinstance(strict, Corpus) is (not lenient.skipped.get("malformed"))
        assert len({*lenient.rows.tolist()}) == len(lenient.labels)
        if lenient.labels:
            assert lenient.where(0) and lenient.where(len(lenient.labels) - 1)
    else:  # an error that concerns the whole source
        assert isinstance(lenient, DataError | ConfigError), lenient
        assert isinstance(strict, DataError | ConfigError), strict
    if isinstance(strict, Corpus):
        assert strict == lenient
    elif isinstance(lenient, Corpus):
        assert re.search(r", line \d+: ", str(strict)), strict
    for on_error in ("skip", "raise"):
        answered = outcome(lambda how: list(pairs(make(), on_error=how, **options)), on_error)
        assert isinstance(answered, list | DataError | ConfigError), answered


def check_ids(source, **options):
    """Compare the ids that `PairDataset.read` makes of a source with those of its corpus."""
    for on_error in ("skip", "raise"):
        plain = outcome(read, source, on_error=on_error, **options)
        for piece in (40, direct.PIECE):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(direct, "PIECE", piece)
                how = {**options, "on_error": on_error, "cache": False, "verbose": False}
                fast = outcome(PairDataset.read, source, None, 12, VOCAB, **how)
            if isinstance(plain, Corpus):
                slow = PairDataset(plain, 12, VOCAB, verbose=False)
                assert fast.digest() == slow.digest() and fast.skipped == slow.skipped
            else:
                assert (type(fast), str(fast)) == (type(plain), str(plain))


def as_text(value):
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def run_table(factory, kind, rows, seed):
    """Read rows of any values as a table of another library or as a file in columns.

    Args:
        factory: pytest's maker of folders.
        kind: the kind of table.
        rows: label, premise and hypothesis of each.
        seed: of the damage to a file; None for no damage.
    """
    table = [dict(zip(HEAD, row, strict=True)) for row in rows]
    try:
        arrow = pa.table({name: [row[name] for row in table] for name in HEAD})
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError):
        arrow = pa.table({name: [as_text(row[name]) for row in table] for name in HEAD})
    if kind == "polars":
        try:
            arrow = polars.from_arrow(arrow)
        except (TypeError, ValueError):  # a type that polars lacks
            return
    if kind in ("parquet", "feather"):
        raw = {"parquet": parquet, "feather": feather}[kind](arrow)
        if seed is not None:
            raw = mutated(raw, seed, [b"", b"\0", b"\xff", b"\x15", b"aa"])
        path = write(factory.mktemp("corpus") / f"t.{kind}", raw)
        check(path, None if seed is not None else len(rows))
        if seed is None:
            check_ids(path)
    else:
        sources = {"pandas": pandas.DataFrame(table, columns=HEAD), "dicts": lambda: list(table)}
        sources["pairs"] = lambda: [tuple(row[1:] + row[:1]) for row in rows]
        check(sources.get(kind, arrow), len(rows))


by_day_and_by_night = pytest.mark.parametrize(
    "count", [50, pytest.param(10_000, marks=pytest.mark.long)]
)


@by_day_and_by_night
def test_hostile_corpora(tmp_path_factory, count):
    """Read files of text, perhaps damaged or packed, with and without options for the format."""

    @settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])
    @given(files(), st.sampled_from(["", "", "", *PACKERS]), st.booleans())
    @example(file=("jsonl", b"\xef\xbb", None), packed="", is_told=False)
    def check_one(file, packed, is_told):
        format, content, expected = file
        name, _, options = FORMATS[format]
        options = options if is_told else {}
        folder = tmp_path_factory.mktemp("corpus")
        path = write(folder / (name + packed), PACKERS[packed](content))
        check(path, expected if is_told else None, **options)
        check_ids(path, **options)

    check_one()


@by_day_and_by_night
def test_hostile_tables(tmp_path_factory, count):
    kinds = ["parquet", "feather", "pyarrow", "pandas", "polars", "dicts", "pairs"]
    rows = st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=5)

    @settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(kinds), rows, st.one_of(st.none(), st.integers(0, 1 << 32)))
    def check_one(kind, rows, seed):
        run_table(tmp_path_factory, kind, rows, seed)

    check_one()
