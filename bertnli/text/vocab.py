"""The book's vocabulary, which maps tokens to ids and ids to tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bertnli._util.files import MAX_VOCAB, read_json
from bertnli.errors import DataError
from bertnli.text.tokenize import lower_tokens

UNKNOWN = "<unk>"
#: The special tokens of BERT's inputs besides ``<unk>``, in the book's order.
RESERVED_TOKENS = ("<pad>", "<mask>", "<cls>", "<sep>")


class Vocab:
    """The book's vocabulary: frequent tokens and reserved tokens, sorted.

    Args:
        tokens: the tokens to count, or lists of tokens.
        min_freq: the number of occurrences below which a token is left out.
        reserved_tokens: tokens that are always included, like ``<unk>``.

    Attributes:
        idx_to_token: list of the tokens; a token's id is its index.
        token_to_idx: dictionary of each token to its id.
        token_freqs: (token, count) pairs, most frequent first; empty for a loaded vocabulary.
        min_freq: the argument; None for a loaded vocabulary.
        special: dictionary of the book's names of special tokens to those that there are.

    Examples:
        >>> vocab = bertnli.Vocab(["a", "dog", "a"], min_freq=2)
        >>> vocab.idx_to_token, vocab[["a", "dog"]]
        (['<unk>', 'a'], [1, 0])
    """

    #: The name of the vocabulary's file in a checkpoint.
    FILE = "vocab.json"
    #: Whether each lower-case word is one token.
    WHOLE_WORDS = True
    #: The number of ``<sep>`` between the sentences of a pair; one more ends the pair.
    separators = 1
    #: Whether the second sentence has a segment of its own.
    gives_segments = True
    #: Whether the tokens are word pieces, which a ``vocab.txt`` can list.
    is_wordpiece = False
    #: How tokens begin that begin a word; empty if the others begin with ``##`` instead.
    word_start = ""
    min_freq: int | None = None

    def __init__(
        self,
        tokens: Iterable[str] | Iterable[Sequence[str]] | None = None,
        min_freq: int = 0,
        reserved_tokens: Iterable[str] | None = None,
    ) -> None:
        counts: Counter[str] = Counter()
        for item in tokens or ():
            counts.update([item] if isinstance(item, str) else item)
        self.token_freqs = counts.most_common()
        self.min_freq = min_freq if self.token_freqs else None
        frequent = {token for token, count in self.token_freqs if count >= min_freq}
        self._set_tokens(sorted(frequent | {UNKNOWN, *(reserved_tokens or ())}))

    def _set_tokens(self, idx_to_token: list[str]) -> None:
        self.idx_to_token = idx_to_token
        self.token_to_idx = {token: i for i, token in enumerate(idx_to_token)}
        self.special = {t: t for t in (UNKNOWN, *RESERVED_TOKENS) if t in self.token_to_idx}

    @classmethod
    def from_list(cls, idx_to_token: Sequence[str]) -> Vocab:
        """Make a vocabulary of the listed tokens; a token's id is its index in the list.

        Raises:
            DataError: a token is repeated, or is not a string.
        """
        wrong = [token for token in idx_to_token if not isinstance(token, str)]
        if wrong:
            raise DataError(f"a vocabulary is a list of strings, and has {wrong[0]!r:.80}")
        vocab = cls()
        vocab._set_tokens(list(idx_to_token))
        if len(vocab.token_to_idx) != len(idx_to_token):
            token, _ = Counter(idx_to_token).most_common(1)[0]
            raise DataError(f"the token {token!r} occurs twice in the vocabulary")
        return vocab

    @classmethod
    def load(cls, path: str | Path) -> Vocab:
        """Read a vocabulary from a JSON list of its tokens, the book's ``vocab.json``.

        Raises:
            DataError: the file cannot be read, or is not a JSON list of distinct strings.
        """
        tokens = read_json(path, DataError, MAX_VOCAB)
        if not isinstance(tokens, list):
            raise DataError(f"{path}: a list of tokens is expected, not {type(tokens).__name__}")
        try:
            return cls.from_list(tokens)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to a file that `load` reads."""
        Path(path).write_text(json.dumps(self.idx_to_token, ensure_ascii=False), encoding="utf-8")

    def definition(self) -> Any:
        """Return a JSON value that determines all ids, for the key of a cache."""
        return self.idx_to_token

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a token, or the list of ids of a list; unknown tokens are ``<unk>``."""
        if isinstance(tokens, str):
            return self.token_to_idx.get(tokens, self.unk)
        return [self[token] for token in tokens]

    def to_tokens(self, indices: Any) -> Any:
        """Return the token of an id, or the list of tokens of a list or array of ids."""
        if hasattr(indices, "__len__"):
            return [self.idx_to_token[int(index)] for index in indices]
        return self.idx_to_token[int(indices)]

    def ids_of(self, sentences: Iterable[str], tokenized: bool) -> Iterator[list[int]]:
        """Yield the ids of each sentence's tokens, without special tokens.

        Args:
            sentences, tokenized: raw text or `Tokens`; see `lower_tokens`.
        """
        unk, get = self.unk, self.token_to_idx.get
        for tokens in lower_tokens(sentences, tokenized):
            yield [get(token, unk) for token in tokens]

    def settings(self) -> dict[str, Any]:
        """Return the entries of a tokenizer_config.json that change how text is cut."""
        return {}

    @property
    def num_special(self) -> int:
        """The number of special tokens of a pair, ``<cls>`` and each ``<sep>``."""
        return 2 + self.separators

    @property
    def unk(self) -> int:
        """The id of ``<unk>``; a DataError if the vocabulary does not have it."""
        return self.required(UNKNOWN)

    def required(self, token: str) -> int:
        """Return the id of a special token; raise DataError if the vocabulary does not have it."""
        if token not in self.token_to_idx:
            raise DataError(
                f"the vocabulary of {len(self)} tokens has no {token!r}, which BERT's inputs need; "
                f"build it with reserved_tokens={list(RESERVED_TOKENS)}"
            )
        return self.token_to_idx[token]
