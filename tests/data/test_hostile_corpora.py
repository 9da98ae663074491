"""Corpora with anything in them, in any format: an error, or every row kept or counted."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

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


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def kept_and_skipped(corpus):
    return len(corpus.labels) + sum(corpus.skipped.values())


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_long_lines_are_kept(tmp_path, format):
    rows = [
        ("neutral", "a" * MB, "b"),
        ("neutral", "c", "d e " * (MB // 4)),
        ("entailment", "e", "f"),
    ]
    sign = "\t" if format == "tsv" else ","
    text = "".join(sign.join(row) + "\n" for row in [HEAD, *rows])
    if format == "jsonl":
        text = "".join(json.dumps(dict(zip(HEAD, row, strict=True))) + "\n" for row in rows)
    corpus = read(write(tmp_path / f"t.{format}", text))
    assert list(zip(*corpus[:2], strict=True)) == [row[1:] for row in rows]
    assert not corpus.skipped
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            'neutral,"a,b',
            "line 4: not CSV: .*quotation mark that opens here takes all up to line 7",
        ),
        ('neutral,"a" b,c', "line 4: not CSV"),
        ("neutral,a,b,c", "line 4: 4 columns"),
        ("neutral,a\rneutral,b", "line 4: .* carriage return inside"),
    ],
)
def test_a_bad_record_takes_no_others_with_it(tmp_path, row, message):
    lines = [
        ",".join(HEAD),
        "neutral,1,x",
        "-,2,x",
        row,
        "neutral,3,x",
        '"neutral","4","x"',
        "",
        "",
    ]
    # The quotation marks of the fourth row would close what the bad one opens.
    for good in (lines, [line.replace('"', "") if line != row else line for line in lines]):
        path = write(tmp_path / "t.csv", "\n".join(good))
        with pytest.raises(DataError, match=message.replace("line 7", r"line \d")):
            read(path)
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
    with pytest.raises(DataError, match=message):
        if name.startswith("snli"):
            PairDataset.read(path, None, 16, VOCAB, on_error=on_error, cache=False)
        else:
            read(path, on_error=on_error)


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


@pytest.mark.parametrize("case", sorted(BAD_JSON))
@pytest.mark.parametrize("name", ["t.jsonl", "snli_1.0_dev.jsonl"])
def test_bad_json(tmp_path, case, name):
    path = write(tmp_path / name, f"{GOOD}\n{BAD_JSON[case]}\n\n{GOOD}")

    source, split = (tmp_path, "dev") if name.startswith("snli") else (path, None)
    if case == "deep enough":  # and in a column that nobody reads
        assert len(read(source, split).labels) == 3
        return
    with pytest.raises(DataError, match="line 2: ") as caught:
        read(source, split)
    assert len(str(caught.value)) < 2000
    corpus = read(source, split, on_error="skip")
    assert (len(corpus.labels), corpus.skipped) == (2, {"malformed": 1})


VOCAB = Vocab(["a", "dog", "1", "."], 0, RESERVED_TOKENS)
ODD = " ()\"',\t\r\n\0\x0b\x1c\x85\u2028\ufeff\u3000aé中😀{}[]:;|\\-"
SENTENCES = st.one_of(
    st.sampled_from(
        [
            "a dog .",
            "( a ( dog . ) )",
            "",
            " ",
            '"',
            '"a',
            'a"',
            'a "b" c',
            '"a ""b"""',
            "a" * 140_000,
        ]
    ),
    st.text(st.sampled_from(ODD), max_size=6),
    st.text(max_size=3),
)
LABELS = st.sampled_from(
    [*bertnli.LABELS, "neutral", "Neutral", "-", "", "-1", "0", "e", "maybe", "\ufeffneutral"]
)
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", "\r\r\n", " \n", "\0\n"])
#: Format to what stands between fields; None for what has none.
SIGNS = {"tsv": "\t", "csv": ",", "csv ;": ";", "csv |": "|", "quoted tsv": "\t", "snli txt": "\t"}
TEXT = [*SIGNS, "jsonl", "snli jsonl", "json"]
BINARY = ["parquet", "arrow"]
OBJECTS = ["pyarrow", "pandas", "polars", "dicts", "pairs"]
NAMES = {"csv ;": "t.csv", "csv |": "t.csv", "quoted tsv": "t.tsv", "snli txt": "snli_1.0_dev.txt",
         "snli jsonl": "snli_1.0_dev.jsonl"}  # fmt: skip
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda raw: gzip.compress(raw, 1),
    ".bz2": lambda raw: bz2.compress(raw, 1),
    ".xz": lambda raw: lzma.compress(raw, preset=0),
}
#: What may stand where a sentence or a label should, in a row that is no text.
VALUES = st.one_of(
    *(SENTENCES, LABELS, st.none(), st.integers(-2, 3), st.floats(), st.booleans()),
    *(st.binary(max_size=3), st.lists(st.integers(0, 1), max_size=2)),
    st.sampled_from([2**70, "9" * 5000, {"a": {"b": "c"}}, "\ud800", float("nan"), ("a",), object]),
)
#: Bytes that are put into files.
PIECES = [
    b"",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"\t",
    b",",
    b";",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"-",
]
PIECES += [b"[", b"]", b"{", b"}"]


