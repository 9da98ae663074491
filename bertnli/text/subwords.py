"""Vocabularies of pieces of words, Hugging Face's and GluonNLP's, by the package tokenizers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bertnli._util.files import MAX_VOCAB, is_there, open_regular, read_json_object, read_text
from bertnli.errors import BackendError, ConfigError, DataError
from bertnli.text.tokenize import BRACKETS, Tokens
from bertnli.text.tokenizer_config import (
    SETTINGS,
    SPECIAL,
    check_definition,
    lowercases,
    read_settings,
)
from bertnli.text.vocab import UNKNOWN, Vocab

#: Limits of a vocabulary: its size, and the number of ids without a token.
MAX_TOKENS, MAX_GAPS = 1 << 19, 1 << 16
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
        definition = read_text(path, DataError, MAX_VOCAB)
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
        tokens = list(pieces)
        if len(tokens) > MAX_TOKENS:
            raise DataError(f"more than {MAX_TOKENS:,} word pieces")
        ids = {token: i for i, token in enumerate(tokens)}
        missing = [name for name in SPECIAL.values() if name not in ids]
        if missing:
            raise DataError(f"the word pieces have no {', '.join(missing)}")
        if len(ids) < len(tokens):
            repeated = next(token for i, token in enumerate(tokens) if ids[token] != i)
            raise DataError(f"the word piece {repeated!r} occurs twice")
        tokenizer = _tokenizers().BertWordPieceTokenizer(
            ids,
            handle_chinese_chars=split_chinese,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        tokenizer.model.max_input_chars_per_word = longest_word
        return cls(tokenizer.to_str())

    def settings(self) -> dict[str, Any]:
        """Return the normalizer's settings under their names in a tokenizer_config.json."""
        normalizer = json.loads(self.definition())["normalizer"] or {}
        return {key: normalizer[name] for key, name in SETTINGS.items() if name in normalizer}

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
    """Read the vocabulary of a folder: ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.

    Returns:
        The vocabulary, word pieces or the book's; None if the folder has none of these files.

    Raises:
        DataError: a file cannot be read, or has an unsupported setting.
    """
    path = folder / SubwordVocab.FILE
    defined = is_there(path)
    settings, added = read_settings(folder, defined)
    if not defined and is_there(folder / Vocab.FILE):
        return _load_json(folder / Vocab.FILE)
    path = path if defined else folder / "vocab.txt"
    if not is_there(path):
        return None
    with _as_data_errors(path):
        vocab = _of_definition(path, settings) if defined else _of_pieces(path, settings or {})
        known = {token.content for token in vocab.tokenizer.get_added_tokens_decoder().values()}
        missing = sorted(map(str, added - known))
        if missing:
            raise DataError(
                f"the tokens {missing[:5]} were added; they are read from a tokenizer.json, which "
                "a fast tokenizer's save_pretrained writes"
            )
    return vocab


def _of_definition(path: Path, settings: dict[str, Any] | None) -> SubwordVocab:
    """Read a tokenizer.json; the settings of a BERT tokenizer replace those in it, if given."""
    definition = read_json_object(path, DataError, MAX_VOCAB)
    normalizer = definition.get("normalizer") or {}
    is_bert = settings is not None and settings["tokenizer_class"].startswith("Bert")
    if settings and is_bert and normalizer.get("type") == "BertNormalizer":
        for key, name in SETTINGS.items():
            normalizer[name] = settings.get(key, None if key == "strip_accents" else True)
    return SubwordVocab(json.dumps(definition))


def _of_pieces(path: Path, settings: dict[str, Any]) -> SubwordVocab:
    pieces = read_text(path, DataError, MAX_VOCAB).rstrip("\n").split("\n", MAX_TOKENS)
    return SubwordVocab.from_pieces(
        pieces,
        settings.get("do_lower_case", lowercases(pieces)),
        settings.get("strip_accents"),
        settings.get("tokenize_chinese_chars", True),
    )


def _load_json(path: Path) -> Vocab:
    with open_regular(path, DataError, MAX_VOCAB) as file:  # the book's is a list
        is_object = file.read(256).lstrip().startswith(b"{")
    return load_gluonnlp(path) if is_object else Vocab.load(path)


def load_gluonnlp(path: Path) -> SubwordVocab:
    """Read a vocabulary that GluonNLP wrote; the result tokenizes like GluonNLP's tokenizer.

    Text is lower-cased if the file's name has ``uncased``, or if the name has no ``cased`` and the
    pieces have no capitals.
    """
    pieces = read_json_object(path, DataError, MAX_VOCAB).get("idx_to_token")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise DataError(f"{path}: GluonNLP's vocabularies have a list idx_to_token")
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
