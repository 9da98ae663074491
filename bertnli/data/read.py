"""The one door for data: anything with sentence pairs becomes a corpus.

What one command reads, every command reads, and so does Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.hints import hinted
from bertnli.data.builder import Builder
from bertnli.data.corpus import Corpus, is_sentence
from bertnli.data.reading import SAMPLE, Reading, bad_row, rows_of_part, sentence
from bertnli.data.sources import Part, own_dev, parts_of
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
    """Read sentence pairs and their labels from whatever has them.

    The published sets are known by their columns, in upper or lower case (see
    `bertnli.data.layouts.LAYOUTS`). A sentence of SNLI, MultiNLI and sets laid out as they are is
    the words of its binary parse or, where that is empty or missing, the text. What is guessed is
    in the corpus's ``notes``.

    Args:
        source: the path of a file (TSV, CSV, JSON lines, a document of JSON, parquet, Arrow or
            feather; perhaps packed by gzip, bz2, xz or zstd), of a folder or an archive of such
            files, ``"-"`` for standard input; a name of the hub (``"SNLI"``, ``"sample"``); any of
            these with a split, ``"SNLI:dev"``; a table of pandas, polars, pyarrow, datasets, or
            whatever has Arrow's PyCapsule or the DataFrame interchange protocol; a mapping of
            splits to tables; an iterable of pairs, of pairs with a label, or of dictionaries; or a
            list of several of these, which are read one after the other.
        split: ``"train"``, ``"dev"`` or ``"test"`` (validation means dev), or what else a folder's
            files are called; the book's True is train, False is test.
        format: ``"tsv"``, ``"csv"``, ``"jsonl"``, ``"json"``, ``"parquet"`` or ``"arrow"``; None
            for what name and content tell.
        delimiter: the character between fields; None to find it.
        quoted: whether fields may stand in quotation marks; None to tell by the file.
        header: whether the first line names the columns; None to tell by the file.
        encoding: of the text; None for UTF-8, or UTF-16 or UTF-32 with a mark.
        premise, hypothesis, label: columns, by name or by number from 1; a dot leads into nested
            objects of JSON.
        labelled: False for pairs without labels, whose ids are -1.
        labels: the classes that are wanted, in the order of their ids, such as a classifier's; None
            for the file's own.
        label_map: what the file writes to what it means, such as ``{"0": "entailment"}``; ``"-"``
            means none. Without it names are known in the field's spellings, and numbers only where
            the source says what they mean.
        probabilities: the key of an object with each class's probability, to be trained on in place
            of the label: what ``bertnli predict --json`` writes. None for none.
        on_error: ``"raise"`` or ``"skip"``, for malformed rows.

    Raises:
        ConfigError: an option that is none; a source of several splits, of which none is named.
        DataError: no such file or column, a malformed row (with file and line), labels whose
            meaning nobody says, or a file whose sentences are all empty.
    """
    given = {key: value for key, value in locals().items() if key not in ("source", "split")}
    return read_parts(parts_of(source, split), Reading(**given))


def read_parts(parts: Iterable[Part], how: Reading) -> Corpus:
    """Read tables one after the other, as one corpus; see `read`."""
    builder, names = Builder(how), dict[str, None]()
    for part in parts:
        builder.read(part)
        names[part.name if part.split is None else f"{part.name}, {part.split}"] = None
    return builder.corpus(", ".join(names))


def read_sets(
    sources: Iterable[Any], split: str | None = None, *, default: str | None = None, **options: Any
) -> list[Corpus]:
    """Read several sources, each as a corpus; one that shares its name is called by its source.

    Args:
        sources, split, options: see `read`.
        default: the split of a source that has some, where nobody says.
    """
    how, listed = Reading(**options), list(sources)
    found = [read_parts(parts_of(one, split, default), how) for one in listed]
    times = Counter(one.name for one in found)
    for one in found:
        if times[one.name] > 1:
            one.name = one.source
    return found


def pairs(
    source: Any,
    split: str | None = None,
    *,
    on_note: Callable[[str], Any] = lambda note: None,
    **options: Any,
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a source as they come, without their labels.

    Args:
        source, split, options: see `read`.
        on_note: is told what was guessed, and with ``on_error="skip"`` of each row left out.
    """
    how = Reading(**{**options, "labelled": False})
    for part in parts_of(source, split):
        is_file = part.path is not None and Path(str(part.path)).is_file()
        with how.opened(part, SAMPLE if is_file else 1) as (table, plan):
            for note in table.notes:
                on_note(f"{table.source}: {note}")
            for number, row in rows_of_part(table, plan, part.split):
                try:
                    if isinstance(row, BadRow):
                        raise row
                    found = (
                        sentence(plan.premise, row, "premise", plan.may_be_empty),
                        sentence(plan.hypothesis, row, "hypothesis", plan.may_be_empty),
                    )
                    if not any(s.strip() for s in found) or not all(map(is_sentence, found)):
                        raise BadRow("both sentences are empty, and so are their parses")
                except BadRow as problem:
                    if how.on_error == "raise":
                        raise bad_row(table.source, number, problem) from None
                    on_note(f"{table.source}, line {number}: {problem}; left out")
                    continue
                yield found


def train_and_dev(
    train: Any, dev: Any = None, *, seed: int = 0, **options: Any
) -> tuple[Corpus, Corpus | None]:
    """Read a training set, and the set that the best epoch is chosen by.

    Args:
        train: a source; its train split, where it has several.
        dev: a source; its dev split, where it has several; or a share of the training pairs between
            0 and 1, which is held out: of whole premises, so that none is on both sides. None for
            the training source's own dev split, if it has one.
        seed: of what is held out.
        options: see `read`.

    Raises:
        ConfigError, DataError: as `read`; or a share that leaves one side empty.
    """
    how = Reading(**options)
    corpus = read_parts(parts_of(train, None, "train"), how)
    if isinstance(dev, float):
        return held_out(corpus, dev, seed)
    if dev is None:
        whole = own_dev(train)
        if whole is None:
            return corpus, None
        dev = parts_of(whole, "dev")
    else:
        dev = parts_of(dev, None, "dev")
    how = replace(how, probabilities=None, labels=how.labels or corpus.label_names)
    return corpus, read_parts(dev, how)


def held_out(corpus: Corpus, share: float, seed: int = 0) -> tuple[Corpus, Corpus]:
    """Return a corpus without some of its pairs, and these: all those of some of its premises.

    SNLI has three hypotheses of each premise: with a premise on both sides, the dev score would be
    too high.

    Args:
        corpus: the pairs.
        share: of them, about as many.
        seed: of the premises' order.
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
