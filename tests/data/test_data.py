"""Reading corpora, encoding, batches."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.data.batches import Batch, batches, epoch_order, sorted_batches
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import ConfigError, DataError
from bertnli.text.pairs import get_tokens_and_segments, truncated_lengths
from bertnli.text.vocab import Vocab


def test_snli_is_read_as_the_references_do(fixtures):
    golden = json.loads((fixtures / "read_snli.golden.json").read_text())
    for split, is_train in (("train", True), ("test", False)):
        corpus = bertnli.read(fixtures / "snli_1.0", split)
        assert [list(column) for column in corpus] == golden[split]
        assert bertnli.read(fixtures / "snli_1.0", is_train) == corpus
        assert corpus.tokenized
        lines = (fixtures / "snli_1.0" / f"snli_1.0_{split}.txt").read_text().splitlines()
        assert len(corpus.labels) + sum(corpus.skipped.values()) == len(lines) - 1
    assert bertnli.read(fixtures / "snli_1.0", "train").skipped == {"no gold label": 1}


def test_golden_pairs_encode_as_the_references(fixtures):
    for framework in ("torch", "mxnet"):
        golden = np.load(fixtures / framework / "golden.npz")
        vocab = Vocab.load(fixtures / framework / "bert.tiny" / "vocab.json")
        corpus = bertnli.read(fixtures / "snli_1.0", "test")
        dataset = PairDataset(corpus, 48, vocab, verbose=False)
        batch = dataset.batch(np.arange(8), pad_to=48)
        for name in ("token_ids", "segments", "valid_lens", "labels"):
            np.testing.assert_array_equal(getattr(batch, name), golden[name])
            assert getattr(batch, name).dtype == np.int32


def test_an_empty_sentence_is_kept_in_official_files_alone(tmp_path):
    parses = "gold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1\tsentence2\n"
    (tmp_path / "snli_1.0_dev.txt").write_text(parses + "neutral\ta\t( )\t\t\n")
    assert tuple(bertnli.read(tmp_path, "dev")) == (["a"], [""], [2])
    (tmp_path / "t.tsv").write_text("gold_label\tsentence1\tsentence2\nneutral\ta\t \n")
    refused(DataError, "line 2: the hypothesis is ' '", bertnli.read, tmp_path / "t.tsv")


def soft(path, *answers):
    """Write rows whose key p has a teacher's probabilities."""
    row = '{"sentence1": "A", "sentence2": "B", "gold_label": "neutral", "p": '
    path.write_text("\n".join(f"{row}{answer}}}" for answer in answers))
    return path


ANSWER = '{"neutral": 0.5, "entailment": 0.125, "contradiction": 0.375}'


def test_a_teacher_s_probabilities_are_read_by_name(tmp_path):
    path = soft(tmp_path / "t.jsonl", ANSWER, ANSWER)
    corpus = bertnli.read(path, probabilities="p")
    assert corpus.targets.tolist() == [[0.125, 0.375, 0.5]] * 2
    data = PairDataset(corpus, 16, build_vocab(corpus, 0), verbose=False)
    assert data.batch(np.array([1])).targets.tolist() == [[0.125, 0.375, 0.5]]
    with pytest.raises(DataError, match="would be lost"):
        data.padded(0)  # what a DataLoader takes
    assert bertnli.read(path).targets is None
    table = tmp_path / "t.tsv"
    table.write_text("sentence1\tsentence2\tgold_label\tp\nA\tB\tneutral\t0.5\n")
    refused(DataError, r"line 2: 'p' is '0\.5'; ", bertnli.read, table, probabilities="p")


@pytest.mark.parametrize(
    "bad",
    [
        '{"neutral": 0.5, "entailment": 0.5}',
        '{"neutral": 0.5, "entailment": 0.5, "contradiction": 0.5}',
        '{"neutral": 2, "entailment": -1, "contradiction": 0}',
        '{"neutral": "1", "entailment": 0, "contradiction": 0}',
        '{"neutral": NaN, "entailment": 0, "contradiction": 0}',
    ],
)
def test_what_are_no_probabilities_is_a_bad_row(tmp_path, bad):
    path = soft(tmp_path / "t.jsonl", ANSWER, bad)
    refused(DataError, "line 2: the probabilities", bertnli.read, path, probabilities="p")
    kept = bertnli.read(path, probabilities="p", on_error="skip")
    assert kept.skipped == {"malformed": 1} and len(kept.targets) == 1


