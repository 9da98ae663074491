"""The steps of a ``tokenizer.json``: none may take far more than the text that it is given.

The library runs what a file says, at any cost: rules that write a character twice, twenty times one
after the other, make a million characters of one. What is accepted here takes time and memory in
proportion to the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bertnli._util.files import MAX_COMMAS, MAX_CONTAINERS
from bertnli.errors import DataError

#: Tokens that are looked for in text and not cut: how many, and their characters.
MAX_ADDED, MAX_ADDED_LENGTH = 1 << 13, 256
#: Characters of a word that is cut; the library's time grows with their square.
MAX_WORD = 1000
#: Normalizers, or pre-tokenizers, of a sequence.
MAX_STEPS = 64
#: Characters that all normalizers together may make of one.
MAX_GROWTH = 256
#: Normalizers, and the characters that each makes of one at most.
NORMALIZERS = {
    "BertNormalizer": 4,
    "Lowercase": 3,
    "NFC": 3,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "Nmt": 1,
    "StripAccents": 1,
    "Strip": 1,
}
PRE_TOKENIZERS = (
    *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"),
    *("CharDelimiterSplit", "Metaspace", "ByteLevel", "UnicodeScripts", "FixedLength"),
)


def check_definition(text: str) -> None:
    """Refuse a ``tokenizer.json`` whose steps may take far more than the text that is cut.

    Args:
        text: of the file.

    Raises:
        DataError: it is something else, or has such a step, which the message names.
    """
    if text.count("[") + text.count("{") > MAX_CONTAINERS or text.count(",") > MAX_COMMAS:
        raise DataError("it has too many values for the definition of a tokenizer")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not the definition of a tokenizer: {error}") from error
    if not isinstance(found, dict):
        raise DataError("not the definition of a tokenizer: an object is expected")
    try:
        _check_added(found.get("added_tokens") or ())
        _check_model(found.get("model") or {})
        _check_normalizers(_steps(found.get("normalizer"), "normalizers"))
        _check_pre_tokenizers(_steps(found.get("pre_tokenizer"), "pretokenizers"))
    except (TypeError, AttributeError, LookupError) as error:
        raise DataError(f"not the definition of a tokenizer: {error}") from error


def _check_added(tokens: Any) -> None:
    if len(tokens) > MAX_ADDED:
        raise DataError(f"{len(tokens):,} added tokens; at most {MAX_ADDED:,} are read")
    if any(len(token["content"]) > MAX_ADDED_LENGTH for token in tokens):
        raise DataError(f"an added token is longer than {MAX_ADDED_LENGTH} characters")


def _check_model(model: Mapping[str, Any]) -> None:
    longest = model.get("max_input_chars_per_word", 0)
    if isinstance(longest, int | float) and longest > MAX_WORD:
        raise DataError(
            f"words of {longest:,} characters (max_input_chars_per_word); at most {MAX_WORD} are "
            "cut into pieces"
        )


def _steps(step: Any, several: str) -> list[Mapping[str, Any]]:
    """Return the single steps of one that may be a sequence of others."""
    waiting, found = [step] if step is not None else [], []
    while waiting:
        one = waiting.pop()
        if one.get("type") == "Sequence":
            waiting += one[several]
        else:
            found.append(one)
        if len(waiting) + len(found) > MAX_STEPS:
            raise DataError(f"more than {MAX_STEPS} {several}")
    return found


def _check_normalizers(steps: list[Mapping[str, Any]]) -> None:
    growth = 1.0
    for step in steps:
        kind = step.get("type")
        if kind == "Replace":
            growth *= max(1, len(step["content"]) / _length(step["pattern"], "normalizer"))
        elif kind == "Prepend":
            if len(step["prepend"]) > MAX_ADDED_LENGTH:
                raise DataError("a normalizer puts a long text before another")
        elif kind in NORMALIZERS:
            growth *= NORMALIZERS[kind]
        else:
            raise DataError(f"the normalizer {kind!r} is not read here")
    if growth > MAX_GROWTH:
        raise DataError(
            f"its normalizers may make {growth:,.0f} characters of one; at most {MAX_GROWTH} are "
            "computed here"
        )


def _check_pre_tokenizers(steps: list[Mapping[str, Any]]) -> None:
    for step in steps:
        if step.get("type") == "Split":
            _length(step["pattern"], "pre-tokenizer")
        elif step.get("type") not in PRE_TOKENIZERS:
            raise DataError(f"the pre-tokenizer {step.get('type')!r} is not read here")


def _length(pattern: Mapping[str, str], what: str) -> int:
    """Return the characters of a text to look for; refuse expressions, and what is everywhere."""
    if {*pattern} != {"String"} or not pattern["String"]:
        raise DataError(
            f"a {what} looks for {dict(pattern)!r:.100}; only plain text is looked for here, since "
            "an expression may take for ever"
        )
    return len(pattern["String"])
