"""Tokenization, vocabulary, pairs."""

import math
import re
import time
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from refusals import refused
from tokenizers import Tokenizer, models, pre_tokenizers

from bertnli.bert.labels import LABELS, label_permutation
from bertnli.errors import ConfigError, DataError
from bertnli.text.pairs import check_truncation, truncated_lengths
from bertnli.text.tokenize import BRACKETS, treebank_tokenize
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

# Raw text, and its tokens as the Penn Treebank's guidelines cut it.
TREEBANK = [
    ("", ""),
    ("A dog runs.", "A dog runs ."),
    ("Wait, what?!", "Wait , what ? !"),
    ("I can't go.", "I ca n't go ."),
    ("They won't; we don't.", "They wo n't ; we do n't ."),
    ("You cannot win.", "You can not win ."),
    ("Gonna rain, gotta run.", "Gon na rain , got ta run ."),
    ("It's Anna's.", "It 's Anna 's ."),
    ("I'm sure he'd say we've, they'll, you're", "I 'm sure he 'd say we 've , they 'll , you 're"),
    ("I'd've", "I 'd 've"),
    ("music of the 80's", "music of the 80 's"),
    ('He said "yes" twice.', "He said `` yes '' twice ."),
    ('"No," she said.', "`` No , '' she said ."),
    ('("quoted")', "-LRB- `` quoted '' -RRB-"),
    ("it’s curly", "it 's curly"),
    ("a 'single' quote", "a ` single ' quote"),
    ("(round) [square] {curly}", "-LRB- round -RRB- -LSB- square -RSB- -LCB- curly -RCB-"),
    ("a well-known T-shirt", "a well-known T-shirt"),
    ("Hmm... well", "Hmm ... well"),
    ("Dr. Smith and Mrs. Jones vs. St. Mary", "Dr. Smith and Mrs. Jones vs. St. Mary"),
    ("in the U.S. Navy", "in the U.S. Navy"),
    ("at 5 p.m. today", "at 5 p.m. today"),
    ("costs $3.50, or 20%", "costs $ 3.50 , or 20 %"),
    ("1,000 at 10:30", "1,000 at 10:30"),
    ("he/she and AT&T", "he/she and AT&T"),
    ("# 1 & # 2", "# 1 & # 2"),
    ("the 25th, 3D, 2-3 times", "the 25th , 3D , 2-3 times"),
    ("see https://example.org/a?b=c.", "see https://example.org/a?b=c ."),
    ("mail me@example.org!", "mail me@example.org !"),
    ("fun 😀!", "fun 😀 !"),
]
NO_SURROGATES = st.characters(exclude_categories=["Cs"])


@pytest.mark.parametrize(("text", "tokens"), TREEBANK, ids=[text for text, _ in TREEBANK])
def test_treebank(text, tokens):
    assert treebank_tokenize(text) == tokens.split()


def plain(text):
    """Remove white space from a text, and write every quotation mark one way."""
    return "".join(re.sub(r"``|''|[\"“”„«»`'‘’]", "'", text).split())


@example("3'\"")
@given(st.text(NO_SURROGATES, max_size=60) | st.text(" ab.,'\"-()n't$3:/&", max_size=40))
def test_treebank_loses_nothing(text):
    bracket_of = {name: bracket for bracket, name in BRACKETS.items()}
    tokens = treebank_tokenize(text)
    assert "".join(plain(bracket_of.get(token, token)) for token in tokens) == plain(text)
    assert all(token and not any(map(str.isspace, token)) for token in tokens)


@pytest.mark.parametrize("word", ["he", "x" * 9000, ""])
@pytest.mark.parametrize("ending", ["'s", "'LL", "n't", "+"])
def test_tokenization_takes_linear_time(word, ending):
    """In quadratic time these took a minute each."""
    start = time.process_time()
    tokens = treebank_tokenize(word + ending * 20_000)
    assert len(tokens) >= 19_999 and {*tokens[2:]} == {ending}
    assert time.process_time() - start < 10  # a fiftieth of it is enough


def test_vocab_is_the_books():
    lines = [["b", "a", "b"], ["c", "b", "a"]]
    vocab = Vocab(lines, min_freq=2, reserved_tokens=RESERVED_TOKENS)
    assert vocab.idx_to_token == sorted(["a", "b", "<unk>", *RESERVED_TOKENS])
    assert vocab.token_freqs == [("b", 3), ("a", 2), ("c", 1)]
    assert vocab[["b", "c"]] == [vocab["b"], vocab.unk]
    assert vocab.to_tokens(vocab["a"]) == "a"
    assert vocab.to_tokens([0, 1]) == vocab.idx_to_token[:2]
    assert len(Vocab()) == 1
    with pytest.raises(DataError, match="'<unk>'"):
        Vocab.from_list(["a"])["b"]


@given(st.lists(st.text(NO_SURROGATES), unique=True))
def test_vocab_files_round_trip(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    Vocab.from_list(tokens).save(path)
    vocab = Vocab.load(path)
    assert vocab.idx_to_token == tokens
    assert [vocab.token_to_idx[token] for token in tokens] == list(range(len(tokens)))


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '["a", "a"]', '["a", 1]', '[["a"]]'])
def test_vocab_refuses(tmp_path, text):
    path = tmp_path / "vocab.json"
    path.write_text(text)
    refused(DataError, r"vocab\.json", Vocab.load, path)


def book_loop(len_a, len_b, max_tokens):
    while len_a + len_b > max_tokens:
        if len_a > len_b:
            len_a -= 1
        else:
            len_b -= 1
    return len_a, len_b


@given(st.integers(0, 200), st.integers(0, 200), st.integers(2, 150))
def test_book_truncation_is_the_books_loop(len_a, len_b, max_tokens):
    assert truncated_lengths(len_a, len_b, max_tokens) == book_loop(len_a, len_b, max_tokens)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 200))
def test_the_ratio_of_the_lengths_is_kept_to_the_nearest_token(a, b, most):
    expected = (a, b)
    if a + b > most:
        nearest = math.floor(Fraction(most * a, a + b) + Fraction(1, 2))  # a half to the premise
        first = min(max(nearest, 1), most - 1)
        expected = (first, most - first)
    assert truncated_lengths(a, b, most, "ratio") == expected


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 40))
def test_longest_first_is_the_rule_of_tokenizers(a, b, room):
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(room, strategy="longest_first")
    ids = tokenizer.encode(" ".join("a" * a), " ".join("b" * b)).ids
    assert truncated_lengths(a, b, room, "longest_first") == (ids.count(0), ids.count(1))


def test_truncation_refuses():
    check_truncation(5, "ratio", 3)
    wrong = (
        (4, "book", 3, "max_len=4"),
        (5, "book", 4, "at least 6"),
        (128, "longest", 3, "'longest'"),
    )
    for *arguments, message in wrong:
        refused(ConfigError, message, check_truncation, *arguments)


def test_label_order():
    assert LABELS == ("entailment", "contradiction", "neutral")
    labels = ["CONTRADICTION", "neutral", "entailment"]
    assert label_permutation(labels, LABELS).tolist() == [2, 0, 1]
    for other in (["yes", "no", "neutral"], ["entailment"] * 3, ["entailment", "neutral"]):
        refused(DataError, "are not the labels", label_permutation, other, LABELS)
