"""The sentences of SNLI's and MultiNLI's columns: the words of a binary parse, else the text.

XNLI, translations and other tables have these columns with empty parses. The choice is made for
each sentence of each row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bertnli.data.table import value_of
from bertnli.text.tokenize import Tokens

#: Values that stand for an empty field, in lower case.
PLACEHOLDERS = frozenset(("", "n/a", "na", "nan", "none", "null", "<na>", "#n/a"))
_SPACES = re.compile(r"\s{2,}")


class SentenceColumn(NamedTuple):
    """The columns of a sentence.

    Args:
        text: the column of the raw sentence.
        parse: the column of its binary parse, which is preferred; None for none.
    """

    text: str
    parse: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns; a table has at least one of them."""
        return (self.text,) if self.parse is None else (self.text, self.parse)

    def read(self, row: Mapping[str, Any]) -> Any:
        """Return the sentence of a row, `Tokens` if it is the parse's; other values unchanged."""
        text = row[self.text] if self.text in row else value_of(row, self.text)
        parse = None if self.parse is None else row.get(self.parse)
        if parse is None or (isinstance(parse, float) and math.isnan(parse)):
            return text
        return sentence_of(parse, text) if isinstance(parse, str) else parse


#: The sentences of SNLI, MultiNLI, and of tables with their columns.
PREMISE = SentenceColumn("sentence1", "sentence1_binary_parse")
HYPOTHESIS = SentenceColumn("sentence2", "sentence2_binary_parse")


def words_of_parse(parse: str) -> str:
    """Return the words of a binary parse, cleaned as the book does it."""
    words = parse.replace("(", "").replace(")", "")
    return _SPACES.sub(" ", words).strip()


def sentence_of(parse: str, text: Any) -> str:
    """Return the words of a parse as `Tokens`, or the text where the parse is empty.

    Where both are empty it is the parse's: SNLI has empty sentences, and the sentence ``n/a``.
    """
    words = words_of_parse(parse)
    if words.lower() in PLACEHOLDERS and isinstance(text, str) and text.strip() not in ("", words):
        return text
    return Tokens(words)
