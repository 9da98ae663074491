"""Token ids of columns of text: equal to those of rows one by one; and the cache."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertnli.bert.labels import LABELS
from bertnli.data import arrays, columnar
from bertnli.data.arrays import NotSure
from bertnli.data.cache import cached
from bertnli.data.columnar import Columns, Encoded
from bertnli.data.corpus import Corpus
from bertnli.data.encode import EncodedPairs, encode_corpus
from bertnli.data.parses import sentence_of
from bertnli.errors import DataError
from bertnli.text.tokenize import lower_tokens
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.text.wordpiece import WordPieceVocab, train_word_pieces

ARRAYS = ("token_ids", "offsets", "premise_lens", "labels", "is_cut")
WORDS = ["a", "dog", ".", "café", "i̇", "σ", "ss", "n't", "-lrb-", "``", "''", "'", "/", "\x7f"]
VOCAB = Vocab([*WORDS, *"bcxyz", "can", "not", "n/a"], 0, RESERVED_TOKENS)
RAW = [*LABELS, "-"]
IDS = {label: i for i, label in enumerate(LABELS)}

NASTY = (
    *(" ", " ", " ", "\t", "\n", "\u3000", "\u2028", "\x1c", "\x0b", "\x00", "\ufeff", "_", "/"),
    *('"', '"', "``", "''", "“", "”", "„", "«", "»", "'", "`", "‘", "’", "(", ")", "[", "<", "-"),
    *("a", "Dog", "café", "İ", "ß", "ΑΣ", "ﬁ", "😀", "1", "2,3", "5'", ".", "...", "--", ",", "&"),
    *("cannot", "gonna", "d'ye", "don't", "n't", "U.S.", "mr.", "Ph.D.", "x.y", "a@b.co"),
    *("http://x.y/?a=b", "www.", "n/a", "nan"),
)
TEXT = st.one_of(
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=12).map("".join),
    st.text(st.sampled_from("aB \"'`.,-0("), min_size=1, max_size=10),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
).filter(str.strip)
PARSE = st.one_of(
    st.lists(st.sampled_from(["(", ")", "a", "Dog", ".", "n't", "zebra", "n/a", " "])).map(
        " ".join
    ),
    st.text(st.sampled_from(" ()ab.\u00a0\u3000İΣ\x0c\x00\n"), max_size=8),
)


def strings(values: Any) -> Any:
    return pyarrow.array(values, pyarrow.string())


def labels_of(rows: list[Any], encoded: Encoded) -> EncodedPairs:
    """Decide as a reader does: what is no class is left out."""
    counts = Counter(rows)
    assert encoded.labels == counts
    found = np.array([IDS.get(label, -1) for label in encoded.labels], np.int32)
    return encoded.resolved(found, LABELS, {"no gold label": counts["-"]}, "file")


def expected_of(
    premises: list[str], hypotheses: list[str], labels: list[Any], max_len: int, rule: str
) -> EncodedPairs:
    kept = [i for i, label in enumerate(labels) if label in IDS]
    columns = ([column[i] for i in kept] for column in (premises, hypotheses))
    skipped = {"no gold label": labels.count("-")}
    ids = [IDS[labels[i]] for i in kept]
    corpus = Corpus(*columns, ids, tokenized=False, skipped=skipped, source="file")
    return encode_corpus(corpus, max_len, VOCAB, rule)


def assert_same(found: EncodedPairs, expected: EncodedPairs) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for name in ("skipped", "source", "label_names"):
        assert getattr(found, name) == getattr(expected, name)


def in_pieces(size: int, *columns: Any) -> Iterator[Columns]:
    rows = len(next(column for column in columns if column is not None))
    for start in range(0, rows, size):
        yield Columns(*(None if one is None else one.slice(start, size) for one in columns))


SETTINGS = {
    "max_len": st.integers(5, 20),
    "rule": st.sampled_from(["book", "ratio", "longest_first"]),
    "size": st.integers(1, 5),
}


@settings(max_examples=400)
@given(rows=st.lists(st.tuples(TEXT, TEXT, st.sampled_from(RAW)), max_size=8), **SETTINGS)
@example([('say "a', 'b" "c" x"', "neutral"), ('"', '""" "', "neutral")], 20, "book", 5)
@example([("”x", 'a"b “c" "', "neutral"), ('«"', "'' \"x", "neutral")], 20, "book", 1)
def test_ids_of_text(rows: list[tuple[str, str, str]], max_len: int, rule: str, size: int) -> None:
    premises, hypotheses, labels = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    )
    arrays = None, strings(premises), None, strings(hypotheses), strings(labels)
    encoded = columnar.encode_columns(in_pieces(size, *arrays), VOCAB, max_len, rule)
    assert_same(
        labels_of(labels, encoded), expected_of(premises, hypotheses, labels, max_len, rule)
    )


