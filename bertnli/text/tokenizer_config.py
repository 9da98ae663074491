"""The settings in Hugging Face's files that change how a BERT's text is cut.

Settings that are not supported are refused by name, since another cut would give other inputs, and
answers that look right.

tokenizer_config.json     the tokenizer's class, its settings, the special tokens
special_tokens_map.json   the special tokens again
added_tokens.json         tokens that older versions added to vocab.txt
config.json               may name the class, too
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertnli._util.files import is_there, read_json_object
from bertnli.errors import DataError
from bertnli.text.vocab import RESERVED_TOKENS, UNKNOWN

#: The book's names of special tokens, and those of Devlin et al. (2019).
SPECIAL = {token: f"[{token.strip('<>').upper()}]" for token in (UNKNOWN, *RESERVED_TOKENS)}
#: Settings of the normalizer: names in tokenizer_config.json, and in tokenizer.json.
SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
SETTINGS_FILE, SPECIAL_FILE, ADDED_FILE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
MODEL_FILE = "config.json"

_BERT = ("BertTokenizer", "BertTokenizerFast")
#: Classes that cut text as a tokenizer.json says.
_DEFINED = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: Settings that change the ids, with the only values that are supported: those of
#: BertJapaneseTokenizer, one of every tokenizer, the special tokens (padding is not computed).
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("do_lower_case", "strip_accents", "tokenize_chinese_chars"), (True, False)),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
    "do_word_tokenize": (True,),
    "do_subword_tokenize": (True,),
    "split_special_tokens": (False,),
    "auto_map": ("no code of its own",),
    **{f"{t.strip('<>')}_token": (name,) for t, name in SPECIAL.items() if t != "<pad>"},
}


def read_settings(folder: Path, defined: bool) -> tuple[dict[str, Any] | None, set[str]]:
    """Read the settings of tokenization from the files beside a vocabulary.

    Args:
        folder: of the vocabulary.
        defined: whether it has a tokenizer.json.

    Returns:
        The settings of tokenizer_config.json, the tokenizer's class among them, or None without
        that file; and the added tokens, which must not be cut. What is unsupported is a DataError.
    """
    try:
        model = _read(folder / MODEL_FILE)
    except DataError:  # reported when the sizes are read
        model = {}
    settings, special = _read(folder / SETTINGS_FILE), _read(folder / SPECIAL_FILE)
    kept = {*_read(folder / ADDED_FILE)}
    _check(folder / MODEL_FILE, model, defined)
    for path, described in ((folder / SETTINGS_FILE, settings), (folder / SPECIAL_FILE, special)):
        _check(path, described, defined)
        try:
            tokens = [
                *(described.get("added_tokens_decoder") or {}).values(),
                *(described.get("additional_special_tokens") or ()),
                *((not defined and described.get("never_split")) or ()),
            ]
            kept |= set(map(_content, tokens))
        except (TypeError, AttributeError) as error:
            raise DataError(f"{path}: its added tokens cannot be read: {error}") from error
    kind = settings.get("tokenizer_class") or model.get("tokenizer_class") or _BERT[0]
    has_settings = is_there(folder / SETTINGS_FILE)
    return {**settings, "tokenizer_class": kind} if has_settings else None, kept


def lowercases(pieces: list[str]) -> bool:
    """Return whether no piece has a capital, from A to Z; special tokens are in brackets."""
    return not any(re.search("[A-Z]", p) for p in pieces if not re.fullmatch(r"(?s)\[.*\]", p))


def _check(path: Path, described: Mapping[str, Any], defined: bool) -> None:
    """Raise DataError for the first unsupported setting of a file."""
    # Without a tokenizer.json, transformers' two classes disagree about do_basic_tokenize.
    more = {"tokenizer_class": _BERT + _DEFINED} if defined else {"do_basic_tokenize": (True,)}
    supported = {"tokenizer_class": _BERT, **_SUPPORTED, **more}
    for name, values in supported.items():
        value = _content(described.get(name))
        if name == "auto_map":
            value = value.get("AutoTokenizer") if isinstance(value, dict) else None
        if value is not None and value not in values:
            needs = " without the tokenizer.json that it needs" if value in _DEFINED else ""
            raise DataError(
                f"{path}: {name} is {value!r}{needs}, and only "
                f"{' or '.join(map(repr, values))} is computed here"
            )


def _content(token: Any) -> Any:
    """Return a token's text, which may be in an object with the token's properties."""
    return token["content"] if isinstance(token, dict) and "content" in token else token


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, DataError) if is_there(path) else {}
