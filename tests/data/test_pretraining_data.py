"""Text to pretrain on: documents, pairs of sentences, masks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from bertnli.data.batches import Batch, batches
from bertnli.data.masking import Masking
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text, build_text_vocab, read_text
from bertnli.errors import ConfigError, DataError
from bertnli.text.subwords import SubwordVocab, train_word_pieces
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

#: Each sentence of each document is of words that no other has.
STORIES = [[f"w{d}x{s}a w{d}x{s}b w{d}x{s}c" for s in range(d % 4 + 1)] for d in range(30)]


def make_set(documents=STORIES, max_len=16, vocab=None, **options):
    sentences = [sentence for document in documents for sentence in document]
    text = Text(sentences, [i for i, document in enumerate(documents) for _ in document])
    return PretrainingSet(text, max_len, vocab or build_text_vocab(text, 1), **options)


def epoch_batch(data, epoch=0, seed=0):
    return data.at_epoch(seed, epoch).batch(np.arange(len(data)))


def unmasked(batch, vocab):
    """List the tokens of each example, with those that were masked put back."""
    ids = batch.token_ids.copy()
    rows, columns = np.nonzero(batch.pred_positions >= 0)
    ids[rows, batch.pred_positions[rows, columns]] = batch.pred_ids[rows, columns]
    return [vocab.to_tokens(row[:n]) for row, n in zip(ids, batch.valid_lens, strict=True)]


def test_lines_and_documents(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text("One. Or\nTwo.\n\n\nThree.\n", encoding="utf-8")
    files[1].write_bytes("\ufeffFour – yes.\r\nFive is 3.5 m. Yes!".encode())
    text = read_text(files)
    assert text.sentences == ["One. Or", "Two.", "Three.", "Four – yes.", "Five is 3.5 m. Yes!"]
    assert text.documents == [0, 0, 1, 2, 2]
    text = read_text(files, split_sentences=True)
    assert text.sentences[:3] == ["One.", "Or", "Two."]
    assert text.sentences[3:] == ["Three.", "Four – yes.", "Five is 3.5 m.", "Yes!"]
    assert text.documents == [0, 0, 1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), ("café".encode("latin-1"), "UTF-8"), (b"\n \n", "no sen")],
)
def test_unusable_files_are_named(tmp_path, content, reason):
    file = tmp_path / "file.txt"
    if content is not None:
        file.write_bytes(content)
    refused(DataError, rf"(?s)(?=.*{reason})(?=.*{file})", read_text, file)


def test_half_of_the_sentences_are_followed_by_their_next():
    data = make_set()
    assert len(data) == sum(len(story) - 1 for story in STORIES)
    single = sum(len(story) == 1 for story in STORIES)
    assert data.skipped == {"the only sentence of a document": single}
    follows = []
    for epoch in range(8):
        batch = epoch_batch(data, epoch)
        follows.append(batch.labels)
        for tokens, label in zip(unmasked(batch, data.vocab), batch.labels, strict=True):
            end = tokens.index("<sep>")
            first, second = (
                w[0].rstrip("abc")[1:].split("x") for w in (tokens[1:], tokens[end + 1 :])
            )
            assert second == [first[0], str(int(first[1]) + 1)] if label else second[0] != first[0]
    assert abs(np.mean(follows) - 0.5) < 4 * 0.5 / np.sqrt(np.size(follows))


def test_each_sentence_of_other_documents_is_as_likely():
    data = make_set([["a1 b1"] * 3, ["a2 b2"] * 1000, ["a3 b3"] * 2])
    drawn = np.zeros((3, 1005))
    for epoch in range(300):
        examples = data.at_epoch(0, epoch)
        others = examples.labels == 0
        np.add.at(drawn, (data.documents[data.firsts[others]], examples.seconds[others]), 1)
    for document, counts in enumerate(drawn):
        assert not counts[data.documents == document].any()
    few = drawn[1][data.documents != 1]  # each some 30,000 times
    assert np.abs(few / few.sum() - 0.2).max() < 0.01


def test_masked_words_alone_take_every_sentence():
    words = " ".join(f"x{i}" for i in range(30))
    documents = [["a b", "c d", "e f"], ["g h"], [words, words], [words]]
    data = make_set(documents, next_sentence=False, max_len=11)
    batch = epoch_batch(data)
    tokens = unmasked(batch, data.vocab)
    assert data.skipped == {} and (batch.labels == 1).all()
    expected = ["<cls> a b <sep> c d <sep>", "<cls> c d <sep> e f <sep>", "<cls> g h <sep>"]
    assert [" ".join(row) for row in tokens[:3]] == expected
    assert batch.valid_lens.tolist() == data.lengths.tolist() == [7, 7, 4, 11, 11]
    assert tokens[3].index("<sep>") == 5  # cut by the book's rule
    for row, segments in zip(tokens, batch.segments, strict=True):
        end = row.index("<sep>")
        assert segments.tolist() == [int(end < i < len(row)) for i in range(11)]


def test_an_epoch_is_a_function_of_seed_and_number():
    data = make_set()

    def ids(seed, epoch, first=0):
        examples = data.at_epoch(seed, epoch)
        shuffled = batches(examples, 7, seed=seed, epoch=epoch, shuffle=True, first=first)
        return [batch.token_ids.tobytes() for batch in shuffled]

    assert ids(0, 1) == ids(0, 1)
    assert ids(0, 1)[2:] == ids(0, 1, first=2)  # as a resumed run takes them
    assert not {*ids(0, 1)} & {*ids(0, 2)}
    assert not {*ids(0, 1)} & {*ids(1, 1)}


def test_texts_without_examples_are_refused():
    for documents, message in (([["a"], ["b"]], "no document has two"), ([["a", "b"]], "one docu")):
        refused(DataError, message, make_set, documents)
    refused(ConfigError, "masking rate", Masking, Vocab(["a"], 0, RESERVED_TOKENS), 1.0)


def test_masking_rates_are_the_books():
    """15 % of all tokens; of these 80 % are masked, 10 % random, 10 % as they were."""
    rng = np.random.default_rng(0)
    sentences = [" ".join(f"v{i}" for i in rng.integers(0, 400, 18)) for _ in range(4000)]
    data = make_set([sentences[i : i + 4] for i in range(0, 4000, 4)], max_len=64)
    batch = epoch_batch(data)
    there = batch.pred_positions >= 0
    assert (there.sum(1) == np.maximum(1, np.rint(batch.valid_lens * 0.15))).all()
    rows, columns = np.nonzero(there)
    now = batch.token_ids[rows, batch.pred_positions[rows, columns]]
    was, mask = batch.pred_ids[there], data.vocab.required("<mask>")
    for share, expected in (((now == mask).mean(), 0.8), ((now == was).mean(), 0.1)):
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(now)) + 1 / 400
    special = [data.vocab.required(token) for token in RESERVED_TOKENS]
    assert not np.isin(was, special).any()
    assert not np.isin(now[now != mask], special).any()
    # Every place of a sequence is as likely as any other.
    counts = np.bincount(batch.pred_positions[there], minlength=39)[1:38]
    counts = np.delete(counts, 18)  # <sep>
    assert abs(counts / counts.mean() - 1).max() < 5 / np.sqrt(counts.mean())


@settings(max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 99))
def test_all_pieces_of_a_word_are_masked_together(pieces, seed):
    words = [[f"w{i}", *(f"##{i}p{j}" for j in range(1, n))] for i, n in enumerate(pieces)]
    tokens = [piece for word in words for piece in word]
    vocab = Vocab(tokens, 0, RESERVED_TOKENS)
    ids = np.array([[vocab["<cls>"], *vocab[tokens], vocab["<sep>"], vocab["<pad>"]]], np.int32)
    lens, zeros = np.array([len(tokens) + 2], np.int32), np.zeros_like(ids)
    masking = Masking(vocab, 0.3, whole_words=True)
    batch = masking(Batch(ids, zeros, lens, zeros[:, 0]), np.random.default_rng(seed))
    chosen = {*batch.pred_positions[batch.pred_positions >= 0].tolist()}
    for start, end in pairwise(np.cumsum([1, *pieces])):
        assert len({*range(start, end)} & chosen) in (0, end - start)
    wanted = max(1, round(float(lens[0]) * 0.3))
    assert min(wanted, len(tokens)) <= len(chosen) < wanted + max(pieces)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_weights_of_any_parts_add_up_to_the_mean(count):
    batch = epoch_batch(make_set())
    parts = [batch[rows] for rows in np.array_split(np.arange(len(batch)), count)]
    total = sum(float(part.pred_weights.sum()) for part in parts)
    assert total == pytest.approx(len(batch), rel=1e-6)
    weights = {float(w) for part in parts for w in part.pred_weights[part.pred_positions >= 0]}
    assert len(weights) == 1


def test_sentences_of_special_tokens_alone_are_left_out():
    vocab = SubwordVocab.from_pieces(["[UNK]", "[PAD]", "[MASK]", "[CLS]", "[SEP]", "a", "b"])
    data = make_set([["[SEP]", "a", "a b"], ["b [MASK]", "a"]], vocab=vocab)
    assert data.skipped == {"no words": 1} and len(data) == 2
    assert (epoch_batch(data).pred_positions >= 0).any(1).all()


def test_the_same_text_gives_the_same_word_pieces():
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{a}{b}{b}{a}" for a in letters for b in letters]  # equally often, all of them
    result = [train_word_pieces([" ".join(words)], 120).idx_to_token for _ in range(4)]
    assert result == [result[0]] * 4
    assert len(result[0]) == 120 and len({*result[0]}) == 120
