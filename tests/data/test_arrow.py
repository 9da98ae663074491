"""Parquet and Arrow files, frames and data sets of other libraries."""

import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import polars as pl
import processes
import pyarrow as pa
import pyarrow.ipc
import pytest
from corpus_files import csv_of, feather, parquet, rows_of, write
from datasets.info import DatasetInfosDict
from refusals import refused

from bertnli.data.read import read
from bertnli.errors import DataError

CLASSES = ["entailment", "neutral", "contradiction"]
NAMES = ("premise", "hypothesis", "label")
ROWS = [
    ("A man sleeps.", "He is awake.", "contradiction"),
    ('Il dit "café".', "日本", "entailment"),
    ("x\ty", "𝄞", None),
    ("A cat.", "A dog.", "neutral"),
]
KEPT = [row for row in ROWS if row[2]]
TEXTS = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
NUMBERS = {**TEXTS, "label": [-1 if name is None else CLASSES.index(name) for *_, name in ROWS]}
LABEL = datasets.ClassLabel(names=CLASSES)
FEATURES = datasets.Features({**dict.fromkeys(NAMES[:2], datasets.Value("string")), "label": LABEL})
#: "\xff" in place of the second of three texts.
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffc")]
)


def ipc(table, new=pa.ipc.new_file):
    """Write a table as Arrow's files, two rows a batch."""
    file = io.BytesIO()
    with new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def stream(table):
    return ipc(table, pa.ipc.new_stream)


FORMATS = {"x.parquet": parquet, "x.arrow": ipc, "stream.arrow": stream, "x.feather": feather}
each_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(autouse=True, scope="module")
def _no_progress_bars():
    datasets.disable_progress_bars()


def written(folder, name, columns):
    return write(folder / name, FORMATS[name](pa.table(columns)))


@each_format
def test_text_of_any_type_is_text(tmp_path, name):
    kinds = [pa.string(), pa.large_string(), pa.binary(), pa.string_view()]
    for kind in [*kinds, pa.dictionary(pa.int8(), pa.string())]:
        columns = {key: pa.array(values).cast(kind) for key, values in TEXTS.items()}
        corpus = read(written(tmp_path, name, columns))
        assert rows_of(corpus) == KEPT and corpus.skipped == {"no gold label": 1}
        assert corpus.rows.tolist() == [1, 2, 4]


@each_format
def test_text_that_is_not_utf8_is_a_bad_row(tmp_path, name):
    for column in (NOT_UTF8, NOT_UTF8.cast(pa.large_string()), NOT_UTF8.cast(pa.binary())):
        path = written(tmp_path, name, {"premise": column, "hypothesis": ["b"] * 3})
        refused(DataError, "0xff", read, path, labelled=False)
        corpus = read(path, labelled=False, on_error="skip")
        assert corpus.premises == ["a", "c"] and corpus.skipped == {"malformed": 1}


@each_format
def test_files_that_are_cut_off(tmp_path, name):
    path = written(tmp_path, name, TEXTS)
    content = path.read_bytes()
    for size in range(0, len(content), 31):
        path.write_bytes(content[:size])
        try:
            values = rows_of(read(path))
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)  # noqa: PT017
        else:  # a stream may end after any batch
            assert name == "stream.arrow" and values == KEPT[: len(values)]


def test_offsets_of_a_damaged_file_lead_nowhere(tmp_path):
    buffers = [None, pa.py_buffer(np.array([0, 1 << 30, 2], np.int32)), pa.py_buffer(b"ab")]
    for kind in ("string", "binary"):
        column = pa.Array.from_buffers(pa.string(), 2, buffers).view(kind)
        path = written(tmp_path, "x.arrow", {"premise": column, "hypothesis": ["a", "b"]})
        refused(DataError, r"x\.arrow", read, path, labelled=False)


@each_format
def test_nested_columns(tmp_path, name):
    example = [{"premise": "p", "uid": {"n": 1}}, {"premise": "q", "uid": None}]
    columns = {"example": example, "dist": [[0.5], []], "hypothesis": ["a", "b"]}
    options = {"premise": "example.premise", "hypothesis": "hypothesis", "labelled": False}
    corpus = read(written(tmp_path, name, columns), **options)
    assert corpus.premises == ["p", "q"]


@pytest.mark.parametrize("what", ["file", "polars", "pandas"])
def test_without_pyarrow(monkeypatch, tmp_path, what):
    path = written(tmp_path, "x.parquet", TEXTS)
    source = {"file": path, "polars": pl.DataFrame(TEXTS), "pandas": pd.DataFrame(TEXTS)}[what]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    if what == "pandas":
        assert rows_of(read(source)) == KEPT
        return
    refused(DataError, r'pip install "bertnli\[fast\]"', read, source)


def hub_dataset():
    return datasets.Dataset.from_dict(NUMBERS, FEATURES)


# ----- names of classes beside the data


def names_at(path, count=3):
    """Write classes as numbers to a CSV file; return the names that `read` gives them, or None."""
    write(path, csv_of([("a", f"b{i}", i) for i in range(count)], NAMES))
    try:
        return [name for *_, name in rows_of(read(path))]
    except DataError as error:
        assert "label_map" in str(error)  # noqa: PT017
        return None


