"""Files of SNLI's and MultiNLI's columns whose parses are there, empty or missing, row by row."""

import json
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bertnli
from bertnli.data import direct
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.parses import sentence_of
from bertnli.data.read import pairs
from bertnli.errors import DataError
from bertnli.text.tokenize import Tokens, treebank_tokenize
from bertnli.text.vocab import RESERVED_TOKENS, Vocab
from bertnli.text.wordpiece import train_word_pieces

PARSES = ("sentence1_binary_parse", "sentence2_binary_parse")
SENTENCES = ("sentence1", "sentence2")
#: (text, its binary parse): of two the tokenizer of raw text would cut the parse's words otherwise.
KNOWN = [
    ("A dog runs.", "( ( A dog ) ( runs . ) )"),
    ("It's so (they say).", "( It ( 's ( so ( -LRB- ( they ( say ( -RRB- . ) ) ) ) ) ) )"),
    ('He said "no".', "( He ( said ( `` ( no ( '' . ) ) ) ) )"),
    ("Ein Bär schläft!", "( Ein ( Bär ( schläft ! ) ) )"),
    ("n/a", "n/a"),
]
EMPTY = ["", " ", "( )", "(  ( ) )", "n/a", "N/A", "NaN", "None"]
VOCAB = Vocab(["a", "dog", "runs", ".", "it", "'s", "-lrb-", "``", "''", "n/a"], 0, RESERVED_TOKENS)
HEADER = ["gold_label", *PARSES, *SENTENCES, "pairID"]


@st.composite
def cells(draw):
    """Text and parse of a sentence, as a row may have them, and what must be read."""
    text, parse = draw(st.sampled_from(KNOWN))
    kind = draw(st.sampled_from(["both", "no parse", "no text", "neither"]))
    if kind == "no parse":
        return {"text": text, "parse": draw(st.sampled_from([*EMPTY, None])), "is": text}
    words = re.sub(r"\s+", " ", re.sub("[()]", "", parse)).strip()
    if kind == "neither":
        return {"text": "", "parse": "", "is": ""}
    return {"text": text if kind == "both" else "", "parse": parse, "is": words}


ROWS = st.lists(
    st.tuples(st.sampled_from([*bertnli.LABELS, "-"]), cells(), cells()), min_size=1, max_size=6
)


def write(path, rows, layout):
    """Write rows; what is None is an empty field of a table, and a null or no key in JSON lines."""
    header = [*HEADER, "genre"] if layout == "multinli" else HEADER
    lines = [] if path.suffix == ".jsonl" else ["\t".join(header)]
    for i, (label, *both) in enumerate(rows):
        cells = [label, *(cell["parse"] for cell in both), *(cell["text"] for cell in both), str(i)]
        row = dict(zip(header, [*cells, "fiction"], strict=False))
        if path.suffix == ".jsonl":
            if i % 2:
                row = {key: value for key, value in row.items() if value is not None}
            lines.append(json.dumps(row))
        else:
            lines.append("\t".join("" if value is None else value for value in row.values()))
    path.write_text("".join(line + "\n" for line in lines), "utf-8", newline="")


def ids_of(cell):
    """What must come out of a sentence, without any function of the readers."""
    raw = cell["is"] == cell["text"]
    tokens = treebank_tokenize(cell["is"]) if raw else cell["is"].split(" ") if cell["is"] else []
    return [VOCAB[token.lower()] for token in tokens]


def encoded(rows):
    cls, sep = VOCAB["<cls>"], VOCAB["<sep>"]
    corpus: list[int] = []
    for _, premise, hypothesis in rows:
        corpus += [cls, *ids_of(premise), sep, *ids_of(hypothesis), sep]
    return corpus


