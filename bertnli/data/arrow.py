"""Parquet and Arrow files, data frames and data sets as tables, read in record batches.

pandas, polars and datasets are not imported: their objects are known by their classes' modules, or
by a protocol. A frame can only come from a library that is imported already.

The fields of a struct column have names of their own, such as ``example.premise``, beside that of
the column itself, in `Table.columns`, in the rows and for `Table.batches`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from bertnli.data.class_names import known_names, names_beside, schema_names
from bertnli.data.table import BadRow, Table, told_apart
from bertnli.errors import DataError

#: Rows of a record batch, and rows that are Python objects at a time.
BATCH, SLICE = 1 << 16, 1 << 12
#: Bytes read at a time from a column of a parquet file.
BUFFER = 1 << 20
PROTOCOLS = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
#: Types of text, and what each is without the promise of UTF-8.
AS_BYTES = {"string": "binary", "large_string": "large_binary"}
AS_STRING = ("large_string", "string_view", "binary", "large_binary", "binary_view")

Row = tuple[int, Mapping[str, Any] | BadRow]


def file_table(file: BinaryIO, source: str, format: str, path: Path | None) -> Table:
    """Return the table of a parquet file, an Arrow file (also Feather) or an Arrow stream.

    Args:
        file: at its start; it must stay open while rows are read.
        source: what to call it in messages.
        format: ``"parquet"`` or ``"arrow"``.
        path: where class names are looked for; see `names_beside`.

    Raises:
        DataError: it is damaged (rows may raise it, too), or pyarrow is missing.
    """
    pa = _pyarrow(source)
    with _readable(source, format):
        file = file if file.seekable() else io.BytesIO(file.read())
        magic = file.read(6)
        file.seek(0)
        if magic[:4] == b"PAR1" or (format == "parquet" and magic != b"ARROW1"):
            parquet = pa.parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
            schema = parquet.schema_arrow

            def read(columns: Sequence[str]) -> Iterator[Any]:
                return iter(parquet.iter_batches(BATCH, columns=list(columns)))
        else:
            opened = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
            schema = opened(file).schema

            def read(columns: Sequence[str]) -> Iterator[Any]:
                file.seek(0)
                fields = [i for i, name in enumerate(schema.names) if _holds(name, columns)]
                reader = opened(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
                count = getattr(reader, "num_record_batches", None)  # a stream does not tell
                found = iter(reader) if count is None else map(reader.get_batch, range(count))
                return map(_checked, found)

        beside = {} if path is None else names_beside(path)
        return _table(pa, source, format, schema, read, beside)


def object_table(source: object) -> Table | None:
    """Return the table of a data frame, an Arrow object or a data set; None of anything else.

    These are frames of pandas and polars, tables, batches and readers of pyarrow, data sets of
    datasets, and objects with one of the `PROTOCOLS`.

    Raises:
        DataError: pyarrow is missing, or cannot read the object.
    """
    given: Any = source
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(given).__mro__}
    name = f"the {type(given).__name__}"
    if "pandas.DataFrame" in kinds:
        return _pandas_table(given, name)
    if "datasets.IterableDataset" in kinds:
        rows = map(_flat, given.with_format(None))
        first = list(islice(rows, 1))
        columns = tuple(first[0] if first else given.column_names or ())
        names = schema_names(given.features.arrow_schema) if given.features else {}
        return Table(name, "frame", columns, enumerate(chain(first, rows), 1), known_names(names))
    if "datasets.Dataset" in kinds:

        def read(columns: Sequence[str]) -> Iterator[Any]:
            wanted = [one for one in given.column_names if _holds(one, columns)]
            # Unlike its table, it has its rows in the order of `select` and `shuffle`.
            for table in given.select_columns(wanted).with_format("arrow").iter(BATCH):
                yield from table.combine_chunks().to_batches()

        return _table(_pyarrow(name), name, "frame", given.features.arrow_schema, read)
    if "polars.LazyFrame" in kinds:
        given = given.collect()
    protocol = next((one for one in PROTOCOLS if hasattr(type(given), one)), None)
    if protocol is None:
        return None
    pa = _pyarrow(name)
    if isinstance(given, pa.RecordBatchReader):  # can be read once
        table = _table(pa, name, "frame", given.schema, lambda _: iter(given))
        return dataclasses.replace(table, batches=None)
    with _readable(name, "a table"):
        if protocol == "__dataframe__":
            whole = pa.interchange.from_dataframe(given)
        else:  # pyarrow.table imports pandas
            whole = given if isinstance(given, pa.Table) else pa.table(given)
    return _table(pa, name, "frame", whole.schema, lambda _: iter(whole.to_batches(BATCH)))


def narrowed(table: Table, columns: Sequence[str]) -> Table:
    """Return a file's table with some of its columns, so that its rows decode no others.

    A table of another kind, or without batches, is returned as it is.
    """
    if table.format not in ("parquet", "arrow") or table.batches is None:
        return table
    rows = rows_of(table.batches(columns))
    return dataclasses.replace(table, columns=tuple(columns), rows=rows)


def rows_of(batches: Iterable[Any]) -> Iterator[Row]:
    """Yield the number and the fields of each row of record batches.

    A row with a value that Python cannot hold, such as text that is not UTF-8, is a `BadRow`.
    """
    slices = (
        batch.slice(start, SLICE) for batch in batches for start in range(0, batch.num_rows, SLICE)
    )
    return _rows((one.schema.names, [*map(_values, one.columns)]) for one in slices)


def _rows(parts: Iterable[tuple[Sequence[str], list[list[Any]]]]) -> Iterator[Row]:
    """Yield rows from names and columns of values, some rows at a time."""
    rows = ((names, values) for names, columns in parts for values in zip(*columns, strict=True))
    for number, (names, values) in enumerate(rows, 1):
        bad = next((value for value in values if isinstance(value, BadRow)), None)
        yield number, bad or _flat(dict(zip(names, values, strict=True)))


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except Exception as error:  # of many kinds: encodings, dates beyond Python's, time zones
        if len(column) == 1:
            return [BadRow(f"a value cannot be read: {_reason(error)}")]
        return [value for i in range(len(column)) for value in _values(column.slice(i, 1))]


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a row with the fields of its objects beside them."""
    found = {}
    for key, value in row.items():
        found[f"{above}{key}"] = value
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{key}.")
    return found