def test_class_names_of_what_datasets_writes(tmp_path):
    hub_dataset().to_parquet(tmp_path / "hub.parquet")
    hub_dataset().save_to_disk(tmp_path / "saved")
    (arrow,) = tmp_path.glob("saved/*.arrow")
    other = written(tmp_path / "saved", "x.parquet", NUMBERS)  # beside their dataset_info.json
    for path in (tmp_path / "hub.parquet", arrow, other):
        assert rows_of(read(path)) == KEPT
    refused(DataError, "label_map", read, written(tmp_path, "x.parquet", NUMBERS))


def infos(**names):
    """Describe configurations, each by the names of its classes; None for no classes."""
    result = {}
    for config, one in names.items():
        label = datasets.ClassLabel(names=one) if one else datasets.Value("int64")
        features = {"label": label, "several": datasets.Sequence(datasets.ClassLabel(names=["a"]))}
        features["more"] = {"kind": datasets.ClassLabel(names=["no", "yes"])}
        result[config] = datasets.DatasetInfo(
            config_name=config, features=datasets.Features(features)
        )
    return DatasetInfosDict(result)


@pytest.mark.parametrize("file", ["dataset_infos.json", "README.md"])
def test_class_names_of_the_hub_s_files(tmp_path, file):
    def describe(**names):
        (tmp_path / "dataset_infos.json").write_text("{}")  # datasets updates it if it exists
        infos(**names).write_to_directory(tmp_path)
        for other in {"dataset_infos.json", "README.md"} - {file}:
            (tmp_path / other).unlink()

    describe(default=CLASSES)
    for place in ("train.csv", "data/train-0.csv", "data/plain/train.csv"):
        assert names_at(tmp_path / place) == CLASSES
    assert names_at(tmp_path / "a" / "b" / "c" / "train.csv") is None
    describe(mnli=CLASSES, other=CLASSES[::-1], stsb=None)
    assert names_at(tmp_path / "mnli" / "train.csv") == CLASSES
    assert names_at(tmp_path / "stsb" / "train.csv") is None
    assert names_at(tmp_path / "data" / "train.csv") is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"features": 1}', '{"features": {"label": {"names": 1}}}']
)
def test_damaged_descriptions_say_nothing(tmp_path, text):
    for name in ("dataset_info.json", "dataset_infos.json"):
        (tmp_path / name).write_text(text)
        assert names_at(tmp_path / "train.csv") is None


def test_the_patterns_of_a_configuration_s_files(tmp_path):
    card = datasets.info.DatasetCardData()
    infos(a=CLASSES, b=CLASSES[::-1]).to_dataset_card_data(card)
    card["configs"] = [
        {"config_name": "a", "data_files": [{"split": "train", "path": ["one-*", "x/one-*"]}]},
        {"config_name": "b", "data_files": {"train": "x/two-*.csv"}},
    ]
    (tmp_path / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n")
    assert names_at(tmp_path / "x" / "one-1.csv") == CLASSES
    assert names_at(tmp_path / "x" / "two-1.csv") == CLASSES[::-1]
    assert names_at(tmp_path / "x" / "three-1.csv") is None


def test_other_readmes_say_nothing(tmp_path):
    label = "[{name: label, dtype: {class_label: {names: {'0': neutral, '1': \"entailment\"}}}}]"
    good = f"a: &a {label}\ndataset_info: {{features: *a}}"
    levels = (
        f"- &a{i} [{{name: x, struct: *a{i - 1}}}, {{name: y, struct: *a{i - 1}}}]\n"
        for i in range(1, 30)
    )
    bomb = f"a:\n- &a0 {label}\n{''.join(levels)}dataset_info: {{features: *a29}}\n"
    for text, names in (
        (f"---\n{good}\n---", ["neutral", "entailment"]),
        *(("# A project\n", None), ("---\ntitle: x\n---\n", None)),
        *((f"---\n{bomb}---\n", None), (f"---\ndataset_info: {'[' * 5000}\n---\n", None)),
    ):
        (tmp_path / "README.md").write_text(text)
        assert names_at(tmp_path / "train.csv", 2) == names


MEASURE = """
import sys
from bertnli.data.arrow import file_table
counts = []
for way in ("rows", "batches"):
    with open(sys.argv[1], "rb") as file:
        table = file_table(file, "a file", "parquet", None)
        if way == "rows":
            counts.append(sum(1 for _ in table.rows))
        else:
            counts.append(sum(batch.num_rows for batch in table.batches(["premise"])))
status = open("/proc/self/status").read().split()
print(*counts, int(status[status.index("VmHWM:") + 1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_memory_is_flat_in_the_number_of_rows(tmp_path):
    """The larger file is one row group, whose texts alone would fill 200 MB of memory."""
    peaks = []
    for count in (200_000, 1_000_000):
        texts = pa.array(["x" * 200]).take(pa.array(np.zeros(count, np.int64)))
        table = pa.table({"premise": texts, "label": pa.nulls(count)})
        content = parquet(table, row_group_size=count, use_dictionary=False)
        done = processes.run([sys.executable, "-c", MEASURE, str(write(tmp_path / "a", content))])
        assert done.returncode == 0, done.stderr
        *counts, peak = map(int, done.stdout.split())
        assert counts == [count, count]
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60  # MB