def test_ids_of_many_texts() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(NASTY, rng.integers(1, 15))) for _ in range(3000)]
    texts = [text for text in texts if text.strip()]
    vocab = Vocab(list(lower_tokens(texts, False)), 0, RESERVED_TOKENS)
    column = strings(texts)
    encoded = columnar.encode_columns(
        [Columns(None, column, None, column, None)], vocab, 64, "book"
    )
    corpus = Corpus(texts, texts, [-1] * len(texts), tokenized=False)
    found = encoded.resolved(None, LABELS, {}, "")
    assert encoded.labels is None
    assert_same(found, encode_corpus(corpus, 64, vocab, "book"))


@settings(max_examples=300)
@given(
    rows=st.lists(
        st.tuples(PARSE, PARSE, st.one_of(TEXT, st.just(" "), st.none()), TEXT), max_size=8
    ),
    parsed=st.sampled_from(["both", "premise", "without text"]),
    **SETTINGS,
)
@example([("()", "( )", "It's", "a")], "both", 20, "book", 1)
@example([("n/a", "( N/A )", "n/a", "N/A")], "without text", 20, "book", 1)
def test_ids_of_parses(
    rows: list[tuple[Any, ...]], parsed: str, max_len: int, rule: str, size: int
) -> None:
    parses, others, texts, other_texts = zip(*rows, strict=True) if rows else ((),) * 4
    arrays = [strings(column) for column in (parses, texts, others, other_texts)]
    if parsed == "without text":
        texts = other_texts = (None,) * len(rows)
        arrays[1] = arrays[3] = None
    premises = list(map(sentence_of, parses, texts))
    hypotheses = list(map(sentence_of, others, other_texts))
    if parsed == "premise":
        arrays[2], hypotheses = None, list(other_texts)
    codes = [i % 3 for i in range(len(rows))]
    arrays.append(pyarrow.array(codes, pyarrow.int64()))
    batches = in_pieces(size, *arrays)
    encoded = columnar.encode_columns(batches, VOCAB, max_len, rule, official=True)
    corpus = Corpus(premises, hypotheses, codes, tokenized=False)
    expected = encode_corpus(corpus, max_len, VOCAB, rule)
    if rows and not any(s.strip() for s in premises + hypotheses):
        with pytest.raises(NotSure):
            encoded.resolved(np.arange(3), LABELS, {}, "")
    else:
        order = np.array(list(encoded.labels or ()), np.int32)
        assert_same(encoded.resolved(order, LABELS, {}, ""), expected)


def test_ids_of_word_pieces() -> None:
    import_module("tokenizers")
    texts = ['A dog isn\'t "here".', "café (dogs)", "A dog isn't", "x"] * 3
    parses = ["( A ( dog . ) )", "", "( -LRB- a ) n't", "n/a"] * 3
    vocab: WordPieceVocab = train_word_pieces(texts, 80)
    sentences = list(map(sentence_of, parses, texts))
    corpus = Corpus(sentences, texts, [-1] * 12, tokenized=False)
    batches = in_pieces(5, strings(parses), strings(texts), None, strings(texts), None)
    found = columnar.encode_columns(batches, vocab, 16, "book", official=True)
    assert_same(found.resolved(None, LABELS, {}, ""), encode_corpus(corpus, 16, vocab, "book"))
    with pytest.raises(NotSure):
        blank = strings(["a", " "])
        columnar.encode_columns([Columns(None, blank, None, blank, None)], vocab, 16, "book")


