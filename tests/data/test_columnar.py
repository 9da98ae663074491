"""Token ids of columns of text equal those of rows, and text is cut into the same rows."""

import csv
import io
from functools import partial
from importlib import import_module

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertnli.bert.labels import LABELS
from bertnli.data import direct
from bertnli.data.columnar import Columns, NotSure, encode_pieces
from bertnli.data.corpus import Corpus
from bertnli.data.encode import encode_corpus
from bertnli.data.formats import TextFormat
from bertnli.data.parses import sentence_of
from bertnli.text.tokenize import lower_tokens
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.text.wordpiece import train_word_pieces

WORDS = ["a", "dog", ".", "café", "i̇", "σ", "ss", "n't", "-lrb-", "``", "''", "'", "/", "\x7f"]
VOCAB = Vocab([*WORDS, *"bcxyz", "can", "not", "n/a"], 0, RESERVED_TOKENS)
ARRAYS = ("token_ids", "offsets", "premise_lens", "labels", "is_cut")

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


def strings(values):
    return pyarrow.array(values, pyarrow.string())


def pieces(size, *columns):
    rows = len(next(column for column in columns if column is not None))
    for start in range(0, rows, size):
        yield partial(Columns, *(None if c is None else c.slice(start, size) for c in columns))


def check(columns, sentences, labels, vocab, max_len, rule, size):
    """Compare the ids of columns, of which labels that are none of NLI's are dropped, with rows."""
    encoded = encode_pieces(pieces(size, *columns), vocab, max_len, rule, official=True)
    kept = range(len(sentences[0]))
    if labels is not None:
        ids = [LABELS.index(raw) if raw in LABELS else -1 for raw in encoded.labels or ()]
        kept = [i for i in kept if labels[i] in LABELS]
    rows = ([column[i] for i in kept] for column in sentences)
    classes = [-1 if labels is None else LABELS.index(labels[i]) for i in kept]
    corpus = Corpus(*rows, classes, tokenized=False)
    expected = encode_corpus(corpus, max_len, vocab, rule)
    pairs = encoded.resolved([] if labels is None else ids)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(pairs, name), getattr(expected, name), err_msg=name)
        assert getattr(pairs, name).dtype == getattr(expected, name).dtype


SETTINGS = {
    "max_len": st.integers(5, 20),
    "rule": st.sampled_from(["book", "ratio", "longest_first"]),
    "size": st.integers(1, 5),
}


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, st.sampled_from([*LABELS, "-"])), min_size=1, max_size=8),
    **SETTINGS,
)
@example([('say "a', 'b" "c" x"', "neutral"), ('"', '""" "', "neutral")], 20, "book", 5)
@example([("”x", 'a"b “c" "', "neutral"), ('«"', "'' \"x", "neutral")], 20, "book", 1)
def test_ids_of_text(rows, max_len, rule, size):
    premises, hypotheses, labels = (list(column) for column in zip(*rows, strict=True))
    columns = None, strings(premises), None, strings(hypotheses), strings(labels)
    try:
        check(columns, (premises, hypotheses), labels, VOCAB, max_len, rule, size)
    except NotSure:  # all or the last of the sentences have no tokens
        assert any(not next(iter(lower_tokens([text], False))) for text in premises)


def test_ids_of_many_texts():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(NASTY, rng.integers(1, 15))) for _ in range(3000)]
    texts = [text for text in texts if text.strip()]
    vocab = Vocab(list(lower_tokens(texts, False)), 0, RESERVED_TOKENS)
    columns = None, strings(texts), None, strings(texts), None
    check(columns, (texts, texts), None, vocab, 64, "book", 10_000)


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(PARSE, PARSE, st.one_of(TEXT, st.just(" "), st.none()), TEXT), max_size=8
    ),
    parsed=st.sampled_from(["both", "premise", "without text"]),
    **SETTINGS,
)
@example([("()", "( )", "It's", "a")], "both", 20, "book", 1)
@example([("n/a", "( N/A )", "n/a", "N/A")], "without text", 20, "book", 1)
def test_ids_of_parses(rows, parsed, max_len, rule, size):
    rows = [*rows, ("( a )", "b", "a", "b")]  # the last sentence must not be empty
    parses, others, texts, other_texts = zip(*rows, strict=True)
    columns = [strings(column) for column in (parses, texts, others, other_texts)]
    if parsed == "without text":
        texts = other_texts = (None,) * len(rows)
        columns[1] = columns[3] = None
    premises = list(map(sentence_of, parses, texts))
    hypotheses = list(map(sentence_of, others, other_texts))
    if parsed == "premise":
        columns[2], hypotheses = None, list(other_texts)
    check((*columns, None), (premises, hypotheses), None, VOCAB, max_len, rule, size)


