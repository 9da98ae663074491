"""Read and check the files of a Hugging Face tokenizer.

tokenizer_config.json     the tokenizer's class and settings, and the special tokens
special_tokens_map.json   the special tokens again
added_tokens.json         tokens that older versions added to the vocabulary
config.json               may also name the tokenizer's class, or the model's type
tokenizer.json            the definition of a fast tokenizer

Unsupported settings are refused by name, since they would silently give other ids. The package
tokenizers runs each step of a definition at any cost (twenty replacements that double a character
make a million of one). So only the steps listed here are accepted, and only a few in sequence.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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

_BERT = {text.strip("[]").lower(): text for text in SPECIAL.values()}
ROBERTA = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>"}
ROBERTA |= {"cls": "<s>", "mask": "<mask>"}
#: Tokenizer class, without "Fast", to the type of its model and its special tokens.
CLASSES = {
    "BertTokenizer": ("WordPiece", _BERT),
    "DistilBertTokenizer": ("WordPiece", _BERT),
    "ElectraTokenizer": ("WordPiece", _BERT),
    "MPNetTokenizer": ("WordPiece", ROBERTA | {"unk": "[UNK]"}),
    "RobertaTokenizer": ("BPE", ROBERTA),
    "XLMRobertaTokenizer": ("Unigram", ROBERTA),
    "CamembertTokenizer": ("Unigram", ROBERTA),
    "DebertaV2Tokenizer": ("Unigram", {"bos": "[CLS]", "eos": "[SEP]"} | _BERT),
}
#: Model type, without its hyphen, to its tokenizer's class.
MODEL_TYPES = {name.removesuffix("Tokenizer").lower(): name for name in CLASSES}
#: Tokenizer classes that need a tokenizer.json, and take it as it is.
DEFINED = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: Settings that change the ids, and their supported values: those of BertJapaneseTokenizer, and
#: some that every tokenizer has.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(SETTINGS, (True, False)),
    "word_tokenizer_type": ("basic",),
    "subword_tokenizer_type": ("wordpiece",),
    "do_word_tokenize": (True,),
    "do_subword_tokenize": (True,),
    "split_special_tokens": (False,),
    "fast_tokenizer_files": (["tokenizer.json"],),
    "auto_map": ("no code of its own",),
}

#: Limits of a tokenizer.json: its bytes, and its lists, of which each piece of Unigram is one.
MAX_DEFINITION, MAX_PIECES = 24 << 20, 1 << 19
#: Limits of added tokens, which are searched for in the text: their number and length.
MAX_ADDED, MAX_ADDED_LENGTH = 1 << 13, 256
#: Maximum length of a word that is split; the time grows with its square.
MAX_WORD = 1000
#: Maximum number of normalizers, and of pre-tokenizers, sequences included.
MAX_STEPS = 16
#: Steps that are accepted, and those that are accepted once, since they make text longer.
NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "StripAccents"),
    *("Strip", "Precompiled", "Prepend", "Replace", "ByteLevel"),
)
PRE_TOKENIZERS = (
    *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"),
    *("CharDelimiterSplit", "Metaspace", "ByteLevel", "UnicodeScripts", "FixedLength", "Split"),
)
PRECOMPILED = "Precompiled"
ONCE = (PRECOMPILED, "Prepend", "ByteLevel")
#: The character that stands for a space before a word.
WORD_START = "\u2581"
SPACES = r"\s{2,}|[\n\r\t]"
#: Regular expressions that a step may have: those of common tokenizers, all of linear time.
REGULAR = {
    "Replace": (" {2,}", SPACES, r"\s+"),
    "Split": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",),
}
#: Maximum number of bytes of what a table of characters puts in the place of a character.
MAX_PRECOMPILED = 64


class Described(NamedTuple):
    """What a folder says about its tokenizer: class, settings, added tokens by id; see below."""

    kind: str
    settings: dict[str, Any]
    added: list[dict[str, Any]]


def read_settings(folder: Path, definition: Mapping[str, Any] | None, default: str) -> Described:
    """Read and check the settings of a tokenizer in the files of a checkpoint's folder.

    Args:
        folder: the folder of the vocabulary.
        definition: the content of its tokenizer.json, if it has one.
        default: the class if no file says it.

    Returns:
        The class, one of `CLASSES` or `DEFINED`, or "" if the tokenizer.json says all; the content
        of tokenizer_config.json with that of special_tokens_map.json; the added tokens.

    Raises:
        DataError: a setting is unsupported, or a file cannot be read.
    """
    try:
        model = _read(folder / MODEL_FILE)
    except DataError:  # reported when the sizes are read
        model = {}
    config, special = _read(folder / SETTINGS_FILE), _read(folder / SPECIAL_FILE)
    kind = config.get("tokenizer_class") or model.get("tokenizer_class")
    kind = str(kind or MODEL_TYPES.get(str(model.get("model_type")).replace("-", ""), default))
    kind = kind if kind in DEFINED else kind.removesuffix("Fast")
    for name, values in ((MODEL_FILE, model), (SETTINGS_FILE, config), (SPECIAL_FILE, special)):
        _check(folder / name, values, definition is not None, kind)
    settings, added, path = dict(config), dict[int, dict[str, Any]](), folder / SETTINGS_FILE
    try:
        if "added_tokens_decoder" in config:
            added = {int(i): as_token(t) for i, t in config["added_tokens_decoder"].items()}
        else:  # older versions have added tokens in three files
            settings |= special
        if "additional_special_tokens" in settings and not settings.get("extra_special_tokens"):
            settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
        tokens = [
            t for k, t in settings.items() if k.endswith("_token") and not isinstance(t, bool)
        ]
        if "extra_special_tokens" in settings:
            extra = settings["extra_special_tokens"] or []
            extra = [*map(as_token, extra.values() if isinstance(extra, dict) else extra)]
            settings["extra_special_tokens"] = extra
            tokens += extra
        known = {as_token(token)["content"] for token in tokens if token is not None}
        if "added_tokens_decoder" not in config:
            path = folder / ADDED_FILE
            for text, i in _read(path).items():
                added[int(i)] = {"content": text, "special": text in known}
            for token in (definition or {}).get("added_tokens") or ():
                added[int(token["id"])] = as_token(token)
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise DataError(f"{path}: its tokens cannot be read: {error}") from error
    is_set = is_there(folder / SETTINGS_FILE) or CLASSES.get(kind, [""])[0] != "WordPiece"
    # Without settings, the definition alone says whether text is lower-cased.
    kind = kind if definition is None or is_set else ""
    return Described(kind, settings, [added[i] for i in sorted(added)])


def lowercases(pieces: list[str]) -> bool:
    """Return whether all word pieces are lower-case, that is without A to Z outside of brackets."""
    return not any(re.search("[A-Z]", p) for p in pieces if not re.fullmatch(r"(?s)\[.*\]", p))


def _check(path: Path, described: Mapping[str, Any], defined: bool, kind: str) -> None:
    """Raise DataError for the first unsupported setting of a file."""
    classes = (*CLASSES, *(f"{name}Fast" for name in CLASSES), *(DEFINED if defined else ()))
    supported: dict[str, tuple[Any, ...]] = {"tokenizer_class": classes, **_SUPPORTED}
    own = CLASSES.get(kind, ("", {}))[1]
    for name in own or _BERT:
        if name != "pad":  # which changes no result
            supported[f"{name}_token"] = (own[name],) if own else (_BERT[name], ROBERTA[name])
    if not defined:  # transformers' two classes disagree about these
        supported |= {"do_basic_tokenize": (True,), "never_split": ([],)}
    for name, values in supported.items():
        value = _content(described.get(name))
        if name == "auto_map":
            value = value.get("AutoTokenizer") if isinstance(value, dict) else None
        if name == "never_split" and isinstance(value, list):
            value = [token for token in value if token not in SPECIAL.values()]
        if value is not None and value not in values:
            if value in DEFINED:
                raise DataError(
                    f"{path}: tokenizer_class is {value!r} without the tokenizer.json that it "
                    "needs; put that file beside it"
                )
            raise DataError(
                f"{path}: {name} is {value!r:.200}, and only "
                f"{' or '.join(map(repr, values))} is computed here"
            )


def _content(token: Any) -> Any:
    """Return the text of a token, which is a string or an object with the key "content"."""
    return token["content"] if isinstance(token, dict) and "content" in token else token


def as_token(token: Any) -> dict[str, Any]:
    """Return a token, a string or an object with its text and flags, as an object, or TypeError."""
    token = {"content": token, "special": True} if isinstance(token, str) else token
    if not isinstance(token, dict) or not isinstance(token.get("content"), str):
        raise TypeError(f"{token!r:.80} is no token")
    return token


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, DataError) if is_there(path) else {}


def check_definition(text: str) -> dict[str, Any]:
    """Parse the text of a ``tokenizer.json``; DataError if it has a step that is not accepted."""
    if has_too_many_values(text, max_containers=MAX_PIECES):
        raise DataError("it has too many values for the definition of a tokenizer")
    try:
        definition: dict[str, Any] = json.loads(text)
        added = [len(token["content"]) for token in definition.get("added_tokens") or ()]
        model = definition["model"]
        longest_word = model.get("max_input_chars_per_word", 0)
        longest_piece = 0
        if isinstance(model["vocab"], list):
            longest_piece = max((len(text) for text, _ in model["vocab"]), default=0)
        steps = _check_steps(definition.get("normalizer"), "normalizers", NORMALIZERS)
        steps += _check_steps(definition.get("pre_tokenizer"), "pretokenizers", PRE_TOKENIZERS)
        kinds = [step.get("type") for step in steps]
        if any(kinds.count(kind) > 1 for kind in ONCE):
            raise DataError(f"it has one of the steps {', '.join(ONCE)} more than once")
        if len(added) > MAX_ADDED or max(added, default=0) > MAX_ADDED_LENGTH:
            raise DataError(
                f"it adds {len(added):,} tokens of up to {max(added):,} characters; at most "
                f"{MAX_ADDED:,} of {MAX_ADDED_LENGTH} are read"
            )
        if max(longest_word, longest_piece) > MAX_WORD:
            raise DataError(
                f"max_input_chars_per_word is {longest_word:,}, or a piece has {longest_piece:,} "
                f"characters, above {MAX_WORD}"
            )
        if model.get("dropout"):
            raise DataError("its dropout draws pieces by chance, and only 0 is computed here")
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise DataError(f"not the definition of a tokenizer: {error}") from error
    return definition


def _check_steps(step: Any, kind: str, accepted: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a step and those nested in it under the key ``kind``; DataError for a refused one."""
    pending = [] if step is None else [step]
    for step in pending:
        name = step.get("type")
        if name == "Sequence":
            pending += step[kind]
        elif name not in accepted:
            raise DataError(
                f"{name!r} is not among the {kind} that are read: {', '.join(accepted)}"
            )
        if len(pending) > MAX_STEPS:
            raise DataError(f"it has more than {MAX_STEPS} {kind}")
        if not _is_bounded(step):
            raise DataError(f"its step {name} is not among those that are read: {step!r:.200}")
    return pending


def _is_bounded(step: Mapping[str, Any]) -> bool:
    """Return whether a step takes linear time and makes text longer by a small factor at most."""
    name, content = step.get("type"), step.get("content", "")
    if name in REGULAR:
        ((kind, pattern),) = step["pattern"].items()
        is_known = pattern in REGULAR[name] if kind == "Regex" else bool(pattern)
        longest = 1 if kind == "Regex" else len(pattern)
        # Nothing that a normal form makes longer again, so steps do not multiply.
        is_plain = content.replace(WORD_START, "").isascii()
        return is_known and is_plain and len(content) <= longest
    if name == "Prepend":
        return len(step["prepend"]) <= 1
    if name == PRECOMPILED:
        table = base64.b64decode(step["precompiled_charsmap"])
        texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
        return max(map(len, texts)) <= MAX_PRECOMPILED
    return True
