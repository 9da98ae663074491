"""Parquet and Arrow files, frames and data sets as tables: what their own libraries say of them."""

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import processes
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from datasets.info import DatasetInfosDict

from bertnli.data.arrow import file_table, narrow, object_table
from bertnli.data.class_names import names_beside
from bertnli.data.table import BadRow
from bertnli.errors import DataError

CLASSES = ["entailment", "neutral", "contradiction"]
COLUMNS: dict[str, list[Any]] = {
    "premise": ["A man sleeps.", 'Il dit "café".', None, "x\ty", ""],
    "hypothesis": ["He is awake.", "日本", "𝄞", "b", "c"],
    "label": [2, 0, -1, 1, None],
}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
FEATURES = datasets.Features(
    {
        "premise": datasets.Value("string"),
        "hypothesis": datasets.Value("string"),
        "label": datasets.ClassLabel(names=CLASSES),
    }
)
#: "\xff" in place of the second of three texts.
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffc")]
)


@pytest.fixture(autouse=True, scope="module")
def _no_progress_bars():
    datasets.disable_progress_bars()


def parquet(table, file, **options):
    pq.write_table(table, file, **options)


def ipc_file(table, file):
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def ipc_stream(table, file):
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def feather(table, file):
    pyarrow.feather.write_feather(table, file, compression="zstd")


WRITERS = [parquet, ipc_file, ipc_stream, feather]
each_format = pytest.mark.parametrize("write", WRITERS)


def written(write, table):
    file = io.BytesIO()
    write(table, file)
    return file.getvalue()


def opened(content, path=None):
    format = "parquet" if content.startswith(b"PAR1") else "arrow"
    return file_table(io.BytesIO(content), "a file", format, path)


def rows(table):
    assert table is not None
    numbers, values = zip(*table.rows, strict=True)
    assert numbers == tuple(range(1, len(values) + 1))
    return list(values)


def batches(table, *columns):
    assert table is not None and table.batches is not None
    return pa.Table.from_batches(table.batches(columns))


@each_format
def test_files(write):
    table = opened(written(write, pa.table(COLUMNS)))
    assert table.columns == tuple(COLUMNS)
    assert batches(table, "label", "premise").to_pydict() == {
        name: COLUMNS[name] for name in ("label", "premise")
    }
    assert rows(table) == ROWS
    assert batches(table, "hypothesis").to_pydict() == {"hypothesis": COLUMNS["hypothesis"]}


@each_format
def test_text_of_any_type_is_a_string_column(write):
    texts = pa.array(["a", None, "é", "a"])
    columns = {
        "large": texts.cast(pa.large_string()),
        "bytes": texts.cast(pa.binary()),
        "coded": texts.dictionary_encode(),
        "view": texts.cast(pa.string_view()),
        "small": pa.array([1, None, 0, 2], pa.int8()),
    }
    table = opened(written(write, pa.table(columns)))
    values = batches(table, *columns)
    assert values.schema.types == [*[pa.string()] * 4, pa.int8()]
    assert values.to_pydict() == {name: column.to_pylist() for name, column in columns.items()} | {
        "bytes": texts.to_pylist()
    }
    assert rows(table) == values.to_pylist()


@each_format
def test_text_that_is_not_utf8_is_a_bad_row(write):
    for column in (NOT_UTF8, NOT_UTF8.cast(pa.large_string()), NOT_UTF8.cast(pa.binary())):
        first, bad, last = rows(opened(written(write, pa.table({"a": column, "b": [0, 1, 2]}))))
        assert (first, last) == ({"a": "a", "b": 0}, {"a": "c", "b": 2})
        assert isinstance(bad, BadRow) and "0xff" in str(bad)


def outcome(content):
    """Return the rows of a file that may be damaged; None after an error, of one line."""
    try:
        return [row for _, row in opened(content).rows]
    except DataError as error:
        message = str(error)
    assert "a file" in message and "\n" not in message
    return None


