"""Tokenizers that are not BERT's are refused by name, whichever file says so."""

import base64
import json
import re
import struct

import pytest
from refusals import refused

from bertnli.errors import DataError
from bertnli.text.subwords import SubwordVocab, load_vocab
from bertnli.text.tokenizer_config import SPECIAL

PIECES = [*SPECIAL.values(), "a", "man", "dog", "##s", "[ent]"]
SETTINGS, SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"


@pytest.fixture(params=["vocab.txt", "tokenizer.json"])
def folder(tmp_path, request):
    """Make a folder with a vocabulary of either kind."""
    if request.param == "vocab.txt":
        (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    else:
        SubwordVocab.from_pieces(PIECES).save(tmp_path / "tokenizer.json")
    return tmp_path


ADDED = {"added_tokens_decoder": {"9": {"content": "[ent]"}}}


@pytest.mark.parametrize(
    ("file", "settings", "reason"),
    [
        ("config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "Japanese"),
        (SETTINGS, {"tokenizer_class": "AlbertTokenizer"}, "Albert"),
        (SETTINGS, {"tokenizer_class": ["BertTokenizer"]}, "Bert"),
        (SETTINGS, {"word_tokenizer_type": "mecab"}, "mecab"),
        ("config.json", {"subword_tokenizer_type": "sentencepiece"}, "piece"),
        (SETTINGS, {"do_subword_tokenize": False}, "False"),
        (SETTINGS, {"split_special_tokens": True}, "True"),
        (SETTINGS, {"auto_map": {"AutoTokenizer": ["code.MyTokenizer", None]}}, "code"),
        (SETTINGS, {"cls_token": "<s>"}, "<s>"),
        (SPECIAL_TOKENS, {"mask_token": {"content": "<s>", "lstrip": False}}, "<s>"),
    ],
)
def test_another_way_of_cutting_is_refused(folder, file, settings, reason):
    (folder / file).write_text(json.dumps({"model_type": "bert", **settings}))
    reason = rf"{re.escape(file)}: {next(iter(settings))} is .*{reason}.* is computed here"
    refused(DataError, reason, load_vocab, folder)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("added_tokens.json", {"[ent]": 9}),
        (SETTINGS, ADDED),
        (SPECIAL_TOKENS, {"additional_special_tokens": [{"content": "[ent]"}]}),
    ],
)
def test_added_tokens_are_not_cut(folder, file, values):
    (folder / file).write_text(json.dumps(values))
    vocab = load_vocab(folder)
    (ids,) = vocab.ids_of(["man[ent]dogs"], tokenized=False)
    assert vocab.to_tokens(ids) == ["man", "[ent]", "dog", "##s"]
    assert len(vocab) == len(PIECES)


def test_the_class_is_checked_without_a_vocabulary(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"...")
    (tmp_path / "config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    refused(DataError, "BertJapaneseTokenizer", load_vocab, tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "BertTokenizerFast"},
        {"tokenizer_class": None, "word_tokenizer_type": "basic", "do_basic_tokenize": True},
        {"never_split": ["[CLS]", "[SEP]"], "auto_map": {"AutoModel": "code.Model"}},
        {"cls_token": {"content": "[CLS]", "lstrip": False}, "pad_token": "[UNK]"},
        {"added_tokens_decoder": {"0": {"content": "[UNK]", "special": True}}},
    ],
)
def test_berts_settings_are_read(folder, settings):
    for file in ("config.json", SETTINGS):
        (folder / file).write_text(json.dumps(settings))
    vocab = load_vocab(folder)
    (ids,) = vocab.ids_of(["A man dogs"], tokenized=False)
    assert vocab.to_tokens(ids) == ["a", "man", "dog", "##s"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, r"without the tokenizer\.json"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize is False"),
        ({"never_split": ["man"]}, r"\['man'\]"),
    ],
)
def test_settings_that_a_tokenizer_json_makes_harmless(folder, settings, message):
    (folder / SETTINGS).write_text(json.dumps(settings))
    if (folder / "tokenizer.json").exists():
        assert load_vocab(folder) is not None
        return
    refused(DataError, message, load_vocab, folder)


