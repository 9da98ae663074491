"""Vocabularies of pieces of words, Hugging Face's and GluonNLP's, by the package tokenizers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bertnli._util.files import MAX_VOCAB, is_there, open_regular, read_json_object, read_text
from bertnli.errors import BackendError, ConfigError, DataError
from bertnli.text.sentencepiece import CONTROL, USER_DEFINED, read_sentencepiece
from bertnli.text.tokenize import BRACKETS, Tokens
from bertnli.text.tokenizer_classes import definition_of_class, with_special_tokens
from bertnli.text.tokenizer_config import (
    CLASSES,
    MAX_DEFINITION,
    SETTINGS,
    SPECIAL,
    Described,
    check_definition,
    check_special_tokens,
    lowercases,
    read_settings,
)
from bertnli.text.vocab import UNKNOWN, Vocab

#: Limits of a vocabulary: its size, and the number of ids without a token.
MAX_TOKENS, MAX_GAPS = 1 << 19, 1 << 16
#: Names of the files of byte-level BPE's merges, and of models of SentencePiece.
MERGES, MODELS = "merges.txt", ("sentencepiece.bpe.model", "spm.model", "spiece.model")
#: Number of sentences that are tokenized at a time.
_BATCH = 4096
_CLITIC = re.compile(r"(?i)n't|'(?:s|m|d|ll|re|ve)")
_FROM_TREEBANK = {new: old for old, new in BRACKETS.items()} | {"``": '"', "''": '"'}


class SubwordVocab(Vocab):
    """A vocabulary of pieces of words, with the tokenizer that splits text into them.

    `required` takes the book's names of special tokens: ``required("<cls>")`` is the id of
    ``[CLS]``. So data sets, truncation and the cache work with both kinds of vocabulary.

    Args:
        definition: the JSON text of a ``tokenizer.json``.

    Attributes:
        special: dictionary of the book's names of special tokens to the tokenizer's; those that it
            lacks are absent. ``<cls>`` and ``<sep>`` are those of a pair, ``<unk>`` is that of
            unknown text; others are known by their names, such as ``[PAD]`` or ``<pad>``.
        separators: 1 for pairs ``[CLS] A [SEP] B [SEP]``, 2 for ``<s> A </s></s> B </s>``.
        gives_segments, is_wordpiece: see `Vocab`.

    Raises:
        DataError: the text does not define a tokenizer of such pairs.
        BackendError: the package tokenizers is missing.
    """

    FILE = "tokenizer.json"
    WHOLE_WORDS = False

    def __init__(self, definition: str) -> None:
        super().__init__()
        lib = _tokenizers()
        check_definition(definition)
        with _as_data_errors("not a definition of a tokenizer"):
            self.tokenizer = lib.Tokenizer.from_str(definition)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        size = max(ids.values(), default=-1) + 1
        if size - len(ids) > MAX_GAPS:
            raise DataError(f"{len(ids)} tokens have ids up to {size - 1}")
        tokens = [f"[no token {i}]" for i in range(size)]
        for token, i in ids.items():
            tokens[i] = token
        self._set_tokens(tokens)
        next(self.ids_of(["\U0010fffd"], False))  # an unknown character; fails without [UNK]
        self._read_pairs()
        self._read_special()

    @classmethod
    def load(cls, path: str | Path) -> SubwordVocab:
        """Read a ``tokenizer.json``; see `SubwordVocab` for the errors."""
        definition = read_text(path, DataError, MAX_DEFINITION)
        with _as_data_errors(path):
            return cls(definition)

    @classmethod
    def from_pieces(
        cls,
        pieces: Iterable[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        longest_word: int = 100,
    ) -> SubwordVocab:
        """Make the vocabulary of a ``vocab.txt``, which tokenizes as BERT's reference code does.

        Args:
            pieces: the word pieces in the order of their ids.
            lowercase: whether text is lower-cased.
            strip_accents: whether accents are removed; None to remove them from lower-cased text.
            split_chinese: whether each Chinese character is a word.
            longest_word: the number of characters above which a word is unknown.

        Raises:
            DataError: a piece is repeated, or a special token is missing.
        """
        settings = {
            "do_lower_case": lowercase,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": split_chinese,
        }
        model = _word_pieces(list(pieces), "BertTokenizer")
        made = definition_of_class("BertTokenizer", model, settings, (), longest_word=longest_word)
        return cls(json.dumps(made))

    def settings(self) -> dict[str, Any]:
        steps = [json.loads(self.definition())[kind] for kind in ("normalizer", "pre_tokenizer")]
        values = {name: value for step in steps for name, value in (step or {}).items()}
        names = SETTINGS | {"add_prefix_space": "add_prefix_space"}
        return {key: values[name] for key, name in names.items() if name in values}

    def _read_pairs(self) -> None:
        """Read from an encoded pair how special tokens and segments are placed.

        Raises:
            DataError: it is not done in a way that `bertnli.data` knows.
        """
        with _as_data_errors("a pair cannot be cut into pieces"):
            a, b = self.tokenizer.encode_batch(["a", "b"], add_special_tokens=False)
            pair = self.tokenizer.encode("a", "b")
        tokens, types, ends = pair.tokens, pair.type_ids, len(b.tokens) + 1
        cls, sep = (tokens[0], tokens[-1]) if tokens else ("[CLS]", "[SEP]")
        self.separators = len(tokens) - len(a.tokens) - len(b.tokens) - 2
        expected = [cls, *a.tokens, *[sep] * self.separators, *b.tokens, sep]
        is_known = self.separators in (1, 2) and tokens == expected and cls != sep
        second = types[-ends:]
        if not is_known or any(types[:-ends]) or second not in ([0] * ends, [1] * ends):
            raise DataError(
                f"it makes {' '.join(tokens)!r} with the segments {types} of a pair, and only the "
                "inputs of BERT and RoBERTa are computed here, '[CLS] a [SEP] b [SEP]' and "
                "'<s> a </s> </s> b </s>'"
            )
        self.gives_segments = second[-1] == 1
        self._special = {"<cls>": cls, "<sep>": sep}

    def _read_special(self) -> None:
        """Find the special tokens that no pair shows, by the model's description or their names."""
        model = json.loads(self.definition())["model"]
        self.is_wordpiece = model["type"] == "WordPiece"
        unknown = model.get("unk_token")
        if model.get("unk_id") is not None:
            unknown = model["vocab"][model["unk_id"]][0]
        for name, alike in SPECIAL.items():
            names = (alike, name) if self._special["<cls>"] == "[CLS]" else (name, alike)
            names = (unknown, *names) if name == UNKNOWN else names
            found = [text for text in names if text in self.token_to_idx]
            if name not in self._special and found:
                self._special[name] = found[0]

    @property
    def special(self) -> dict[str, str]:
        return self._special

    @property
    def unk(self) -> int:
        """The id of unknown text; -1 for a tokenizer without unknown text."""
        return self.token_to_idx.get(self._special.get(UNKNOWN, ""), -1)

    def definition(self) -> str:
        """Return the JSON text of the tokenizer."""
        return self.tokenizer.to_str()

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def required(self, token: str) -> int:
        return super().required(self._special.get(token, token))

    def ids_of(self, sentences: Iterable[str], tokenized: bool) -> Iterator[list[int]]:
        texts = (_as_text(s) if tokenized or isinstance(s, Tokens) else s for s in sentences)
        while batch := list(islice(texts, _BATCH)):
            with _as_data_errors("text cannot be cut into word pieces"):
                encodings = self.tokenizer.encode_batch(batch, add_special_tokens=False)
            for encoding in encodings:
                yield encoding.ids


