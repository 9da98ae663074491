"""Check a ``tokenizer.json`` from elsewhere: its steps must take time in proportion to the text.

The package tokenizers runs what a file says, at any cost: twenty rules in sequence that double a
character make a million of one. So only the steps listed here are accepted, and few in sequence.
"""

from __future__ import annotations

import json
from typing import Any

from bertnli._util.files import MAX_COMMAS, MAX_CONTAINERS
from bertnli.errors import DataError

#: Limits of added tokens, which are searched for in the text: their number and length.
MAX_ADDED, MAX_ADDED_LENGTH = 1 << 13, 256
#: Maximum length of a word that is cut: time grows with its square.
MAX_WORD = 1000
#: Maximum number of normalizers, or of pre-tokenizers, with their sequences.
MAX_STEPS = 16
NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"),
    "Strip",
)
PRE_TOKENIZERS = (
    *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"),
    *("CharDelimiterSplit", "Metaspace", "ByteLevel", "UnicodeScripts", "FixedLength"),
)


def check_definition(text: str) -> None:
    """Raise DataError if the text of a ``tokenizer.json`` has a step that is not accepted."""
    if text.count("[") + text.count("{") > MAX_CONTAINERS or text.count(",") > MAX_COMMAS:
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


def _check_steps(step: Any, several: str, accepted: tuple[str, ...]) -> None:
    """Check a step that may be a sequence, also a nested one."""
    pending = [] if step is None else [step]
    for step in pending:
        if step.get("type") == "Sequence":
            pending += step[several]
        elif step.get("type") not in accepted:
            raise DataError(
                f"{step.get('type')!r} is not among the {several} that are read: "
                f"{', '.join(accepted)}"
            )
        if len(pending) > MAX_STEPS:
            raise DataError(f"it has more than {MAX_STEPS} {several}")
