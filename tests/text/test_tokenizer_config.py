"""Tokenizers that are not BERT's are refused by name, in whichever file they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bertnli.errors import DataError
from bertnli.text.tokenizer_config import SPECIAL, lowercases
from bertnli.text.wordpiece import WordPieceVocab, load_vocab

PIECES = [*SPECIAL.values(), "a", "man", "dog", "##s", "[ent]"]


@pytest.fixture(params=["vocab.txt", "tokenizer.json"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with a vocabulary of either kind."""
    if request.param == "vocab.txt":
        (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    else:
        WordPieceVocab.from_pieces(PIECES).save(tmp_path / "tokenizer.json")
    return tmp_path


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer_class", "BertJapaneseTokenizer"),
        ("tokenizer_class", "BertweetTokenizer"),
        ("tokenizer_class", "XLMRobertaTokenizer"),
        ("tokenizer_class", "HerbertTokenizerFast"),
        ("tokenizer_class", ["BertTokenizer"]),
        ("word_tokenizer_type", "mecab"),
        ("subword_tokenizer_type", "character"),
        ("subword_tokenizer_type", "sentencepiece"),
        ("do_subword_tokenize", False),
        ("split_special_tokens", True),
        ("auto_map", {"AutoTokenizer": ["code.MyTokenizer", None]}),
    ],
)
def test_another_way_of_cutting_is_refused(folder: Path, file: str, key: str, value: Any) -> None:
    (folder / file).write_text(json.dumps({"model_type": "bert", key: value}))
    with pytest.raises(DataError, match=rf"{re.escape(file)}: {key}") as raised:
        load_vocab(folder)
    result = value["AutoTokenizer"] if key == "auto_map" else value
    assert str(result) in str(raised.value)
    assert "is computed here" in str(raised.value)


def test_a_vocabulary_that_is_not_read_does_not_hide_the_class(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"...")
    (tmp_path / "config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(DataError, match="BertJapaneseTokenizer"):
        load_vocab(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "BertTokenizer"},
        {"tokenizer_class": "BertTokenizerFast"},
        {"tokenizer_class": None, "word_tokenizer_type": "basic"},
        {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"},
        {"do_basic_tokenize": True, "never_split": None},
        {"never_split": ["[CLS]", "[SEP]"]},
        {"cls_token": {"content": "[CLS]", "lstrip": False}, "pad_token": "[UNK]"},
        {"added_tokens_decoder": {"0": {"content": "[UNK]", "special": True}}},
        {"auto_map": {"AutoModel": "code.Model"}},
    ],
)
def test_berts_own_settings_are_read(folder: Path, settings: dict[str, Any]) -> None:
    for file in ("config.json", "tokenizer_config.json"):
        (folder / file).write_text(json.dumps(settings))
    vocab = load_vocab(folder)
    assert vocab is not None
    (ids,) = vocab.ids_of(["A man dogs"], tokenized=False)
    assert vocab.to_tokens(ids) == ["a", "man", "dog", "##s"]


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("role", ["cls_token", "sep_token", "unk_token", "mask_token"])
@pytest.mark.parametrize("token", ["<s>", {"content": "<s>", "lstrip": False}])
def test_other_special_tokens_are_refused(folder: Path, file: str, role: str, token: Any) -> None:
    (folder / file).write_text(json.dumps({role: token}))
    with pytest.raises(DataError, match=rf"{file}: {role} is '<s>', and only '\[\w+\]'"):
        load_vocab(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"[ent]": 9}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": "[ent]"}}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["[ent]"]}),
        ("special_tokens_map.json", {"additional_special_tokens": [{"content": "[ent]"}]}),
    ],
)
def test_tokens_that_are_not_cut_are_not_lost(folder: Path, file: str, content: Any) -> None:
    """The vocabulary has the piece, and would look for it in text in three parts."""
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"\['\[ent\]'\] were added"):
        load_vocab(folder)


