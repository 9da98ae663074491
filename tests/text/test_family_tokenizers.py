"""Other families' tokenizers: transformers gives the same ids, from each form of the files."""

import json
import random
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece as spm
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.pretraining import PretrainingSet
from bertnli.data.text import Text
from bertnli.errors import CheckpointError, ConfigError, DataError
from bertnli.formats.convert import FORMATS
from bertnli.formats.load import load_checkpoint
from bertnli.text.pairs import get_tokens_and_segments
from bertnli.text.sentencepiece import read_sentencepiece
from bertnli.text.subwords import SubwordVocab, load_vocab

WORDS = re.findall(
    r"\S+",
    """
    the a man dog is running outside sleeping two people are playing in the park with ball un une
    homme chien court dehors garçon été où déjà œuvre élève français l'été aujourd'hui c'est straße
    中文 漢字 日本語 Жизнь привет αβγ ﬁne Ⅳ ① ½ ｆｕｌｌ ﷺ naïve café CAFÉ 😀 👩‍👩‍👧 🇫🇷 … —
    “quoted” don't I'm we'll 3.14 1,000 $5 #tag @me a_b x-y
    """,
)
SPACES = [*"\t\n\r\f\x00\x07\x7f\u00a0\u3000\u200b\ufeff\u2028\u0301\xad▁", "  ", "   ", "▁▁"]
SPECIAL = [
    *("<mask>", "[MASK]", "<s>", "</s>", "[CLS]", "[SEP]", "<pad>", "<unk>", "[UNK]", "[PAD]"),
    *("<s>NOTUSED", "<unk>NOTUSED", "<new>", "special", "##s", "Ġ", "Ċ"),
]
LETTERS = "abcdefghiklmnoprstuéàçñü.,;:!?'\"()-"
RANGES = [(1, 0x24F), (0x300, 0x5FF), (0x1E00, 0x2FFF), (0x4E00, 0x4FFF), (0xFF00, 0xFFEE)]


def sentence(rng):
    """Make a text of words, random characters, odd spaces and the names of special tokens."""
    parts = []
    for _ in range(rng.randint(0, 14)):
        word = rng.choice(
            [
                *[rng.choice(WORDS)] * 6,
                rng.choice(SPACES),
                rng.choice([*SPECIAL, " <mask> "]),
                "".join(rng.choices(LETTERS, k=rng.randint(1, 9))),
                "".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randint(1, 4))),
            ]
        )
        case = rng.choice([str, str, str, str.upper, str.capitalize])
        parts += [case(word), rng.choice([*[" "] * 12, "", rng.choice(SPACES)])]
    return "".join(parts)


