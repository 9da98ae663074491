"""What is in a source, before anything is trained on it, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertnli.checkpoints.contents import locate, read_contents
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.data.sources import SPLITS, default_split
from bertnli.data.summary import Summary
from bertnli.errors import ConfigError
from bertnli.text.pairs import PairEncoding


def summarize(
    *sources: Any,
    split: str | None = None,
    checkpoint: str | Path | None = None,
    max_len: int | None = None,
    **reading: Any,
) -> Summary:
    """Return what is in some sources: classes, lengths, repeated pairs, what splits share.

    Args:
        sources, reading: see `bertnli.read`.
        split: of sources with several; None for train, dev and test, each as a set.
        checkpoint: a model, whose tokens are counted and whose classes are wanted; None for words.
        max_len: tokens of a pair; None for the checkpoint's.

    Raises:
        BERTNLIError: of a source, as `bertnli.read`; the checkpoint has no vocabulary.
    """
    vocab = encoding = None
    if checkpoint is not None:
        contents = read_contents(locate(checkpoint))
        vocab = contents.vocab()
        if vocab is None:
            raise ConfigError(f"{checkpoint} has no vocabulary; name a checkpoint that has one")
        own = contents.encoding or PairEncoding.default(contents.config.max_len)
        encoding = own.overridden(max_len, None, contents.config.max_len)
        reading = {"labels": contents.labels, **reading}
    corpora: list[Corpus] = []
    for source in sources:
        splits: list[str | None] = [
            one for one in SPLITS if split is None and default_split(source, one)
        ]
        for name in splits or [None]:
            corpora.append(read(source, name or split, **reading))
            if isinstance(source, Mapping) and name is not None:
                corpora[-1].name = name
    datasets: list[PairDataset | None] = [None] * len(corpora)
    if vocab is not None and encoding is not None:
        datasets = [
            PairDataset(one, encoding.max_len, vocab, truncation=encoding.truncation, verbose=False)
            for one in corpora
        ]
    return Summary.of(corpora, datasets)
