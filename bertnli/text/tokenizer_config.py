"""What Hugging Face's files say about how a BERT's text is cut; other ways are refused by name.

Another cut would give another input, and an answer that looks like a right one.

tokenizer_config.json     the tokenizer's class, its settings, the special tokens
special_tokens_map.json   the special tokens again
added_tokens.json         tokens that older versions added to vocab.txt
config.json               may name the class, too
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertnli._util.files import is_there, read_json_object
from bertnli.errors import DataError
from bertnli.text.vocab import RESERVED_TOKENS, UNKNOWN

#: The book's names of special tokens, and those of Devlin et al. (2019).
SPECIAL = {token: f"[{token.strip('<>').upper()}]" for token in (UNKNOWN, *RESERVED_TOKENS)}
#: How text is made ready: names in tokenizer_config.json, and in tokenizer.json.
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
#: The file of transformers' sizes, which may name the class of the tokenizer.
MODEL_FILE = "config.json"

#: Classes that cut as BERT does.
_BERT = ("BertTokenizer", "BertTokenizerFast")
#: Classes that cut as tokenizer.json says, and not without it.
_DEFINED = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: Settings that change the pieces, with the only value that is computed here: those of
#: BertJapaneseTokenizer, and one of every tokenizer.
_FIXED = {
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
    "do_word_tokenize": True,
    "do_subword_tokenize": True,
    "split_special_tokens": False,
}
#: The same where there is only a vocab.txt: transformers' two classes disagree about the others.
_FIXED_OF_PIECES = {**_FIXED, "do_basic_tokenize": True}
#: Special tokens with other names would make another input. Padding is not computed.
_ROLES = {f"{token.strip('<>')}_token": SPECIAL[token] for token in SPECIAL if token != "<pad>"}


def read_settings(folder: Path, defined: bool) -> dict[str, Any] | None:
    """Return what tokenizer_config.json says, once nothing in a folder asks for other cutting.

    Args:
        folder: of the vocabulary.
        defined: whether a tokenizer.json is there.

    Returns:
        Its settings, the class of the tokenizer among them; None where there is no such file.

    Raises:
        DataError: a file cannot be read, or asks for what is not computed here; the message names
            the file, what it says, and what is read.
    """
    try:
        model = _read(folder / MODEL_FILE)
    except DataError:  # whoever reads the sizes says what is wrong with it
        model = {}
    settings, special = _read(folder / SETTINGS_FILE), _read(folder / SPECIAL_FILE)
    _check_class(folder / MODEL_FILE, model, defined)
    _check_class(folder / SETTINGS_FILE, settings, defined)
    _check_roles(folder / SETTINGS_FILE, settings)
    _check_roles(folder / SPECIAL_FILE, special)
    kind = settings.get("tokenizer_class") or model.get("tokenizer_class") or _BERT[0]
    return {**settings, "tokenizer_class": kind} if is_there(folder / SETTINGS_FILE) else None


def kept_whole(folder: Path, defined: bool) -> set[str]:
    """Return the tokens beside a vocabulary that are found in text as they are, and not cut.

    Args:
        folder, defined: see `read_settings`; a tokenizer.json has no use for ``never_split``.

    Raises:
        DataError: a file cannot be read.
    """
    found = {*_read(folder / ADDED_FILE)}
    for name in (SETTINGS_FILE, SPECIAL_FILE):
        described = _read(folder / name)
        try:
            entries = [
                *(described.get("added_tokens_decoder") or {}).values(),
                *(described.get("additional_special_tokens") or ()),
                *((not defined and described.get("never_split")) or ()),
            ]
            found |= {_content(entry) for entry in entries}
        except (TypeError, AttributeError) as error:
            raise DataError(f"{folder / name}: its added tokens cannot be read: {error}") from error
    return found


def lowercases(pieces: list[str]) -> bool:
    """Return whether a vocabulary is of lower-case text: no piece has a capital, from A to Z.

    It decides where no file says it. Special and unused tokens stand in brackets.
    """
    return not any(
        "A" <= letter <= "Z"
        for piece in pieces
        if not (piece.startswith("[") and piece.endswith("]"))
        for letter in piece
    )


def _check_class(path: Path, described: Mapping[str, Any], defined: bool) -> None:
    kind = described.get("tokenizer_class")
    if kind in _DEFINED and not defined:
        raise DataError(
            f"{path}: tokenizer_class is {kind!r}, which cuts text as a tokenizer.json says, and "
            "there is none; write it with the tokenizer's save_pretrained"
        )
    if kind is not None and kind not in (*_BERT, *_DEFINED):
        raise DataError(
            f"{path}: tokenizer_class is {kind!r}, which cuts text in another way; only "
            f"{_BERT[0]} is computed here, or {_DEFINED[0]} with its tokenizer.json"
        )
    code = described.get("auto_map")
    if isinstance(code, dict) and "AutoTokenizer" in code:
        raise DataError(
            f"{path}: auto_map has the tokenizer in code of its own, {code['AutoTokenizer']}, "
            f"which is not run; only {_BERT[0]} is computed here"
        )
    for name, expected in (_FIXED if defined else _FIXED_OF_PIECES).items():
        value = described.get(name)
        if value is not None and value != expected:
            raise DataError(f"{path}: {name} is {value!r}, and only {expected!r} is computed here")


def _check_roles(path: Path, described: Mapping[str, Any]) -> None:
    for role, expected in _ROLES.items():
        found = _content(described.get(role))
        if found is not None and found != expected:
            raise DataError(f"{path}: {role} is {found!r}, and only {expected!r} is read here")


def _content(token: Any) -> Any:
    """Return a token's text: it stands there as such, or in an object with what else it is."""
    return token["content"] if isinstance(token, dict) and "content" in token else token


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; an empty one if there is no file."""
    return read_json_object(path, DataError) if is_there(path) else {}
