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
from bertnli.text.tokenizer_classes import FAIRSEQ, definition_of_class, with_special_tokens
from bertnli.text.tokenizer_config import (
    CLASSES,
    MAX_DEFINITION,
    PRECOMPILED,
    SETTINGS,
    SPECIAL,
    WORD_START,
    Described,
    check_definition,
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
        gives_segments, is_wordpiece, word_start: see `Vocab`.

    Raises:
        DataError: the text does not define a tokenizer of such pairs.
        BackendError: the package tokenizers is missing.
    """

    FILE = "tokenizer.json"
    WHOLE_WORDS = False

    def __init__(self, definition: str) -> None:
        super().__init__()
        lib = _tokenizers()
        model = check_definition(definition)["model"]
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
        self.is_wordpiece = model.get("type") == "WordPiece"
        self.word_start = {"Unigram": WORD_START, "BPE": "\u0120"}.get(model.get("type", ""), "")
        unknown, pieces = model.get("unk_token"), model["vocab"]
        self._read_pairs(pieces[model["unk_id"]][0] if model.get("unk_id") is not None else unknown)

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
        model = {"vocab": _ids(list(pieces), "BertTokenizer")}
        made = definition_of_class("BertTokenizer", model, settings)
        made["model"]["max_input_chars_per_word"] = longest_word
        return cls(json.dumps(made))

    def settings(self) -> dict[str, Any]:
        steps = [json.loads(self.definition())[kind] for kind in ("normalizer", "pre_tokenizer")]
        values = {name: value for step in steps for name, value in (step or {}).items()}
        names = SETTINGS | {"add_prefix_space": "add_prefix_space"}
        return {key: values[name] for key, name in names.items() if name in values}

    def _read_pairs(self, unknown: str | None) -> None:
        """Read from a pair how special tokens and segments are placed; find the other ones by name.

        Args:
            unknown: the token of unknown text; None to find it by its name.

        Raises:
            DataError: pairs are not made in a way that `bertnli.data` knows.
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
        self.special = {"<cls>": cls, "<sep>": sep}
        for name, alike in SPECIAL.items():
            names = [alike, name] if cls == "[CLS]" else [name, alike]
            names = [unknown, *names] if unknown and name == UNKNOWN else names
            found = [text for text in names if text in self.token_to_idx]
            if name not in self.special and found:
                self.special[name] = found[0]

    @property
    def unk(self) -> int:
        """The id of unknown text; -1 for a tokenizer without unknown text."""
        return self.token_to_idx.get(self.special.get(UNKNOWN, ""), -1)

    def definition(self) -> str:
        """Return the JSON text of the tokenizer."""
        return self.tokenizer.to_str()

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def required(self, token: str) -> int:
        return super().required(self.special.get(token, token))

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
    definition, default = None, ""
    if path is not None and path.name == SubwordVocab.FILE:
        text = read_text(path, DataError, MAX_DEFINITION)
        with _as_data_errors(path):
            definition = check_definition(text)
        default = "BertTokenizer" if definition["model"].get("type") == "WordPiece" else ""
    elif path is not None and path.name not in MODELS:
        default = "BertTokenizer" if path.name == "vocab.txt" else "RobertaTokenizer"
    described = read_settings(folder, definition, default)
    if path is None:
        return None
    if path.name == Vocab.FILE and not (_is_object(path) and is_there(folder / MERGES)):
        return load_gluonnlp(path) if _is_object(path) else Vocab.load(path)
    with _as_data_errors(path):
        if definition is None:
            return SubwordVocab(json.dumps(_of_files(path, described)))
        model, tokens = definition["model"], definition.get("added_tokens") or []
        if described.kind in CLASSES:
            step = definition.get("normalizer") or {}
            steps = step.get("normalizers", [step])
            tables = [
                step["precompiled_charsmap"] for step in steps if step.get("type") == PRECOMPILED
            ]
            definition = definition_of_class(described.kind, model, *described[1:], *tables[:1])
        else:
            definition["added_tokens"], _ = with_special_tokens(
                model["vocab"], [*tokens, *described.added], described.settings, {}
            )
        return SubwordVocab(json.dumps(definition))


def _of_files(path: Path, described: Described) -> dict[str, Any]:
    """Return what a tokenizer.json would hold for the other files of a vocabulary."""
    kind, settings, added = described
    charsmap = None
    if path.name == "vocab.txt":
        pieces = read_text(path, DataError, MAX_VOCAB).rstrip("\n").split("\n", MAX_TOKENS)
        settings = {"do_lower_case": lowercases(pieces), **settings}
        model: dict[str, Any] = {"type": "WordPiece", "vocab": _ids(pieces, kind)}
    elif path.name == Vocab.FILE:
        lines = read_text(path.with_name(MERGES), DataError, MAX_VOCAB).split("\n")
        merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        model = {"type": "BPE", "vocab": read_json_object(path, DataError, MAX_VOCAB)}
        model["merges"] = merges
    elif kind not in CLASSES:
        raise DataError(
            "no file says whose it is; put its config.json, with model_type, or its "
            "tokenizer_config.json, with tokenizer_class, beside it"
        )
    else:
        made = read_sentencepiece(path)
        first, replaced = FAIRSEQ.get(kind, ((), 0))
        vocab = [(text, -100.0 if text == "<unk>NOTUSED" else 0.0) for text in first]
        vocab += [(text, score) for text, score, _ in made.pieces[replaced:]]
        model = {"type": "Unigram", "vocab": [*vocab, *[("<mask>", 0.0)] * bool(first)]}
        symbols = [
            {"content": text, "normalized": False, "special": type == CONTROL}
            for text, _, type in made.pieces
            if type in (CONTROL, USER_DEFINED)
        ]
        settings = {"extra_special_tokens": symbols, **settings, "unk_id": made.unknown_id}
        charsmap = base64.b64encode(made.charsmap).decode() or None
    return definition_of_class(kind, model, settings, added, charsmap)


def _ids(pieces: list[str], kind: str) -> dict[str, int]:
    """Return the ids of the word pieces of a class; DataError for repeated or missing ones."""
    if len(pieces) > MAX_TOKENS:
        raise DataError(f"more than {MAX_TOKENS:,} word pieces")
    ids = {piece: i for i, piece in enumerate(pieces)}
    missing = [text for text in CLASSES[kind][1].values() if text not in ids]
    if missing:
        raise DataError(f"the word pieces have no {', '.join(missing)}")
    if len(ids) < len(pieces):
        repeated = next(piece for i, piece in enumerate(pieces) if ids[piece] != i)
        raise DataError(f"the word piece {repeated!r} occurs twice")
    return ids


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
            f"{path}: GluonNLP's vocabularies have a list idx_to_token, and byte-level BPE's are "
            f"beside a {MERGES}"
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
            'a vocabulary of pieces needs the package tokenizers: pip install "bertnli[hf]"'
        ) from error
    return tokenizers
