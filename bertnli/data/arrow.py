"""Parquet and Arrow files, data frames and data sets as tables, read in record batches.

pandas, polars and datasets are not imported: their objects are recognised by their classes'
modules, or by Arrow's PyCapsule protocol.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from bertnli.data.class_names import Names, names_beside, schema_names
from bertnli.data.table import BadRow, Row, Table, distinct_names, keys_of
from bertnli.errors import DataError

#: Rows of a record batch, and rows that are Python objects at a time.
BATCH, SLICE = 1 << 16, 1 << 12
#: Bytes read at a time from a column of a parquet file.
BUFFER = 1 << 20
PROTOCOLS = ("__arrow_c_stream__", "__arrow_c_array__")
#: Types that are cast to `pyarrow.string`; and for types of text, those without checks of UTF-8.
AS_STRING = ("large_string", "string_view", "binary", "large_binary", "binary_view")
AS_BYTES = {"string": "binary", "large_string": "large_binary"}
#: A function of top-level column names that yields record batches of these columns, in any order.
Read = Callable[[Sequence[str]], Iterable[Any]]


def file_table(file: BinaryIO, source: str, format: str, path: Path | None) -> Table:
    """Read a parquet file, an Arrow file (also Feather) or an Arrow stream as a table.

    Args:
        file: the bytes of the file.
        source: the table's name in messages.
        format: ``"parquet"`` or ``"arrow"``; what the file itself says has priority.
        path: the path of the file, beside which class names are looked up; None for a pipe.
    """
    pa = _pyarrow(source)
    with _readable(source, format):
        file = file if file.seekable() else io.BytesIO(file.read())
        magic = file.read(6)
        file.seek(0)
        if magic[:4] == b"PAR1" or (format == "parquet" and magic != b"ARROW1"):
            parquet = pa.parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            schema = parquet.schema_arrow

            def read(columns: Sequence[str]) -> Iterable[Any]:
                return parquet.iter_batches(BATCH, columns=list(columns))
        else:
            opened = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
            schema = opened(file).schema

            def read(columns: Sequence[str]) -> Iterable[Any]:
                file.seek(0)
                fields = [i for i, name in enumerate(schema.names) if name in columns]
                reader = opened(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
                count = getattr(reader, "num_record_batches", None)  # None of a stream
                batches = reader if count is None else map(reader.get_batch, range(count))
                return map(_validated, batches)

        return _table(source, format, schema, read, {} if path is None else names_beside(path))


def object_table(source: object) -> Table | None:
    """Read a data frame, an Arrow object or a data set as a table; None for any other object."""
    given: Any = source
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(given).__mro__}
    name = f"the {type(given).__name__}"
    if "pandas.DataFrame" in kinds:
        return _pandas_table(given, name)
    if "datasets.IterableDataset" in kinds:
        rows = iter(given.with_format(None))
        first = list(islice(rows, 1))
        columns = tuple(keys_of(first[0])) if first else tuple(given.column_names or ())
        names = schema_names(given.features.arrow_schema) if given.features else {}
        return Table(name, "frame", columns, enumerate(chain(first, rows), 1), names)
    if "datasets.Dataset" in kinds:

        def read(columns: Sequence[str]) -> Iterator[Any]:
            # Unlike the data set's own table, this has the order of `select` and `shuffle`.
            wanted = given.select_columns([c for c in given.column_names if c in columns])
            for table in wanted.with_format("arrow").iter(BATCH):
                yield from table.combine_chunks().to_batches()

        return _table(name, "frame", given.features.arrow_schema, read)
    if "polars.LazyFrame" in kinds:
        given = given.collect()
    if not any(hasattr(type(given), protocol) for protocol in PROTOCOLS):
        return None
    pa = _pyarrow(name)
    if isinstance(given, pa.RecordBatchReader):  # can be read once
        table = _table(name, "frame", given.schema, lambda _: iter(given))
        table.batches = None
        return table
    with _readable(name, "a table"):
        frame = given if isinstance(given, pa.Table) else pa.table(given)
    return _table(name, "frame", frame.schema, lambda _: frame.to_batches(BATCH))


def narrow(table: Table, columns: Sequence[str]) -> None:
    """Restrict a binary file's table to these columns; the others are not decoded."""
    if table.format in ("parquet", "arrow") and table.batches is not None:
        table.rows = rows_of(table.batches(columns))