def train_word_pieces(sentences: Iterable[str], size: int) -> SubwordVocab:
    """Learn ``size`` lower-case word pieces from text; the result depends on the text alone.

    Raises:
        ConfigError: the size is too small for the special tokens and the text's characters.
    """
    texts, special = list(sentences), list(SPECIAL.values())
    # The trainer numbers continuing characters in an order that differs between processes, and
    # breaks ties of merges by these numbers. As special tokens they get fixed numbers.
    characters = _trained(texts, 0, special)
    continuing = sorted(piece for piece in characters if piece.startswith("##") and len(piece) > 2)
    ids = _trained(texts, size, special + continuing)
    if len(ids) > size:
        raise ConfigError(
            f"{size} word pieces are fewer than the text's characters and the special tokens; "
            f"give {len(ids)} at least"
        )
    return SubwordVocab.from_pieces(sorted(ids, key=ids.__getitem__))


def _trained(texts: Sequence[str], size: int, special: list[str]) -> dict[str, int]:
    """Learn ``size`` word pieces; return a dictionary of each to its id, special tokens first."""
    tokenizer = _tokenizers().BertWordPieceTokenizer()
    tokenizer.train_from_iterator(
        texts,
        vocab_size=size,
        min_frequency=0,
        limit_alphabet=MAX_TOKENS,
        special_tokens=special,
        show_progress=False,
    )
    return tokenizer.get_vocab()