@st.composite
def files(draw):
    """A format of text, and the bytes of a file that is more or less in it."""
    format = draw(st.sampled_from(TEXT))
    names = list(PARSED if format.startswith("snli") else HEAD)
    if draw(st.integers(0, 15)) == 0:
        names.append(draw(st.sampled_from([*names, "x", "", "\r"])))
    width = st.sampled_from([len(names)] * 6 + [0, 1, 2, 4])
    sign = SIGNS.get(format)
    parts, ends = [], []
    if sign:
        parts = [sign.join(names)]
        ends = [draw(st.sampled_from(["\n"] * 6 + ["\r\n"] * 3 + ["\r", ""]))]
    simple = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        cells = [draw(LABELS), *(draw(SENTENCES) for _ in range(draw(width) - 1))]
        ends.append(draw(ENDS) if not simple else "\n")
        if sign is None:
            row = dict(zip(names, cells, strict=False))
            odd = draw(st.sampled_from([None] * 8 + sorted(BAD_JSON)))
            parts.append(
                BAD_JSON[odd] if odd else json.dumps(row, ensure_ascii=draw(st.booleans()))
            )
        elif format not in ("tsv", "snli txt") and draw(st.integers(0, 3)):
            parts.append(sign.join('"' + cell.replace('"', '""') + '"' for cell in cells))
        else:
            parts.append((draw(st.sampled_from("\t,;")) if not simple else sign).join(cells))
    if format == "json":
        text = draw(st.sampled_from(["[", "[", "[\n", '{"data": [', ""])) + ",\n".join(parts)
        text += draw(st.sampled_from(["]", "]", "\n]\n", "]}", ""]))
    else:
        text = "".join(part + end for part, end in zip(parts, ends, strict=True))
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "latin-1"]))
    content = draw(st.sampled_from(["", "", "", "\ufeff", "\ufeff\ufeff"])).encode()
    if encoding == "utf-8":
        content += text.encode(errors="surrogatepass")
    else:
        content = text.encode(encoding, errors="replace")
    if draw(st.integers(0, 3)) == 0:
        content = mutated(content, draw(st.integers(0, 1 << 32)), PIECES)
    return format, content


def mutated(content, seed, pieces):
    rng = random.Random(seed)
    raw = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(raw))
        raw[place : place + rng.choice([0, 1, 1, 5])] = rng.choice(pieces)
    return bytes(raw)


def without_end(rows):
    while len(rows) > 1 and not any(rows[-1]) and len(rows[-1]) == len(rows[0]):
        rows.pop()
    return len(rows)


def rows_in(format, text):
    """The rows of a file by another count; None where that is not sure."""
    lines = text.split("\n")
    if format == "json":
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return len(document) if isinstance(document, list) else None
    if "jsonl" in format:
        return sum(not line.isspace() and line != "" for line in lines)
    if format in ("tsv", "snli txt"):
        rows = [line.rstrip("\r").split("\t") for line in lines if line.rstrip("\r")]
        return without_end(rows) - 1
    try:
        rows = csv.reader(io.StringIO(text, newline="\n"), strict=True, delimiter=SIGNS[format])
        return without_end([row for row in rows if row]) - 1
    except csv.Error:
        return None


def outcome(make, *args, **options):
    try:
        return make(*args, **options)
    except BERTNLIError as error:
        problem = error
    assert len(str(problem)) < 4000
    return problem


def check(source, expected, **options):
    """Read a source in every way; return what comes of it with bad rows left out."""

    def given():
        return source() if callable(source) else source

    lenient = outcome(read, given(), on_error="skip", **options)
    strict = outcome(read, given(), **options)
    if isinstance(lenient, Corpus):
        assert expected in (None, kept_and_skipped(lenient))
        assert isinstance(strict, Corpus) is (not lenient.skipped.get("malformed"))
        assert len({*lenient.rows.tolist()}) == len(lenient.labels)
        if lenient.labels:
            assert lenient.where(0) and lenient.where(len(lenient.labels) - 1)
    else:  # what concerns the whole source cannot be left out
        assert isinstance(lenient, DataError | ConfigError), lenient
        assert isinstance(strict, DataError | ConfigError), strict
    if isinstance(strict, Corpus):
        assert strict == lenient
    elif isinstance(lenient, Corpus):
        assert re.search(r", line \d+: ", str(strict)), strict
    for on_error in ("skip", "raise"):
        answered = outcome(lambda: list(pairs(given(), on_error=on_error, **options)))  # noqa: B023
        assert isinstance(answered, list | DataError | ConfigError), answered
    return lenient


