"""The tokenizers of transformers' classes: what each makes of a vocabulary and of settings.

A class takes the vocabulary, the merges and the table of characters from its files, also from a
tokenizer.json, and makes all other steps anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bertnli.errors import DataError
from bertnli.text.tokenizer_config import CLASSES, ROBERTA, SETTINGS, SPACES, WORD_START, as_token

#: Tokens that fairseq's models have before SentencePiece's, and how many of those they replace.
FAIRSEQ = {
    "XLMRobertaTokenizer": (("<s>", "<pad>", "</s>", "<unk>"), 3),
    "CamembertTokenizer": (("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"), 1),
}


def definition_of_class(
    kind: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    added: Iterable[Mapping[str, Any]] = (),
    charsmap: str | None = None,
) -> dict[str, Any]:
    """Return the content of a tokenizer.json for a tokenizer of a class.

    Args:
        kind: the class, one of `CLASSES`.
        model: the vocabulary and merges, as in a tokenizer.json.
        settings: the content of the tokenizer_config.json.
        added: the added tokens in the order of their ids, as in a tokenizer.json.
        charsmap: a table of characters of SentencePiece, in Base64.
    """
    of_kind, special = CLASSES[kind]
    if model.get("type", of_kind) != of_kind:
        raise DataError(f"{kind} has a model of type {of_kind}, and not {model['type']}")
    get, vocab, normalizers = settings.get, model["vocab"], list[dict[str, Any]]()
    decoder: dict[str, Any]
    is_spaced = bool(get("add_prefix_space", of_kind == "Unigram"))
    if of_kind == "WordPiece":
        made: dict[str, Any] = {"unk_token": special["unk"], "continuing_subword_prefix": "##"}
        made |= {"max_input_chars_per_word": 100}
        flags = {ours: get(name, True) for name, ours in SETTINGS.items()}
        flags |= {"clean_text": True, "strip_accents": get("strip_accents")}
        normalizers = [{"type": "BertNormalizer", **flags}]
        steps: list[dict[str, Any]] = [{"type": "BertPreTokenizer"}]
        decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    elif of_kind == "BPE":
        made = {"merges": model["merges"]}
        decoder = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
        decoder["add_prefix_space"] = is_spaced
        steps = [decoder]
    else:
        texts = [text for text, _ in vocab]
        unknown = 3 if kind == "XLMRobertaTokenizer" else texts.index(special["unk"])
        scheme, steps = "never", [{"type": "WhitespaceSplit"}]
        if charsmap is not None:
            normalizers = [{"type": "Precompiled", "precompiled_charsmap": charsmap}]
        if kind == "DebertaV2Tokenizer":
            unknown = unknown if vocab[unknown][1] == 0 else get("unk_id", 1)
            spaces = {"type": "Replace", "pattern": {"Regex": SPACES}, "content": " "}
            strip = {"type": "Strip", "strip_left": False, "strip_right": True}
            normalizers = [{"type": "Lowercase"}] * bool(get("do_lower_case"))
            normalizers += [spaces, {"type": "NFC"}, strip]
            is_split = bool(get("split_by_punct"))
            scheme, steps = "first", [{"type": "Punctuation", "behavior": "Isolated"}] * is_split
        made = {"unk_id": unknown, "byte_fallback": False}
        decoder = {"type": "Metaspace", "replacement": WORD_START, "split": True}
        decoder["prepend_scheme"] = "always" if is_spaced else scheme
        steps = [*steps, decoder]
    defaults = {f"{name}_token": as_token(text) for name, text in special.items()}
    if kind == "CamembertTokenizer":
        unused = [token for token in FAIRSEQ[kind][0] if token.endswith("NOTUSED")]
        settings = {"extra_special_tokens": unused, **settings}
    tokens, ids = with_special_tokens(vocab, added, settings, defaults)
    ends = {name: [special[name], ids[special[name]]] for name in ("sep", "cls")}
    is_bpe = of_kind == "BPE"
    two = {"type": "RobertaProcessing", "trim_offsets": is_bpe, "add_prefix_space": is_spaced}
    return {
        "version": "1.0",
        "added_tokens": tokens,
        "normalizer": _sequence("normalizers", normalizers),
        "pre_tokenizer": _sequence("pretokenizers", steps),
        "post_processor": ({"type": "BertProcessing"} if special["sep"] == "[SEP]" else two) | ends,
        "decoder": decoder,
        "model": {"type": of_kind, "vocab": vocab, **made},
    }


def _sequence(kind: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return steps[0] if len(steps) == 1 else {"type": "Sequence", kind: steps}


def with_special_tokens(
    vocab: Any,
    added: Iterable[Mapping[str, Any]],
    settings: Mapping[str, Any],
    defaults: Mapping[str, Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the added tokens of a tokenizer.json, and a dictionary of all tokens to ids.

    Args:
        vocab: the model's tokens: a dictionary to ids, or a list of pairs in the order of ids.
        added, settings: see `definition_of_class`.
        defaults: names of special tokens to those of the class, as objects.
    """
    ids = {text: i for i, (text, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    named = dict.fromkeys(f"{name}_token" for name in ROBERTA) | dict(defaults)
    for name, token in settings.items():
        own = defaults.get(name)
        if name.endswith("_token") and token not in (None, own, own and own["content"]):
            named[name] = token
    tokens = [as_token(token) for token in named.values() if isinstance(token, str | dict)]
    names = [token["content"] for token in tokens]
    made, texts, size = dict[tuple[Any, ...], dict[str, Any]](), set[str](), len(ids)
    extra = map(as_token, settings.get("extra_special_tokens") or ())
    # Of added tokens that differ in flags alone the last one counts, of special tokens the first.
    for token, may_repeat in [(t, True) for t in added] + [(t, False) for t in (*tokens, *extra)]:
        text, special = token["content"], token.get("special", False)
        if text and (may_repeat or text not in texts):
            size += text not in ids
            flags = {name: token.get(name, False) for name in ("single_word", "lstrip", "rstrip")}
            flags |= {"normalized": token.get("normalized", not special)}
            flags |= {"special": special or text in names}
            token = {"id": ids.setdefault(text, size - 1), "content": text, **flags}
            made[tuple(token.values())] = token
            texts.add(text)
    return [*made.values()], ids
