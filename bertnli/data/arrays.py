"""The columns of tables as pyarrow arrays, piece by piece.

`NotSure` is raised on anything that pyarrow might read differently than the row-by-row reader,
which then reads the file from its start, and whose errors name the line.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from bertnli.data.streams import MAX_LINE

#: Bytes of a text file, or rows of a table, in a piece.
PIECE, ROWS = 4 << 20, 1 << 14
#: More threads than this need more memory, and gain little.
MAX_THREADS = 4
BOM = b"\xef\xbb\xbf"
LF, CR, BLANK, QUOTE = b'\n\r "'

Item = TypeVar("Item")
Result = TypeVar("Result")


class NotSure(Exception):
    """pyarrow might read this differently than the row-by-row reader."""


class Batch(NamedTuple):
    """Some columns of a piece of a table, as pyarrow arrays, and its number of malformed rows."""

    columns: list[Any]
    malformed: int = 0


def text_batches(
    file: BinaryIO, width: int, places: Sequence[int], delimiter: str, quoted: bool, on_error: str
) -> Iterator[Batch]:
    """Yield columns of a delimited text file, as arrays of strings.

    Args:
        file: UTF-8, after the header line.
        width: columns that a row must have.
        places: the columns to read, from 0.
        delimiter: between fields.
        quoted: fields may be quoted as the csv module does it; else a row is a line, and quotation
            marks are text.
        on_error: ``"skip"`` counts malformed rows.

    Raises:
        NotSure: pyarrow might read something differently, or ``on_error`` is ``"raise"`` and a row
            is malformed.
    """
    arrow = arrow_library()
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '\r\n"\0':
        raise NotSure("a delimiter that pyarrow may not know")
    pieces = _records(file, ord(delimiter)) if quoted else _lines(file)
    try:
        yield from in_order(
            lambda piece: _text_batch(piece, width, places, delimiter, quoted, on_error), pieces
        )
    except (OSError, EOFError, zlib.error, ValueError, arrow.ArrowException) as error:
        raise NotSure from error  # unreadable, not UTF-8, or with rows of other lengths


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield pieces of whole lines."""
    while piece := file.read(PIECE) + file.readline():
        yield piece


def _records(file: BinaryIO, delimiter: int) -> Iterator[bytes]:
    """Yield pieces of whole CSV records.

    A line end is inside of quotes where an odd number of quotation marks precedes it, as long as
    all of them open or close a field, or are doubled inside one.
    """
    opens, closes = np.zeros((2, 256), np.bool_)
    opens[[delimiter, LF, QUOTE]] = closes[[delimiter, LF, CR, QUOTE]] = True
    rest = b""
    while (more := file.read(PIECE) + file.readline()) or rest:
        rest += more
        characters = np.frombuffer(b"\n" + rest + b"\n", np.uint8)
        quotes = np.flatnonzero(characters == QUOTE)
        if not (
            opens[characters[quotes[::2] - 1]].all() and closes[characters[quotes[1::2] + 1]].all()
        ):
            raise NotSure("a quotation mark inside an unquoted field, or text after a quoted one")
        ends = np.flatnonzero(characters[: len(rest) + 1] == LF)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]  # the first is 0
        if np.diff(ends, append=len(rest)).max() > MAX_LINE:
            raise NotSure("the csv module has a limit for long fields")
        if not more and len(quotes) % 2:
            raise NotSure("a quotation mark is not closed")
        end = int(ends[-1]) if more else len(rest)
        if end:
            yield rest[:end]
        rest = rest[end:]


def _text_batch(
    piece: bytes, width: int, places: Sequence[int], delimiter: str, quoted: bool, on_error: str
) -> Batch:
    """Return columns of whole rows of a text file."""
    if not piece.isascii():
        piece.decode("utf-8")  # also of the columns that are not read
    lone_cr = b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n")  # `in` is faster
    if lone_cr or piece.startswith(BOM):
        raise NotSure("pyarrow takes a lone CR for a line end, and a first BOM for nothing")
    if quoted and b"\0" in piece:
        raise NotSure("some versions of the csv module refuse NULs")
    malformed = 0

    def leave_out(row: Any) -> str:
        nonlocal malformed
        malformed += 1
        return "skip" if on_error == "skip" else "error"

    arrow = arrow_library()
    csv, wanted = arrow.csv, list(map(str, places))
    table = csv.read_csv(
        arrow.BufferReader(piece),
        csv.ReadOptions(
            use_threads=False, block_size=len(piece) + 1, column_names=list(map(str, range(width)))
        ),
        csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if quoted else False,
            escape_char=False,
            newlines_in_values=quoted,
            invalid_row_handler=leave_out,
        ),
        csv.ConvertOptions(
            check_utf8=False,
            include_columns=list(dict.fromkeys(wanted)),
            column_types=dict.fromkeys(wanted, arrow.string()),
            strings_can_be_null=False,
        ),
    )
    return Batch([table.column(name).combine_chunks() for name in wanted], malformed)


def record_batches(batches: Iterable[Any]) -> Iterator[Batch]:
    """Yield the columns of pyarrow's record batches as arrays of strings or int64.

    Raises:
        NotSure: a column of another type, or text that is not UTF-8.
    """
    arrow = arrow_library()
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield Batch([_simple(column) for column in batch.slice(start, ROWS).columns])
    except (ValueError, arrow.ArrowException) as error:
        raise NotSure from error


def _simple(column: Any) -> Any:
    """Return a column as an array of strings or int64."""
    arrow = arrow_library()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if arrow.types.is_integer(column.type):
        return column.cast(arrow.int64())
    if str(column.type) not in ("string", "large_string", "string_view"):
        raise NotSure(f"a column of type {column.type}")
    column.validate(full=True)
    return column.cast(arrow.string())


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result for each item, in order; several are worked on at a time."""
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def arrow_library() -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
    except ImportError:
        raise NotSure("there is no pyarrow") from None
    return pyarrow
