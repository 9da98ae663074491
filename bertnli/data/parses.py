"""The sentences of SNLI's and MultiNLI's rows: the words of a binary parse, else the text.

Many tables have these corpora's columns and nothing in those of the parses: XNLI's, those written
for GLUE's reader of MNLI, translations. Which of the two is taken is decided row by row and
sentence by sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bertnli.text.tokenize import Tokens

#: What stands in an empty field where a writer of tables puts something, in lower case.
PLACEHOLDERS = frozenset(("", "n/a", "na", "nan", "none", "null", "<na>", "#n/a"))
_SPACES = re.compile(r"\s{2,}")


class SentenceColumn(NamedTuple):
    """Where a table has a sentence.

    Args:
        text: the column of the sentence as people write it.
        parse: the column of its binary parse, which is preferred; None for a table without parses.
    """

    text: str
    parse: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, of which a table has one at least."""
        return (self.text,) if self.parse is None else (self.text, self.parse)

    def read(self, row: Mapping[str, Any]) -> Any:
        """Return the sentence of a row, `Tokens` if it is from the parse.

        What is no string is returned as it is, for the caller to refuse.
        """
        text, parse = row.get(self.text), row.get(self.parse) if self.parse else None
        if parse is None or (isinstance(parse, float) and math.isnan(parse)):
            return text
        return sentence_of(parse, text) if isinstance(parse, str) else parse


#: The sentences of SNLI, MultiNLI, and tables that are laid out as these.
PREMISE = SentenceColumn("sentence1", "sentence1_binary_parse")
HYPOTHESIS = SentenceColumn("sentence2", "sentence2_binary_parse")


def words_of_parse(parse: str) -> str:
    """Return the words of a binary parse, cleaned as the book does it."""
    words = parse.replace("(", "").replace(")", "")
    return _SPACES.sub(" ", words).strip()


def sentence_of(parse: str, text: Any) -> str:
    """Return a sentence's words, as `Tokens`, or its text where the parse is empty.

    Where both are empty it is the parse's: SNLI has such a sentence, and those with the one word
    ``n/a``.

    Args:
        parse: a binary parse, an empty string, or one of `PLACEHOLDERS`.
        text: the sentence as people write it; anything else for none.
    """
    words = words_of_parse(parse)
    if words.lower() in PLACEHOLDERS and isinstance(text, str) and text.strip() not in ("", words):
        return text
    return Tokens(words)