def template(pair, single="[CLS] $A [SEP]"):
    """Make a tokenizer.json's post-processor; "X:1" is a part X of the second segment."""

    def part(text):
        name, _, segment = text.partition(":")
        kind = "Sequence" if name.startswith("$") else "SpecialToken"
        return {kind: {"id": name.strip("$"), "type_id": int(segment or 0)}}

    tokens = {t: {"id": t, "ids": [PIECES.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    parts = {"single": [*map(part, single.split())], "pair": [*map(part, pair.split())]}
    return {"type": "TemplateProcessing", **parts, "special_tokens": tokens}


TRIMS = {"trim_offsets": True, "add_prefix_space": False}


@pytest.mark.parametrize(
    ("processor", "form"),
    [
        (template("[CLS] $A [SEP] $B:1 [SEP]:1"), (1, True)),
        ({"type": "BertProcessing", "sep": ["[SEP]", 4], "cls": ["[CLS]", 3]}, (1, True)),
        (
            {"type": "RobertaProcessing", "sep": ["[SEP]", 4], "cls": ["[CLS]", 3]} | TRIMS,
            (2, False),
        ),
        (template("[CLS] $A [SEP] [SEP] $B [SEP]"), (2, False)),
        (template("[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"), (2, True)),
        (template("[CLS] $A [SEP] $B [SEP]"), (1, False)),
        (None, None),
        (template("[CLS] $A [SEP] [SEP] [SEP] $B [SEP]"), None),
        (template("[CLS] $A $B:1 [SEP]:1"), None),
        (template("[CLS] $A:1 [SEP] $B:1 [SEP]:1"), None),
        (template("[CLS] $A [SEP] $B:1 [SEP]"), None),
        (template("[CLS] $B [SEP] $A:1 [SEP]:1"), None),
        (template("[SEP] $A [SEP] $B:1 [SEP]:1"), None),
    ],
)
def test_pairs_of_another_form_are_refused(tmp_path, processor, form):
    definition = json.loads(SubwordVocab.from_pieces(PIECES).definition())
    definition["post_processor"] = processor
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    if form is None:
        refused(DataError, r"tokenizer\.json: .*only the inputs of BERT", load_vocab, tmp_path)
        return
    vocab = load_vocab(tmp_path)
    assert (vocab.separators, vocab.gives_segments) == form
    assert vocab.special == SPECIAL


@pytest.mark.parametrize(
    ("pieces", "settings", "word"),
    [
        (["Man", "man"], {}, "Man"),  # as in Google's folders, where no file says it
        (["Man", "man"], {"do_lower_case": True}, "man"),
        (["[Unused]", "man"], {}, "man"),
    ],
)
def test_capitals_in_pieces_decide_the_case(tmp_path, pieces, settings, word):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL.values(), *pieces]))
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    vocab = load_vocab(tmp_path)
    (ids,) = vocab.ids_of(["Man"], tokenized=False)
    assert vocab.to_tokens(ids) == [word]


def replace_step(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def precompiled(text):
    table = struct.pack("<I", 4096) + bytes(4096) + text + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


KEPT = {"behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("normalizers", "pretokenizers", "reason"),
    [
        ([replace_step(" ", Regex=r"\s{2,}|[\n\r\t]"), replace_step("\u2581", String=" ")], [], ""),
        ([precompiled(b"a" * 64), {"type": "Prepend", "prepend": "\u2581"}], [], ""),
        ([], [BYTES, {"type": "Split", "pattern": {"String": " "}} | KEPT], ""),
        ([replace_step("aa", String="a")], [], "Replace"),
        ([replace_step("\ufdfa", String="a")], [], "Replace"),
        ([replace_step("a" * 9, Regex=" {2,}")], [], "Replace"),
        ([replace_step("", Regex="(a+)+$")], [], "Replace"),
        ([replace_step("", String="")], [], "Replace"),
        ([precompiled(b"a" * 65)], [], "Precompiled"),
        ([precompiled(b"a")] * 2, [], "more than once"),
        ([{"type": "Prepend", "prepend": "aa"}], [], "Prepend"),
        ([BYTES], [BYTES], "more than once"),
        ([], [{"type": "Split", "pattern": {"Regex": "(a|a)*$"}} | KEPT], "Split"),
        ([], [{"type": "Unknown"}], "is not among the pretokenizers"),
    ],
)
def test_steps_that_take_much_are_refused(tmp_path, normalizers, pretokenizers, reason):
    definition = json.loads(SubwordVocab.from_pieces(PIECES).definition())
    definition["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": pretokenizers}
    if reason:
        refused(DataError, reason, SubwordVocab, json.dumps(definition))
    else:
        assert len(SubwordVocab(json.dumps(definition))) == len(PIECES)
