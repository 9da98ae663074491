"""Sentence pairs: BERT's input sequence, and how a pair that is too long is cut."""

from __future__ import annotations

from collections.abc import Sequence

from bertnli.errors import ConfigError

#: ``<cls>`` before the premise, ``<sep>`` after it and after the hypothesis.
NUM_SPECIAL = 3
TRUNCATIONS = ("book", "ratio")


def get_tokens_and_segments(
    tokens_a: Sequence[str], tokens_b: Sequence[str] | None = None
) -> tuple[list[str], list[int]]:
    """Return BERT's input sequence of one or two texts, and each token's segment, 0 or 1."""
    tokens = ["<cls>", *tokens_a, "<sep>"]
    segments = [0] * len(tokens)
    if tokens_b is not None:
        tokens += [*tokens_b, "<sep>"]
        segments += [1] * (len(tokens_b) + 1)
    return tokens, segments


def check_truncation(max_len: int, rule: str) -> None:
    """Raise ConfigError for a length without room for both sentences, or an unknown rule."""
    if max_len < NUM_SPECIAL + 2:
        raise ConfigError(
            f"max_len={max_len} leaves no room for a token of each sentence beside the "
            f"{NUM_SPECIAL} special ones; give at least {NUM_SPECIAL + 2}"
        )
    if rule not in TRUNCATIONS:
        raise ConfigError(f"truncation is {rule!r}; it is one of {list(TRUNCATIONS)}")


def truncated_lengths(
    len_a: int, len_b: int, max_tokens: int, rule: str = "book"
) -> tuple[int, int]:
    """Return how many tokens of each sentence are kept; the first ones are.

    Args:
        len_a, len_b: tokens of premise and hypothesis.
        max_tokens: how many both may have together, at least 2.
        rule: ``"book"`` takes one token after the other off the longer sentence, off the hypothesis
            where they are equal; ``"ratio"`` keeps the ratio of the two lengths, rounded to the
            nearest token (a half goes to the premise), and at least one token of each sentence that
            has any.
    """
    if len_a + len_b <= max_tokens:
        return len_a, len_b
    if rule == "ratio":
        kept_a = (2 * max_tokens * len_a + len_a + len_b) // (2 * (len_a + len_b))
        kept_a = min(max(kept_a, min(len_a, 1)), max_tokens - min(len_b, 1))
        return kept_a, max_tokens - kept_a
    # What the book's loop ends in: the longer comes down to the shorter, then both in turn, the
    # hypothesis first.
    if len_a > len_b and max_tokens - len_b >= len_b:
        return max_tokens - len_b, len_b
    if len_b > len_a and max_tokens - len_a > len_a - 1:
        return (len_a, max_tokens - len_a)
    return (max_tokens + 1) // 2, max_tokens // 2
