"""Corpora with anything in them: an error that says where, or every row kept or counted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from bertnli.data.snli import read_snli_file
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bertnli
from bertnli.data import columnar
from bertnli.data.columnar import encode_snli
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import BERTNLIError, ConfigError, DataError
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

HEAD = ["gold_label", "sentence1", "sentence2"]
PARSED = ["gold_label", "sentence1_binary_parse", "sentence2_binary_parse"]
MB = 1 << 20


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def kept_and_skipped(corpus: Corpus) -> int:
    return len(corpus.labels) + sum(corpus.skipped.values())


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_long_lines_are_kept(tmp_path: Path, format: str) -> None:
    rows = [
        ("neutral", "a" * MB, "b"),
        ("neutral", "c", "d e " * (MB // 4)),
        ("entailment", "e", "f"),
    ]
    sign = "\t" if format == "tsv" else ","
    text = "".join(sign.join(row) + "\n" for row in [HEAD, *rows])
    if format == "jsonl":
        text = "".join(json.dumps(dict(zip(HEAD, row, strict=True))) + "\n" for row in rows)
    corpus = bertnli.read_pairs(write(tmp_path / f"t.{format}", text))
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
def test_a_bad_record_takes_no_others_with_it(tmp_path: Path, row: str, message: str) -> None:
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
            bertnli.read_pairs(path)
        corpus = bertnli.read_pairs(path, on_error="skip")
        assert corpus.premises == ["1", "3", "4"]
        assert corpus.skipped == {"no gold label": 1, "malformed": 1}


def test_a_quoted_sentence_may_have_several_lines(tmp_path: Path) -> None:
    text = 'gold_label,sentence1,sentence2\nneutral,"a\nb\n\nc",d\nneutral,e,\n'
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match="line 6: the hypothesis is ''"):
        bertnli.read_pairs(path)
    assert bertnli.read_pairs(path, on_error="skip").premises == ["a\nb\n\nc"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "", "is empty, or its first line is"),
        ("t.csv", "\n\n", "is empty, or its first line is"),
        ("t.csv", 'gold_label,"sentence1\nneutral,a\n', "line 1: not CSV"),
        ("t.csv", '\n"x\ngold_label,sentence1,sentence2\nneutral,a,b\n', "line 2: not CSV"),
        ("t.tsv", "gold_label\tsentence1\tsentence2\tsentence1\n", "two columns 'sentence1'"),
        ("t.csv", "gold_label,sentence1,sentence2,gold_label\n", "two columns 'gold_label'"),
        ("t.tsv", "gold_label\tsentence1\tsentence2\tx\rneutral\ta\tb\tc\r", "carriage return"),
        ("t.csv", "gold_label,sentence1,sentence2\rneutral,a,b\r", "carriage return"),
        ("t.tsv", b"\xff\xfeg\0o\0l\0d\0", "UTF-8"),
        ("t.tsv.gz", gzip.compress(b"\t".join(b"%d" % i for i in range(9999)))[:-9], "cannot be"),
        ("snli_1.0_dev.txt", "\t".join([*PARSED, PARSED[1]]) + "\n", "two columns"),
        ("snli_1.0_dev.txt", "\t".join(PARSED) + "\tx\rneutral\ta\tb\tc\r", "carriage return"),
    ],
)
def test_no_header_no_file(
    tmp_path: Path, name: str, content: str | bytes, message: str, on_error: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        if name.startswith("snli"):
            encode_snli(tmp_path, "dev", VOCAB, 16, on_error=on_error, cache=False)
        else:
            bertnli.read_pairs(path, on_error=on_error)


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
def test_bad_json(tmp_path: Path, case: str, name: str) -> None:
    path = write(tmp_path / name, f"{GOOD}\n{BAD_JSON[case]}\n\n{GOOD}")

    def read(on_error: str) -> Corpus:
        if name.startswith("snli"):
            return bertnli.read_snli(tmp_path, "dev", on_error=on_error)
        return bertnli.read_pairs(path, on_error=on_error)

    if case == "deep enough":  # and in a column that nobody reads
        assert len(read("raise").labels) == 3
        return
    with pytest.raises(DataError, match="line 2: ") as caught:
        read("raise")
    assert len(str(caught.value)) < 2000
    corpus = read("skip")
    assert (len(corpus.labels), corpus.skipped) == (2, {"malformed": 1})


VOCAB = Vocab(["a", "dog", "1", "."], 0, RESERVED_TOKENS)
ODD = " ()\"',\t\r\n\0\x0b\x1c\x85\u2028\ufeff\u3000aé中😀{}[]:\\-"
SENTENCES = st.one_of(
    st.sampled_from(
        ["a dog .", "( a ( dog . ) )", "", " ", '"', '"a', 'a"', 'a "b" c', "a" * 140_000]
    ),
    st.text(st.sampled_from(ODD), max_size=6),
    st.text(max_size=3),
)
LABELS = st.sampled_from([*bertnli.LABELS, "neutral", "Neutral", "-", "", "maybe", "\ufeffneutral"])
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n", "\r\r\n", " \n", "\0\n"])
FORMATS = ("tsv", "csv", "jsonl", "snli txt", "snli jsonl")


@st.composite
def files(draw: Any) -> tuple[str, bytes]:
    """A format, and the bytes of a file that is more or less in it."""
    format = draw(st.sampled_from(FORMATS))
    names = list(PARSED if format.startswith("snli") else HEAD)
    if draw(st.integers(0, 15)) == 0:
        names.append(draw(st.sampled_from([*names, "x", "", "\r"])))
    width = st.sampled_from([len(names)] * 6 + [0, 1, 2, 4])
    parts = [] if "jsonl" in format else [",".join(names) if format == "csv" else "\t".join(names)]
    ends = (
        [] if "jsonl" in format else [draw(st.sampled_from(["\n"] * 6 + ["\r\n"] * 3 + ["\r", ""]))]
    )
    simple = draw(st.booleans())
    for _ in range(draw(st.integers(0, 6))):
        cells = [draw(LABELS), *(draw(SENTENCES) for _ in range(draw(width) - 1))]
        ends.append(draw(ENDS) if not simple else "\n")
        if "jsonl" in format:
            row = dict(zip(names, cells, strict=False))
            odd = draw(st.sampled_from([None] * 8 + sorted(BAD_JSON)))
            parts.append(
                BAD_JSON[odd] if odd else json.dumps(row, ensure_ascii=draw(st.booleans()))
            )
        elif format == "csv" and draw(st.integers(0, 3)):
            quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
            parts.append(",".join(quoted))
        else:
            parts.append((draw(st.sampled_from("\t,")) if not simple else "\t").join(cells))
    text = "".join(part + end for part, end in zip(parts, ends, strict=True))
    content = draw(st.sampled_from(["", "", "", "\ufeff", "\ufeff\ufeff"])).encode()
    content += text.encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        rng = random.Random(draw(st.integers(0, 1 << 32)))
        raw = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(0, len(raw))
            raw[place : place + rng.choice([0, 1, 1, 5])] = rng.choice(
                [
                    b"",
                    b'"',
                    b"\n",
                    b"\r",
                    b"\0",
                    b"\t",
                    b",",
                    b"\xff",
                    b"\xc3",
                    b"\xed\xa0\x80",
                    b"-",
                ]
            )
        content = bytes(raw)
    return format, content


def rows_in(format: str, text: str) -> int | None:
    """The rows of a file by another count; None where that is not sure."""
    if format == "csv":
        try:
            table = list(csv.reader(io.StringIO(text, newline="\n"), strict=True))
        except csv.Error:
            return None
        return sum(map(bool, table)) - 1
    lines = text.split("\n")
    if "jsonl" in format:
        return sum(not line.isspace() and line != "" for line in lines)
    if format == "snli txt":
        return sum(bool(line.strip("\r")) for line in lines[1:])
    return sum(bool(re.search(r"[^\r]", line)) for line in lines) - 1


def outcome(make: Any, *args: Any, **options: Any) -> Any:
    try:
        return make(*args, **options)
    except BERTNLIError as error:
        return type(error), str(error)


def run_case(factory: pytest.TempPathFactory, format: str, content: bytes, packed: bool) -> None:
    folder = factory.mktemp("corpus")
    official = format.startswith("snli")
    name = f"snli_1.0_dev.{format.split()[1]}" if official else f"t.{format}"
    path = write(folder / (name + ".gz" * packed), gzip.compress(content, 1) if packed else content)
    read = (
        read_snli_file
        if official
        else lambda path, on_error: bertnli.read_pairs(path, on_error=on_error)
    )
    found = outcome(read, path, on_error="skip")
    strict = outcome(read, path, on_error="raise")
    if isinstance(found, Corpus):
        expected = rows_in(format, content.decode("utf-8-sig"))
        assert expected in (None, kept_and_skipped(found))
        assert isinstance(strict, Corpus) is (not found.skipped.get("malformed"))
        dataset = PairDataset(found, 12, build_vocab(found, 1), verbose=False)
        assert len(dataset) == len(found.labels)
    else:
        # What concerns the whole file cannot be left out.
        assert found[0] in (DataError, ConfigError)
        assert re.search("UTF-8|no column|two columns|carriage return|not CSV", found[1]), found
    if isinstance(strict, Corpus):
        assert strict == found
    elif isinstance(found, Corpus):
        assert re.search(r", line \d+: ", strict[1]), strict
        assert len(strict[1]) < 3000
    if not official:
        return
    for on_error in ("skip", "raise"):
        for piece in (40, columnar.PIECE):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(columnar, "PIECE", piece)
                fast = outcome(
                    encode_snli, folder, "dev", VOCAB, 12, on_error=on_error, cache=False
                )
            plain = outcome(read, path, on_error=on_error)
            if isinstance(plain, Corpus):
                slow = PairDataset(plain, 12, VOCAB, verbose=False)
                assert fast.token_ids.tolist() == slow.token_ids.tolist()
                assert fast.labels.tolist() == slow.labels.tolist()
                assert fast.skipped == slow.skipped
            else:
                assert fast == plain


@settings(max_examples=300)
@given(file=files(), packed=st.booleans())
@example(file=("jsonl", b"\xef\xbb"), packed=False)
def test_some_hostile_corpora(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes], packed: bool
) -> None:
    run_case(tmp_path_factory, *file, packed)


@pytest.mark.long
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(file=files(), packed=st.booleans())
def test_10_000_hostile_corpora(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes], packed: bool
) -> None:
    run_case(tmp_path_factory, *file, packed)
