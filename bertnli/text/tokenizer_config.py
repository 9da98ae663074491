"""Read and check the files of a Hugging Face tokenizer.

tokenizer_config.json     the tokenizer's class and settings, and the special tokens
special_tokens_map.json   the special tokens again
added_tokens.json         tokens that older versions added to vocab.txt
config.json               may also name the tokenizer's class
tokenizer.json            the definition of a fast tokenizer

Unsupported settings are refused by name, since they would silently give other ids. The package
tokenizers runs each step of a definition at any cost (twenty replacements that double a character
make a million of one). So only the steps listed here are accepted, and only a few in sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertnli._util.files import has_too_many_values, is_there, read_json_object
from bertnli.errors import DataError
from bertnli.text.vocab import RESERVED_TOKENS, UNKNOWN

#: The book's names of special tokens, and the names of Devlin et al. (2019).
SPECIAL = {token: f"[{token.strip('<>').upper()}]" for token in (UNKNOWN, *RESERVED_TOKENS)}
#: Settings of the normalizer: names in tokenizer_config.json, and in tokenizer.json.
SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
MODEL_FILE, SETTINGS_FILE = "config.json", "tokenizer_config.json"
SPECIAL_FILE, ADDED_FILE = "special_tokens_map.json", "added_tokens.json"

_BERT = ("BertTokenizer", "BertTokenizerFast")
#: Tokenizer classes that need a tokenizer.json.
_DEFINED = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: Settings that change the ids, and their supported values: those of BertJapaneseTokenizer, one
#: that every tokenizer has, and the special tokens (but ``<pad>``, which changes no result).
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(SETTINGS, (True, False)),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
    "do_word_tokenize": (True,),
    "do_subword_tokenize": (True,),
    "split_special_tokens": (False,),
    "auto_map": ("no code of its own",),
    **{f"{t.strip('<>')}_token": (name,) for t, name in SPECIAL.items() if t != "<pad>"},
}

#: Limits of added tokens, which are searched for in the text: their number and length.
MAX_ADDED, MAX_ADDED_LENGTH = 1 << 13, 256
#: Maximum length of a word that is split; the time grows with its square.
MAX_WORD = 1000
#: Maximum number of normalizers, and of pre-tokenizers, sequences included.
MAX_STEPS = 16
NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"),
    "Strip",
)
PRE_TOKENIZERS = (
    *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"),
    *("CharDelimiterSplit", "Metaspace", "ByteLevel", "UnicodeScripts", "FixedLength"),
)


def read_settings(folder: Path, defined: bool) -> tuple[dict[str, Any] | None, set[str]]:
    """Read and check the settings of a tokenizer in the files of a checkpoint's folder.

    Args:
        folder: the folder of the vocabulary.
        defined: whether the folder has a tokenizer.json.

    Returns:
        The settings of tokenizer_config.json with the tokenizer's class, or None without this
        file; and the set of added tokens, which must not be split.

    Raises:
        DataError: a setting is unsupported, or a file cannot be read.
    """
    try:
        model = _read(folder / MODEL_FILE)
    except DataError:  # reported when the sizes are read
        model = {}
    settings = _read(folder / SETTINGS_FILE)
    files = {MODEL_FILE: model, SETTINGS_FILE: settings, SPECIAL_FILE: _read(folder / SPECIAL_FILE)}
    added = {*_read(folder / ADDED_FILE)}
    for name, values in files.items():
        _check(folder / name, values, defined)
        try:
            tokens = [
                *(values.get("added_tokens_decoder") or {}).values(),
                *(values.get("additional_special_tokens") or ()),
                *((not defined and values.get("never_split")) or ()),
            ]
            added |= set(map(_content, tokens))
        except (TypeError, AttributeError) as error:
            raise DataError(f"{folder / name}: its added tokens cannot be read: {error}") from error
    if not is_there(folder / SETTINGS_FILE):
        return None, added
    kind = settings.get("tokenizer_class") or model.get("tokenizer_class") or _BERT[0]
    return {**settings, "tokenizer_class": kind}, added


def lowercases(pieces: list[str]) -> bool:
    """Return whether all word pieces are lower-case, that is without A to Z outside of brackets."""
    return not any(re.search("[A-Z]", p) for p in pieces if not re.fullmatch(r"(?s)\[.*\]", p))


def _check(path: Path, described: Mapping[str, Any], defined: bool) -> None:
    """Raise DataError for the first unsupported setting of a file."""
    # Without a tokenizer.json, transformers' two classes disagree about do_basic_tokenize.
    further = {"tokenizer_class": _BERT + _DEFINED} if defined else {"do_basic_tokenize": (True,)}
    for name, values in {"tokenizer_class": _BERT, **_SUPPORTED, **further}.items():
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
    """Return the text of a token, which is a string or an object with the key "content"."""
    return token["content"] if isinstance(token, dict) and "content" in token else token


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, DataError) if is_there(path) else {}


def check_definition(text: str) -> None:
    """Raise DataError if the text of a ``tokenizer.json`` has a step that is not accepted."""
    if has_too_many_values(text):
        raise DataError("it has too many values for the definition of a tokenizer")
    try:
        definition = json.loads(text)
        added = [len(token["content"]) for token in definition.get("added_tokens") or ()]
        longest_word = (definition.get("model") or {}).get("max_input_chars_per_word", 0)
        _check_steps(definition.get("normalizer"), "normalizers", NORMALIZERS)
        _check_steps(definition.get("pre_tokenizer"), "pretokenizers", PRE_TOKENIZERS)
        if len(added) > MAX_ADDED or max(added, default=0) > MAX_ADDED_LENGTH:
            raise DataError(
                f"it adds {len(added):,} tokens of up to {max(added):,} characters; at most "
                f"{MAX_ADDED:,} of {MAX_ADDED_LENGTH} are read"
            )
        if longest_word > MAX_WORD:
            raise DataError(f"max_input_chars_per_word is {longest_word:,}, above {MAX_WORD}")
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise DataError(f"not the definition of a tokenizer: {error}") from error


def _check_steps(step: Any, kind: str, accepted: tuple[str, ...]) -> None:
    """Raise DataError if a step, or a step nested in it under the key ``kind``, is not accepted."""
    pending = [] if step is None else [step]
    for step in pending:
        if step.get("type") == "Sequence":
            pending += step[kind]
        elif step.get("type") not in accepted:
            raise DataError(
                f"{step.get('type')!r} is not among the {kind} that are read: {', '.join(accepted)}"
            )
        if len(pending) > MAX_STEPS:
            raise DataError(f"it has more than {MAX_STEPS} {kind}")