def test_a_class_of_definitions_needs_one(folder: Path) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if (folder / "tokenizer.json").exists():
        assert load_vocab(folder) is not None
        return
    with pytest.raises(DataError, match=r"without the tokenizer\.json"):
        load_vocab(folder)


@pytest.mark.parametrize("settings", [{"do_basic_tokenize": False}, {"never_split": ["man"]}])
def test_what_only_pieces_depend_on(folder: Path, settings: dict[str, Any]) -> None:
    """transformers' slow tokenizer heeds them, its fast one does not."""
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if (folder / "tokenizer.json").exists():
        assert load_vocab(folder) is not None
        return
    with pytest.raises(DataError, match=r"do_basic_tokenize is False|\['man'\]"):
        load_vocab(folder)


@pytest.mark.parametrize(
    "text", ['{"added_tokens_decoder": {"5": {"a": 1}}}', '{"never_split": 1}']
)
def test_settings_of_another_shape_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(DataError, match=r"tokenizer_config\.json"):
        load_vocab(tmp_path)


def template(single: str, pair: str, *tokens: str) -> dict[str, Any]:
    """A post-processor, as a tokenizer.json has it."""

    def parts(text: str) -> list[Any]:
        result = []
        for part in text.split():
            name, _, segment = part.partition(":")
            kind = "Sequence" if name.startswith("$") else "SpecialToken"
            result.append({kind: {"id": name.strip("$"), "type_id": int(segment or 0)}})
        return result

    special = {t: {"id": t, "ids": [PIECES.index(t)], "tokens": [t]} for t in tokens}
    return {
        "type": "TemplateProcessing",
        "single": parts(single),
        "pair": parts(pair),
        "special_tokens": special,
    }


@pytest.mark.parametrize(
    "processor",
    [
        None,
        template("$A", "$A $B:1"),
        template("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]", "[CLS]", "[SEP]"),
        template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", "[CLS]", "[SEP]"),
        template("$A [SEP] [CLS]:2", "$A [SEP] $B:1 [SEP]:1 [CLS]:2", "[CLS]", "[SEP]"),
        template("[CLS] $A [SEP]", "[CLS] $B [SEP] $A:1 [SEP]:1", "[CLS]", "[SEP]"),
    ],
)
def test_a_pair_of_another_form_is_refused(tmp_path: Path, processor: Any) -> None:
    definition = json.loads(WordPieceVocab.from_pieces(PIECES).tokenizer.to_str())
    definition["post_processor"] = processor
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(DataError, match=r"tokenizer\.json: .*only BERT's input"):
        load_vocab(tmp_path)


@pytest.mark.parametrize("form", ["template", "BertProcessing"])
def test_a_pair_of_berts_form_is_read(tmp_path: Path, form: str) -> None:
    definition = json.loads(WordPieceVocab.from_pieces(PIECES).tokenizer.to_str())
    definition["post_processor"] = template(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]"
    )
    if form == "BertProcessing":
        ends = {"sep": ["[SEP]", PIECES.index("[SEP]")], "cls": ["[CLS]", PIECES.index("[CLS]")]}
        definition["post_processor"] = {"type": "BertProcessing", **ends}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    assert load_vocab(tmp_path) is not None


@pytest.mark.parametrize(("settings", "cased"), [({}, True), ({"do_lower_case": True}, False)])
def test_pieces_with_capitals_are_of_cased_text(
    tmp_path: Path, settings: dict[str, Any], cased: bool
) -> None:
    """Google's folders have no file that says it."""
    pieces = [*SPECIAL.values(), "Man", "man"]
    assert not lowercases(pieces)
    assert lowercases([*SPECIAL.values(), "[unused1]", "man", "##é"])
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    vocab = load_vocab(tmp_path)
    assert vocab is not None
    (ids,) = vocab.ids_of(["Man"], tokenized=False)
    assert vocab.to_tokens(ids) == ["Man" if cased else "man"]