@pytest.mark.parametrize("values", [["a", None], ["a", ""], ["a", "\u3000"]])
def test_missing_sentences_are_left_to_the_rows(values: list[Any]) -> None:
    whole = strings(["a", "b"])
    for columns in ((None, strings(values), None, whole), (None, whole, None, strings(values))):
        with pytest.raises(NotSure):
            columnar.encode_columns([Columns(*columns, whole)], VOCAB, 16, "book")


def rows_of(content: bytes, delimiter: str, quoted: bool) -> list[list[str]]:
    """What a reader of rows makes of it; ValueError where it has something to say."""
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="\n")
    if quoted:
        return [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    texts = (line.rstrip("\r\n") for line in lines)
    return [text.split(delimiter) for text in texts if text]


def read_rows(batches: list[arrays.Batch]) -> list[list[Any]]:
    return [
        list(row)
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]


@st.composite
def tables(draw: Any) -> tuple[bytes, str, bool]:
    """Bytes of a table, mostly such as one may meet; delimiter; whether it is quoted."""
    delimiter, quoted = draw(st.sampled_from("\t,;|")), draw(st.booleans())
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\n", "\r\n", "\n\n", "\r", "\r\r\n"]]))
    parts = st.sampled_from(['"', "a", "é", delimiter, "\n", "\r\n", " "])
    field = st.lists(parts, max_size=5).map("".join)
    odd = st.text(
        st.sampled_from(['"', "a", " ", "\x00", "\ufeff", "\u2028", "'", "\r"]), max_size=4
    )
    row = st.lists(st.one_of(field, st.just("x")), min_size=3, max_size=3)
    if draw(st.booleans()):
        row = st.lists(st.one_of(field, odd, st.just("x")), min_size=1, max_size=4)
    content = io.StringIO()
    for fields in draw(st.lists(row, max_size=6)):
        end = draw(st.sampled_from(ends))
        if quoted and draw(st.integers(0, 9)):
            rule = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
            csv.writer(content, delimiter=delimiter, lineterminator=end, quoting=rule).writerow(
                fields
            )
        else:
            content.write(delimiter.join(fields) + end)
    found = content.getvalue().encode()
    if draw(st.integers(0, 9)) == 0:
        found = found.replace(b"a", b"\xff", 1)
    return (found[:-1] if draw(st.booleans()) else found), delimiter, quoted


@settings(max_examples=800)
@given(
    table=tables(),
    piece=st.sampled_from([1, 10, 1 << 20]),
    on_error=st.sampled_from(["raise", "skip"]),
)
@example((b'a,b,"c\n', ",", True), 1, "skip")
@example((b'a,b,""""\n""\n"x\n\n""y",,"\r\n"', ",", True), 1, "skip")
@example((b"\xef\xbb\xbfa\tb\tc\n", "\t", False), 1, "skip")
def test_text_is_cut_as_row_by_row(
    table: tuple[bytes, str, bool], piece: int, on_error: str
) -> None:
    content, delimiter, quoted = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PIECE", piece)
        file = io.BytesIO(content)
        try:
            batches = [*arrays.text_batches(file, 3, [2, 0, 2], delimiter, quoted, on_error)]
        except NotSure:
            return
    rows = rows_of(content, delimiter, quoted)
    expected = [[row[2], row[0], row[2]] for row in rows if len(row) == 3]
    assert read_rows(batches) == expected
    malformed = len(rows) - len(expected)
    assert sum(batch.malformed for batch in batches) == malformed
    assert on_error == "skip" or not malformed


@pytest.mark.parametrize("piece", [1, 30, arrays.PIECE])
@pytest.mark.parametrize("quoted", [True, False])
def test_ordinary_tables_are_read(
    monkeypatch: pytest.MonkeyPatch, piece: int, quoted: bool
) -> None:
    monkeypatch.setattr(arrays, "PIECE", piece)
    rows = [["It's", "a, b" if quoted else "a b", "neutral"], ["é", "", "-"], ["x", " y ", "z"]] * 3
    if quoted:
        rows += [['say ""', "two\nlines\r\n", '"'], ["", '"', ""]]
    content = io.StringIO()
    if quoted:
        csv.writer(content, lineterminator="\r\n").writerows(rows)
    else:
        content.write("".join(",".join(row) + "\n" for row in rows))
    content.write("\nmal,formed\n")
    file = io.BytesIO(content.getvalue().encode())
    batches = list(arrays.text_batches(file, 3, [0, 1, 2], ",", quoted, "skip"))
    assert read_rows(batches) == rows
    assert sum(batch.malformed for batch in batches) == 1


@pytest.mark.parametrize(
    "content", [b'a"b,c\n', b'"a"b,c\n', b'"a,c\n', b"a\rb,c\n", b'a,"\0"\n', b"\xff,a\n"]
)
def test_odd_quoted_tables_are_left_to_the_rows(content: bytes) -> None:
    with pytest.raises(NotSure):
        list(arrays.text_batches(io.BytesIO(content), 2, [0, 1], ",", True, "skip"))


def test_long_records_are_left_to_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_LINE", 10)
    for content in (b'"aaaa\n\naaaaaaaa",b\n', b"x,y\n" + b'"a\n' * 9):
        with pytest.raises(NotSure):
            list(arrays.text_batches(io.BytesIO(content), 2, [0, 1], ",", True, "skip"))


def test_record_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "ROWS", 2)
    texts = pyarrow.array(["a", None, "é"], pyarrow.large_string())
    names = pyarrow.array(["x", "y", "x"]).dictionary_encode()
    numbers = pyarrow.array([0, None, 2], pyarrow.int8())
    batch = pyarrow.RecordBatch.from_arrays([texts, names, numbers], ["a", "b", "c"])
    found = [*arrays.record_batches([batch])]
    assert [len(one.columns[0]) for one in found] == [2, 1]
    assert {str(c.type) for one in found for c in one.columns} == {"string", "int64"}
    assert read_rows(found) == [["a", "x", 0], [None, "y", None], ["é", "x", 2]]
    half = pyarrow.Array.from_buffers(
        pyarrow.string(),
        1,
        [None, pyarrow.py_buffer(np.array([0, 3], np.int32)), pyarrow.py_buffer(b"\xed\xa0\x80")],
    )
    for column in (half, pyarrow.array([0.5]), pyarrow.array([True]), pyarrow.array([None])):
        with pytest.raises(NotSure):
            list(arrays.record_batches([pyarrow.RecordBatch.from_arrays([column], ["a"])]))