def pairs(count, seed):
    rng = random.Random(seed)
    return [[sentence(rng) for _ in range(count)] for _ in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train vocabularies of each kind, and return the folder of their files."""
    folder, rng = tmp_path_factory.mktemp("trained"), random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=9)) for _ in range(1500)]
    roberta = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = {
        "pieces": tokenizers.BertWordPieceTokenizer(),
        "cased": tokenizers.BertWordPieceTokenizer(lowercase=False),
        "mpnet": tokenizers.BertWordPieceTokenizer(),
        "bytes": tokenizers.ByteLevelBPETokenizer(),
    }
    special = {"bytes": roberta, "mpnet": [*roberta[:4], "[UNK]", "<mask>"]}
    for name, tokenizer in made.items():
        more = {"special_tokens": special[name]} if name in special else {}
        tokenizer.train_from_iterator(lines, vocab_size=500, show_progress=False, **more)
        (folder / name).mkdir()
        tokenizer.save_model(str(folder / name))
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    names = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    deberta = {f"{name}_id": i for i, name in enumerate(names)}
    deberta |= {f"{name}_piece": text for name, text in names.items()}
    for name, options in {
        "sentencepiece": {},
        "user": {"user_defined_symbols": ["<new>", "special"]},
        "plain": {"normalization_rule_name": "identity"},
        "deberta": deberta,
        "merged": {"model_type": "bpe"},
    }.items():
        common = {"vocab_size": 400, "hard_vocab_limit": False, "minloglevel": 2}
        spm.SentencePieceTrainer.train(
            input=str(folder / "lines.txt"), model_prefix=str(folder / name), **(common | options)
        )
    return folder


BPE, BERT = {"vocab.json": "bytes/vocab.json", "merges.txt": "bytes/merges.txt"}, "pieces/vocab.txt"
MODEL = "sentencepiece.bpe.model"
#: Name to the model type, the files, and settings.
KINDS = {
    "bert": ("bert", {"vocab.txt": BERT}, {"do_lower_case": True}),
    "bert, accents": ("bert", {"vocab.txt": BERT}, {"strip_accents": False, "do_lower_case": True}),
    "distilbert": ("distilbert", {"vocab.txt": "cased/vocab.txt"}, {"do_lower_case": False}),
    "electra": ("electra", {"vocab.txt": BERT}, {"tokenize_chinese_chars": False}),
    "mpnet": ("mpnet", {"vocab.txt": "mpnet/vocab.txt"}, {}),
    "roberta": ("roberta", BPE, {}),
    "roberta, spaced": ("roberta", BPE, {"add_prefix_space": True, "trim_offsets": False}),
    "xlm-roberta": ("xlm-roberta", {MODEL: "sentencepiece.model"}, {}),
    "xlm-roberta, symbols": ("xlm-roberta", {MODEL: "user.model"}, {}),
    "xlm-roberta, plain": ("xlm-roberta", {MODEL: "plain.model"}, {"add_prefix_space": False}),
    "camembert": ("camembert", {MODEL: "sentencepiece.model"}, {}),
    "deberta": ("deberta-v2", {"spm.model": "deberta.model"}, {}),
    "deberta, split": (
        "deberta-v2",
        {"spm.model": "deberta.model"},
        {"do_lower_case": True, "split_by_punct": True, "add_prefix_space": False},
    ),
}
#: Added tokens of folders that older versions wrote.
ADDED = {"<new>": {}, "special": {"special": False, "normalized": True}, "#tag": {"lstrip": True}}


def make_files(trained, folder, kind, **more):
    """Write a folder of vocabulary files, without tokenizer.json."""
    model_type, files, values = KINDS[kind]
    folder.mkdir()
    for name, source in files.items():
        shutil.copy(trained / source, folder / name)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    if values or more:
        (folder / "tokenizer_config.json").write_text(json.dumps({**values, **more}))
    return folder


def make_saved(trained, folder, kind):
    """Have transformers save a tokenizer."""
    files = make_files(trained, folder.with_name("files"), kind)
    transformers.AutoTokenizer.from_pretrained(files).save_pretrained(folder)
    shutil.copy(files / "config.json", folder)
    return folder


def make_older(trained, folder, kind):
    """Write a folder as version 4 did: other steps, all added tokens in the settings."""
    make_saved(trained, folder, kind)
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    if definition["model"]["type"] == "Unigram":
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
        strip = {"type": "Strip", "strip_left": False, "strip_right": True}
        before = definition["normalizer"]
        before = [before] if before and before["type"] == "Precompiled" else []
        definition["normalizer"] = {"type": "Sequence", "normalizers": [*before, strip, spaces]}
        definition["pre_tokenizer"] = definition["decoder"]
    path.write_text(json.dumps(definition), encoding="utf-8")
    tokens = {str(t.pop("id")): t for t in definition["added_tokens"]}
    size = len(definition["model"]["vocab"])
    for i, (text, flags) in enumerate(ADDED.items(), max([size - 1, *map(int, tokens)]) + 1):
        plain = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
        tokens[str(i)] = {"content": text, **plain, "special": True, **flags}
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    values["tokenizer_class"] += "Fast"
    values |= {
        "added_tokens_decoder": dict(reversed(tokens.items())),
        "clean_up_tokenization_spaces": True,
    }
    values |= {"additional_special_tokens": values.pop("extra_special_tokens", [])}
    path.write_text(json.dumps(values))
    return folder


def make_oldest(trained, folder, kind):
    """Write a folder whose special and added tokens are in files of their own."""
    make_files(trained, folder, kind, tokenizer_class=None)
    special = load_vocab(folder).special
    mask = {"content": special["<mask>"], "lstrip": True, "rstrip": True, "normalized": False}
    values = {"cls_token": special["<cls>"], "mask_token": mask}
    (folder / "special_tokens_map.json").write_text(json.dumps(values))
    size = len(load_vocab(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"special": size + 1, "<new>": size}))
    return folder


def make_defined(trained, folder, kind):
    """Write a folder whose tokenizer.json is taken as it is."""
    make_older(trained, folder, kind)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


FORMS = [make_files, make_saved, make_older, make_oldest, make_defined]


def check(vocab, peer, premises, hypotheses, max_len):
    corpus = Corpus(premises, hypotheses, [0] * len(premises), tokenized=False)
    ours = PairDataset(corpus, max_len, vocab, truncation="longest_first", verbose=False)
    theirs = peer(premises, hypotheses, truncation="longest_first", max_length=max_len)["input_ids"]
    assert np.array_equal(np.cumsum([0, *map(len, theirs)]), ours.offsets)
    expected = np.concatenate(theirs)
    wrong = np.flatnonzero(ours.token_ids != expected)[:1]
    pair = int(np.searchsorted(ours.offsets, wrong[0], "right")) - 1 if len(wrong) else 0
    assert not len(wrong), (premises[pair], hypotheses[pair], vocab.to_tokens(theirs[pair]))


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", FORMS)
def test_transformers_gives_the_same_ids(trained, tmp_path, make, kind, count):
    folder = make(trained, tmp_path / "made", kind)
    peer, vocab = transformers.AutoTokenizer.from_pretrained(folder), load_vocab(folder)
    assert len(vocab) == len(peer)
    names = {name: getattr(peer, f"{name.strip('<>')}_token") for name in vocab.special}
    assert vocab.special == names and len(names) == 5
    for max_len in (16, 64):
        check(vocab, peer, *pairs(count, f"{kind}{max_len}"), max_len)
    pair = peer("a", "b", return_token_type_ids=True)
    assert vocab.gives_segments == (pair["token_type_ids"][-1] == 1)
    assert vocab.num_special == peer.num_special_tokens_to_add(pair=True)
    vocab.save(tmp_path / "tokenizer.json")
    again = SubwordVocab.load(tmp_path / "tokenizer.json")
    check(again, peer, *pairs(20, "again"), 32)
    assert again.special == vocab.special and again.is_wordpiece == vocab.is_wordpiece


@settings(max_examples=40)
@given(st.sampled_from([k for k in KINDS if "," not in k]), st.text(max_size=80), st.text())
def test_any_text(loaded, kind, premise, hypothesis):
    vocab, peer = loaded(kind)
    check(vocab, peer, [premise.encode("utf-8", "replace").decode()], [hypothesis], 24)


@pytest.fixture(scope="module")
def loaded(trained, tmp_path_factory):
    """A function that loads a kind's tokenizer from its files, here and in transformers."""
    made = {}

    def load(kind):
        if kind not in made:
            folder = make_files(trained, tmp_path_factory.mktemp("kind") / "made", kind)
            made[kind] = load_vocab(folder), transformers.AutoTokenizer.from_pretrained(folder)
        return made[kind]

    return load


def test_inputs_have_two_separators(loaded, tmp_path):
    vocab, _ = loaded("roberta")
    tokens, segments = get_tokens_and_segments(["a"], ["b", "c"], vocab)
    assert tokens == ["<s>", "a", "</s>", "</s>", "b", "c", "</s>"]
    assert segments == [0, 0, 0, 1, 1, 1, 1]
    assert get_tokens_and_segments(["a"], vocab=vocab) == (["<s>", "a", "</s>"], [0, 0, 0])
    assert get_tokens_and_segments(["a"], ["b"])[0] == ["<cls>", "a", "<sep>", "b", "<sep>"]
    columns = pairs(60, "file")
    rows = [[" ".join(text.split()) or "a" for text in row] for row in zip(*columns, strict=True)]
    path = tmp_path / "pairs.tsv"
    text = "".join(f"neutral\t{a}\t{b}\n" for a, b in rows)
    path.write_text(f"gold_label\tsentence1\tsentence2\n{text}", encoding="utf-8")
    direct = PairDataset.read(path, None, 20, vocab, cache=False, verbose=False)
    dataset = PairDataset(bertnli.read(path), 20, vocab, verbose=False)
    assert direct.digest() == dataset.digest() and dataset.is_cut.any()
    batch = dataset.batch(np.arange(len(dataset)))
    for i, length in enumerate(batch.valid_lens):
        made = vocab.to_tokens(batch.token_ids[i, :length])
        first = int(dataset.premise_lens[i])
        again = get_tokens_and_segments(made[1 : first + 1], made[first + 3 : -1], vocab)
        assert again == (made, batch.segments[i, :length].tolist())
        assert vocab.to_tokens(batch.token_ids[i, length:]) == ["<pad>"] * (20 - length)
    is_unknown = batch.token_ids == vocab.required("<unk>")  # only where a text says "<unk>"
    assert np.allclose(dataset.unknown_shares, is_unknown.sum(1) / (batch.valid_lens - 4))
    refused(ConfigError, "give at least 6", PairDataset, [["a"], ["b"], [0]], 5, vocab)


def test_pretraining_has_two_separators(loaded):
    vocab, _ = loaded("xlm-roberta")
    texts = ["the man is running", "a dog sleeping outside", "two people", "the park", "alone"]
    data = PretrainingSet(Text(texts, [0, 0, 1, 1, 2]), 18, vocab, next_sentence=False)
    batch = data.batch(np.arange(len(data)))
    ids = batch.token_ids.copy()
    rows, columns = np.nonzero(batch.pred_positions >= 0)
    ids[rows, batch.pred_positions[rows, columns]] = batch.pred_ids[rows, columns]
    cut = [vocab.to_tokens(ids) for ids in vocab.ids_of(texts, False)]
    expected = [(cut[0], cut[1]), (cut[2], cut[3]), (cut[4], None)]
    for i, (length, sentences) in enumerate(zip(batch.valid_lens, expected, strict=True)):
        tokens, segments = get_tokens_and_segments(*sentences, vocab)
        if len(tokens) <= 18:
            assert vocab.to_tokens(ids[i, :length]) == tokens
            assert batch.segments[i, :length].tolist() == segments


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_whole_words_are_masked(loaded, kind):
    vocab, _ = loaded(kind)
    text = "the outside xqz bvk zzq running"
    data = PretrainingSet(Text([text], [0]), 60, vocab, next_sentence=False, whole_words=True)
    words = []
    (ids,) = vocab.ids_of([text], False)
    begins = {"bert": lambda t: not t.startswith("##")}.get(kind, lambda t: t[0] in "▁Ġ")
    for i, token in enumerate(vocab.to_tokens(ids), 1):
        if begins(token) or not words:
            words.append(set())
        words[-1].add(i)
    assert len(words) == 6 < len(ids)
    for epoch in range(20):
        batch = data.at_epoch(0, epoch).batch(np.array([0]))
        chosen = set(batch.pred_positions[0].tolist()) - {-1}
        assert chosen == set().union(*(word for word in words if word & chosen))


def test_a_model_is_read_as_sentencepiece_reads_it(trained, tmp_path):
    from sentencepiece import sentencepiece_model_pb2

    for name in ("sentencepiece", "user", "plain", "deberta"):
        data = (trained / f"{name}.model").read_bytes()
        proto = sentencepiece_model_pb2.ModelProto.FromString(data)
        model = read_sentencepiece(trained / f"{name}.model")
        assert model.pieces == [(piece.piece, piece.score, piece.type) for piece in proto.pieces]
        assert model.charsmap == proto.normalizer_spec.precompiled_charsmap
        assert model.unknown_id == proto.trainer_spec.unk_id
    refused(DataError, "model_type is 2", read_sentencepiece, trained / "merged.model")


@settings(max_examples=200)
@given(st.data())
def test_damaged_models_are_refused_or_read(trained, tmp_path_factory, damage, data):
    path = tmp_path_factory.mktemp("damaged") / "spm.model"
    path.write_bytes(damage(data, (trained / "deberta.model").read_bytes()))
    (path.parent / "config.json").write_text('{"model_type": "deberta-v2"}')
    try:
        vocab = load_vocab(path.parent)
        list(vocab.ids_of(["a man \ufdfa"], False))
    except DataError:
        pass


def test_files_that_do_not_belong_together_are_refused(trained, tmp_path):
    def folder(kind, **values):
        shutil.rmtree(tmp_path / "made", ignore_errors=True)
        return make_files(trained, tmp_path / "made", kind, **values)

    for kind, name, reason in (
        ("bert", "RobertaTokenizer", "have no <s>"),
        ("roberta", "BertTokenizer", "BertTokenizer has a model of type WordPiece, and not BPE"),
        ("deberta", "BertTokenizer", "of type WordPiece, and not Unigram"),
        ("xlm-roberta", "PreTrainedTokenizerFast", "without the tokenizer.json that it needs"),
        ("xlm-roberta", "AlbertTokenizer", "tokenizer_class is 'AlbertTokenizer'"),
    ):
        refused(DataError, reason, load_vocab, folder(kind, tokenizer_class=name))
    for values, reason in (
        ({"bos_token": "[CLS]"}, "bos_token is '\\[CLS\\]', and only '<s>'"),
        ({"split_special_tokens": True}, "split_special_tokens is True"),
        ({"fast_tokenizer_files": ["tokenizer.4.0.json"]}, "fast_tokenizer_files"),
        ({"extra_special_tokens": [5]}, "tokenizer_config.json: its tokens cannot be read: 5"),
        ({"added_tokens_decoder": {"a": "b"}}, "its tokens cannot be read"),
    ):
        refused(DataError, reason, load_vocab, folder("xlm-roberta", **values))
    (folder("xlm-roberta") / "config.json").unlink()
    refused(DataError, "no file says whose it is", load_vocab, tmp_path / "made")
    (folder("roberta") / "merges.txt").unlink()
    refused(DataError, "merges.txt", load_vocab, tmp_path / "made")


def test_a_model_that_reads_segments_needs_them(make_checkpoint, loaded, tmp_path):
    vocab, _ = loaded("roberta")
    bert = BERTConfig(len(vocab), 8, 8, 2, 1, max_len=16, embedding_norm=True, activation="gelu")
    for config, is_read in (
        (bert, False),
        (replace(bert, pair_segments=False), True),
        (replace(bert, num_segments=0), True),
    ):
        path = tmp_path / f"{config.num_segments}{config.pair_segments}"
        made = replace(make_checkpoint(config, ("yes", "no")), vocab=vocab)
        FORMATS["bertnli"](made, path)
        if is_read:
            assert load_checkpoint(path).vocab.special == vocab.special
        else:
            refused(CheckpointError, "the model reads the segments", load_checkpoint, path)
