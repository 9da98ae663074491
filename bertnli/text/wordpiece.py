"""Vocabularies of word pieces, as Hugging Face's BERTs have them; `tokenizers` cuts the text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bertnli.errors import BackendError, DataError
from bertnli.text.tokenize import BRACKETS
from bertnli.text.vocab import RESERVED_TOKENS, UNKNOWN, Vocab

#: The book's names of special tokens, and those of Devlin et al. (2019).
SPECIAL = {token: f"[{token.strip('<>').upper()}]" for token in (UNKNOWN, *RESERVED_TOKENS)}
#: Sentences that are cut at a time.
_BATCH = 4096
_FROM_TREEBANK = {new: old for old, new in BRACKETS.items()} | {"``": '"', "''": '"'}


class WordPieceVocab(Vocab):
    """A vocabulary of word pieces, and how text is cut into them.

    The special tokens answer to the book's names: ``required("<cls>")`` is the id of ``[CLS]``.

    Args:
        definition: the JSON text of a ``tokenizer.json``.

    Raises:
        DataError: it is none, or an id has no token.
    """

    FILE = "tokenizer.json"

    def __init__(self, definition: str) -> None:
        super().__init__()
        try:
            self.tokenizer = _tokenizers().Tokenizer.from_str(definition)
        except BackendError:
            raise
        except Exception as error:  # the library has no class of its own for this
            raise DataError(f"not a definition of a tokenizer: {error}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        ids = self.tokenizer.get_vocab(with_added_tokens=True)
        tokens = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in tokens] != list(range(len(tokens))):
            raise DataError(f"the ids of its {len(tokens)} tokens are not 0 to {len(tokens) - 1}")
        self._set_tokens(tokens)

    @classmethod
    def load(cls, path: str | Path) -> WordPieceVocab:
        """Return the vocabulary of a ``tokenizer.json``.

        Raises:
            DataError: the file cannot be read, or is something else.
            BackendError: the package tokenizers is missing.
        """
        try:
            return cls(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def from_pieces(
        cls,
        pieces: Iterable[str],
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
    ) -> WordPieceVocab:
        """Return the vocabulary of a ``vocab.txt``, cut as BERT's own code cuts.

        Args:
            pieces: by their ids.
            lowercase: before cutting.
            strip_accents: before cutting; None for as ``lowercase``.
            split_chinese: each Chinese character by itself.

        Raises:
            DataError: a special token is missing.
        """
        tokens = list(pieces)
        lib = _tokenizers()
        ids = {token: i for i, token in enumerate(tokens)}
        missing = [name for name in SPECIAL.values() if name not in ids]
        if missing:
            raise DataError(f"the word pieces have no {', '.join(missing)}")
        tokenizer = lib.Tokenizer(lib.models.WordPiece(ids, unk_token=SPECIAL[UNKNOWN]))
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

    def save(self, path: str | Path) -> None:
        """Write the definition as ``load`` reads it."""
        Path(path).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def required(self, token: str) -> int:
        """Return the id of a special token, by the book's name; see `Vocab.required`."""
        return super().required(SPECIAL.get(token, token))

    def ids_of(self, sentences: Iterable[str], tokenized: bool) -> Iterator[list[int]]:
        """Yield the ids of each sentence's pieces; see `Vocab.ids_of`."""
        texts = map(_as_text, sentences) if tokenized else iter(sentences)
        while batch := list(islice(texts, _BATCH)):
            for encoding in self.tokenizer.encode_batch(batch, add_special_tokens=False):
                yield encoding.ids


def load_vocab(folder: Path) -> Vocab | None:
    """Return the vocabulary of a folder: ``tokenizer.json``, ``vocab.json`` or ``vocab.txt``.

    Returns:
        None where there is none of them.

    Raises:
        DataError: one that cannot be read.
        BackendError: the package tokenizers is missing, and needed.
    """
    if (folder / WordPieceVocab.FILE).is_file():
        return WordPieceVocab.load(folder / WordPieceVocab.FILE)
    if (folder / Vocab.FILE).is_file():
        return Vocab.load(folder / Vocab.FILE)
    path = folder / "vocab.txt"
    if not path.is_file():
        return None
    settings: dict[str, Any] = {}
    try:
        pieces = path.read_text(encoding="utf-8").splitlines()
        if (folder / "tokenizer_config.json").is_file():
            text = (folder / "tokenizer_config.json").read_text(encoding="utf-8")
            settings = dict(json.loads(text))
        return WordPieceVocab.from_pieces(
            pieces,
            bool(settings.get("do_lower_case", True)),
            settings.get("strip_accents"),
            bool(settings.get("tokenize_chinese_chars", True)),
        )
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{path}: {error}") from error


def _as_text(sentence: str) -> str:
    """Return words of a treebank's parse as text: its brackets and quotation marks as usual."""
    return " ".join(_FROM_TREEBANK.get(word, word) for word in sentence.split())


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
    except ImportError as error:
        raise BackendError(
            'a vocabulary of word pieces needs the package tokenizers: pip install "bertnli[hf]"'
        ) from error
    return tokenizers
