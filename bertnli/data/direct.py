"""From a source to token ids at once: by columns where that is sure, else row by row."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.data.arrays import NotSure, record_batches, text_batches
from bertnli.data.cache import cached
from bertnli.data.class_names import names_beside
from bertnli.data.classes import decide, raw_label
from bertnli.data.columnar import Columns, encode_columns
from bertnli.data.corpus import MALFORMED, NO_LABEL
from bertnli.data.encode import EncodedPairs, encode_corpus
from bertnli.data.plan import Plan
from bertnli.data.read import read_parts
from bertnli.data.reading import Reading
from bertnli.data.sources import Part, parts_of
from bertnli.data.streams import PIECE, encoding_of, open_bytes
from bertnli.errors import DataError
from bertnli.text.vocab import Vocab


def encode_source(
    source: Any,
    split: str | bool | None,
    max_len: int,
    vocab: Vocab,
    truncation: str,
    how: Reading,
    cache: bool,
) -> EncodedPairs:
    """Return a source as ids: what `read` and `encode_corpus` give, faster.

    With pyarrow (the extra ``fast``) a table in columns is encoded column by column; where that
    might read something differently, row by row.

    Args:
        source, split: see `bertnli.read`.
        max_len, vocab, truncation: see `PairDataset`.
        how: the source is read.
        cache: keep the ids of files beside them (else in the folder of downloads), and take them
            from there, memory-mapped, if nothing that they depend on has changed.

    Raises:
        ConfigError, DataError: as `read` and `PairDataset`.
    """
    parts = parts_of(source, split)

    def encode() -> EncodedPairs:
        try:
            return _by_columns(parts, max_len, vocab, truncation, how)
        except NotSure:
            return encode_corpus(read_parts(parts, how), max_len, vocab, truncation)

    paths = [Path(part.path) for part in parts if part.path is not None]
    if not cache or len(paths) < len(parts) or not all(path.is_file() for path in paths):
        return encode()
    files = [[path.name, "wnli" in str(path).lower(), names_beside(path)] for path in paths]
    settings = [int(max_len), truncation, repr(how), [part.split for part in parts], files]
    return cached(paths, [vocab.definition(), *settings], encode)


def _by_columns(
    parts: Sequence[Part], max_len: int, vocab: Vocab, truncation: str, how: Reading
) -> EncodedPairs:
    """Return the pairs of tables in columns.

    Raises:
        NotSure: they are in other formats, are read in several ways, or something in them may be.
    """
    if any(part.path is not None and not Path(part.path).is_file() for part in parts):
        raise NotSure("a pipe is read once")
    notes: dict[str, None] = {}
    plans = list[Plan]()
    for part in parts:
        with how.opened(part) as (table, plan):
            notes |= dict.fromkeys(f"{table.source}: {note}" for note in table.notes)
            plans.append(plan)
    plan = plans[0]
    if any(other != plan for other in plans) or any(part.split for part in parts):
        raise NotSure("columns are not the same, or not all rows are read")
    columns = chain.from_iterable(_columns_of(part, how) for part in parts)
    found = encode_columns(columns, vocab, max_len, truncation, official=plan.may_be_empty)
    if found.ends_empty:
        raise NotSure("rows of empty fields at the end are none")
    skipped: Counter[str] = Counter({MALFORMED: found.malformed})
    source = ", ".join(str(part.path or part.name) for part in parts)
    counts: Counter[str] = Counter()
    for raw, count in (found.labels or {}).items():
        counts[raw_label(raw)] += count
    try:
        names, meaning = decide(
            counts, labels=how.labels, label_map=how.label_map, numbers=plan.numbers
        )
    except DataError as error:  # which the plain way says with its lines
        raise NotSure from error
    for raw, count in counts.items():
        if raw not in meaning:
            raise NotSure("the plain way names the line")
        if meaning[raw] is None:
            skipped[NO_LABEL] += count
    called = [meaning.get(raw_label(raw)) for raw in found.labels or ()]
    ids = np.array([-1 if name is None else names.index(name) for name in called], np.int64)
    return replace(found.resolved(ids, names, dict(+skipped), source), notes=tuple(notes))


def _columns_of(part: Part, how: Reading) -> Iterator[Columns]:
    """Yield the columns of a table that are read, piece by piece."""
    with ExitStack() as stack:
        table, plan = stack.enter_context(how.opened(part))
        found = [
            name if name in table.columns else None
            for column in (plan.premise, plan.hypothesis)
            for name in (column.parse, column.text)
        ]
        names = [name for name in (*found, plan.label) if name is not None]
        if table.batches is not None:
            batches = record_batches(batch.select(names) for batch in table.batches(names))
        elif table.format in ("tsv", "csv") and Path(str(part.path)).is_file():
            stream = stack.enter_context(open_bytes(str(part.path)))
            written = how.written(stream.head, str(part.path))
            encoding, mark = encoding_of(stream.head, how.encoding)
            if encoding.lower() not in ("utf-8", "utf8"):
                raise NotSure("pyarrow reads UTF-8")
            file = io.BufferedReader(stream, PIECE)
            file.read(mark)
            lines = [file.readline() for _ in range(written.skip + written.header)]
            is_open = written.quoted and any(line.count(b'"') % 2 for line in lines)
            if is_open or written.spaced or written.mark != '"':
                raise NotSure("a name of several lines, spaces or other marks around fields")
            places = [table.columns.index(name) for name in names]
            width = len(table.columns)
            batches = text_batches(
                file, width, places, written.delimiter, written.quoted, how.on_error
            )
        else:
            raise NotSure("not in columns")
        for batch in batches:
            arrays = iter(batch.columns)
            five: list[Any] = [
                None if name is None else next(arrays) for name in (*found, plan.label)
            ]
            if any(column is not None and str(column.type) != "string" for column in five[:4]):
                raise NotSure("a number is no sentence")
            yield Columns(*five)._replace(malformed=batch.malformed)
