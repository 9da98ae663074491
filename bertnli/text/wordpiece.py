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
    SETTINGS_FILE,
    SPECIAL,
    kept_whole,
    lowercases,
    read_settings,
)
from bertnli.text.vocab import UNKNOWN, Vocab

#: More tokens than any vocabulary of word pieces has.
MAX_TOKENS = 1 << 19
#: More ids without a token than this are a mistake.
MAX_GAPS = 1 << 16
#: Sentences that are cut at a time.
_BATCH = 4096
_CLITIC = re.compile(r"(?i)n't|'(?:s|m|d|ll|re|ve)")
_FROM_TREEBANK = {new: old for old, new in BRACKETS.items()} | {"``": '"', "''": '"'}


class WordPieceVocab(Vocab):
    """A vocabulary of word pieces, and how text is cut into them.

    The special tokens answer to the book's names: ``required("<cls>")`` is the id of ``[CLS]``.
    So data sets, truncation and the cache need not know which kind of vocabulary they have.

    Args:
        definition: the JSON text of a ``tokenizer.json``.

    Raises:
        DataError: it is none.
    """

    FILE = "tokenizer.json"
    WHOLE_WORDS = False

    def __init__(self, definition: str) -> None:
        super().__init__()
        lib = _tokenizers()
        check_definition(definition)
        with _own_errors("not a definition of a tokenizer"):
            self.tokenizer = lib.Tokenizer.from_str(definition)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        highest = max(ids.values(), default=-1)
        if highest - len(ids) >= MAX_GAPS:
            raise DataError(f"{len(ids)} tokens have ids up to {highest}")
        tokens = [f"[no token {i}]" for i in range(max(ids.values(), default=-1) + 1)]
        for token, i in ids.items():
            tokens[i] = token
        self._set_tokens(tokens)
        next(self.ids_of(["\U0010fffd"], False))  # which no vocabulary has
        self._check_pairs()

    @classmethod
    def load(cls, path: str | Path) -> WordPieceVocab:
        """Return the vocabulary of a ``tokenizer.json``.

        Raises:
            DataError: the file cannot be read, or is something else.
            BackendError: the package tokenizers is missing.
        """
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
        """Return the vocabulary of a ``vocab.txt``, cut as BERT's own code cuts.

        Args:
            pieces: by their ids.
            lowercase: before cutting.
            strip_accents: before cutting; None for as ``lowercase``.
            split_chinese: each Chinese character by itself.
            longest_word: its characters; a longer one is unknown as a whole.

        Raises:
            DataError: a special token is missing, or a piece stands twice.
        """
        tokens = list(pieces)
        if len(tokens) > MAX_TOKENS:
            raise DataError(f"more than {MAX_TOKENS:,} word pieces")
        lib = _tokenizers()
        ids = {token: i for i, token in enumerate(tokens)}
        missing = [name for name in SPECIAL.values() if name not in ids]
        if missing:
            raise DataError(f"the word pieces have no {', '.join(missing)}")
        if len(ids) < len(tokens):
            twice = next(token for i, token in enumerate(tokens) if ids[token] != i)
            raise DataError(f"the word piece {twice!r} stands twice")
        model = lib.models.WordPiece(
            ids, unk_token=SPECIAL[UNKNOWN], max_input_chars_per_word=longest_word
        )
        tokenizer = lib.Tokenizer(model)
        tokenizer.normalizer = lib.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=split_chinese,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        tokenizer.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = lib.decoders.WordPiece()
        cls_id, sep_id = (ids[SPECIAL[token]] for token in ("<cls>", "<sep>"))
        tokenizer.post_processor = lib.processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)],
        )
        tokenizer.add_special_tokens(list(SPECIAL.values()))
        return cls(tokenizer.to_str())

    def settings(self) -> dict[str, Any]:
        """Return how text is made ready for cutting, in the words of a tokenizer_config.json."""
        normalizer = json.loads(self.tokenizer.to_str())["normalizer"] or {}
        return {key: normalizer[ours] for key, ours in SETTINGS.items() if ours in normalizer}

    def _check_pairs(self) -> None:
        """Raise DataError where special tokens stand elsewhere in a pair than in BERT's."""
        with _own_errors("a pair cannot be cut into word pieces"):
            parts = self.tokenizer.encode_batch(["a", "b"], add_special_tokens=False)
            pair = self.tokenizer.encode("a", "b")
        begin, end = SPECIAL["<cls>"], SPECIAL["<sep>"]
        a, b = (part.tokens for part in parts)
        expected = [begin, *a, end, *b, end]
        segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
        if (pair.tokens, pair.type_ids) != (expected, segments):
            raise DataError(
                f"it makes {' '.join(pair.tokens)!r} with the segments {pair.type_ids} of a pair, "
                f"and only BERT's input is computed here, {' '.join(expected)!r}, {segments}"
            )

    def definition(self) -> Any:
        """Return all that ids depend on; see `Vocab.definition`."""
        return self.tokenizer.to_str()

    def save(self, path: str | Path) -> None:
        """Write the definition as ``load`` reads it."""
        Path(path).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def required(self, token: str) -> int:
        """Return the id of a special token, by the book's name; see `Vocab.required`."""
        return super().required(SPECIAL.get(token, token))

    def ids_of(self, sentences: Iterable[str], tokenized: bool) -> Iterator[list[int]]:
        """Yield the ids of each sentence's pieces; see `Vocab.ids_of`."""
        texts = (_as_text(s) if tokenized or isinstance(s, Tokens) else s for s in sentences)
        while batch := list(islice(texts, _BATCH)):
            with _own_errors("text cannot be cut into word pieces"):
                encodings = self.tokenizer.encode_batch(batch, add_special_tokens=False)
            for encoding in encodings:
                yield encoding.ids


