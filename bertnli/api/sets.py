"""Sets of pairs as the calls read them, and the lines that are printed about a set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.sources import default_split
from bertnli.errors import ConfigError, LabelError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import read_checkpoint
from bertnli.formats.weights import locate
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

Result = TypeVar("Result", Corpus, PairDataset)
#: The share of a pair's tokens that a model may not know without a warning.
MANY_UNKNOWN = 1 / 3


def encoding_of(
    config: BERTConfig, own: PairEncoding | None, max_len: int | None, truncation: str | None
) -> PairEncoding:
    """Return how pairs are cut: as the arguments say, else in the model's own way or the book's."""
    encoding = own or PairEncoding.default(config.max_len)
    return encoding.overridden(max_len, truncation, config.max_len)


def read_tokens(
    path: str | Path, max_len: int | None = None, truncation: str | None = None
) -> Checkpoint:
    """Return a checkpoint that has a vocabulary and an encoding; no framework is needed."""
    checkpoint = read_checkpoint(locate(path))
    if not len(checkpoint.vocab):
        raise ConfigError(f"{path} has no vocabulary; name a checkpoint that has one")
    encoding = encoding_of(checkpoint.config, checkpoint.encoding, max_len, truncation)
    return replace(checkpoint, encoding=encoding)


def read_ids(
    source: Any,
    split: str | None,
    vocab: Vocab,
    encoding: PairEncoding,
    *,
    default: str = "dev",
    **reading: Any,
) -> PairDataset:
    """Return a source as ids; of a source with several splits, ``default`` unless ``split``."""
    return PairDataset.read(
        source,
        split or default_split(source, default),
        encoding.max_len,
        vocab,
        truncation=encoding.truncation,
        verbose=False,
        **reading,
    )


def labelled_or_not(read: Callable[..., Result], source: Any, **options: Any) -> Result:
    """Call ``read``; if the classes are unknown, read without labels and add a note."""
    try:
        return read(source, **options)
    except LabelError as error:
        # A stream cannot be read twice.
        if not isinstance(source, str | Path | Mapping) or str(source).startswith(("-", "/dev/")):
            raise
        note_text = f"read without classes: {error}"
    unlabelled = {k: v for k, v in options.items() if k not in ("label", "label_map")}
    result = read(source, labelled=False, **unlabelled)
    result.notes += (note_text,)
    return result


def note(text: str) -> None:
    """Print a note."""
    print(f"note: {text}", file=sys.stderr)


def note_test_split(sources: Iterable[str], split: str | None) -> None:
    """Print a note where a test split is scored."""
    if split == "test" or any(source.endswith(":test") for source in sources):
        note("the test split is meant to be used once, when every choice has been made")


def describe(corpus: Corpus | PairDataset) -> str:
    """Print the notes on a corpus, and return a line on its pairs and what was left out."""
    for text in corpus.notes:
        note(text)
    skipped = ", ".join(f"{n} ({reason})" for reason, n in corpus.skipped.items())
    return f"{len(corpus.labels)} pairs from {corpus.source}" + (
        f"; rows left out: {skipped}" if skipped else ""
    )


def describe_encoding(dataset: PairDataset) -> str:
    """Return in one line, or two, how many pairs were cut, and how many a model cannot read."""
    cut = (
        f"{int(dataset.is_cut.sum())} of {len(dataset)} pairs have more than {dataset.max_len} "
        f"tokens and were cut ({dataset.truncation})"
    )
    return "\n".join(filter(None, [cut, describe_unknown(dataset.unknown_shares)]))


def describe_unknown(shares: NDArray[np.float64]) -> str:
    """Return a warning of pairs with many unknown tokens, by the share of each; empty if none."""
    many = np.flatnonzero(shares > MANY_UNKNOWN)
    if not len(many):
        return ""
    if len(shares) == 1:
        return (
            f"warning: the model does not know {shares[0]:.0%} of this pair's tokens, so its "
            "answer means little"
        )
    return (
        f"warning: the model does not know more than a third of the tokens of {len(many)} of "
        f"{len(shares)} pairs (the first: pair {many[0] + 1}), so these answers mean little"
    )