def test_without_pyarrow_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotSure):
        list(arrays.text_batches(io.BytesIO(), 2, [0, 1], ",", True, "skip"))
    with pytest.raises(NotSure):
        columnar.encode_columns([], VOCAB, 16, "book")


def test_a_vocabulary_without_special_tokens() -> None:
    with pytest.raises(DataError, match="'<cls>'"):
        columnar.encode_columns([], Vocab(["a"]), 16, "book")


class Cached:
    """A file with its ids cached, and how often they were made."""

    def __init__(self, folder: Path) -> None:
        self.file, self.runs = folder / "file.tsv", 0
        self.file.write_text("some text")
        corpus = Corpus(
            ["a dog"] * 50, ["b ."] * 50, [0, 1] * 25, tokenized=True, skipped={"malformed": 2}
        )
        self.pairs = encode_corpus(corpus, 16, VOCAB, "book")
        self.makes()

    def makes(self, *depends: Any, sources: list[Path] | None = None) -> bool:
        """Ask the cache; return whether it did not have it."""
        before, sources = self.runs, sources or [self.file]

        def make() -> EncodedPairs:
            self.runs += 1
            return self.pairs

        found = cached(sources, list(depends), make)
        assert found.source == ", ".join(map(str, sources))
        for name in (*ARRAYS, "label_names", "skipped"):
            np.testing.assert_array_equal(getattr(found, name), getattr(self.pairs, name))
        return self.runs > before

    @property
    def entry(self) -> Path:
        (entry,) = (self.file.parent / ".bertnli").iterdir()
        return entry


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "downloads"))
    (tmp_path / "data").mkdir()
    return Cached(tmp_path / "data")