def rows_of(batches: Iterable[Any]) -> Iterator[Row]:
    """Convert record batches to rows; a value that cannot be converted makes a `BadRow`."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        for start in range(0, batch.num_rows, SLICE):
            columns = map(_values, batch.slice(start, SLICE).columns)
            for values in zip(*columns, strict=True):
                number += 1
                bad = next((value for value in values if isinstance(value, BadRow)), None)
                yield number, bad or dict(zip(names, values, strict=True))


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except Exception as error:  # of many kinds: encodings, dates beyond Python's, time zones
        if len(column) == 1:
            return [BadRow(f"a value cannot be read: {_reason(error)}")]
        return [value for i in range(len(column)) for value in _values(column.slice(i, 1))]


def _table(source: str, format: str, schema: Any, read: Read, beside: Names | None = None) -> Table:
    """Make a table of the record batches that ``read`` yields.

    ``beside`` has the class names of columns for which the schema has none.
    """
    pa, top = _pyarrow(source), {*schema.names}

    def batches(columns: Sequence[str]) -> Iterator[Any]:
        names = list(dict.fromkeys(c if c in top else c.partition(".")[0] for c in columns))
        with _readable(source, format):
            for batch in read(names):
                arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
                texts = [_as_text(pa, arrays[name]) for name in names]
                yield pa.RecordBatch.from_arrays(texts, names=names)

    columns = tuple(_schema_keys(pa, schema))
    names = {**(beside or {}), **schema_names(schema)}
    names = {column: names[column] for column in columns if column in names}
    return Table(source, format, columns, rows_of(batches(schema.names)), names, batches=batches)


def _schema_keys(pa: Any, fields: Any, prefix: str = "") -> Iterator[str]:
    for field in fields:
        yield prefix + field.name
        if isinstance(field.type, pa.StructType):
            yield from _schema_keys(pa, field.type, f"{prefix}{field.name}.")


def _as_text(pa: Any, column: Any) -> Any:
    """Decode a dictionary column, and cast types that may be text to `pyarrow.string`."""
    if isinstance(column, pa.DictionaryArray):
        return _as_text(pa, column.dictionary).take(column.indices)
    if str(column.type) not in AS_STRING:
        return column
    options = pa.compute.CastOptions(pa.string(), allow_invalid_utf8=True)
    return pa.compute.cast(column, options=options)


def _validated(batch: Any) -> Any:
    """Check a file's record batch, whose offsets may be invalid; `rows_of` checks the text."""
    for column in batch.columns:
        kind = AS_BYTES.get(str(column.type))
        (column.view(kind) if kind else column).validate(full=True)
    return batch


def _pandas_table(frame: Any, source: str) -> Table:
    """Read a pandas data frame by pyarrow, or as Python objects if pyarrow cannot hold it."""
    columns, repeated = distinct_names([*map(str, frame.columns)])
    frame = frame.copy(deep=False)
    frame.columns = list(columns)
    try:
        pa = _pyarrow(source)
        arrow = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        table = _table(source, "frame", arrow.schema, lambda _: arrow.to_batches(BATCH))
        table.repeated = repeated
        return table
    except Exception:  # of many kinds: a column of several types, surrogates, no pyarrow
        objects = frame.astype(object).where(frame.notna(), None)
        rows = (dict(zip(columns, row, strict=True)) for row in objects.itertuples(False, None))
        return Table(source, "frame", columns, enumerate(rows, 1), repeated=repeated)


def _pyarrow(source: str) -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise DataError(f'{source}: pyarrow is missing; pip install "bertnli[fast]"') from None
    return pyarrow


@contextmanager
def _readable(source: str, format: str) -> Iterator[None]:
    """Context manager that converts pyarrow's exceptions of any type to DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source}: cannot be read as {format}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
