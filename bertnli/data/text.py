"""Read plain text for pretraining: documents of sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bertnli._util.files import expanded
from bertnli._util.hints import near_path
from bertnli.data.read import pairs
from bertnli.data.streams import as_text, open_bytes
from bertnli.errors import ConfigError, DataError
from bertnli.text.tokenize import lower_tokens
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

#: The end of a sentence: white space after a full stop, exclamation or question mark.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Text:
    """The sentences of one or more documents.

    Args:
        sentences: the raw sentences, document after document; none is empty.
        documents: the number of each sentence's document, counted from 0.
        source: the names of the files or tables.
    """

    sentences: list[str]
    documents: list[int]
    source: str = ""

    def __len__(self) -> int:
        return len(self.sentences)


def read_text(
    paths: Any, split_sentences: bool = False, column: str | int | None = None, **reading: Any
) -> Text:
    """Read the sentences of UTF-8 text files, or of a column of tables.

    Args:
        paths: one file or a list of files. Each line is a sentence, and an empty line or the end
            of a file ends a document, as in Devlin et al. (2019).
        split_sentences: whether each line is a document of several sentences, as in the book's
            WikiText; the sentences end at ``.``, ``!`` or ``?``.
        column: the name or number of a column, if ``paths`` are sources of tables for
            `bertnli.read`; each row of the column is a document of several sentences.
        reading: further arguments of `bertnli.read`.

    Raises:
        ConfigError: there are further arguments, and no column.
        DataError: a file cannot be read, is not UTF-8, or the files have no sentence.
    """
    if reading and column is None:
        raise ConfigError(
            "how a table is read is for a column of text; name it with text_column= (--text-column)"
        )
    files = list(paths) if isinstance(paths, list | tuple) else [paths]
    sentences: list[str] = []
    documents: list[int] = []
    for file in files:
        if column is None:
            groups = _documents(expanded(file, DataError), split_sentences)
        else:
            rows = pairs(file, premise=column, hypothesis=column, **reading)
            groups = (_split(text) for text, _ in rows)
        for document, group in enumerate(groups, documents[-1] + 1 if documents else 0):
            sentences += group
            documents += [document] * len(group)
    source = ", ".join(str(file) if isinstance(file, str | Path) else "a table" for file in files)
    if not sentences:
        raise DataError(f"there is no sentence in {source or 'no file'}")
    return Text(sentences, documents, source)


def _documents(path: Path, split_sentences: bool) -> Iterator[list[str]]:
    if not path.exists():
        raise DataError(f"{path}: no such file{near_path(path)}")
    with open_bytes(path) as stream, as_text(stream) as file:
        lines = map(str.strip, file)
        if split_sentences:
            yield from (_split(line) for line in lines if line)
        else:
            yield from (list(group) for has_text, group in groupby(lines, bool) if has_text)


def _split(paragraph: str) -> list[str]:
    return [part for part in _SENTENCE_END.split(paragraph.strip()) if part]


def build_text_vocab(text: Text, min_freq: int = 5) -> Vocab:
    """Make the vocabulary of a text's words, with the special tokens of BERT's inputs.

    Args:
        text: the sentences.
        min_freq: the number of occurrences below which a token becomes ``<unk>``.
    """
    return Vocab(lower_tokens(text.sentences, False), min_freq, RESERVED_TOKENS)