def test_cache_is_used_until_something_changes(
    entry: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert entry.runs == 1 and not entry.makes()
    os.utime(entry.file, (1, 1))
    copy = entry.file.with_name("copy")
    copy.write_bytes(entry.file.read_bytes())
    assert not entry.makes() and not entry.makes(sources=[copy])
    monkeypatch.chdir(entry.file.parent)
    assert not entry.makes(sources=[Path(entry.file.name)])
    for depends in ((16,), (16, "ratio"), ("16",)):
        assert entry.makes(*depends) and not entry.makes(*depends)
    assert entry.makes(sources=[entry.file, copy]) and not entry.makes(sources=[copy, entry.file])
    stat = entry.file.stat()
    entry.file.write_text("other txt")  # as long, and as old
    os.utime(entry.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert entry.makes()
    assert not (entry.file.parent.parent / "downloads").exists()
    with pytest.raises(DataError, match="cannot be read"):
        entry.makes(sources=[Path("missing")])


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "meta.json"])
@pytest.mark.parametrize(
    "damage", ["short", "long", "empty", "other", "missing", "folder", "a bit", "a late bit"]
)
def test_a_damaged_entry_is_made_anew(entry: Cached, name: str, damage: str) -> None:
    path = entry.entry / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        changed = {"short": content[:-3], "long": content + b"123", "empty": b""}
        for which, place in (("a bit", len(content) // 2), ("a late bit", len(content) - 4)):
            changed[which] = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes(changed.get(damage, b"[" * len(content)))
    assert entry.makes()
    assert not entry.makes()
    assert path.read_bytes() == content


def test_a_file_whose_folder_cannot_be_written(entry: Cached) -> None:
    downloads = entry.file.parent.parent / "downloads"
    for child in entry.entry.iterdir():
        child.unlink()
    entry.entry.rmdir()
    (entry.file.parent / ".bertnli").rmdir()
    (entry.file.parent / ".bertnli").write_text("a file, where the folder would be")
    assert entry.makes()
    assert not entry.makes()
    assert len(list((downloads / "encoded").iterdir())) == 1
    (downloads / "encoded").rename(downloads / "moved")
    (downloads / "encoded").write_text("no folder either")
    assert entry.makes()
    assert entry.makes()


def test_two_processes_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    code = (
        "import sys; from pathlib import Path\n"
        "from bertnli.data.cache import cached; from bertnli.data.corpus import Corpus\n"
        "from bertnli.data.encode import encode_corpus\n"
        "from bertnli.text.vocab import RESERVED_TOKENS, Vocab\n"
        "sys.stdin.readline()\n"
        "vocab = Vocab(['a', 'dog'], 0, RESERVED_TOKENS)\n"
        "corpus = Corpus(['a dog a'] * 99, ['b'] * 99, [0] * 99, tokenized=True)\n"
        "for i in range(5, 15):\n"
        "    make = lambda: encode_corpus(corpus, i, vocab, 'book')\n"
        "    print(cached([Path(sys.argv[1])], [i], make).token_ids.sum())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [processes.Process(command, **pipes) for _ in range(2)]
    results = [process.finish("go\n") for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert results[0] == results[1]
    assert len(results[0][0].split()) == 10
    entries = list((tmp_path / ".bertnli").iterdir())
    assert len(entries) == 10
    assert all(len(list(entry.iterdir())) == len(ARRAYS) + 1 for entry in entries)
