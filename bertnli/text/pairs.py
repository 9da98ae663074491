"""Sentence pairs: BERT's input sequence, and the truncation of long pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any

from bertnli.errors import ConfigError
from bertnli.text.vocab import Vocab

TRUNCATIONS = ("book", "longest_first", "ratio")
#: Default maximum length of a pair, as in the book.
DEFAULT_MAX_LEN = 128


@dataclass(frozen=True)
class PairEncoding:
    """The length to which a classifier's pairs are truncated; it is saved with the weights.

    Args:
        max_len: the maximum number of tokens of a pair, special ones included.
        truncation: the rule by which longer pairs are truncated, one of `TRUNCATIONS`; see
            `truncated_lengths`.
    """

    max_len: int
    truncation: str = "book"

    @classmethod
    def default(cls, positions: int) -> PairEncoding:
        """Return the book's encoding for a model that has ``positions`` position embeddings."""
        return cls(min(DEFAULT_MAX_LEN, positions))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], positions: int) -> PairEncoding:
        """Read a dictionary that `to_dict` made, for a model with ``positions`` embeddings.

        Raises:
            ConfigError: the values are invalid, or ``max_len`` exceeds the positions.
        """
        if not isinstance(values, Mapping) or {*values} != {"max_len", "truncation"}:
            raise ConfigError(f"encoding is {values!r}, and not max_len and truncation")
        max_len, truncation = values["max_len"], values["truncation"]
        if type(max_len) is not int or not 1 <= max_len <= positions:
            raise ConfigError(
                f"encoding.max_len is {max_len!r}; it must be 1 to {positions}, the model's "
                "positions"
            )
        if truncation not in TRUNCATIONS:
            raise ConfigError(
                f"encoding.truncation is {truncation!r}; it is one of {list(TRUNCATIONS)}"
            )
        return cls(max_len, truncation)

    def to_dict(self) -> dict[str, Any]:
        """Convert the encoding to a dictionary of JSON values."""
        return asdict(self)

    def overridden(
        self, max_len: int | None, truncation: str | None, positions: int
    ) -> PairEncoding:
        """Return a copy with a new ``max_len`` or ``truncation``; None keeps the old value.

        Raises:
            ConfigError: ``max_len`` is not a whole number, or exceeds the model's ``positions``.
        """
        if max_len is not None:
            check_length(max_len)
            if max_len > positions:
                raise ConfigError(
                    f"max_len (--max-len) is {max_len}, and the model has {positions} positions; "
                    f"give {positions} or less"
                )
        max_len = self.max_len if max_len is None else max_len
        return PairEncoding(max_len, truncation or self.truncation)


def get_tokens_and_segments(
    tokens_a: Sequence[str], tokens_b: Sequence[str] | None = None, vocab: Vocab | None = None
) -> tuple[list[str], list[int]]:
    """Join one or two lists of tokens to BERT's input, and return each token's segment, 0 or 1.

    The special tokens are those of ``vocab``, None for the book's. Segment 1 begins after the first
    ``<sep>``.

    Examples:
        >>> bertnli.get_tokens_and_segments(["a"], ["b", "c"])
        (['<cls>', 'a', '<sep>', 'b', 'c', '<sep>'], [0, 0, 0, 1, 1, 1])
    """
    special = {} if vocab is None else vocab.special
    cls, sep = (special.get(name, name) for name in ("<cls>", "<sep>"))
    tokens = [cls, *tokens_a, sep]
    segments = [0] * len(tokens)
    if tokens_b is not None:
        more = 0 if vocab is None else vocab.separators - 1
        tokens += [*[sep] * more, *tokens_b, sep]
        segments += [1] * (more + len(tokens_b) + 1)
    return tokens, segments


def check_length(max_len: int) -> None:
    """Raise ConfigError if a length is not a whole number."""
    if not isinstance(max_len, Integral) or isinstance(max_len, bool):
        raise ConfigError(f"max_len is {max_len!r:.80}; a whole number is expected, such as 128")


def check_truncation(max_len: int, rule: str, num_special: int) -> None:
    """Raise ConfigError if a length is too short for two sentences, or a rule is unknown."""
    check_length(max_len)
    if max_len < num_special + 2:
        raise ConfigError(
            f"max_len={max_len} leaves no room for a token of each sentence beside the "
            f"{num_special} special ones; give at least {num_special + 2}"
        )
    if rule not in TRUNCATIONS:
        raise ConfigError(f"truncation is {rule!r}; it is one of {list(TRUNCATIONS)}")


def truncated_lengths(
    len_a: int, len_b: int, max_tokens: int, rule: str = "book"
) -> tuple[int, int]:
    """Return the numbers of tokens of the premise and the hypothesis after truncation at the end.

    Args:
        len_a, len_b: the numbers of tokens of the premise and of the hypothesis.
        max_tokens: the maximum of their sum, at least 2.
        rule: ``"book"`` removes tokens one by one from the longer sentence, and from the hypothesis
            if the lengths are equal; ``"longest_first"`` is the rule of that name in Hugging Face's
            tokenizers: if both sentences are cut and ``max_tokens`` is odd, the longer sentence
            keeps one token more, and the hypothesis if the lengths are equal; ``"ratio"`` keeps
            the ratio of the two lengths, rounded to the nearest token (a half goes to the premise),
            and at least one token of each sentence that has any.
    """
    if len_a + len_b <= max_tokens:
        return len_a, len_b
    if rule == "ratio":
        kept_a = (2 * max_tokens * len_a + len_a + len_b) // (2 * (len_a + len_b))
        kept_a = min(max(kept_a, min(len_a, 1)), max_tokens - min(len_b, 1))
        return kept_a, max_tokens - kept_a
    smaller, larger = max_tokens // 2, (max_tokens + 1) // 2
    if len_b <= smaller and len_a > len_b:  # only the premise is cut
        return max_tokens - len_b, len_b
    if len_a <= smaller and len_b > len_a:  # only the hypothesis
        return len_a, max_tokens - len_a
    hypothesis_longer = rule == "longest_first" and len_a <= len_b
    return (smaller, larger) if hypothesis_longer else (larger, smaller)
