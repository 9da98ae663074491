"""The tokenizers of transformers' classes: what they make of a vocabulary and of settings.

A class takes the vocabulary, the merges and the table of characters from a file, also from a
tokenizer.json, and all other steps from its own code and the settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bertnli.errors import DataError
from bertnli.text.tokenizer_config import (
    CLASSES,
    REPEATED_SPACES,
    ROBERTA,
    SETTINGS,
    WORD_START,
    as_token,
)

#: The longest word that a class splits into word pieces.
LONGEST_WORD = 100
#: Tokens that CamembertTokenizer adds.
_UNUSED = ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED")


def definition_of_class(
    kind: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    added: Iterable[Mapping[str, Any]],
    charsmap: str | None = None,
    longest_word: int = LONGEST_WORD,
) -> dict[str, Any]:
    """Return the content of a tokenizer.json for a tokenizer of a class.

    Args:
        kind: the class, one of `CLASSES`.
        model: the vocabulary and merges, as in a tokenizer.json.
        settings: the content of the tokenizer_config.json.
        added: the added tokens in the order of their ids, as in a tokenizer.json.
        charsmap: a table of characters of SentencePiece in Base64.
        longest_word: the number of characters above which a word is unknown word pieces.

    Raises:
        DataError: the model is not of the class.
    """
    of_kind, special = CLASSES[kind]
    if model.get("type", of_kind) != of_kind:
        raise DataError(f"{kind} needs a model of type {of_kind}, not {model['type']}")
    made = _steps(kind, model, settings, charsmap, longest_word)
    if kind == "CamembertTokenizer":
        settings = {"extra_special_tokens": _UNUSED} | dict(settings)
    spaced = kind in ("MPNetTokenizer", "CamembertTokenizer")  # <mask> takes the space before it
    defaults: dict[str, Any] = {f"{name}_token": text for name, text in special.items()}
    defaults["mask_token"] = {"content": special["mask"], "lstrip": spaced, "special": True}
    tokens, ids = with_special_tokens(model["vocab"], added, settings, defaults)
    ends = {name: [special[name], ids.get(special[name], 0)] for name in ("sep", "cls")}
    is_pair_of_two = special["sep"] == "</s>"
    processor = {"type": "RobertaProcessing" if is_pair_of_two else "BertProcessing", **ends}
    if is_pair_of_two:
        trims = kind in ("RobertaTokenizer", "MPNetTokenizer") and settings.get(
            "trim_offsets", True
        )
        spaces = kind == "RobertaTokenizer" and settings.get("add_prefix_space", False)
        processor |= {"trim_offsets": trims, "add_prefix_space": spaces}
    return {"version": "1.0", "added_tokens": tokens, "post_processor": processor, **made}


def _steps(
    kind: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    charsmap: str | None,
    longest_word: int,
) -> dict[str, Any]:
    """Return the model, normalizer, pre-tokenizer and decoder of a class; see the caller."""
    get, vocab = settings.get, model["vocab"]
    unknown = CLASSES[kind][1]["unk"]
    if CLASSES[kind][0] == "WordPiece":
        names = SETTINGS.items()
        flags = {ours: get(name, None if name == "strip_accents" else True) for name, ours in names}
        prefix = {"continuing_subword_prefix": "##", "max_input_chars_per_word": longest_word}
        return {
            "model": {"type": "WordPiece", "unk_token": unknown, **prefix, "vocab": vocab},
            "normalizer": {"type": "BertNormalizer", "clean_text": True, **flags},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        }
    if kind == "RobertaTokenizer":
        affixes = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
        step = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
        return {
            "model": {"type": "BPE", **affixes, "vocab": vocab, "merges": model["merges"]},
            "pre_tokenizer": step | {"add_prefix_space": get("add_prefix_space", False)},
            "decoder": step | {"add_prefix_space": True},
        }
    texts = [text for text, _ in vocab]
    is_deberta = kind == "DebertaV2Tokenizer"
    if is_deberta:
        found = [i for i, (text, score) in enumerate(vocab) if text == unknown and score == 0]
        unknown_id = found[0] if found else get("unk_id", 1)
    else:
        unknown_id = 3 if kind == "XLMRobertaTokenizer" else texts.index(unknown)
    scheme = "always" if get("add_prefix_space", True) else "first" if is_deberta else "never"
    pieces = {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": scheme}
    normalizers: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = [{"type": "WhitespaceSplit"}]
    if is_deberta:
        normalizers = [{"type": "Lowercase"}] if get("do_lower_case") else []
        spaces = {"type": "Replace", "pattern": {"Regex": REPEATED_SPACES}, "content": " "}
        strip = {"type": "Strip", "strip_left": False, "strip_right": True}
        normalizers += [spaces, {"type": "NFC"}, strip]
        before = [{"type": "Punctuation", "behavior": "Isolated"}] * bool(get("split_by_punct"))
    elif charsmap is not None:
        normalizers = [{"type": "Precompiled", "precompiled_charsmap": charsmap}]
    return {
        "model": {"type": "Unigram", "unk_id": unknown_id, "vocab": vocab, "byte_fallback": False},
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, pieces | {"split": True}]},
        "decoder": pieces | {"split": True},
    }


def with_special_tokens(
    vocab: Mapping[str, int] | list[tuple[str, float]],
    added: Iterable[Mapping[str, Any]],
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the added tokens of a tokenizer.json, and a dictionary of all tokens to ids.

    Args:
        vocab: the model's tokens and their ids, or its pieces in the order of their ids.
        added: the tokens that were added, before special ones.
        settings: the content of the tokenizer_config.json.
        defaults: names of special tokens to those of the class, texts or objects.
    """
    ids = {text: i for i, (text, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    given = {name: token for name, token in settings.items() if name.endswith("_token")}
    named = dict.fromkeys(f"{name}_token" for name in ROBERTA) | dict(defaults)
    named |= {n: t for n, t in given.items() if isinstance(t, dict) or n not in defaults}
    tokens = [as_token(token) for token in named.values() if isinstance(token, str | dict)]
    names = [token["content"] for token in tokens]
    made: dict[str, dict[str, Any]] = {}
    size = len(ids)
    for token in [*added, *tokens, *map(as_token, settings.get("extra_special_tokens") or ())]:
        text, special = token["content"], token.get("special", False)
        if text and text not in made:
            size += text not in ids
            flags = {name: token.get(name, False) for name in ("single_word", "lstrip", "rstrip")}
            flags["normalized"] = token.get("normalized", not special)
            flags["special"] = special or text in names
            made[text] = {"id": ids.setdefault(text, size - 1), "content": text, **flags}
    return [*made.values()], ids