def train_word_pieces(sentences: Iterable[str], size: int) -> WordPieceVocab:
    """Return a vocabulary of word pieces that are learned of text, lower case.

    The same text gives the same pieces, with the same ids.

    Args:
        sentences: the text.
        size: of the vocabulary, special tokens and single characters among them.

    Raises:
        ConfigError: fewer than the special tokens and characters need.
        BackendError: the package tokenizers is missing.
    """
    texts = list(sentences)
    special = list(SPECIAL.values())
    # The trainer numbers the characters that go on with a word in an order that is another in each
    # process, and merges by these numbers where counts are equal. As special tokens they keep ours.
    found = _trained(texts, 0, special)
    going_on = sorted(piece for piece in found if piece.startswith("##") and len(piece) > 2)
    ids = _trained(texts, size, special + going_on)
    if len(ids) > size:
        raise ConfigError(
            f"{size} word pieces are fewer than the text's characters and the special tokens; "
            f"give {len(ids)} at least"
        )
    return WordPieceVocab.from_pieces(sorted(ids, key=ids.__getitem__))


def _trained(texts: Sequence[str], size: int, special: Sequence[str]) -> dict[str, int]:
    """Return what the trainer learns of text, piece to id; the special ones have the first ids."""
    lib = _tokenizers()
    tokenizer = lib.Tokenizer(lib.models.WordPiece(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = lib.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    trainer = lib.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids: dict[str, int] = tokenizer.get_vocab()
    return ids


def load_vocab(folder: Path) -> Vocab | None:
    """Return the vocabulary of a folder: ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.

    A ``vocab.json`` is the book's, or GluonNLP's; see `load_gluonnlp`.

    Returns:
        None where there is none of them.

    Raises:
        DataError: one that cannot be read.
        BackendError: the package tokenizers is missing, and needed.
    """
    defined = is_there(folder / WordPieceVocab.FILE)
    settings = read_settings(folder, defined)
    if defined:
        return _load_definition(folder, settings)
    if is_there(folder / Vocab.FILE):
        return _load_json(folder / Vocab.FILE)
    path = folder / "vocab.txt"
    if not is_there(path):
        return None
    settings = settings or {}
    text = read_text(path, DataError, MAX_VOCAB)
    try:
        pieces = text.rstrip("\n").split("\n", MAX_TOKENS)
        _check_added(kept_whole(folder, False))
        return WordPieceVocab.from_pieces(
            pieces,
            settings.get("do_lower_case", lowercases(pieces)),
            settings.get("strip_accents"),
            settings.get("tokenize_chinese_chars", True),
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, DataError) as error:
        raise DataError(f"{path}, or {SETTINGS_FILE} beside it: {error}") from error


def load_gluonnlp(path: Path) -> WordPieceVocab:
    """Return the word pieces of a vocabulary that GluonNLP wrote, cut as its tokenizer cuts.

    Text is made lower case unless the file's name says ``cased``, or, where it says neither, unless
    the pieces have capitals.

    Raises:
        DataError: it is none, or one of SentencePiece.
        BackendError: the package tokenizers is missing.
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


def _load_json(path: Path) -> Vocab:
    """Return the vocabulary of a ``vocab.json``: the book's is a list, GluonNLP's an object."""
    with open_regular(path, DataError, MAX_VOCAB) as file:
        is_object = file.read(256).lstrip().startswith(b"{")
    return load_gluonnlp(path) if is_object else Vocab.load(path)


def _load_definition(folder: Path, settings: dict[str, Any] | None) -> WordPieceVocab:
    """Return the vocabulary of a tokenizer.json; what stands beside it of a BERT's wins, as in
    transformers."""
    path = folder / WordPieceVocab.FILE
    definition = read_json_object(path, DataError, MAX_VOCAB)
    try:
        normalizer = definition.get("normalizer") or {}
        is_bert = settings is not None and settings["tokenizer_class"].startswith("Bert")
        if settings and is_bert and normalizer.get("type") == "BertNormalizer":
            for key, ours in SETTINGS.items():
                normalizer[ours] = settings.get(key, None if key == "strip_accents" else True)
        vocab = WordPieceVocab(json.dumps(definition))
        own = {token.content for token in vocab.tokenizer.get_added_tokens_decoder().values()}
        _check_added(kept_whole(folder, True) - own)
        return vocab
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, DataError) as error:
        raise DataError(f"{path}: {error}") from error


def _check_added(tokens: set[str]) -> None:
    """Raise DataError for tokens that a vocabulary does not keep whole."""
    tokens = tokens - {*SPECIAL.values()}
    if tokens:
        raise DataError(
            f"the tokens {sorted(map(str, tokens))[:5]} were added; they are read from a "
            "tokenizer.json, which a fast tokenizer's save_pretrained writes"
        )


@contextmanager
def _own_errors(what: str) -> Iterator[None]:
    """Turn the library's errors into ours: it has no class for them, and its panics are no
    exceptions in Python's sense."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise DataError(f"{what}: {error}") from error


def _as_text(sentence: str) -> str:
    """Return words of a treebank's parse as text: brackets, quotation marks, clitics as usual."""
    text = ""
    for word in sentence.split():
        joined = not text or _CLITIC.fullmatch(word)
        text += ("" if joined else " ") + _FROM_TREEBANK.get(word, word)
    return text


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError as error:
        raise BackendError(
            'a vocabulary of word pieces needs the package tokenizers: pip install "bertnli[hf]"'
        ) from error
    return tokenizers
