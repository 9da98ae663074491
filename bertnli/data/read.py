"""Reading of sentence pairs: `bertnli.read`, and functions that commands share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bertnli._util.hints import hinted
from bertnli.data.builder import read_parts
from bertnli.data.corpus import Corpus, is_sentence
from bertnli.data.reading import SAMPLE, Reading, sentences_of
from bertnli.data.sources import own_dev, parts_of
from bertnli.data.table import BadRow
from bertnli.errors import ConfigError


@hinted()
def read(
    source: Any,
    split: str | bool | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    quoted: bool | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    premise: str | int | None = None,
    hypothesis: str | int | None = None,
    label: str | int | None = None,
    labelled: bool = True,
    labels: Sequence[str] | None = None,
    label_map: Mapping[Any, str] | None = None,
    probabilities: str | None = None,
    on_error: str = "raise",
) -> Corpus:
    """Read sentence pairs and their labels from a source.

    The published sets are recognised by their columns (see `bertnli.data.layouts.LAYOUTS`). A
    sentence of SNLI, MultiNLI and sets with their columns is the words of its binary parse or,
    where that is empty or missing, the text. Guesses are in the corpus's ``notes``.

    Args:
        source: the path of a file (TSV, CSV, JSON lines, a JSON document, parquet, Arrow or
            Feather; perhaps packed by gzip, bz2, xz or zstd), of a folder or an archive of such
            files; ``"-"`` for standard input; a name of the hub (``"SNLI"``, ``"sample"``); any of
            these with a split, ``"SNLI:dev"``; a table of pandas, polars, pyarrow, datasets, or
            with Arrow's PyCapsule protocol; a mapping of splits to tables; an iterable of pairs, of
            pairs with a label, or of dictionaries; or a list of several of these, which are read
            one after the other.
        split: ``"train"``, ``"dev"`` or ``"test"`` (validation means dev), or the name of a
            folder's file; the book's True is train, False is test.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"`` or ``"arrow"``; None
            to determine it by name and content.
        delimiter: the character between fields; None to determine it.
        quoted: whether fields may be in quotation marks; None to determine it.
        header: whether the first line names the columns; None to determine it.
        encoding: the encoding of text files; None for UTF-8, or UTF-16 and UTF-32 with a byte
            order mark.
        premise, hypothesis, label: the columns, by name or by number from 1; a dot leads into
            nested objects of JSON.
        labelled: False for pairs without labels, whose ids are -1.
        labels: the wanted classes in the order of their ids, such as a classifier's; None for the
            file's own.
        label_map: label to class, such as ``{"0": "entailment"}``; ``"-"`` means none. Without it
            names are known in the field's spellings, and numbers only where the source explains
            them.
        probabilities: the key of an object with each class's probability, to train on in place of
            the label: the output of ``bertnli predict --json``.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Returns:
        The pairs, with class ids that are indices into ``label_names``.

    Raises:
        ConfigError: a wrong option; a source of several splits without ``split``.
        DataError: no such file or column, a malformed row (with file and line), unexplained
            labels, or a file whose sentences are all empty.

    Examples:
        >>> from bertnli import read
        >>> corpus = read([("A man sleeps.", "A man rests.", "entailment")])
        >>> corpus.premises, [corpus.label_names[label] for label in corpus.labels]
        (['A man sleeps.'], ['entailment'])
    """
    options = {key: value for key, value in locals().items() if key not in ("source", "split")}
    return read_parts(parts_of(source, split), Reading(**options))


def read_sets(
    sources: Iterable[Any], split: str | None = None, *, default: str | None = None, **options: Any
) -> list[Corpus]:
    """Read several sources, each as a corpus; those of the same name get their files' names.

    Args:
        sources, split, options: see `read`.
        default: the split to read of a source that has several, if ``split`` is None.
    """
    how = Reading(**options)
    corpora = [read_parts(parts_of(source, split, default), how) for source in sources]
    times = Counter(corpus.name for corpus in corpora)
    for corpus in corpora:
        if times[corpus.name] > 1:
            corpus.name = corpus.source
    return corpora


def pairs(
    source: Any,
    split: str | None = None,
    *,
    on_note: Callable[[str], Any] = lambda note: None,
    **options: Any,
) -> Iterator[tuple[str, str]]:
    """Yield each pair of a source, without its label, as soon as it is read.

    Args:
        source, split, options: see `read`.
        on_note: a function that is called with each guess and, with ``on_error="skip"``, with a
            message for each row left out.
    """
    how = Reading(**{**options, "labelled": False})
    for part in parts_of(source, split):
        with how.opened(part, SAMPLE if part.is_file else 1) as (table, plan):
            for note in table.notes:
                on_note(f"{table.source}: {note}")

            def pair(_: int, row: Mapping[str, Any], plan: Any = plan) -> tuple[str, str]:
                sentences = sentences_of(row, plan)
                if not any(map(str.strip, sentences)) or not all(map(is_sentence, sentences)):
                    raise BadRow("both sentences are empty, and so are their parses")
                return sentences

            for number, sentences in how.rows(table, pair):
                if isinstance(sentences, BadRow):
                    on_note(f"{table.source}, line {number}: {sentences}; left out")
                else:
                    yield sentences


def train_and_dev(
    train: Any, dev: Any = None, *, seed: int = 0, **options: Any
) -> tuple[Corpus, Corpus | None]:
    """Read a training set, and the dev set by which the best epoch is chosen.

    Args:
        train: a source, of whose splits "train" is read.
        dev: a source, of whose splits "dev" is read; or the share of the training pairs, between 0
            and 1, that `held_out` separates; or None for the training source's own dev split.
        seed: the seed of `held_out`.
        options: see `read`.

    Returns:
        The two sets; None as the second if ``dev`` is None and the source has no dev split.

    Raises:
        ConfigError, DataError: as `read`; or a share that leaves one side empty.
    """
    how = Reading(**options)
    corpus = read_parts(parts_of(train, None, "train"), how)
    if isinstance(dev, float):
        return held_out(corpus, dev, seed)
    dev = own_dev(train) if dev is None else dev
    if dev is None:
        return corpus, None
    how = replace(how, probabilities=None, labels=how.labels or corpus.label_names)
    return corpus, read_parts(parts_of(dev, None, "dev"), how)


def held_out(corpus: Corpus, share: float, seed: int = 0) -> tuple[Corpus, Corpus]:
    """Split a corpus at random into a training set and a dev set without common premises.

    SNLI has three hypotheses for each premise: with a premise in both sets, the dev score would be
    too high.

    Args:
        corpus: the pairs to split.
        share: the approximate share of the pairs for the dev set, between 0 and 1.
        seed: the seed of the random choice of premises.

    Returns:
        The training set and the dev set.
    """
    if not 0 < share < 1:
        raise ConfigError(f"dev is {share}; a share to hold out is between 0 and 1 (--dev 0.1)")
    distinct = {premise: i for i, premise in enumerate(dict.fromkeys(corpus.premises))}
    premises = np.array([distinct[premise] for premise in corpus.premises], np.int64)
    sizes = np.bincount(premises, minlength=len(distinct))
    order = np.random.default_rng(seed).permutation(len(distinct))
    taken = order[: int(np.searchsorted(np.cumsum(sizes[order]), share * len(premises))) + 1]
    is_dev = np.isin(premises, taken)
    if is_dev.all() or not is_dev.any():
        raise ConfigError(
            f"{corpus.source}: {share} of its {len(premises)} pairs, of {len(distinct)} different "
            "premises, cannot be held out; give a set of its own with dev= (--dev)"
        )
    rest, dev = np.flatnonzero(~is_dev), np.flatnonzero(is_dev)
    kept = corpus.subset(rest)
    kept.skipped, kept.notes = corpus.skipped, corpus.notes
    return kept, corpus.subset(dev, f"{share:.0%} of {corpus.name}")