@each_format
def test_damaged_files(write):
    content = written(write, pa.table(COLUMNS))
    for size in range(0, len(content), 7):
        values = outcome(content[:size])
        # A stream may end after any batch.
        assert values is None or (write is ipc_stream and values == ROWS[: len(values)])
    chosen = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content)
        for place in chosen.integers(0, len(content), 3):
            damaged[place] = chosen.integers(256)
        outcome(bytes(damaged))


def test_offsets_of_a_damaged_file_lead_nowhere():
    for kind in ("string", "binary"):
        buffers = [None, pa.py_buffer(np.array([0, 1 << 30, 2], np.int32)), pa.py_buffer(b"ab")]
        column = pa.Array.from_buffers(pa.string(), 2, buffers).view(kind)
        with pytest.raises(DataError, match="a file"):
            list(opened(written(ipc_file, pa.table({"a": column}))).rows)


def test_a_file_that_cannot_be_sought_in():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation("a pipe")

    for write in WRITERS:
        content = written(write, pa.table(COLUMNS))
        format = "parquet" if write is parquet else "arrow"
        assert rows(file_table(Pipe(content), "-", format, None)) == ROWS


@pytest.mark.parametrize("what", ["file", "polars", "pandas"])
def test_without_pyarrow(monkeypatch, what):
    content, frame = written(parquet, pa.table(COLUMNS)), pd.DataFrame(COLUMNS)
    polars = pl.DataFrame(COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    if what == "pandas":
        table = object_table(frame)
        assert table is not None and table.batches is None
        assert rows(table) == ROWS
        return
    with pytest.raises(DataError, match=r'pip install "bertnli\[fast\]"'):
        opened(content) if what == "file" else object_table(polars)


def as_pandas():
    return pd.DataFrame(COLUMNS)


def as_pandas_categories():
    return pd.DataFrame(COLUMNS).astype({"premise": "category"})


def as_polars():
    return pl.DataFrame(COLUMNS)


def as_lazy_polars():
    return pl.LazyFrame(COLUMNS)


def as_polars_categories():
    kinds = {"hypothesis": pl.Enum(COLUMNS["hypothesis"]), "premise": pl.Categorical}
    return pl.DataFrame(COLUMNS, schema_overrides=kinds)


def as_table():
    return pa.table(COLUMNS)


def as_reader():
    return pa.table(COLUMNS).to_reader(2)


def as_dataset():
    return datasets.Dataset.from_dict(COLUMNS, FEATURES)


def as_iterable_dataset():
    return as_dataset().to_iterable_dataset()


class Capsule:
    """Something with the Arrow PyCapsule interface alone."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


OBJECTS = [as_pandas, as_pandas_categories, as_polars, as_lazy_polars, as_polars_categories]
OBJECTS += [as_table, as_reader, as_dataset, as_iterable_dataset, Capsule]


@each_format
def test_nested_columns(write):
    example = [{"premise": "p", "uid": {"n": 1}}, None, {"premise": None, "uid": {"n": 2}}]
    table = opened(written(write, pa.table({"example": example, "dist": [[0.5], [], [1.0]]})))
    nested = ("example.premise", "example.uid", "example.uid.n")
    assert table.columns == ("example", *nested, "dist")
    narrow(table, ["example.premise"])
    assert rows(table) == [{"example": one} for one in example]


def test_odd_values_of_pandas():
    for odd in (1, b"x", 1.5, "\ud800", ["x"]):
        table = object_table(pd.DataFrame({"a": ["x", odd, None], "b": [0, 1, np.nan]}))
        first, second, third = rows(table)
        assert first == {"a": "x", "b": 0} and third == {"a": None, "b": None}
        assert second == {"a": "x" if odd == b"x" else odd, "b": 1}


@pytest.mark.parametrize("make", OBJECTS)
def test_objects(make):
    table = object_table(make())
    assert table is not None
    assert (table.columns, table.format) == (tuple(COLUMNS), "frame")
    if make in (as_reader, as_iterable_dataset):  # are read once
        assert table.batches is None
    else:
        assert batches(table, "label", "premise").to_pydict() == {
            name: COLUMNS[name] for name in ("label", "premise")
        }
        assert batches(table, "premise").schema.types == [pa.string()]
    values = rows(table)
    assert values == ROWS
    assert all(isinstance(row["premise"], str | None) for row in values)


def test_pandas_columns_without_good_names():
    frame = pd.DataFrame([["a", "b"], ["c", "d"]])
    table = object_table(frame)
    assert table is not None and table.columns == ("0", "1")
    assert rows(table) == [{"0": "a", "1": "b"}, {"0": "c", "1": "d"}]
    assert batches(object_table(frame), "1").to_pydict() == {"1": ["b", "d"]}
    assert list(frame.columns) == [0, 1]
    frame.columns = pd.Index(["a", "a"])
    table = object_table(frame)
    assert table is not None and table.columns == ("a", "a (column 2)")
    assert table.repeated == {"a"}


def test_a_data_set_has_its_own_order():
    for change in (
        lambda data: data.select([3, 0]),
        lambda data: data.shuffle(seed=1),
        lambda data: data.filter(lambda row: row["label"] in (0, 1)),
        lambda data: data.with_format("numpy", columns=["label"]).sort("hypothesis"),
    ):
        changed = change(as_dataset())
        expected = list(changed.with_format(None))
        table = object_table(changed)
        assert batches(table, *COLUMNS).to_pylist() == expected
        assert rows(table) == expected != ROWS


def test_class_names_of_data_sets_and_of_what_they_write(tmp_path):
    expected = {"label": tuple(CLASSES)}
    for source in (as_dataset(), as_dataset().select([1]), as_iterable_dataset()):
        table = object_table(source)
        assert table is not None and table.class_names == expected
    as_dataset().to_parquet(tmp_path / "hub.parquet")
    as_dataset().save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "hub.parquet", *tmp_path.glob("saved/*.arrow")):
        table = opened(path.read_bytes())
        assert table.class_names == expected
        assert rows(table) == ROWS
    assert names_beside(next(tmp_path.glob("saved/*.arrow"))) == expected
    plain = opened(written(parquet, pa.table(COLUMNS)), tmp_path / "saved" / "other.parquet")
    assert plain.class_names == expected
    other = opened(written(parquet, pa.table({"a": [1]})), tmp_path / "saved" / "other.parquet")
    assert other.class_names == {}


def test_class_names_of_the_hub_s_files(tmp_path):
    def write(**names):
        features = {
            config: datasets.Features(
                {
                    "label": datasets.ClassLabel(names=one) if one else datasets.Value("int64"),
                    "more": {"kind": datasets.ClassLabel(names=["no", "yes"])},
                }
            )
            for config, one in names.items()
        }
        (tmp_path / "dataset_infos.json").write_text("{}")  # it is only kept up where there is one
        DatasetInfosDict(
            {
                config: datasets.DatasetInfo(config_name=config, features=kind)
                for config, kind in features.items()
            }
        ).write_to_directory(tmp_path)

    kind = {"more.kind": ("no", "yes")}
    write(default=CLASSES)
    for place in ("train.parquet", "data/train-0.parquet", "data/plain/train.csv"):
        assert names_beside(tmp_path / place) == {"label": tuple(CLASSES), **kind}
    assert names_beside(tmp_path / "a" / "b" / "c" / "train.csv") == {}
    write(mnli=CLASSES, rte=["entailment", "not_entailment"], stsb=None)
    assert names_beside(tmp_path / "mnli" / "train.csv") == {"label": tuple(CLASSES), **kind}
    assert names_beside(tmp_path / "stsb" / "train.csv") == kind
    assert names_beside(tmp_path / "data" / "train.csv") == kind
    (tmp_path / "README.md").unlink()  # which datasets writes, too
    for text in ("{", "[]", '{"features": 1}', '{"features": {"label": {"names": 1}}}'):
        (tmp_path / "dataset_info.json").write_text(text)
        (tmp_path / "dataset_infos.json").write_text(text)
        assert names_beside(tmp_path / "train.csv") == {}


def infos(**names):
    """The data set's configurations, as datasets writes them, each with its class names."""
    return DatasetInfosDict(
        {
            config: datasets.DatasetInfo(
                config_name=config,
                features=datasets.Features(
                    {
                        "premise": datasets.Value("string"),
                        "label": datasets.ClassLabel(names=one) if one else datasets.Value("int64"),
                        "more": {"kind": datasets.ClassLabel(names=["no", "yes"])},
                        "several": datasets.Sequence(datasets.ClassLabel(names=["a"])),
                    }
                ),
            )
            for config, one in names.items()
        }
    )


def test_the_patterns_of_a_configuration_s_files(tmp_path):
    infos(a=CLASSES, b=CLASSES[::-1]).to_dataset_card_data(card := datasets.info.DatasetCardData())
    card["configs"] = [
        {"config_name": "a", "data_files": [{"split": "train", "path": ["one-*", "x/one-*"]}]},
        {"config_name": "b", "data_files": {"train": "x/two-*.parquet"}},
    ]
    (tmp_path / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n")
    assert names_beside(tmp_path / "x" / "one-1.parquet")["label"] == tuple(CLASSES)
    assert names_beside(tmp_path / "x" / "two-1.parquet")["label"] == tuple(CLASSES[::-1])
    assert "label" not in names_beside(tmp_path / "x" / "three-1.parquet")


def test_other_files_of_these_names_say_nothing(tmp_path):
    label = "[{name: label, dtype: {class_label: {names: {'0': no, '1': \"yes\"}}}}]"
    (tmp_path / "README.md").write_text(f"---\na: &a {label}\ndataset_info: {{features: *a}}\n---")
    assert names_beside(tmp_path / "train.csv") == {"label": ("no", "yes")}
    levels = "".join(
        f"- &a{i} [{{name: x, struct: *a{i - 1}}}, {{name: y, struct: *a{i - 1}}}]\n"
        for i in range(1, 30)
    )
    bomb = f"a:\n- &a0 {label}\n{levels}dataset_info: {{features: *a29}}\n"
    nested = "dataset_info: " + "[" * 5000
    for text in (
        "# A project\n",
        "---\ntitle: x\n---\n",
        f"---\n{bomb}---\n",
        f"---\n{nested}\n---\n",
    ):
        (tmp_path / "README.md").write_text(text)
        assert names_beside(tmp_path / "train.csv") == {}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("way", ["rows", "batches"])
def test_memory_is_flat_in_the_number_of_rows(tmp_path, way):
    """The texts of the larger file, all of it one row group, would fill 240 MB."""
    code = """
import sys
from bertnli.data.arrow import file_table
with open(sys.argv[1], "rb") as file:
    table = file_table(file, "a file", "parquet", None)
    if sys.argv[2] == "rows":
        count = sum(1 for _ in table.rows)
    else:
        count = sum(batch.num_rows for batch in table.batches(["premise"]))
status = open("/proc/self/status").read().split()
print(count, int(status[status.index("VmHWM:") + 1]) // 1024)
"""
    peaks = []
    for count in (300_000, 1_200_000):
        texts = pa.array(f"{i} ".ljust(200, "x") for i in range(count))
        path, columns = tmp_path / "a.parquet", {"premise": texts, "label": pa.nulls(count)}
        pq.write_table(pa.table(columns), path, row_group_size=count, use_dictionary=False)
        done = processes.run([sys.executable, "-c", code, str(path), way])
        assert done.returncode == 0, done.stderr
        rows, peak = map(int, done.stdout.split())
        assert rows == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60  # MB