def load_vocab(folder: Path) -> Vocab | None:
    """Read the vocabulary of a folder, of the first of these files that there is.

    tokenizer.json, vocab.json (with merges.txt or alone), vocab.txt, a model of SentencePiece.

    Returns:
        The vocabulary, of pieces or the book's; None if the folder has none of these files.

    Raises:
        DataError: a file cannot be read, or has an unsupported setting.
    """
    names = (SubwordVocab.FILE, Vocab.FILE, "vocab.txt", *MODELS)
    path = next((folder / name for name in names if is_there(folder / name)), None)
    described = read_settings(folder, path is not None and path.name == SubwordVocab.FILE)
    if path is None:
        return None
    if path.name == Vocab.FILE and not (_is_object(path) and is_there(folder / MERGES)):
        return load_gluonnlp(path) if _is_object(path) else Vocab.load(path)
    with _as_data_errors(path):
        read = {SubwordVocab.FILE: _of_definition, Vocab.FILE: _of_merges, "vocab.txt": _of_pieces}
        vocab = SubwordVocab(json.dumps(read.get(path.name, _of_model)(path, described)))
    check_special_tokens(described, vocab.special)
    return vocab


def _of_definition(path: Path, described: Described) -> dict[str, Any]:
    """Read a tokenizer.json, from which a class takes its vocabulary and table of characters."""
    text = read_text(path, DataError, MAX_DEFINITION)
    check_definition(text)
    definition: dict[str, Any] = json.loads(text)
    model, tokens = definition["model"], definition.get("added_tokens") or []
    added = described.added
    if not described.is_complete:
        added = added | {token["id"]: token for token in tokens}
    listed = [added[i] for i in sorted(added)]
    if described.kind not in CLASSES:
        tokens = [*tokens, *listed]
        tokens, _ = with_special_tokens(model["vocab"], tokens, described.settings, {})
        return {**definition, "added_tokens": tokens}
    normalizer = definition.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    tables = [step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"]
    charsmap = tables[0] if tables else None
    return definition_of_class(described.kind, model, described.settings, listed, charsmap)


def _of_pieces(path: Path, described: Described) -> dict[str, Any]:
    """Read a vocab.txt, and find out whether its text is lower-cased if the settings do not say."""
    pieces = read_text(path, DataError, MAX_VOCAB).rstrip("\n").split("\n", MAX_TOKENS)
    settings = {"do_lower_case": lowercases(pieces)} | described.settings
    kind = described.kind or "BertTokenizer"
    return _of_class(kind, _word_pieces(pieces, kind), described, settings)


def _of_merges(path: Path, described: Described) -> dict[str, Any]:
    """Read a vocab.json and the merges.txt beside it."""
    vocab = read_json_object(path, DataError, MAX_VOCAB)
    lines = read_text(path.with_name(MERGES), DataError, MAX_VOCAB).split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    return _of_class(described.kind or "RobertaTokenizer", model, described, described.settings)


def _of_model(path: Path, described: Described) -> dict[str, Any]:
    """Read a model of SentencePiece, whose ids differ from those of fairseq's models."""
    if not described.kind:
        raise DataError(
            "no file says whose it is; put its config.json, with model_type, or its "
            "tokenizer_config.json, with tokenizer_class, beside it"
        )
    model = read_sentencepiece(path)
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    special = CLASSES[described.kind][1]
    if described.kind == "XLMRobertaTokenizer":
        first = [special[name] for name in ("bos", "pad", "eos", "unk")]
        pieces = [*((text, 0.0) for text in first), *pieces[3:], (special["mask"], 0.0)]
    elif described.kind == "CamembertTokenizer":
        first = ["<s>NOTUSED", special["pad"], "</s>NOTUSED", special["unk"]]
        unused = ("<unk>NOTUSED", -100.0)
        pieces = [*((text, 0.0) for text in first), unused, *pieces[1:], (special["mask"], 0.0)]
    symbols = [
        {"content": piece.text, "normalized": False, "special": piece.type == CONTROL}
        for piece in model.pieces
        if piece.type in (CONTROL, USER_DEFINED)
    ]
    settings = {"extra_special_tokens": symbols, "unk_id": model.unknown_id} | described.settings
    charsmap = base64.b64encode(model.charsmap).decode() if model.charsmap else None
    vocab = {"type": "Unigram", "vocab": pieces}
    return _of_class(described.kind, vocab, described, settings, charsmap)


def _of_class(
    kind: str, model: Any, described: Described, settings: Any, charsmap: str | None = None
) -> dict[str, Any]:
    listed = [described.added[i] for i in sorted(described.added)]
    return definition_of_class(kind, model, settings, listed, charsmap)


def _word_pieces(tokens: list[str], kind: str) -> dict[str, Any]:
    """Return the model of a list of word pieces; DataError for repeated or missing ones."""
    if len(tokens) > MAX_TOKENS:
        raise DataError(f"more than {MAX_TOKENS:,} word pieces")
    ids = {token: i for i, token in enumerate(tokens)}
    missing = [name for name in CLASSES[kind][1].values() if name not in ids]
    if missing:
        raise DataError(f"the word pieces have no {', '.join(missing)}")
    if len(ids) < len(tokens):
        repeated = next(token for i, token in enumerate(tokens) if ids[token] != i)
        raise DataError(f"the word piece {repeated!r} occurs twice")
    return {"type": "WordPiece", "vocab": ids}


def _is_object(path: Path) -> bool:
    """Return whether a JSON file holds an object; the book's vocabularies are lists."""
    with open_regular(path, DataError, MAX_VOCAB) as file:
        return file.read(256).lstrip().startswith(b"{")


def load_gluonnlp(path: Path) -> SubwordVocab:
    """Read a vocabulary that GluonNLP wrote; the result tokenizes like GluonNLP's tokenizer.

    Text is lower-cased if the file's name has ``uncased``, or if the name has no ``cased`` and the
    pieces have no capitals.
    """
    pieces = read_json_object(path, DataError, MAX_VOCAB).get("idx_to_token")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise DataError(
            f"{path}: GluonNLP's vocabularies have a list idx_to_token, and those of byte-level BPE "
            f"a {MERGES} beside them"
        )
    if any(piece.startswith("\u2581") for piece in pieces):
        raise DataError(f"{path}: its pieces are SentencePiece's, and only WordPiece is read here")
    named = re.search("(un)?cased", path.name)
    lowercase = lowercases(pieces) if named is None else named[1] is not None
    with _as_data_errors(path):
        return SubwordVocab.from_pieces(pieces, lowercase, longest_word=200)


@contextmanager
def _as_data_errors(what: str | Path) -> Iterator[None]:
    """Context manager that converts any error to a DataError whose message begins with ``what``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, BackendError):
        raise
    except BaseException as error:  # panics of the package tokenizers are not Exceptions
        raise DataError(f"{what}: {error}") from error


def _as_text(sentence: str) -> str:
    """Join treebank tokens to text: restore brackets and quotation marks, and attach clitics."""
    text = ""
    for word in sentence.split():
        joined = not text or _CLITIC.fullmatch(word)
        text += ("" if joined else " ") + _FROM_TREEBANK.get(word, word)
    return text


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise BackendError(
            'a vocabulary of word pieces needs the package tokenizers: pip install "bertnli[hf]"'
        ) from error
    return tokenizers