@settings(max_examples=40)
@given(rows=ROWS, layout=st.sampled_from(["snli", "multinli"]), piece=st.sampled_from([1, 1 << 20]))
@example([("neutral", *[{"text": "A dog runs.", "parse": "", "is": "A dog runs."}] * 2)], "snli", 1)
def test_each_reader_takes_the_parse_where_there_is_one(tmp_path_factory, rows, layout, piece):
    folder = tmp_path_factory.mktemp("rows")
    labelled = [row for row in rows if row[0] != "-"]
    expected = [[row[i]["is"] for row in labelled] for i in (1, 2)]
    all_empty = bool(labelled) and not any(map(any, expected))
    for name in ("snli_1.0_dev.txt", "snli_1.0_dev.jsonl"):
        path = folder / name
        write(path, rows, layout)
        readers = [lambda: bertnli.read(folder, "dev"), lambda path=path: bertnli.read(path)]

        def at_once():
            return PairDataset.read(folder, "dev", 64, VOCAB, cache=False, verbose=False)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(direct, "PIECE", piece)
            if all_empty:
                for read in (*readers, at_once):
                    with pytest.raises(DataError, match=r"'sentence1_binary_.* empty in all"):
                        read()
            else:
                for corpus in (read() for read in readers):
                    assert [*corpus[:2]] == expected
                    dataset = PairDataset(corpus, 64, VOCAB, verbose=False)
                    assert dataset.token_ids.tolist() == encoded(labelled)
                assert at_once().token_ids.tolist() == encoded(labelled)
        answered = [row for row in rows if any(cell["is"] for cell in row[1:])]
        if len(answered) < len(rows):
            with pytest.raises(DataError, match="both sentences are empty"):
                list(pairs(path))
        else:
            corpus = bertnli.Corpus.from_pairs(pairs(path))
            assert list(zip(*corpus[:2], strict=True)) == [
                tuple(cell["is"] for cell in row[1:]) for row in rows
            ]
            dataset = PairDataset(corpus, 64, VOCAB, verbose=False)
            assert dataset.token_ids.tolist() == encoded(rows)
        path.unlink()


def test_the_columns_of_parses_may_be_missing(tmp_path):
    path = tmp_path / "snli_1.0_dev.txt"
    row = {"gold_label": "neutral", "sentence1": "A dog's bed.", "sentence2": "A bed."}
    for missing in (PARSES, PARSES[:1], PARSES[1:]):
        columns = [name for name in HEADER if name not in missing]
        values = {**dict.fromkeys(PARSES, "( A ( bed . ) )"), **row, "pairID": "7"}
        path.write_text("\t".join(columns) + "\n" + "\t".join(values[c] for c in columns) + "\n")
        first = "A bed ." if PARSES[0] in columns else "A dog's bed."
        second = "A bed ." if PARSES[1] in columns else "A bed."
        for corpus in (bertnli.read(tmp_path, "dev"), bertnli.read(path)):
            assert (corpus.premises, corpus.hypotheses) == ([first], [second])
        dataset = PairDataset.read(tmp_path, "dev", 64, VOCAB, cache=False, verbose=False)
        expected = PairDataset(corpus, 64, VOCAB, verbose=False)
        np.testing.assert_array_equal(dataset.token_ids, expected.token_ids)


def test_named_columns_are_read_as_they_are(tmp_path):
    path = tmp_path / "t.tsv"
    write(path, [("neutral", *[{"text": "A dog.", "parse": "( A ( dog . ) )"}] * 2)], "snli")
    corpus = bertnli.read(path, premise="sentence1")
    assert (corpus.premises, corpus.hypotheses) == (["A dog."], ["A dog ."])
    assert list(pairs(path, hypothesis="sentence2")) == [("A dog .", "A dog.")]


def test_a_corpus_may_have_both_kinds():
    mixed = bertnli.Corpus([Tokens("( -LRB-"), "( a"], ["It's", Tokens("It 's")], [0, 0],
                           tokenized=False)  # fmt: skip
    vocab = build_vocab(mixed, 0)
    assert {"(", "-lrb-", "'s"} <= {*vocab.idx_to_token}
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
    for corpus in (bertnli.read(tmp_path, "dev"), bertnli.read(path)):
        assert tuple(corpus) == (["A dog."], ["B."], [2]) and not corpus.tokenized
    path.write_text(json.dumps({**row, PARSES[0]: 7, "sentence1": "A", "sentence2": "B"}))
    with pytest.raises(DataError, match="line 1: the premise is 7; a sentence is expected"):
        bertnli.read(tmp_path, "dev")


def test_word_pieces_do_not_go_the_fast_way(tmp_path, fixtures):
    """Nor do two vocabularies of the same pieces share a place in the cache."""
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


def test_a_placeholder_that_is_the_sentence_stays():
    for text, parse in (("n/a", "n/a"), ("", "n/a"), (None, "( n/a )")):
        corpus = sentence_of(parse, text)
        assert corpus == "n/a" and isinstance(corpus, Tokens)
    assert sentence_of("n/a", "A dog.") == "A dog."
    assert sentence_of("", None) == "" and isinstance(sentence_of("", " "), Tokens)
