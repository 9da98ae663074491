"""Read the sentences of tables like SNLI and MultiNLI: the words of a binary parse, or the text.

XNLI, translations and other tables have the same columns with empty parses. So the choice is made
for each sentence of each row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bertnli.data.table import value_of
from bertnli.text.tokenize import Tokens

#: Values that mean an empty field, in lower case.
PLACEHOLDERS = frozenset(("", "n/a", "na", "nan", "none", "null", "<na>", "#n/a"))
_SPACES = re.compile(r"\s{2,}")


class SentenceColumn(NamedTuple):
    """The columns of a table that have the premise, or the hypothesis.

    Args:
        text: the name of the column of the raw sentence.
        parse: the name of the column of its binary parse, which is preferred; or None.
    """

    text: str
    parse: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, of which a table has at least one."""
        return (self.text,) if self.parse is None else (self.text, self.parse)

    def read(self, row: Mapping[str, Any]) -> Any:
        """Return the sentence in a row: the words of its parse, as `Tokens`, or else the text.

        A value that is not a string is returned unchanged.
        """
        text = row[self.text] if self.text in row else value_of(row, self.text)
        parse = None if self.parse is None else row.get(self.parse)
        if parse is None or (isinstance(parse, float) and math.isnan(parse)):
            return text
        return sentence_of(parse, text) if isinstance(parse, str) else parse


#: The columns of SNLI, of MultiNLI, and of tables like them.
PREMISE = SentenceColumn("sentence1", "sentence1_binary_parse")
HYPOTHESIS = SentenceColumn("sentence2", "sentence2_binary_parse")


def words_of_parse(parse: str) -> str:
    """Return the words of a binary parse without its brackets, as the book's function does."""
    words = parse.replace("(", "").replace(")", "")
    return _SPACES.sub(" ", words).strip()


def sentence_of(parse: str, text: Any) -> str:
    """Return the words of a parse as `Tokens`, or the text if only the parse is empty.

    If both are empty, the parse counts: SNLI has empty sentences, and the sentence ``n/a``.
    """
    words = words_of_parse(parse)
    if words.lower() in PLACEHOLDERS and isinstance(text, str) and text.strip() not in ("", words):
        return text
    return Tokens(words)
