"""Token ids of a source: column by column with pyarrow where that is safe, else row by row.

`NotSure` is raised where pyarrow might read something differently from the row-by-row readers. They
then read the source from its start, and their errors name the line.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bertnli.data.builder import read_parts
from bertnli.data.cache import cached
from bertnli.data.class_names import names_beside
from bertnli.data.classes import class_of_number, decide, raw_label
from bertnli.data.columnar import Columns, NotSure, Piece, arrow_library, encode_pieces
from bertnli.data.corpus import MALFORMED, NO_LABEL
from bertnli.data.encode import EncodedPairs, encode_corpus
from bertnli.data.formats import TextFormat
from bertnli.data.plan import Plan
from bertnli.data.reading import Reading
from bertnli.data.sources import Part, parts_of
from bertnli.data.streams import MAX_LINE, encoding_of, open_bytes
from bertnli.data.table import BadRow
from bertnli.errors import DataError
from bertnli.text.vocab import Vocab

#: Bytes of a text file, or rows of a table, in a piece.
PIECE, ROWS = 4 << 20, 1 << 14
BOM = b"\xef\xbb\xbf"
LF, CR, QUOTE = b'\n\r"'


def encode_source(
    source: Any,
    split: str | bool | None,
    max_len: int,
    vocab: Vocab,
    truncation: str,
    how: Reading,
    cache: bool,
) -> EncodedPairs:
    """Read and encode a source, with the result of `read` and `encode_corpus`, but faster.

    Args:
        source, split: see `bertnli.read`.
        max_len, vocab, truncation: see `PairDataset`.
        how: the options of `bertnli.read`.
        cache: keep the ids of files on disk, and take them from there; see `cached`.

    Raises:
        ConfigError, DataError: as `read` and `PairDataset`.
    """
    parts = parts_of(source, split)

    def encode() -> EncodedPairs:
        try:
            return _by_columns(parts, max_len, vocab, truncation, how)
        except NotSure:
            return encode_corpus(read_parts(parts, how), max_len, vocab, truncation)

    if not cache or not all(part.is_file for part in parts):
        return encode()
    paths = [Path(str(part.path)) for part in parts]
    files = [[path.name, "wnli" in str(path).lower(), names_beside(path)] for path in paths]
    settings = [int(max_len), truncation, repr(how), [part.split for part in parts], files]
    return cached(paths, [vocab.definition(), *settings], encode)


def _by_columns(
    parts: Sequence[Part], max_len: int, vocab: Vocab, truncation: str, how: Reading
) -> EncodedPairs:
    if not all(part.is_file or part.table for part in parts):
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
    pieces = chain.from_iterable(_pieces(part, how) for part in parts)
    encoded = encode_pieces(pieces, vocab, max_len, truncation, official=plan.may_be_empty)
    counts, raws = Counter[str](), list[str]()
    try:
        for label, count in (encoded.labels or {}).items():
            raws.append(class_of_number(raw_label(label), plan.numbers, how.label_map))
            counts[raws[-1]] += count
        names, ids = decide(counts, how.labels, how.label_map, plan.numbers)
    except (BadRow, DataError) as error:
        raise NotSure from error
    if any(raw not in ids for raw in counts):
        raise NotSure("an unknown label")
    skipped = Counter({MALFORMED: encoded.malformed})
    skipped[NO_LABEL] = sum(count for raw, count in counts.items() if ids[raw] < 0)
    pairs = encoded.resolved([ids[raw] for raw in raws])
    source = ", ".join(str(part.path or part.name) for part in parts)
    return replace(pairs, label_names=names, skipped=dict(+skipped), source=source, notes=(*notes,))


def _pieces(part: Part, how: Reading) -> Iterator[Piece]:
    """Yield functions that parse the pieces of a table; NotSure if pyarrow cannot read it."""
    with how.opened(part) as (table, plan):
        names = [name for c in (plan.premise, plan.hypothesis) for name in (c.parse, c.text)]
        names = [*(name if name in table.columns else None for name in names), plan.label]
        if table.batches is not None:
            wanted = list(dict.fromkeys(name for name in names if name is not None))
            for batch in table.batches(wanted):
                if batch.schema.names != wanted:
                    raise NotSure("a nested column")
                for start in range(0, batch.num_rows, ROWS):
                    yield partial(_columns, batch.slice(start, ROWS), names)
            return
        if table.format not in ("tsv", "csv") or not part.is_file:
            raise NotSure("not in columns")
        keys = [None if name is None else str(table.columns.index(name)) for name in names]
        width = len(table.columns)
    with open_bytes(str(part.path)) as stream:
        text = how.text_format(stream.head, str(part.path))
        encoding, mark = encoding_of(stream.head, how.encoding)
        stream.file.read(mark)
        header = [stream.file.readline() for _ in range(text.skip + text.header)]
        is_open = text.quoted and any(line.count(b'"') % 2 for line in header)
        is_odd = not text.delimiter.isascii() or text.delimiter == "\0"
        if encoding != "utf-8" or is_open or text.spaced or is_odd:
            raise NotSure("not UTF-8, or another style than pyarrow knows")
        for piece in (_records if text.quoted else _lines)(stream.file, text.delimiter):
            yield partial(_text_columns, piece, width, keys, text, how.on_error)


def _columns(batch: Any, names: Sequence[str | None]) -> Columns:
    """Take the columns in ``names``, of which the last is the label, from a record batch."""
    pa = arrow_library()
    arrays: list[Any] = [None if name is None else batch.column(name) for name in names]
    *texts, label = arrays
    if label is not None and pa.types.is_integer(label.type):
        arrays[-1] = label.cast(pa.int64())
    else:
        texts.append(label)
    for array in texts:
        if array is not None and array.type != pa.string():
            raise NotSure(f"a column of type {array.type}")
        if array is not None:
            array.validate(full=True)
    return Columns(*arrays)


def _lines(file: BinaryIO, _: str = "") -> Iterator[bytes]:
    """Yield pieces of a text file without quoted fields; each piece ends at a line end."""
    try:
        while piece := file.read(PIECE):
            end = file.readline(MAX_LINE)
            if len(end) == MAX_LINE:
                raise NotSure("a long line")
            yield piece + end
    except (OSError, EOFError, zlib.error, DataError) as error:
        raise NotSure from error


def _records(file: BinaryIO, delimiter: str) -> Iterator[bytes]:
    """Yield pieces of a text file with quoted fields; each piece ends at the end of a record.

    A line end is inside of quotes where an odd number of quotation marks precedes it, provided that
    all of these open or close a field, or are doubled inside one.
    """
    opens, closes = np.zeros((2, 256), np.bool_)
    opens[[ord(delimiter), LF, QUOTE]] = closes[[ord(delimiter), LF, CR, QUOTE]] = True
    rest, pieces = b"", _lines(file)
    while (more := next(pieces, b"")) or rest:
        rest += more
        characters = np.frombuffer(b"\n" + rest + b"\n", np.uint8)
        quotes = np.flatnonzero(characters == QUOTE)
        before, after = characters[quotes[::2] - 1], characters[quotes[1::2] + 1]
        if not (opens[before].all() and closes[after].all()):
            raise NotSure("a quotation mark inside an unquoted field, or text after a quoted one")
        ends = np.flatnonzero(characters[: len(rest) + 1] == LF)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]  # the first is 0
        is_long = np.diff(ends, append=len(rest)).max() > MAX_LINE
        if is_long or (not more and len(quotes) % 2):
            raise NotSure("a long field, or a quotation mark that is not closed")
        end = int(ends[-1]) if more else len(rest)
        if end:
            yield rest[:end]
        rest = rest[end:]


def _text_columns(
    piece: bytes, width: int, keys: Sequence[str | None], text: TextFormat, on_error: str
) -> Columns:
    """Parse a piece of a text file, of ``width`` columns, and return some of them as arrays.

    Args:
        piece: the bytes of complete rows.
        width: the number of columns of the file.
        keys: the number of each wanted column from 0, as text; None for a missing column.
        text: the syntax of the file.
        on_error: ``"skip"`` to leave out malformed rows; otherwise they raise `NotSure`.
    """
    pa, malformed = arrow_library(), 0
    has_lone_cr = b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n")  # `in` is faster
    if has_lone_cr or piece.startswith(BOM) or (text.quoted and b"\0" in piece):
        raise NotSure("pyarrow ends a line at CR, and drops a BOM; some csv modules refuse NULs")

    def leave_out(row: Any) -> str:
        nonlocal malformed
        malformed += 1
        return "skip" if on_error == "skip" else "error"

    names = list(dict.fromkeys(key for key in keys if key is not None))
    reading = pa.csv.ReadOptions(use_threads=False, block_size=len(piece) + 1)
    reading.column_names = list(map(str, range(width)))
    parsing = pa.csv.ParseOptions(delimiter=text.delimiter, newlines_in_values=text.quoted)
    parsing.quote_char, parsing.escape_char = text.mark if text.quoted else False, False
    parsing.invalid_row_handler = leave_out
    converting = pa.csv.ConvertOptions(check_utf8=False, strings_can_be_null=False)
    converting.include_columns, converting.column_types = names, dict.fromkeys(names, pa.string())
    try:
        if not piece.isascii():
            piece.decode("utf-8")  # also the columns that are not read
        table = pa.csv.read_csv(pa.BufferReader(piece), reading, parsing, converting)
    except ValueError as error:  # not UTF-8, or of pyarrow
        raise NotSure from error
    columns: Any = [None if key is None else table.column(key).combine_chunks() for key in keys]
    return Columns(*columns)._replace(malformed=malformed)
