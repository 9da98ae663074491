"""Sets of pairs as the calls read them, and what is said of a set while work goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.sources import default_split
from bertnli.errors import ConfigError, LabelError
from bertnli.formats.load import locate, read_checkpoint
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

Result = TypeVar("Result", Corpus, PairDataset)
#: The share of a pair's tokens that a model may not know without a warning.
MANY_UNKNOWN = 1 / 3


class Tokens(NamedTuple):
    """What a checkpoint's tokens are.

    Args:
        labels: its classes; None of a pretrained model.
        vocab: its vocabulary.
        encoding: how pairs are cut to length.
    """

    labels: Sequence[str] | None
    vocab: Vocab
    encoding: PairEncoding


def tokens_of(
    checkpoint: str | Path, max_len: int | None = None, truncation: str | None = None
) -> Tokens:
    """Return what a checkpoint's tokens are; no framework is needed.

    Args:
        checkpoint: its path, or a name of the hub.
        max_len, truncation: how pairs are cut; None for the checkpoint's way.

    Raises:
        ConfigError: it has no vocabulary.
        CheckpointError: as `bertnli.load`.
    """
    contents = read_checkpoint(locate(checkpoint))
    if not len(contents.vocab):
        raise ConfigError(f"{checkpoint} has no vocabulary; name a checkpoint that has one")
    own = contents.encoding or PairEncoding.default(contents.config.max_len)
    encoding = own.overridden(max_len, truncation, contents.config.max_len)
    return Tokens(contents.labels, contents.vocab, encoding)


def read_ids(
    source: Any,
    split: str | None,
    vocab: Vocab,
    how: PairEncoding,
    *,
    default: str = "dev",
    **reading: Any,
) -> PairDataset:
    """Return a source as ids, cut as ``how`` says.

    Args:
        default: the split of a source with several, where ``split`` is None.
        source, split, vocab, reading: see `PairDataset.read`.
    """
    return PairDataset.read(
        source,
        split or default_split(source, default),
        how.max_len,
        vocab,
        truncation=how.truncation,
        verbose=False,
        **reading,
    )


def whatever_the_classes(read: Callable[..., Result], source: Any, **options: Any) -> Result:
    """Return what a function reads of a source; without labels, and a note why, if need be.

    Args:
        read: takes the source, and ``labelled``.
        source: can be read twice, or the error is raised.
        options: further arguments.
    """
    try:
        return read(source, **options)
    except LabelError as error:
        if not isinstance(source, str | Path | Mapping) or str(source).startswith(("-", "/dev/")):
            raise
        why = f"{error}"
    options = {k: v for k, v in options.items() if k not in ("label", "label_map", "probabilities")}
    found = read(source, labelled=False, **options)
    found.notes += (f"read without classes: {why}",)
    return found


def note(text: str) -> None:
    """Print a note."""
    print(f"note: {text}", file=sys.stderr)


def describe(corpus: Corpus | PairDataset) -> str:
    """Return in one line how many pairs a corpus has, from where, and what was left out.

    What was guessed of its source is printed as notes.
    """
    for guess in corpus.notes:
        note(guess)
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
    unread = describe_unknown(dataset.unknown_shares)
    return f"{cut}\n{unread}" if unread else cut


def describe_unknown(shares: NDArray[np.float64]) -> str:
    """Return a warning of pairs whose words a model hardly knows; nothing if there are none.

    Args:
        shares: of each pair's tokens, the share that the model does not know.
    """
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


def note_test_split(sources: Iterable[str], split: str | None) -> None:
    """Print a note where a test split is scored."""
    if split == "test" or any(source.endswith(":test") for source in sources):
        note("the test split is meant to be used once, when every choice has been made")