def test_ids_of_word_pieces():
    import_module("tokenizers")
    texts = ['A dog isn\'t "here".', "café (dogs)", "A dog isn't", "x"] * 3
    parses = ["( A ( dog . ) )", "", "( -LRB- a ) n't", "n/a"] * 3
    sentences = list(map(sentence_of, parses, texts))
    columns = strings(parses), strings(texts), None, strings(texts), None
    check(columns, (sentences, texts), None, train_word_pieces(texts, 80), 16, "book", 5)


@pytest.mark.parametrize("values", [["a", None], ["a", ""], ["a", "\u3000"]])
def test_missing_sentences_are_left_to_the_rows(values):
    column = strings(["a", "b"])
    for columns in ((None, strings(values), None, column), (None, column, None, strings(values))):
        with pytest.raises(NotSure):
            encode_pieces(pieces(2, *columns, column), VOCAB, 16, "book")


@st.composite
def tables(draw):
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
    text = content.getvalue().encode()
    if draw(st.integers(0, 9)) == 0:
        text = text.replace(b"a", b"\xff", 1)
    return (text[:-1] if draw(st.booleans()) else text), delimiter, quoted


@settings(max_examples=200)
@given(
    table=tables(),
    piece=st.sampled_from([1, 10, 1 << 20]),
    on_error=st.sampled_from(["raise", "skip"]),
)
@example((b'a,b,"c\n', ",", True), 1, "skip")
@example((b'a,b,""""\n""\n"x\n\n""y",,"\r\n"', ",", True), 1, "skip")
@example((b"\xef\xbb\xbfa\tb\tc\n", "\t", False), 1, "skip")
def test_text_is_cut_as_row_by_row(table, piece, on_error):
    content, delimiter, quoted = table
    try:
        columns = cut(content, delimiter, quoted, piece, on_error)
    except NotSure:
        return
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="\n")
    if quoted:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    else:
        rows = [line.rstrip("\r\n").split(delimiter) for line in lines if line.rstrip("\r\n")]
    expected = [[row[2], row[0]] for row in rows if len(row) == 3]
    assert [
        [*row] for c in columns for row in zip(c[0].to_pylist(), c[1].to_pylist(), strict=True)
    ] == expected
    malformed = len(rows) - len(expected)
    assert sum(c.malformed for c in columns) == malformed
    assert on_error == "skip" or not malformed


def cut(content, delimiter, quoted, piece=1 << 20, on_error="skip"):
    """The third and the first column of a text."""
    text = TextFormat("csv", delimiter, quoted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "PIECE", piece)
        split = direct._records if quoted else direct._lines
        keys = ["2", "0", None, None, None]
        return [
            direct._text_columns(part, 3, keys, text, on_error)
            for part in split(io.BytesIO(content), delimiter)
        ]


@pytest.mark.parametrize("piece", [1, 30, direct.PIECE])
def test_ordinary_tables_are_not_left_to_the_rows(piece):
    rows = [["It's", "a, b", "neutral"], ["é", "", "-"], ['say ""', "two\nlines\r\n", '"']] * 3
    content = io.StringIO()
    csv.writer(content, lineterminator="\r\n").writerows(rows)
    columns = cut((content.getvalue() + "\nmal,formed\n").encode(), ",", True, piece)
    assert [value for c in columns for value in c[0].to_pylist()] == [row[2] for row in rows]
    assert sum(c.malformed for c in columns) == 1


@pytest.mark.parametrize(
    "content",
    [b'a"b,c,d\n', b'"a"b,c,d\n', b'"a,c,d\n', b"a\rb,c,d\n", b'a,d,"\0"\n', b"\xff,a,b\n"],
)
def test_odd_quoted_tables_are_left_to_the_rows(content):
    with pytest.raises(NotSure):
        cut(content, ",", True)