def check_ids(source, **options):
    """Compare the ids that a source gives at once with those of its corpus."""
    for on_error in ("skip", "raise"):
        plain = outcome(read, source, on_error=on_error, **options)
        for piece in (40, direct.PIECE):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(direct, "PIECE", piece)
                fast = outcome(
                    *(PairDataset.read, source, None, 12, VOCAB),
                    **{**options, "on_error": on_error, "cache": False, "verbose": False},
                )
            if isinstance(plain, Corpus):
                slow = PairDataset(plain, 12, VOCAB, verbose=False)
                assert fast.token_ids.tolist() == slow.token_ids.tolist()
                assert fast.labels.tolist() == slow.labels.tolist()
                assert fast.label_names == slow.label_names
                assert fast.skipped == slow.skipped
            else:
                assert (type(fast), str(fast)) == (type(plain), str(plain))


def run_case(factory, format, content, packed, told):
    """Read a file of text, whose format is told, or must be determined."""
    path = factory.mktemp("corpus") / (NAMES.get(format, f"t.{format}") + packed)
    write(path, PACKERS[packed](content))
    options: dict[str, Any] = {}
    if told:
        sign = SIGNS.get(format)
        options = {"format": {"snli jsonl": "jsonl"}.get(format, format)}
        if sign:
            quoted = format not in ("tsv", "snli txt")
            options = {"format": "csv" if quoted else "tsv", "delimiter": sign, "quoted": quoted}
            options |= {"header": True}
    try:
        text = content.decode(
            "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        )
    except UnicodeError:
        text = None
    expected = rows_in(format, text) if told and text is not None else None
    check(path, expected, **options)
    check_ids(path, **options)


ROWS = st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=5)


def run_object(factory, kind, rows, seed):
    """Read rows of any values as a table of another program, or as a file in columns."""
    if kind == "pairs":
        check(lambda: [tuple(row[1:] + row[:1]) for row in rows], len(rows))
        return
    table = [dict(zip(HEAD, row, strict=True)) for row in rows]
    if kind == "dicts":
        check(lambda: list(table), len(rows))
        return
    if kind == "pandas":
        frame = import_module("pandas").DataFrame(table, columns=HEAD)
        check(frame, len(rows))
        return
    pa = import_module("pyarrow")
    try:
        made = pa.table({name: [row[name] for row in table] for name in HEAD})
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError):
        made = pa.table({name: [text_in(row[name]) for row in table] for name in HEAD})
    if kind == "pyarrow":
        check(made, len(rows))
    elif kind == "polars":
        try:
            frame = import_module("polars").from_arrow(made)
        except (TypeError, ValueError):  # a type that polars lacks
            return
        check(frame, len(rows))
    else:
        path = factory.mktemp("corpus") / f"t.{kind}"
        if kind == "parquet":
            import_module("pyarrow.parquet").write_table(made, path)
        else:
            import_module("pyarrow.feather").write_feather(made, str(path))
        if seed is not None:
            write(path, mutated(path.read_bytes(), seed, [b"", b"\0", b"\xff", b"\x15", b"aa"]))
        check(path, None if seed is not None else len(rows))
        if seed is None:
            check_ids(path)


def text_in(value):
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


FILES = {"file": files(), "packed": st.sampled_from(["", "", "", *PACKERS]), "told": st.booleans()}
TABLES = {
    "kind": st.sampled_from([*BINARY, *OBJECTS]),
    "rows": ROWS,
    "seed": st.one_of(st.none(), st.integers(0, 1 << 32)),
}


@settings(max_examples=80)
@given(**FILES)
@example(file=("jsonl", b"\xef\xbb"), packed="", told=False)
def test_some_hostile_corpora(tmp_path_factory, file, packed, told):
    run_case(tmp_path_factory, *file, packed, told)


@settings(max_examples=80)
@given(**TABLES)
def test_some_hostile_tables(tmp_path_factory, kind, rows, seed):
    run_object(tmp_path_factory, kind, rows, seed)


@pytest.mark.long
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(**FILES)
def test_10_000_hostile_corpora(tmp_path_factory, file, packed, told):
    run_case(tmp_path_factory, *file, packed, told)


@pytest.mark.long
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(**TABLES)
def test_10_000_hostile_tables(tmp_path_factory, kind, rows, seed):
    run_object(tmp_path_factory, kind, rows, seed)
