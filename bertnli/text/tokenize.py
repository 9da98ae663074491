"""Tokenization of raw English text, and of text whose tokens are separated by spaces.

Raw text is tokenized as in the Penn Treebank, whose conventions SNLI's parse columns follow:
punctuation marks are tokens, ``n't``, ``'s`` and other clitics are split off, quotation marks
become `` and '', and brackets become -LRB-, -RRB- and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

#: The treebank's tokens for brackets, which have a meaning in a parse.
BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
# Abbreviations that include a full stop.
_ABBREVIATIONS = (
    *("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "rev", "hon", "pres", "ph.d"),
    *("gen", "sen", "rep", "gov", "capt", "lt", "col", "sgt"),
    *("vs", "etc", "inc", "ltd", "co", "corp", "dept", "est", "approx"),
    *("ave", "blvd", "rd", "rt", "mt", "ft"),
    *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
)

_URL = r"(?:https?://|www\.)[^\s\"<>]*[^\s\"<>.,;:!?'’”)\]}]"
_EMAIL = r"[\w.+-]{1,64}@\w[\w-]*(?:\.\w[\w-]*)+"
_ABBREVIATION = rf"(?i:{'|'.join(map(re.escape, _ABBREVIATIONS))})\.(?!\w)"
_INITIALS = r"(?:[^\W\d_]\.){2,}(?!\w)"
_NUMBER = r"\.?\d+(?:[.,:/]\d+)*\w*(?:[-'’]\w+)*"
# A word, perhaps with hyphens, apostrophes, slashes, or full stops as in "x.y" inside.
_WORD = r"\w+(?:(?:[-'’&@/]|\.(?=[^\W\d]))\w+)*"

_TOKEN = re.compile(
    "|".join(
        (
            rf"(?P<fixed>{_URL}|{_EMAIL}|{_ABBREVIATION}|{_INITIALS})",
            rf"(?P<word>{_NUMBER}|{_WORD})",
            r"(?P<quote>``|''|[\"“”„«»`'‘’])",
            r"(?P<other>\.{3,}|-{2,}|\S)",
        )
    )
)
# Endings that are split off a word, and words that are split in two.
_CLITIC = re.compile(r"(?i)(n't|'(?:s|m|d|ll|re|ve))$")
_LONGEST_CLITIC = 3
_TWO_WORDS = re.compile(
    r"(?i)^(?:(can)(not)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(wan)(na)|(d')(ye))$"
)
_SINGLE_QUOTES = ("'", "`", "‘", "’")
_DOUBLE_OPENING = ("``", "“", "„", "«")
# A quotation mark opens a quotation after one of these characters, or after white space.
_BEFORE_OPENING = "([{<\"“‘'`-–—"


class Tokens(str):
    """A sentence whose tokens are separated by spaces, from a parse column such as SNLI's.

    The type marks each such sentence, since a file may have parses in some of its rows only.
    """

    __slots__ = ()


def tokenize(lines: Sequence[str]) -> list[list[str]]:
    """Split each line into tokens at white space, as the book's function does.

    Examples:
        >>> bertnli.tokenize(["a man is asleep", "a man sleeps"])
        [['a', 'man', 'is', 'asleep'], ['a', 'man', 'sleeps']]
    """
    return [line.split() for line in lines]


def lower_words(sentence: str) -> list[str]:
    """Split a sentence at white space into lower-cased tokens."""
    return sentence.lower().split()


def lower_tokens(sentences: Iterable[str], tokenized: bool) -> Iterator[list[str]]:
    """Yield the lower-cased tokens of each sentence.

    Args:
        sentences: raw text for `treebank_tokenize`, or `Tokens`, which are split at white space.
        tokenized: whether to split all sentences at white space.
    """
    for sentence in sentences:
        if tokenized or isinstance(sentence, Tokens):
            yield lower_words(sentence)
        else:
            yield [token.lower() for token in treebank_tokenize(sentence)]


def treebank_tokenize(sentence: str) -> list[str]:
    """Tokenize raw English text as in the Penn Treebank, without changing its case.

    Quotation marks, curly apostrophes and brackets are rewritten as in the treebank; all other
    characters except white space are kept. The time is linear in the length of the text.

    Examples:
        >>> bertnli.treebank_tokenize("I can't (yet).")
        ['I', 'ca', "n't", '-LRB-', 'yet', '-RRB-', '.']
    """
    tokens: list[str] = []
    open_double = False
    for match in _TOKEN.finditer(sentence):
        text = match[0]
        if match.lastgroup == "word":
            _add_word(tokens, text.replace("’", "'"))
        elif match.lastgroup == "quote":
            before = sentence[max(match.start() - 1, 0) : match.start()]
            starts = not before or before.isspace() or before in _BEFORE_OPENING
            ends = match.end() == len(sentence) or sentence[match.end()].isspace()
            if text in _SINGLE_QUOTES:
                is_open = text in "`‘" or (text == "'" and starts and not ends)
                tokens.append("`" if is_open else "'")
            else:
                undecided = text == '"' and not open_double and (starts or not ends)
                open_double = undecided or text in _DOUBLE_OPENING
                tokens.append("``" if open_double else "''")
        else:
            tokens.append(BRACKETS.get(text, text))
    return tokens


def _add_word(tokens: list[str], word: str) -> None:
    if (parts := _TWO_WORDS.match(word)) is not None:
        tokens.extend(part for part in parts.groups() if part)
        return
    end, clitics = len(word), []
    while (clitic := _CLITIC.search(word, max(1, end - _LONGEST_CLITIC), end)) is not None:
        end = clitic.start()
        clitics.append(clitic[0])
    tokens.extend((word[:end], *reversed(clitics)))
