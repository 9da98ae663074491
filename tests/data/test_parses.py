"""Files of SNLI's and MultiNLI's columns whose parses are there, empty or missing, row by row."""

import json
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.data import direct
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.read import pairs
from bertnli.errors import DataError
from bertnli.text.subwords import train_word_pieces
from bertnli.text.tokenize import Tokens, treebank_tokenize
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

PARSES = ("sentence1_binary_parse", "sentence2_binary_parse")
#: (text, its binary parse); the tokenizer of raw text cuts two of the parses differently.
KNOWN = [
    ("A dog runs.", "( ( A dog ) ( runs . ) )"),
    ("It's so (they say).", "( It ( 's ( so ( -LRB- ( they ( say ( -RRB- . ) ) ) ) ) ) )"),
    ('He said "no".', "( He ( said ( `` ( no ( '' . ) ) ) ) )"),
    ("Ein Bär schläft!", "( Ein ( Bär ( schläft ! ) ) )"),
    ("n/a", "n/a"),
]
EMPTY = ["", " ", "( )", "(  ( ) )", "n/a", "N/A", "NaN", "None"]
VOCAB = Vocab(["a", "dog", "runs", ".", "it", "'s", "-lrb-", "``", "''", "n/a"], 0, RESERVED_TOKENS)
HEADER = ["gold_label", *PARSES, "sentence1", "sentence2", "pairID"]


@st.composite
def cells(draw):
    """Draw the text and the parse of a sentence, and what must be read from them."""
    text, parse = draw(st.sampled_from(KNOWN))
    kind = draw(st.sampled_from(["both", "no parse", "no text", "neither"]))
    if kind == "no parse":
        return {"text": text, "parse": draw(st.sampled_from([*EMPTY, None])), "is": text}
    if kind == "neither":
        return {"text": "", "parse": "", "is": ""}
    words = re.sub(r"\s+", " ", re.sub("[()]", "", parse)).strip()
    return {"text": text if kind == "both" else "", "parse": parse, "is": words}


ROWS = st.lists(
    st.tuples(st.sampled_from([*bertnli.LABELS, "-"]), cells(), cells()), min_size=1, max_size=6
)


def write(path, rows, layout="snli"):
    """Write rows; None is an empty field of a table, and a null or a missing key in JSON lines."""
    header = [*HEADER, "genre"] if layout == "multinli" else HEADER
    lines = [] if path.suffix == ".jsonl" else ["\t".join(header)]
    for i, (label, *both) in enumerate(rows):
        values = [label, *(cell["parse"] for cell in both), *(cell["text"] for cell in both)]
        row = dict(zip(header, [*values, str(i), "fiction"], strict=False))
        if path.suffix == ".jsonl":
            row = {key: value for key, value in row.items() if value is not None or not i % 2}
            lines.append(json.dumps(row))
        else:
            lines.append("\t".join("" if value is None else value for value in row.values()))
    path.write_text("".join(line + "\n" for line in lines), "utf-8", newline="")


def encoded(rows):
    """Compute the token ids of rows from `Vocab` and the tokenizer alone, as the expected value."""
    result = []
    for row in rows:
        result.append(VOCAB["<cls>"])
        for cell in row[1:]:
            raw = cell["is"] == cell["text"]
            tokens = treebank_tokenize(cell["is"]) if raw else cell["is"].split()
            result += [VOCAB[token.lower()] for token in tokens] + [VOCAB["<sep>"]]
    return result


@settings(max_examples=25)
@given(rows=ROWS, layout=st.sampled_from(["snli", "multinli"]), piece=st.sampled_from([1, 1 << 20]))
@example([("neutral", *[{"text": "A dog runs.", "parse": "", "is": "A dog runs."}] * 2)], "snli", 1)
def test_each_reader_takes_the_parse_where_there_is_one(tmp_path_factory, rows, layout, piece):
    folder = tmp_path_factory.mktemp("rows")
    labelled = [row for row in rows if row[0] != "-"]
    expected = [[row[i]["is"] for row in labelled] for i in (1, 2)]
    for name in ("snli_1.0_dev.txt", "snli_1.0_dev.jsonl"):
        path = folder / name
        write(path, rows, layout)

        def at_once(path=path):
            return PairDataset.read(path, None, 64, VOCAB, cache=False, verbose=False)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(direct, "PIECE", piece)
            if labelled and not any(map(any, expected)):
                for read in (bertnli.read, at_once):
                    refused(DataError, r"'sentence1_binary_.* empty in all", read, path)
            else:
                corpus = bertnli.read(path)
                assert [*corpus[:2]] == expected
                dataset = PairDataset(corpus, 64, VOCAB, verbose=False)
                assert dataset.token_ids.tolist() == encoded(labelled)
                assert at_once().token_ids.tolist() == encoded(labelled)
        if any(not any(cell["is"] for cell in row[1:]) for row in rows):
            refused(DataError, "both sentences are empty", list, pairs(path))
        else:
            corpus = bertnli.Corpus.from_pairs(pairs(path))
            assert [*corpus[:2]] == [[row[i]["is"] for row in rows] for i in (1, 2)]
            dataset = PairDataset(corpus, 64, VOCAB, verbose=False)
            assert dataset.token_ids.tolist() == encoded(rows)


