"""`PairDataset.read` goes from columns of text to ids, and gives the ids of the rows."""

import numpy as np
import pyarrow
import pytest
from corpus_files import csv_of, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertnli.bert.labels import LABELS
from bertnli.data import direct
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.errors import DataError
from bertnli.text.subwords import train_word_pieces
from bertnli.text.tokenize import lower_tokens
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

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
TEXTS = ["gold_label", "sentence1", "sentence2"]
PARSES = ["sentence1_binary_parse", "sentence2_binary_parse"]
HOW = {
    "max_len": st.integers(5, 20),
    "rule": st.sampled_from(["book", "ratio", "longest_first"]),
    "size": st.integers(1, 5),
}


def outcome(make, *arguments, **options):
    """Call a function; return its result, or the message of its DataError."""
    try:
        return make(*arguments, **options)
    except DataError as error:
        return str(error)


def check(columns, rows, vocab=VOCAB, max_len=64, rule="book", size=10_000):
    """Compare the ids of a table, in batches of `size` rows, with those of its corpus."""
    values = [pyarrow.array(column, pyarrow.string()) for column in zip(*rows, strict=True)]
    table = pyarrow.table(dict(zip(columns, values, strict=True)))
    table = pyarrow.Table.from_batches(table.to_batches(size))
    options = {"max_len": max_len, "vocab": vocab, "truncation": rule, "verbose": False}
    fast, corpus = outcome(PairDataset.read, table, **options), outcome(read, table)
    if isinstance(corpus, str):
        assert fast == corpus
        return
    slow = PairDataset(corpus, **options)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=name)
        assert getattr(fast, name).dtype == getattr(slow, name).dtype


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(st.sampled_from([*LABELS, "-"]), TEXT, TEXT), min_size=1, max_size=8),
    **HOW,
)
@example([("neutral", 'say "a', 'b" "c" x"'), ("neutral", '"', '""" "')], 20, "book", 5)
@example([("neutral", "”x", 'a"b “c" "'), ("neutral", '«"', "'' \"x")], 20, "book", 1)
def test_ids_of_text(rows, max_len, rule, size):
    check(TEXTS, rows, VOCAB, max_len, rule, size)


def test_ids_of_many_texts():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(NASTY, rng.integers(1, 15))) for _ in range(1500)]
    texts = [text for text in texts if text.strip()]
    vocab = Vocab(list(lower_tokens(texts, False)), 0, RESERVED_TOKENS)
    check(TEXTS, [("neutral", text, text[::-1]) for text in texts], vocab)


@settings(max_examples=100)
@given(
    rows=st.lists(
        st.tuples(PARSE, PARSE, st.one_of(TEXT, st.just(" "), st.none()), TEXT), max_size=8
    ),
    width=st.sampled_from([3, 4, 5]),
    **HOW,
)
@example([("()", "( )", "It's", "a")], 5, 20, "book", 1)
@example([("n/a", "( N/A )", "n/a", "N/A")], 3, 20, "book", 1)
def test_ids_of_parses(rows, width, max_len, rule, size):
    """Tables have both columns of parses, and no, one or both columns of text."""
    columns = ["gold_label", *PARSES, *TEXTS[1:]][:width]
    rows = [("neutral", *row)[: len(columns)] for row in [*rows, ("( a )", "b", "a", "b")]]
    check(columns, rows, VOCAB, max_len, rule, size)


def test_ids_of_word_pieces():
    texts = ['A dog isn\'t "here".', "café (dogs)", "A dog isn't", "x"] * 3
    parses = ["( A ( dog . ) )", "", "( -LRB- a ) n't", "n/a"] * 3
    rows = [("neutral", *row) for row in zip(parses, texts, texts, strict=True)]
    check(["gold_label", PARSES[0], *TEXTS[1:]], rows, train_word_pieces(texts, 80), 16, size=5)


@pytest.mark.parametrize("piece", [1, 30, direct.PIECE])
def test_an_ordinary_table_takes_the_fast_way(tmp_path, monkeypatch, piece):
    rows = [
        ["It's", "a, b", "neutral"],
        ["é", "b", "-"],
        ['say ""', "two\nlines\r\n", "entailment"],
    ]
    path = write(tmp_path / "t.csv", csv_of(rows * 3) + "\nmal,formed\n")
    slow = PairDataset(read(path, on_error="skip"), 16, VOCAB, verbose=False)
    monkeypatch.setattr(direct, "PIECE", piece)
    monkeypatch.setattr(direct, "encode_corpus", None)  # the rows' way
    options = {"on_error": "skip", "cache": False, "verbose": False}
    fast = PairDataset.read(path, None, 16, VOCAB, **options)
    assert fast.digest() == slow.digest() and fast.skipped == slow.skipped