def _table(
    pa: Any,
    source: str,
    format: str,
    schema: Any,
    read: Callable[[Sequence[str]], Iterator[Any]],
    beside: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """Return a table, of which `read` gives batches that have some columns at least."""

    def batches(columns: Sequence[str]) -> Iterator[Any]:
        with _readable(source, format):
            for batch in read(columns):
                fields = dict(_fields(pa, batch.schema, batch.columns))
                arrays = [_text(pa, fields[name]) for name in columns]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    columns = tuple(name for name, _ in _fields(pa, schema, None))
    names = {**(beside or {}), **known_names(schema_names(schema))}
    known = {name: names[name] for name in columns if name in names}
    return Table(source, format, columns, rows_of(batches(schema.names)), known, batches=batches)


def _fields(pa: Any, fields: Any, arrays: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the columns of a schema, and those in structs, with their arrays if there are any."""
    for i, field in enumerate(fields):
        name, array = above + field.name, None if arrays is None else arrays[i]
        yield name, array
        if isinstance(field.type, pa.StructType):
            inner = None if array is None else array.flatten()
            yield from _fields(pa, field.type, inner, f"{name}.")


def _holds(top: str, columns: Sequence[str]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for name in columns)


def _text(pa: Any, column: Any) -> Any:
    """Return a column without a dictionary, and as `pyarrow.string` what may be text."""
    if isinstance(column, pa.DictionaryArray):
        return _text(pa, column.dictionary).take(column.indices)
    if str(column.type) not in AS_STRING:
        return column
    options = pa.compute.CastOptions(pa.string(), allow_invalid_utf8=True)
    return pa.compute.cast(column, options=options)


def _checked(batch: Any) -> Any:
    """Return a batch of a file, whose offsets may lead anywhere; `rows_of` looks at the text."""
    for column in batch.columns:
        kind = AS_BYTES.get(str(column.type))
        (column.view(kind) if kind else column).validate(full=True)
    return batch


def _pandas_table(frame: Any, source: str) -> Table:
    """Return pandas' table: values as they are, and batches if pyarrow can hold all of them."""
    columns, twice = told_apart([*map(str, frame.columns)])
    names = [*columns]
    frame = frame.copy(deep=False)
    frame.columns = names

    def values(rows: Any) -> tuple[list[str], list[list[Any]]]:
        columns = [rows.iloc[:, i] for i in range(len(names))]
        both = [zip(column.tolist(), column.isna().tolist(), strict=True) for column in columns]
        return names, [[None if missing else one for one, missing in column] for column in both]

    def pieces(size: int) -> Iterator[Any]:
        return (frame.iloc[start : start + size] for start in range(0, len(frame), size))

    def read(_: Sequence[str]) -> Iterator[Any]:
        options = {"schema": schema, "preserve_index": False}
        return (pa.RecordBatch.from_pandas(piece, **options) for piece in pieces(BATCH))

    first = [dict(zip(names, row, strict=True)) for row in zip(*values(frame[:1])[1], strict=True)]
    nested = [key for row in first for key in _flat(row) if key not in names]
    rows = _rows(map(values, pieces(SLICE)))
    table = Table(source, "frame", (*names, *nested), rows, twice=twice)
    try:
        pa = _pyarrow(source)
        schema = pa.Schema.from_pandas(frame, preserve_index=False)
        # Of bytes and strings in one column pyarrow would make bytes.
        if not any(pa.types.is_binary(kind) for kind in schema.types):
            table.batches = _table(pa, source, "frame", schema, read).batches
    except Exception:  # of many kinds: a column of several types, columns of one name, surrogates
        pass
    return table


def _pyarrow(source: str) -> Any:
    try:
        import pyarrow.compute
        import pyarrow.interchange
        import pyarrow.parquet
    except ImportError:
        raise DataError(f'{source}: pyarrow is missing; pip install "bertnli[fast]"') from None
    return pyarrow


@contextmanager
def _readable(source: str, format: str) -> Iterator[None]:
    """Turn what pyarrow raises, which may be any of Python's errors or its own, into DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source}: cannot be read as {format}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
