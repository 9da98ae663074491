"""Vocabularies of word pieces, as Hugging Face's BERTs have them; `tokenizers` cuts the text."""

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
from bertnli.text.definition import check_definition
from bertnli.text.tokenize import BRACKETS, Tokens
from bertnli.text.tokenizer_config import (
    SETTINGS,
    SPECIAL,
    lowercases,
    read_settings,
)
from bertnli.text.vocab import Vocab

#: Limits of a vocabulary: its size, and how many ids may lack a token.
MAX_TOKENS, MAX_GAPS = 1 << 19, 1 << 16
#: Sentences that are cut at a time.
_BATCH = 4096
_CLITIC = re.compile(r"(?i)n't|'(?:s|m|d|ll|re|ve)")
_FROM_TREEBANK = {new: old for old, new in BRACKETS.items()} | {"``": '"', "''": '"'}


class WordPieceVocab(Vocab):
    """A vocabulary of word pieces, and the tokenizer that cuts text into them.

    The special tokens answer to the book's names: ``required("<cls>")`` is the id of ``[CLS]``. So
    data sets, truncation and the cache work with either kind of vocabulary.

    Args:
        definition: the JSON text of a ``tokenizer.json``.

    Raises:
        DataError: it is not a definition, or not of BERT's inputs.
        BackendError: the package tokenizers is missing.
    """

    FILE = "tokenizer.json"
    WHOLE_WORDS = False

    def __init__(self, definition: str) -> None:
        super().__init__()
        lib = _tokenizers()
        check_definition(definition)
        with _errors_of_tokenizers("not a definition of a tokenizer"):
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
        next(self.ids_of(["\U0010fffd"], False))  # in no vocabulary: [UNK] must be there
        self._check_pairs()

    @classmethod
    def load(cls, path: str | Path) -> WordPieceVocab:
        """Return the vocabulary of a ``tokenizer.json``; errors are those of the class."""
        definition = read_text(path, DataError, MAX_VOCAB)
        try:
            return cls(definition)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def from_pieces(
        cls,
        pieces: Iterable[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        longest_word: int = 100,
    ) -> WordPieceVocab:
        """Return the vocabulary of a ``vocab.txt``, tokenizing as BERT's reference code does.

        Without ``strip_accents``, accents are removed if text is lower-cased. A word of more than
        ``longest_word`` characters is unknown. A DataError names missing and repeated pieces.
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
        """Return the normalizer's settings, by their names in a tokenizer_config.json."""
        normalizer = json.loads(self.definition())["normalizer"] or {}
        return {key: normalizer[ours] for key, ours in SETTINGS.items() if ours in normalizer}

    def _check_pairs(self) -> None:
        """Raise DataError if the special tokens of a pair are not placed as BERT's."""
        with _errors_of_tokenizers("a pair cannot be cut into word pieces"):
            a, b = self.tokenizer.encode_batch(["a", "b"], add_special_tokens=False)
            pair = self.tokenizer.encode("a", "b")
        begin, end = SPECIAL["<cls>"], SPECIAL["<sep>"]
        expected = [begin, *a.tokens, end, *b.tokens, end]
        segments = [0] * (len(a.tokens) + 2) + [1] * (len(b.tokens) + 1)
        if (pair.tokens, pair.type_ids) != (expected, segments):
            raise DataError(
                f"it makes {' '.join(pair.tokens)!r} with the segments {pair.type_ids} of a pair, "
                f"and only BERT's input is computed here, {' '.join(expected)!r}, {segments}"
            )

    def definition(self) -> str:
        """Return the JSON text of the tokenizer."""
        return self.tokenizer.to_str()

    def save(self, path: str | Path) -> None:
        """Write the definition to a file for `load`."""
        Path(path).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def required(self, token: str) -> int:
        """Return the id of a special token, by the book's name; see `Vocab.required`."""
        return super().required(SPECIAL.get(token, token))

    def ids_of(self, sentences: Iterable[str], tokenized: bool) -> Iterator[list[int]]:
        """Yield the ids of each sentence's pieces; see `Vocab.ids_of`."""
        texts = (_as_text(s) if tokenized or isinstance(s, Tokens) else s for s in sentences)
        while batch := list(islice(texts, _BATCH)):
            with _errors_of_tokenizers("text cannot be cut into word pieces"):
                encodings = self.tokenizer.encode_batch(batch, add_special_tokens=False)
            for encoding in encodings:
                yield encoding.ids


def train_word_pieces(sentences: Iterable[str], size: int) -> WordPieceVocab:
    """Return lower-case word pieces learned from text; the same text gives the same pieces and ids.

    Raises:
        ConfigError: the size is less than the special tokens and characters need.
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
    return WordPieceVocab.from_pieces(sorted(ids, key=ids.__getitem__))


def _trained(texts: Sequence[str], size: int, special: list[str]) -> dict[str, int]:
    """Return the pieces that the trainer learns, piece to id; the special ones come first."""
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
    """Return the vocabulary of a folder: ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.

    A ``vocab.json`` is the book's, or GluonNLP's. Without such a file, None is returned. What
    cannot be read is a DataError.
    """
    path = folder / WordPieceVocab.FILE
    defined = is_there(path)
    settings, kept = read_settings(folder, defined)
    if not defined and is_there(folder / Vocab.FILE):
        return _load_json(folder / Vocab.FILE)
    path = path if defined else folder / "vocab.txt"
    if not is_there(path):
        return None
    try:
        vocab = _of_definition(path, settings) if defined else _of_pieces(path, settings or {})
        own = {token.content for token in vocab.tokenizer.get_added_tokens_decoder().values()}
        lost = sorted(map(str, kept - own))
        if lost:
            raise DataError(
                f"the tokens {lost[:5]} were added; they are read from a tokenizer.json, which a "
                "fast tokenizer's save_pretrained writes"
            )
        return vocab
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error


def _of_definition(path: Path, settings: dict[str, Any] | None) -> WordPieceVocab:
    """Return the vocabulary of a tokenizer.json; as in transformers, a BERT's settings win."""
    definition = read_json_object(path, DataError, MAX_VOCAB)
    normalizer = definition.get("normalizer") or {}
    is_bert = settings is not None and settings["tokenizer_class"].startswith("Bert")
    if settings and is_bert and normalizer.get("type") == "BertNormalizer":
        for key, ours in SETTINGS.items():
            normalizer[ours] = settings.get(key, None if key == "strip_accents" else True)
    return WordPieceVocab(json.dumps(definition))


def _of_pieces(path: Path, settings: dict[str, Any]) -> WordPieceVocab:
    """Return the vocabulary of a vocab.txt."""
    pieces = read_text(path, DataError, MAX_VOCAB).rstrip("\n").split("\n", MAX_TOKENS)
    return WordPieceVocab.from_pieces(
        pieces,
        settings.get("do_lower_case", lowercases(pieces)),
        settings.get("strip_accents"),
        settings.get("tokenize_chinese_chars", True),
    )


def _load_json(path: Path) -> Vocab:
    """Return the vocabulary of a ``vocab.json``: the book's is a list, GluonNLP's an object."""
    with open_regular(path, DataError, MAX_VOCAB) as file:
        is_object = file.read(256).lstrip().startswith(b"{")
    return load_gluonnlp(path) if is_object else Vocab.load(path)


def load_gluonnlp(path: Path) -> WordPieceVocab:
    """Return the word pieces of a vocabulary that GluonNLP wrote, cut as its tokenizer cuts.

    Text is lower-cased if the file's name has ``uncased``, or has no ``cased`` and the pieces have
    no capitals.
    """
    pieces = read_json_object(path, DataError, MAX_VOCAB).get("idx_to_token")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise DataError(f"{path}: GluonNLP's vocabularies have a list idx_to_token")
    if any(piece.startswith("\u2581") for piece in pieces):
        raise DataError(f"{path}: its pieces are SentencePiece's, and only WordPiece is read here")
    named = re.search("(un)?cased", path.name)
    lowercase = lowercases(pieces) if named is None else named[1] is not None
    try:
        return WordPieceVocab.from_pieces(pieces, lowercase, longest_word=200)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@contextmanager
def _errors_of_tokenizers(what: str) -> Iterator[None]:
    """Raise DataError for the package's errors: plain Exceptions, or panics, which are not even."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise DataError(f"{what}: {error}") from error


def _as_text(sentence: str) -> str:
    """Return a treebank's words as ordinary text: brackets, quotation marks, clitics."""
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