def test_sample_corpus():
    splits = {split: bertnli.read("sample", split) for split in ("train", "dev", "test")}
    premises = {split: set(corpus.premises) for split, corpus in splits.items()}
    assert sum(map(len, premises.values())) >= 300
    for split, corpus in splits.items():
        assert not corpus.skipped
        assert set(Counter(corpus.labels).values()) == {len(premises[split])}
        assert len(corpus.labels) == 3 * len(premises[split]) == len(corpus.pairs())
    assert not premises["train"] & (premises["dev"] | premises["test"])
    assert not premises["dev"] & premises["test"]


WORDS = st.lists(st.sampled_from(["a", "b", "C", "Dog", "zebra", "."]), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(WORDS, WORDS, st.integers(0, 2)), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    PAIRS,
    st.integers(5, 30),
    st.sampled_from(["book", "ratio"]),
    st.integers(1, 5),
    st.integers(0, 3),
    st.booleans(),
)
def test_batches_hold_each_pair_once_as_a_plain_loop_encodes_it(
    pairs, max_len, rule, batch_size, epoch, by_length
):
    vocab = Vocab(["a", "b", "c", "dog", "."], 0, ["<pad>", "<cls>", "<sep>"])
    corpus = [" ".join(p) for p, _, _ in pairs], [" ".join(h) for _, h, _ in pairs]
    corpus += ([label for _, _, label in pairs],)
    dataset = PairDataset(corpus, max_len, vocab, truncation=rule, verbose=False)
    if by_length:
        orders, parts = zip(*sorted_batches(dataset, batch_size), strict=True)
        order = np.concatenate(orders)
    else:
        order = epoch_order(len(pairs), 1, epoch)
        parts = list(batches(dataset, batch_size, seed=1, epoch=epoch, shuffle=True))
    rows = [(batch, row) for batch in parts for row in range(len(batch))]
    for index, (batch, row) in zip(order, rows, strict=True):
        *sentences, label = pairs[index]
        premise, hypothesis = ([word.lower() for word in words] for words in sentences)
        a, b = truncated_lengths(len(premise), len(hypothesis), max_len - 3, rule)
        tokens, segments = get_tokens_and_segments(premise[:a], hypothesis[:b])
        padding = batch.token_ids.shape[1] - len(tokens)
        expected = dataset.vocab[tokens] + [dataset.vocab["<pad>"]] * padding
        assert batch.token_ids[row].tolist() == expected
        assert batch.segments[row].tolist() == segments + [0] * padding
        assert (batch.valid_lens[row], batch.labels[row]) == (len(tokens), label)
    assert sorted(order) == list(range(len(pairs)))
    assert all(batch.token_ids.shape[1] == batch.valid_lens.max() for batch in parts)


def test_epoch_order_depends_on_seed_and_epoch_alone():
    first = epoch_order(100, 3, 1)
    np.random.default_rng().random(7)
    np.testing.assert_array_equal(first, epoch_order(100, 3, 1))
    assert not np.array_equal(first, epoch_order(100, 3, 2))
    assert not np.array_equal(first, epoch_order(100, 4, 1))


def test_raw_text_is_tokenized_and_lower_cased(capsys):
    corpus = Corpus(["He can't."], ["The DOG"], [0], tokenized=False)
    vocab = build_vocab(corpus, 1)
    assert {"ca", "n't", "dog", "<mask>"} <= set(vocab.idx_to_token)
    dataset = PairDataset(corpus, 16, vocab)
    assert capsys.readouterr().out == "read 1 examples\n"
    expected = ["<cls>", "he", "ca", "n't", ".", "<sep>", "the", "dog", "<sep>"]
    assert vocab.to_tokens(dataset.token_ids) == expected


def test_dataset_refuses():
    corpus = Corpus(["a"], ["b"], [0], tokenized=True)
    refused(ConfigError, "vocabulary", PairDataset, corpus, 16)
    refused(ConfigError, "max_len=3", PairDataset, corpus, 3, build_vocab(corpus, 1))
    refused(DataError, "'<cls>'", PairDataset, corpus, 16, Vocab(["a"]))
    dataset = PairDataset(corpus, 16, build_vocab(corpus, 1), verbose=False)
    with pytest.raises(IndexError):
        dataset.padded(1)
    refused(ConfigError, "batch_size", next, batches(dataset, 0))
    refused(DataError, "cannot be padded", dataset.batch, np.array([0]), pad_to=4)
    refused(DataError, "SNLIBERTDataset", Batch.from_padded, [1, 2, 3], np.asarray)
    empty = Corpus([], [], [], tokenized=True)
    dataset = PairDataset(empty, 16, build_vocab(empty, 1), verbose=False)
    assert not [*batches(dataset, 4), *sorted_batches(dataset, 4)]