@pytest.mark.parametrize("missing", [PARSES, PARSES[:1], PARSES[1:]])
def test_the_columns_of_parses_may_be_missing(tmp_path, missing):
    path = tmp_path / "snli_1.0_dev.txt"
    row = {"gold_label": "neutral", "sentence1": "A dog's bed.", "sentence2": "A bed."}
    row |= {"pairID": "7", **dict.fromkeys({*PARSES} - {*missing}, "( A ( bed . ) )")}
    columns = [name for name in HEADER if name in row]
    path.write_text("\t".join(columns) + "\n" + "\t".join(row[c] for c in columns) + "\n")
    first, second = (
        "A bed ." if p in row else row[s] for p, s in zip(PARSES, HEADER[3:5], strict=True)
    )
    for corpus in (bertnli.read(tmp_path, "dev"), bertnli.read(path)):
        assert (corpus.premises, corpus.hypotheses) == ([first], [second])
    dataset = PairDataset.read(tmp_path, "dev", 64, VOCAB, cache=False, verbose=False)
    assert dataset.digest() == PairDataset(corpus, 64, VOCAB, verbose=False).digest()


def test_named_columns_are_read_as_they_are(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, [("neutral", *[{"text": "A dog.", "parse": "( A ( dog . ) )"}] * 2)])
    corpus = bertnli.read(path, premise="sentence1")
    assert (corpus.premises, corpus.hypotheses) == (["A dog."], ["A dog ."])
    assert list(pairs(path, hypothesis="sentence2")) == [("A dog .", "A dog.")]


def test_a_corpus_may_have_both_kinds():
    premises, hypotheses = [Tokens("( -LRB-"), "( a"], ["It's", Tokens("It 's")]
    mixed = bertnli.Corpus(premises, hypotheses, [0, 0], tokenized=False)
    vocab = build_vocab(mixed, 0)
    data = PairDataset(mixed, 16, vocab, verbose=False)
    words = ["<cls>", "(", "-lrb-", "<sep>", "it", "'s", "<sep>"]
    assert vocab.to_tokens(data.token_ids[:7]) == words
    pieces = train_word_pieces(["(a it's"] * 3, 40)
    corpus = PairDataset(mixed, 16, pieces, verbose=False)
    assert pieces.to_tokens(corpus.token_ids[:4])[1:3] == ["(", "("]


@pytest.mark.parametrize("missing", [None, float("nan"), "", "nan", "( )"])
def test_json_may_write_nothing_in_several_ways(tmp_path, missing):
    row = {"gold_label": "neutral", **dict.fromkeys(PARSES, missing)}
    path = tmp_path / "snli_1.0_dev.jsonl"
    path.write_text(json.dumps({**row, "sentence1": "A dog.", "sentence2": "B."}) + "\n")
    corpus = bertnli.read(path)
    assert tuple(corpus) == (["A dog."], ["B."], [2]) and not corpus.tokenized
    path.write_text(json.dumps({**row, PARSES[0]: 7, "sentence1": "A", "sentence2": "B"}))
    refused(DataError, "line 1: the premise is 7; a sentence is expected", bertnli.read, path)


def test_word_pieces_are_cut_from_parses_and_cached_apart(tmp_path, fixtures):
    """Two vocabularies of the same pieces do not share a place in the cache."""
    corpus = bertnli.read(fixtures / "snli_1.0", "test")
    path = tmp_path / "snli_1.0_test.txt"
    path.write_bytes((fixtures / "snli_1.0" / path.name).read_bytes())
    pieces = train_word_pieces([*corpus.premises, *corpus.hypotheses], 120)
    cased = type(pieces).from_pieces(pieces.idx_to_token, lowercase=False)
    for vocab in (pieces, cased):
        expected = PairDataset(corpus, 64, vocab, verbose=False)
        for _ in range(2):
            dataset = PairDataset.read(tmp_path, "test", 64, vocab, verbose=False)
            np.testing.assert_array_equal(dataset.token_ids, expected.token_ids)
