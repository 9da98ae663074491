"""`bertnli.read`: every kind of source and format, headers, labels, bad rows."""

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import sys
import tarfile
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pandas
import polars
import pyarrow
import pytest
from corpus_files import HEADER, csv_of, feather, jsonl, lines, parquet, records, rows_of, write
from refusals import refused

from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.read import pairs, read, read_sets, train_and_dev
from bertnli.errors import BERTNLIError, ConfigError, DataError

E, C, N = LABELS
NO = TWO_WAY[1]
ROWS = [
    ("The baker sings in the rain.", "Someone sings.", E),
    ("The baker sings in the rain.", "It is dry; all is silent.", C),
    ('He said "no, thanks" to Zoë.', "Zoë's offer was 5,50 €.", N),
    ('"Rye" is on the sign', "The bread|cake is \\old", C),
    ("N/A", "null", N),
]
TWO = [row[:2] for row in ROWS]
SIMPLE = [
    ("A man sleeps on a bench.", "A man rests.", E),
    ("A dog runs over the grass.", "A dog sleeps.", C),
    ("Kids play in the park.", "Kids eat cake.", N),
]
COLUMNS = ("premise", "hypothesis", "label")
MAKERS = {"tsv": lines, "csv": csv_of, "jsonl": jsonl}


def same(corpus, rows=ROWS, names=LABELS):
    """Check that a corpus has these pairs and classes, and nothing was skipped."""
    assert rows_of(corpus) == [tuple(row) for row in rows]
    assert corpus.label_names == names and not corpus.skipped


def frame(rows=ROWS):
    """Make a data frame of pandas with an index of its own."""
    return pandas.DataFrame(rows, columns=[*HEADER], index=[f"i{i}" for i in range(len(rows))])


def hub_dataset(names=(E, N, C), rows=ROWS):
    """Make a `datasets.Dataset` whose class is a number with a name."""
    features = {name: datasets.Value("string") for name in HEADER[:2]}
    features["gold_label"] = datasets.ClassLabel(names=list(names))
    rows = [(a, b, names.index(c)) for a, b, c in rows]
    return datasets.Dataset.from_list(records(rows), features=datasets.Features(features))


ARROW = pyarrow.Table.from_pylist(records(ROWS))
POLARS = polars.DataFrame(records(ROWS))
NESTED = {"version": "1.1", "license": {"name": "x"}, "data": records(ROWS)}
#: A file's name to its content; all have the same rows.
FILES = {
    "x.tsv": lines(ROWS),
    "x.csv": csv_of(ROWS),
    "semicolons.csv": csv_of(ROWS, sign=";"),
    "tabs.csv": csv_of(ROWS, sign="\t"),
    "bars.csv": csv_of(ROWS, sign="|"),
    "quoted.csv": csv_of(ROWS, quoting=csv.QUOTE_ALL, end="\n"),
    "excel.csv": "\ufeffsep=;\r\n" + csv_of(ROWS, sign=";"),
    "excel.txt": csv_of(ROWS, sign="\t").encode("utf-16"),
    "quoted.tsv": csv_of(ROWS, sign="\t", end="\n"),
    "all quoted.tsv": csv_of(ROWS, sign="\t", quoting=csv.QUOTE_ALL),
    "x.jsonl": jsonl(ROWS),
    "x.ndjson": jsonl(ROWS),
    "x.json": json.dumps(records(ROWS)),
    "pretty.json": json.dumps(records(ROWS), indent=2, ensure_ascii=False),
    "lines.json": jsonl(ROWS),
    "array.jsonl": json.dumps(records(ROWS), indent=1),
    "object.json": json.dumps(NESTED, indent=1),
    "x.parquet": parquet(ARROW),
    "x.feather": feather(ARROW),
    "lz4.arrow": feather(ARROW, compression="lz4"),
    "x.tsv.gz": gzip.compress(lines(ROWS).encode()),
    "x.csv.bz2": bz2.compress(csv_of(ROWS).encode()),
    "x.jsonl.xz": lzma.compress(jsonl(ROWS).encode()),
    "x.tsv.zst": pyarrow.compress(lines(ROWS).encode(), "zstd", asbytes=True),
    # Named after another format, or not at all.
    "tsv": lines(ROWS),
    "csv.data": csv_of(ROWS),
    "semicolons.txt": csv_of(ROWS, sign=";"),
    "jsonl": jsonl(ROWS),
    "parquet": parquet(ARROW),
    "gz": gzip.compress(lines(ROWS).encode()),
    "csv.tsv": csv_of(ROWS),
}


class Capsule:
    """An object that has Arrow's PyCapsule interface alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


#: A kind of table to a function that makes it, with the same rows.
OBJECTS = {
    "pandas": frame,
    "pandas, categories": lambda: frame().astype({"gold_label": "category"}),
    "polars": lambda: POLARS,
    "lazy polars": POLARS.lazy,
    "polars, enum": lambda: POLARS.cast({"sentence2": polars.Enum([row[1] for row in ROWS])}),
    "polars, categories": lambda: POLARS.cast({"gold_label": polars.Categorical}),
    "pyarrow": lambda: ARROW,
    "batches of pyarrow": lambda: ARROW.to_reader(2),
    "PyCapsule interface": lambda: Capsule(ARROW),
    "datasets": hub_dataset,
    "iterable dataset": lambda: hub_dataset().to_iterable_dataset(),
    "tuples": lambda: ROWS,
    "lists": lambda: [list(row) for row in ROWS],
    "generator": lambda: (row for row in ROWS),
    "dicts": lambda: records(ROWS),
    "columns": lambda: dict(zip(HEADER, map(list, zip(*ROWS, strict=True)), strict=True)),
    "frame as dictionary": lambda: frame().to_dict(),
    "array": lambda: np.array(ROWS),
    "tuples of NumPy's strings": lambda: list(zip(*np.array(ROWS).T, strict=True)),
    "dicts of NumPy's strings": lambda: records(np.array(ROWS)),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Read a plain TSV file; return its corpus and its ids."""
    corpus = read(write(tmp_path_factory.mktemp("plain") / "x.tsv", lines(ROWS)))
    return corpus, PairDataset(corpus, 24, build_vocab(corpus, 1), verbose=False)


@pytest.mark.parametrize("kind", [*FILES, *OBJECTS])
def test_a_corpus_is_the_same_in_whatever_form(tmp_path, kind, plain):
    def source():
        return tmp_path / kind if kind in FILES else OBJECTS[kind]()

    if kind in FILES:
        write(tmp_path / kind, FILES[kind])
    corpus, (expected, ids) = read(source()), plain
    same(corpus)
    assert corpus == expected and corpus.digest() == expected.digest()
    assert corpus.rows.tolist() == sorted(corpus.rows.tolist()) and min(corpus.rows) >= 1
    assert list(pairs(source())) == TWO
    for _ in range(1 + (kind in FILES)):  # once more, from the cache
        dataset = PairDataset.read(source(), None, 24, ids.vocab, verbose=False)
        assert dataset.digest() == ids.digest()


# ----- sources


@pytest.mark.parametrize(
    "kind",
    [name for name in FILES if name.rpartition(".")[2] not in ("bz2", "xz", "zst", "data")][::2],
)
def test_standard_input(kind, plain, monkeypatch):
    content = FILES[kind] if isinstance(FILES[kind], bytes) else FILES[kind].encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    assert read("-") == plain[0]


@pytest.mark.parametrize("format", ["tsv", "jsonl", "csv", "no header"])
def test_a_pair_comes_before_the_next_is_written(format):
    sign = "," if format == "csv" else "\t"
    source, sink = os.pipe()
    with os.fdopen(sink, "w", buffering=1) as file, ThreadPoolExecutor(1) as pool:
        if format in ("tsv", "csv"):
            file.write(f"premise{sign}hypothesis\n")
        answers = pairs(f"/dev/fd/{source}")
        for i in range(4):
            row = f"the goat {i}", "a goat"
            file.write(jsonl([row], COLUMNS[:2]) if format == "jsonl" else sign.join(row) + "\n")
            assert pool.submit(next, answers).result(60) == row


def test_the_sample_has_three_splits():
    for split in ("train", "dev", "test"):
        assert read("sample", split) == read(f"sample:{split}")
    assert read("sample", "validation") == read("sample", "valid") == read("sample", "dev")
    assert read("sample", True) == read("sample", "train")
    assert read("sample", False) == read("sample", "test")
    refused(BERTNLIError, r"trian.*'train'", read, "sample", "trian")


#: The files of the training, the development and the test set.
FOLDERS = [
    "train.tsv dev.tsv test.tsv",
    "train.csv validation.jsonl test.tsv.gz",
    "train.jsonl valid.jsonl test.jsonl",
    "train.json val.json test.json",
    "snli_1.0_train.txt snli_1.0_dev.txt snli_1.0_test.txt",
    "multinli.train.de.tsv xnli.dev.tsv xnli.test.tsv",
    "Train.tsv Dev.tsv Test.tsv",
    "data/train.tsv data/dev.tsv data/test.tsv",
]


def one_row(split, path):
    """Write a file of one pair, whose premise is the name of its split."""
    row, name = [(split, "h", E)], path.name.removesuffix(".gz")
    text = MAKERS.get(name.rpartition(".")[2], lines)(row)
    text = json.dumps(records(row)) if name.endswith(".json") else text
    return write(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


@pytest.mark.parametrize(
    ("names", "packed"),
    [*((names, None) for names in FOLDERS), *((FOLDERS[1], e) for e in ("zip", "tar.gz", "tar"))],
)
def test_a_folder_or_an_archive_has_splits(tmp_path, names, packed):
    source = folder = tmp_path / "set"
    for split, name in zip(("train", "dev", "test"), names.split(), strict=True):
        one_row(split, folder / name)
    write(folder / "README.md", "# A set\n\n| premise | hypothesis |\n")
    write(folder / "LICENSE", "Do what you like.\n")
    if packed:
        source = tmp_path / f"set.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(source, "w") as file:
            for path in sorted(folder.rglob("*.*")):
                file.write(path, f"set/{path.relative_to(folder)}")
                file.writestr(f"__MACOSX/set/._{path.name}", b"\0\5\x16\7")
    elif packed:
        with tarfile.open(source, "w:gz" if packed == "tar.gz" else "w") as file:
            file.add(folder, "set")
    splits = {"train": ["train", True], "dev": ["dev", "validation", "valid"], "test": [False]}
    for split, names in splits.items():
        assert all(read(source, name).premises == [split] for name in names)
    assert read(f"{source}:dev").premises == ["dev"]
    assert read(str(source), "test").premises == ["test"]
    refused(BERTNLIError, r"(?i)name one, as set:\w", read, source)
    refused(BERTNLIError, r"(?i)no split 'tset': .*test", read, source, "tset")


def test_multinli_has_two_dev_sets(tmp_path):
    splits = ("train", "dev_matched", "dev_mismatched")
    for split in splits:
        one_row(split, tmp_path / f"multinli_1.0_{split}.txt")
        one_row(split, tmp_path / f"multinli_1.0_{split}.jsonl")
    for split in splits:
        assert read(tmp_path, split).premises == read(f"{tmp_path}:{split}").premises == [split]
    refused(BERTNLIError, r"dev_matched.*dev_mismatched", read, tmp_path, "dev")


def test_shards_of_the_hub_are_one_split(tmp_path):
    for i in range(3):
        name = f"train-0000{i}-of-00003.parquet"
        write(tmp_path / "data" / name, parquet(ARROW.slice(2 * i, 2)))
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", parquet(ARROW.slice(0, 1)))
    same(read(tmp_path, "train"))
    same(read(tmp_path, "dev"), ROWS[:1])


def test_several_sources_are_one(tmp_path):
    a = write(tmp_path / "a.tsv", lines(ROWS[:2]))
    b = write(tmp_path / "b.jsonl", "\n" + jsonl(ROWS[2:]))
    both = read([a, str(b)])
    same(both)
    assert list(both.parts.values()) == [2, 3] and len(both.parts) == 2
    places = [f"{a}, line 2", f"{a}, line 3", f"{b}, line 2", f"{b}, line 3", f"{b}, line 4"]
    assert [both.where(i) for i in range(5)] == places
    with pytest.raises(IndexError):
        both.where(5)
    again = read([a, b, a])
    assert [again.where(i) for i in (5, 6)] == [f"{a} (2), line 2", f"{a} (2), line 3"]
    same(read([frame(), b]), ROWS + ROWS[2:])
    twice = read([a, a])
    assert len(twice.labels) == 4 and twice.where(2) == f"{a}, line 2"
    one, two = read_sets([a, b])
    same(one, ROWS[:2])
    same(two, ROWS[2:])
    assert one.name != two.name
    with pytest.raises(BERTNLIError):
        read([])


def test_a_dataset_dict_has_splits():
    whole = hub_dataset()
    splits = {"train": whole, "validation": whole.select([0]), "test": whole.select([1, 2])}
    both = datasets.DatasetDict(splits)
    same(read(both, False), ROWS[1:3])
    refused(BERTNLIError, r"train.*validation", read, both)
    train, dev = train_and_dev(both)
    same(train)
    same(dev, ROWS[:1])
    same(read(whole.shuffle(seed=1).sort("sentence2")), sorted(ROWS, key=lambda row: row[1]))
    same(
        read(whole.with_format("numpy").filter(lambda row: row["gold_label"] == 1)),
        [ROWS[2], ROWS[4]],
    )


def test_frames_may_lack_labels_or_have_odd_columns():
    names = {"gold_label": "Label", "sentence1": "Premise", "sentence2": "HYPOTHESIS"}
    odd = frame().rename(columns=names).assign(score=1.5, when="now")
    same(read(odd))
    odd.loc["i1", "Label"] = None
    corpus = read(odd)
    assert corpus.skipped == {"no gold label": 1} and corpus.rows.tolist() == [1, 3, 4, 5]
    assert read(odd[["Premise", "HYPOTHESIS"]], labelled=False).labels == [-1] * 5
    odd.loc["i2", "Premise"] = float("nan")
    refused(DataError, r"(row|line) 3", read, odd)
    assert read(odd, on_error="skip").skipped == {"no gold label": 1, "malformed": 1}
    numbers = pandas.DataFrame({0: ["a"], 1: ["b"], 2: [E]})
    same(read(numbers, premise=1, hypothesis=2, label=3), [("a", "b", E)])


def test_pairs_and_triples_of_python():
    bare = read([("a", "b"), ("c", "d")], labelled=False)
    assert rows_of(bare) == [("a", "b", None), ("c", "d", None)]
    corpus = read([*ROWS[:1], ("c", "d", "-"), ("e", "f", None)])
    assert rows_of(corpus) == [ROWS[0]] and corpus.skipped == {"no gold label": 2}
    for bad in (("a",), ("a", "b", E, "x"), "ab", ("a", 7, E), 7, ("", "b", E)):
        with pytest.raises(DataError):
            read([*ROWS, bad])
        assert read([*ROWS, bad], on_error="skip").skipped == {"malformed": 1}


def test_a_corpus_is_a_source():
    corpus = read("sample", "dev")
    again = read(corpus)
    assert tuple(again) == tuple(corpus) and again.tokenized == corpus.tokenized
    refused(ConfigError, "label_map", read, corpus, label_map={"entailment": 0})


TEXT = "premise,hypothesis,label\na,b,neutral\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (io.StringIO(TEXT), "open file; give its path"),
        (io.BytesIO(TEXT.encode()), "open file; give its path"),
        (pandas.Series(["a"]), "data frame"),
        (TEXT * 999, "is text, and no path"),
        (7, "no source"),
        (None, "no source"),
    ],
)
def test_what_is_no_source_is_told(source, message):
    refused(BERTNLIError, message, read, source)


def test_no_other_split_is_read_than_the_one_that_is_named(tmp_path):
    rows, more = records(SIMPLE), records(SIMPLE[:1])
    one = write(tmp_path / "one.json", json.dumps({"train": rows}))
    for source in (one, write(tmp_path / "list.json", json.dumps(rows))):
        refused(BERTNLIError, "split", read, source, "dev")
    both = write(tmp_path / "both.json", json.dumps({"train": rows, "validation": more}))
    assert len(read(both, "dev").labels) == len(read(f"{both}:validation").labels) == 1
    refused(BERTNLIError, r"both\.json:train", read, both)
    column = [{**row, "split": "train"} for row in rows] + [{**more[0], "split": "validation"}]
    for path in (
        write(tmp_path / "x.json", json.dumps(column)),
        write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, column))),
    ):
        for split in ("dev", "val", "validation", "Valid"):
            assert len(read(path, split).labels) == 1
        refused(DataError, r"no split 'tran'.*'dev', 'train'.*Did you mean", read, path, "tran")
        assert "x.json" in read(path).notes[0] and ":train" in read(path).notes[0]
        assert not read(path, "train").notes


# ----- formats


ODD = [("a, b; c", "d, e; f", E), ("g, h; i", "j, k; l", N)]


def test_a_delimiter_is_said_and_can_be_given(tmp_path):
    for sign in ",;\t|":
        path = write(tmp_path / "x.csv", csv_of(ODD, sign=sign))
        corpus = read(path)
        same(corpus, ODD)
        assert sign == "," or any("delimiter" in note for note in corpus.notes), corpus.notes
        same(read(path, delimiter=sign), ODD)
    same(read(write(tmp_path / "y.csv", csv_of(ODD, sign="~")), delimiter="~"), ODD)
    same(read(write(tmp_path / "z.tsv", csv_of(ODD)), format="csv"), ODD)
    for bad in ("", "ab", '"', "\n"):
        refused(BERTNLIError, "delimiter", read, path, delimiter=bad)
    refused(ConfigError, "format", read, path, format="excel")


MARKED = [
    ('"Rye" bread', 'is "old"', E),
    ('"All"', '"', C),
    ('a "b" c', "don't", N),
    ('5"', "'x'", N),
]


@pytest.mark.parametrize(
    "rows",
    [
        MARKED,
        [*MARKED, ('"All"', "b", E), *ROWS],
        [*MARKED, ('"A" or "B"', '"C', E), *ROWS],
        # A quotation that spans rows.
        [('"Here I am.', "He is.", E), ('So are you."', "She is.", N), ("A b.", "C d.", E)],
    ],
)
def test_quotation_marks_of_a_raw_table_stay(tmp_path, rows):
    same(read(write(tmp_path / "raw.tsv", lines(rows))), rows)
    same(read(tmp_path / "raw.tsv", quoted=False), rows)
    bare = [('"Yes."', "No.", N), *ROWS[:2]]
    same(read(write(tmp_path / "first.tsv", lines(bare, None))), bare)


@pytest.mark.parametrize("before", [0, 20, 1500])
def test_quotation_marks_of_a_quoted_table_go(tmp_path, before):
    """Rows with quotes may be far below the header: writers quote only where they must."""
    rows = [*ROWS[:2]] * before + MARKED + [("a\tb", "two\nlines", N)]
    path = write(tmp_path / "q.tsv", csv_of(rows, sign="\t", end="\n"))
    corpus = read(path)
    same(corpus, rows)
    same(read(path, quoted=True), rows)
    assert any("quoted" in note for note in corpus.notes)
    same(read(write(path, csv_of(MARKED * 9, sign="\t"))), MARKED * 9)


def test_pandas_polars_and_datasets_write_what_is_read(tmp_path):
    rows = [*ROWS, *MARKED]
    made = frame(rows)
    for name, sep in (("a.tsv", "\t"), ("b.csv", ","), ("c.csv", ";")):
        for index in (False, True):  # the index's column has no name
            made.to_csv(tmp_path / name, index=index, sep=sep)
            same(read(tmp_path / name), rows)
    made.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    made.to_parquet(tmp_path / "e.parquet")
    for name in ("d.jsonl", "e.parquet"):
        same(read(tmp_path / name), rows)
    for columns in (COLUMNS, ("text", "claim", "label")):
        for orient in ("index", "columns", "split", "records"):
            pandas.DataFrame(SIMPLE, columns=[*columns]).to_json(tmp_path / "x.json", orient=orient)
            same(read(tmp_path / "x.json"), SIMPLE)
    POLARS.write_csv(tmp_path / "f.csv")
    POLARS.write_ndjson(tmp_path / "g.jsonl")
    POLARS.write_json(tmp_path / "h.json")
    hub_dataset().to_parquet(tmp_path / "k.parquet")
    for name in ("f.csv", "g.jsonl", "h.json", "k.parquet"):
        same(read(tmp_path / name))
    hub_dataset().to_json(tmp_path / "l.jsonl")
    with pytest.raises(DataError, match="label_map"):  # to_json loses the names of the classes
        read(tmp_path / "l.jsonl")


ENCODED = [("Zoë singt über Äpfel", "Jemand singt – “laut”", E), ("naïve", "café", N)]


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_known_by_its_mark(tmp_path, format, encoding):
    text = json.dumps(records(ENCODED), ensure_ascii=False)
    text = MAKERS[format](ENCODED) if format in MAKERS else text
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    corpus = read(write(tmp_path / f"x.{format}", (mark + text).encode(encoding)))
    same(corpus, ENCODED)
    assert corpus.rows.tolist() == read(write(tmp_path / f"y.{format}", text)).rows.tolist()


CYRILLIC, CHINESE = (
    [(text, text[::-1], E)] * 9 for text in ("Мальчик играет.", "一个男人在弹吉他。")
)


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        *(("cp1252", ENCODED), ("latin-1", ENCODED[1:]), ("utf-16-le", SIMPLE)),
        *((f"utf-16-{end}", rows) for end in ("le", "be") for rows in (ENCODED, CYRILLIC, CHINESE)),
    ],
)
@pytest.mark.parametrize("format", MAKERS)
def test_another_encoding_is_proposed_and_then_works(tmp_path, encoding, rows, format):
    path = write(tmp_path / f"x.{format}", MAKERS[format](rows).encode(encoding))
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=r"(?=.*encoding=)(?=.*--encoding)") as caught:
            read(path, on_error=on_error)
    proposed = re.search(r"encoding=['\"]([\w-]+)['\"]", str(caught.value))[1]
    assert encoding[:5] != "utf-1" or proposed == encoding
    same(read(path, encoding=proposed), rows)
    same(read(path, encoding=encoding), rows)
    refused(ConfigError, "encoding", read, path, encoding="utf-9")


def test_an_excel_file_says_how_to_export_it(tmp_path):
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("xl/workbook.xml", "<workbook/>")
    for source in (path, write(tmp_path / "y.csv", path.read_bytes())):
        refused(BERTNLIError, "Save the sheet as CSV UTF-8", read, source)
    with pytest.raises(BERTNLIError, match=r"(?i)csv"):
        read(write(tmp_path / "z.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600))


@pytest.mark.parametrize("format", MAKERS)
def test_nothing_is_lost_for_lack_of_a_last_line_end(tmp_path, format):
    text = MAKERS[format](ROWS).rstrip("\r\n")
    for end in ("", "\n", "\n\n", "\r\n", "\n\r\n\n"):
        for content in (text + end, re.sub(r"\r?\n", "\r\n", text) + end):
            path = write(tmp_path / f"x.{format}", content)
            same(read(path))
            assert list(pairs(path)) == TWO


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "json", "data", "parquet", "feather"])
def test_an_empty_file_is_an_error(tmp_path, ending):
    for content in (b"", b"\n", b"   ", b"\xff\xfe", b"[]", b"{}", b"[1]", b"null"):
        path = write(tmp_path / f"x.{ending}", content)
        for on_error in ("raise", "skip"):
            try:
                assert not read(path, on_error=on_error).labels
                assert content in (b"[]", b"[1]", b"{}", b"null")
            except BERTNLIError as error:
                assert path.name in str(error)  # noqa: PT017


def test_nested_keys_have_dots(tmp_path):
    row = {"in": {"text": {"a": "The goat", "b": "A goat"}}, "out": {"class": E}}
    path = write(tmp_path / "x.jsonl", json.dumps(row) + "\n")
    options = {"premise": "in.text.a", "hypothesis": "IN.Text.b", "label": "out.class"}
    same(read(path, **options), [("The goat", "A goat", E)])
    flat = write(tmp_path / "y.jsonl", json.dumps({"in.text.a": "x", "b": "y", "label": E}))
    same(read(flat, premise="in.text.a", hypothesis="b"), [("x", "y", E)])


# ----- tables that people have


@pytest.mark.parametrize("sign", ["\t", "|", ";"])
@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x"])
def test_commas_of_few_sentences_are_no_delimiters(tmp_path, sign, name):
    rows = [("A man, old, sits.", "A man sits.", E), ("A dog, a cat, run.", "A dog runs.", C)]
    path = tmp_path / name
    same(read(write(path, lines(rows, None, sign))), rows)
    same(read(write(path, lines(rows[:1], None, sign))), rows[:1])
    if sign != ";":  # which is in sentences, too
        bare = [row[:2] for row in rows]
        assert [*pairs(write(path, lines(bare, None, sign)))] == bare


QUOTED = (
    'premise\thypothesis\tlabel\r\n"A man, old, sleeps."\tA man rests.\tentailment\r\n'
    'A dog runs.\t"A dog, brown, sleeps."\tcontradiction\r\n'
)
SPACED = (
    'premise, hypothesis, label\nA man., "A man sits, quietly.", neutral\nA dog, An owl, neutral\n'
)
SINGLE = "'premise','hypothesis','label'\n'It''s, well','b','neutral'\n'a','c','entailment'\n"


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("x.csv", SPACED, [("A man.", "A man sits, quietly.", N), ("A dog", "An owl", N)]),
        ("x.csv", SINGLE, [("It's, well", "b", N), ("a", "c", E)]),
        # Of Excel's text, whose fields with commas alone are quoted; one such field proves nothing.
        (
            *("x.txt", QUOTED),
            [
                ("A man, old, sleeps.", "A man rests.", E),
                ("A dog runs.", "A dog, brown, sleeps.", C),
            ],
        ),
        (
            *("x.txt", QUOTED.replace('"A dog, brown, sleeps."', "A dog sleeps.")),
            [('"A man, old, sleeps."', "A man rests.", E), ("A dog runs.", "A dog sleeps.", C)],
        ),
    ],
)
def test_other_ways_of_quoting(tmp_path, name, text, rows):
    path = write(tmp_path / name, text)
    corpus = read(path)
    same(corpus, rows)
    ids = PairDataset(corpus, 32, build_vocab(corpus, 1), verbose=False)
    direct = PairDataset.read(path, None, 32, ids.vocab, cache=False, verbose=False)
    assert direct.digest() == ids.digest()


@pytest.mark.parametrize("sign", [";", ",", "\t"])
def test_titles_above_the_header_and_empty_rows_below_are_no_pairs(tmp_path, sign):
    title = "".join(sign.join(row) + "\r\n" for row in (("My survey", "", ""), ("# of 2024",)))
    path = tmp_path / "survey.csv"
    corpus = read(write(path, title + sign * 2 + "\r\n" + csv_of(SIMPLE, sign=sign)))
    same(corpus, SIMPLE)
    assert any("line 4" in note for note in corpus.notes)
    assert list(pairs(path)) == [row[:2] for row in SIMPLE]
    table = csv_of([*SIMPLE, ("", "", ""), ("", "", "")], sign=sign)
    same(read(write(path, table)), SIMPLE)
    with pytest.raises(DataError, match="line 5"):  # above a pair it may be a lost one
        read(write(path, table + csv_of(SIMPLE, None, sign=sign)))


@pytest.mark.parametrize(
    "above", ["Mein Titel;;\n", "Mein Titel\n\n", "# eins; zwei; drei\n# vier\n"]
)
def test_a_header_of_unknown_names_under_a_title(tmp_path, above):
    body = "Satz A;Satz B;Urteil\n" + "".join(f"Satz {i}.;Ein Satz.;neutral\n" for i in range(5))
    corpus = read(write(tmp_path / "t.csv", above + body))
    assert corpus.premises == [f"Satz {i}." for i in range(5)]


# ----- headers and columns


def test_columns_are_found_by_name_or_number(tmp_path):
    table = [(i, row[1], row[2], row[0], "x") for i, row in enumerate(ROWS)]
    odd = write(tmp_path / "odd.csv", csv_of(table, ("id", "Behauptung", "Urteil", "Text", "z")))
    names = {"premise": "text", "hypothesis": "BEHAUPTUNG", "label": "urteil"}
    same(read(odd, **names))
    same(read(odd, premise=4, hypothesis=2, label=3))
    same(read(odd, premise="4", hypothesis="2", label="3"))
    refused(DataError, r"premise=.*--premise-column", read, odd)
    refused(BERTNLIError, r"'Txet'.*Text", read, odd, **{**names, "premise": "Txet"})
    for bad in (0, 6, -1):
        refused(BERTNLIError, "column", read, odd, **{**names, "premise": bad})
    same(read(write(tmp_path / "two.tsv", lines(ROWS, ("Premise ", " Hypothesis", "Label")))))
    both = write(tmp_path / "both.tsv", lines([("a", "b", "c", E)], ("text", "Text", "h", "label")))
    same(read(both, premise="text", hypothesis="h"), [("a", "c", E)])
    same(read(both, premise="Text", hypothesis="h"), [("b", "c", E)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("text", "hypothesis"), ("Prämisse", "Hypothese"), ("premise_en", "hypothesis_en")),
        *(("prem", "hyp"), ("context", "statement"), ("text_a", "text_b"), ("s1", "s2")),
        *(("Satz 1", "Satz 2"), ("first", "second"), ("text", "claim")),
    ],
)
def test_names_tell_the_premise(tmp_path, first, second):
    path = tmp_path / "x.csv"
    same(read(write(path, csv_of(SIMPLE, (first, second, "label")))), SIMPLE)
    turned = [(b, a, c) for a, b, c in SIMPLE]
    same(read(write(path, csv_of(turned, (second, first, "label")))), SIMPLE)


def test_a_table_without_a_header(tmp_path):
    by_number = {"premise": 1, "hypothesis": 2, "label": 3}
    for name, text in (
        ("x.tsv", lines(ROWS, None)),
        ("x.csv", csv_of(ROWS, None)),
        ("y.csv", csv_of(ROWS, None, sign=";")),
    ):
        path = write(tmp_path / name, text)
        corpus = read(path, **by_number, header=False)
        same(corpus)
        assert corpus.rows.tolist() == [1, 2, 3, 4, 5]
        same(read(path, **by_number))
        same(read(path))  # the third column says what it is
    two = write(tmp_path / "two.tsv", lines(TWO, None))
    for premise, hypothesis in ((1, 2), (2, 1)):
        options = {"premise": premise, "hypothesis": hypothesis, "labelled": False}
        assert read(two, header=False, **options).premises == [row[premise - 1] for row in TWO]
    with pytest.raises(BERTNLIError, match="header"):
        read(write(tmp_path / "z.tsv", lines([("a", "b", "c", "d")], None)), header=True)


@pytest.mark.parametrize("label", [E, 1])
def test_sentences_without_a_header_stay_in_their_order(tmp_path, label):
    path = write(tmp_path / "x.tsv", lines([(label, "A man sits.", "A man rests.")] * 3, None))
    corpus = read(path, label_map={"1": E})
    assert (corpus.premises[0], corpus.hypotheses[0]) == ("A man sits.", "A man rests.")
    path = write(tmp_path / "y.csv", csv_of([(7, "A b.", "C d.", E), (8, "E f.", "G h.", C)], None))
    refused(DataError, "--premise-column 2 --hypothesis-column 3", read, path)


def test_columns_of_one_name_are_told_apart_by_number(tmp_path):
    path = write(tmp_path / "t.csv", "s,s,label,label\na b,c d,contradiction,neutral\n")
    table = pandas.DataFrame([("a b", "c d", C, N)], columns=["s", "s", "label", "label"])
    for source in (path, table):
        for label, expected in ((3, C), (4, N)):
            same(read(source, premise=1, hypothesis=2, label=label), [("a b", "c d", expected)])
        refused(DataError, "two columns 's'", read, source, premise="s", hypothesis=2, label=3)
        assert list(pairs(source, premise=2, hypothesis=1)) == [("c d", "a b")]


# ----- pairs to be answered


def answered(path, **options):
    """Return the pairs of a source and the notes about it."""
    notes = []
    return list(pairs(path, on_note=notes.append, **options)), notes


KNOWN = ["Premise Hypothesis", "PREMISE HYPOTHESIS", "sentence1 Sentence2", "Sentence_A sentence_B"]
KNOWN += ["context hypothesis", "evidence Claim", "premise hypo", "question sentence"]


@pytest.mark.parametrize("header", KNOWN)
def test_a_known_header_is_no_pair(tmp_path, header):
    for make in (lines, csv_of):
        answers, notes = answered(write(tmp_path / "x.txt", make(TWO, header.split())))
        assert sorted(map(sorted, answers)) == sorted(map(sorted, TWO)), "a pair too many or few"
        assert not any("first line" in note for note in notes)


@pytest.mark.parametrize("header", [("Text A", "Text B"), ("Satz", "Aussage"), ("q", "r")])
def test_a_doubtful_first_line_is_said(tmp_path, header):
    path = write(tmp_path / "x.tsv", lines(TWO, header))
    answers, notes = answered(path)
    assert answers in (TWO, [header, *TWO])
    assert len([note for note in notes if re.search("header=.*--(no-)?header", note)]) == 1, notes
    for given, expected in ((True, TWO), (False, [header, *TWO])):
        answers, notes = answered(path, header=given)
        assert answers == expected and not any("first line" in note for note in notes)


def test_bad_pairs_are_skipped_on_demand(tmp_path):
    rows = [*TWO[:2], ("alone",), ("", ""), *TWO[2:]]
    path = write(tmp_path / "x.tsv", lines(rows, COLUMNS[:2]))
    refused(DataError, "line 4", answered, path)
    answers, notes = answered(path, on_error="skip")
    assert answers == TWO
    assert [re.findall(r"line \d+", note) for note in notes] == [["line 4"], ["line 5"]]


# ----- labels


SPELLINGS = {
    E: [E, "ENTAILMENT", " Entailment ", "entails", "e", "SUPPORTS", "entailed"],
    C: [C, "Contradiction", "contradictory", "contradicts", "c", "REFUTES"],
    N: [N, "NEUTRAL", "n", "NOT ENOUGH INFO"],
    NO: [NO, "non-entailment", "Not Entailment", "NOT-ENTAILMENT"],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_classes_are_known_in_the_spellings_of_the_field(tmp_path, name):
    for label in SPELLINGS[name]:
        corpus = read(write(tmp_path / "x.tsv", lines([("a", "b", label), ("c", "d", E)])))
        same(corpus, [("a", "b", name), ("c", "d", E)], TWO_WAY if name == NO else LABELS)


NUMBERS = [("a", "b", 0), ("c", "d", 1), ("e", "f", 2), ("g", "h", 2), ("i", "j", 0), ("k", "l", 0)]
NUMBER_SOURCES = {
    **{f"n.{format}": make(NUMBERS) for format, make in MAKERS.items()},
    "n.json": json.dumps(records(NUMBERS), indent=1),
    "tuples": NUMBERS,
    "frame": frame(NUMBERS),
    "frame of floats": frame(NUMBERS).astype({"gold_label": float}),
    "frame of Int64": frame(NUMBERS).astype({"gold_label": "Int64"}),
    "arrow": pyarrow.Table.from_pylist(records(NUMBERS)),
    "polars": polars.DataFrame(records(NUMBERS)),
}


def proposed_maps(message):
    """Find the meanings of labels that a message proposes, for Python and for a command."""
    maps = [ast.literal_eval(one) for one in re.findall(r"label_map=(\{[^{}]*\})", message)]
    for option in re.findall(r"--label-map (\S*=[\w,=-]*)", message):
        maps.append(dict(pair.split("=") for pair in option.split(",")))
    return maps


@pytest.mark.parametrize("kind", NUMBER_SOURCES)
def test_numbers_without_a_meaning_are_refused_with_both_orders(tmp_path, kind):
    source = NUMBER_SOURCES[kind]
    if isinstance(source, str):
        source = write(tmp_path / kind, source)
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match="--label-map") as caught:
            read(source, on_error=on_error)
    message = str(caught.value)
    for number, n in Counter(str(row[2]) for row in NUMBERS).items():
        assert re.search(rf"\b{n}\b[^.;]*\b{number}\b|\b{number}\b[^.;]*\b{n}\b", message)
    # The order of the Hub (SNLI, MultiNLI, ANLI) and that of the book.
    assert {(E, N, C), (E, C, N)} <= {tuple(one.values()) for one in proposed_maps(message)}
    for meaning in [*proposed_maps(message), {0: N, 1: E, 2: C}]:
        corpus = read(source, label_map=meaning)
        names = {str(key): name for key, name in meaning.items()}
        same(corpus, [(*row[:2], names[str(row[2])]) for row in NUMBERS])


def test_numbers_mean_what_their_own_source_says(tmp_path):
    one, other = hub_dataset((E, N, C), SIMPLE), hub_dataset((C, N, E), SIMPLE)
    names = write(tmp_path / "names.csv", csv_of(SIMPLE))
    for sources in ([one, other], [other, one], [names, other], [one, names, other]):
        assert rows_of(read(sources)) == SIMPLE * len(sources)
    bare = write(tmp_path / "bare.csv", csv_of([(a, b, i) for i, (a, b, _) in enumerate(SIMPLE)]))
    refused(DataError, r"bare\.csv, line 2: label '0'", read, [one, bare])
    refused(DataError, "label-map", read, [bare, one])
    assert len(read([bare, bare], label_map={0: E, 1: N, 2: C}).labels) == 6


def test_a_scale_from_minus_one_is_proposed_as_it_is_typed(tmp_path):
    rows = [(a, b, {E: 1, C: -1, N: 0}[c]) for a, b, c in SIMPLE]
    path = write(tmp_path / "x.tsv", lines(rows))
    with pytest.raises(DataError, match="--label-map=-1=contradiction,0=neutral,1=entailment") as e:
        read(path)
    same(read(path, label_map=proposed_maps(str(e.value))[2]), SIMPLE)


@pytest.mark.parametrize(
    "spelled",
    [
        ("__label__entailment", "__label__contradiction", "__label__neutral"),
        *(("0 - Entailment", "1 - Contradiction", "2 - Neutral"), ("T", "F"), ("yes", "no")),
    ],
)
def test_a_class_s_name_is_found_in_a_label(tmp_path, spelled):
    names = LABELS if len(spelled) == 3 else TWO_WAY
    rows = [(f"A man {i}.", f"A dog {i}.", names[i % len(names)]) for i in range(12)]
    odd = [("q", i % 8, a, b, spelled[names.index(c)]) for i, (a, b, c) in enumerate(rows)]
    path = write(tmp_path / "x.tsv", lines(odd, ("set", "id", "text1", "text2", "answer")))
    refused(DataError, "--label-column answer", read, path)
    columns = {"premise": "text1", "hypothesis": "text2", "label": "answer"}
    with pytest.raises(DataError) as caught:
        read(path, **columns)
    same(read(path, **columns, label_map=proposed_maps(str(caught.value))[0]), rows, names)


def test_other_classes_are_refused_with_the_line_to_add(tmp_path):
    path = write(
        tmp_path / "x.tsv", lines([("a", "b", "ja"), ("c", "d", "nein"), ("e", "f", "ja")])
    )
    with pytest.raises(DataError, match=r"'ja' in 2 rows .line 2 .*label_map=") as caught:
        read(path)
    for proposed in proposed_maps(str(caught.value)):
        assert "CLASS" in proposed.values()  # words of a language that nothing tells
        known = {raw: name.replace("CLASS", N) for raw, name in proposed.items()}
        assert len(read(path, label_map=known).labels) == 3
    for nein, names in ((C, LABELS), (NO, TWO_WAY)):
        corpus = read(path, label_map={"ja": E, "nein": nein})
        same(corpus, [("a", "b", E), ("c", "d", nein), ("e", "f", E)], names)
    corpus = read(path, label_map={"ja": E, "nein": "-"})
    assert rows_of(corpus) == [("a", "b", E), ("e", "f", E)]
    assert corpus.skipped == {"no gold label": 1}
    refused(DataError, r"'nein'.*label_map", read, path, label_map={"ja": E})
    refused(ConfigError, "Konfusion", read, path, label_map={"ja": E, "nein": "Konfusion"})
    own = read(path, labels=("ja", "nein"))
    assert (own.labels, own.label_names) == ([0, 1, 0], ("ja", "nein"))


def test_a_classifier_s_classes(tmp_path):
    three = write(tmp_path / "three.tsv", lines(ROWS))
    two = write(tmp_path / "two.tsv", lines([("a", "b", NO), ("c", "d", E)]))
    for path, names, labels in (
        (three, (N, E, C), [1, 2, 0, 2, 0]),
        (three, ("ENTAILMENT", "NEUTRAL", "CONTRADICTION"), [0, 2, 1, 2, 1]),
        (three, TWO_WAY, [0, 1, 1, 1, 1]),
        (three, (NO, E), [1, 0, 0, 0, 0]),
        (two, (NO, E), [0, 1]),
        (two, TWO_WAY, [1, 0]),
    ):
        corpus = read(path, labels=names)
        assert (corpus.labels, corpus.label_names) == (labels, names)
    refused(BERTNLIError, "entailment", read, [three, two])
    assert read([three, two], labels=TWO_WAY).labels == [0, 1, 1, 1, 1, 1, 0]
    # Two classes cannot become three: the file's own are kept.
    assert read(two, labels=LABELS).label_names == TWO_WAY
    refused(DataError, "label_map", read, three, labels=("yes", "no"))
    corpus = read(three, labels=("yes", "no"), label_map={E: "yes", N: "no", C: "no"})
    assert corpus.labels == [0, 1, 1, 1, 1]


def test_a_class_that_comes_back_is_no_bad_row(tmp_path):
    labels = ["Widerspruch" if i % 3 else N for i in range(9)]
    path = write(tmp_path / "t.csv", csv_of([(f"Satz {i}.", "b", c) for i, c in enumerate(labels)]))
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=r"Widerspruch.*--label-map") as caught:
            read(path, on_error=on_error)
        assert "skip" not in str(caught.value)
    rows = [("a.", "b.", "wat"), *((f"Satz {i}.", "Ein Satz.", N) for i in range(200))]
    corpus = read(write(path, csv_of(rows)), on_error="skip")
    assert corpus.skipped == {"malformed": 1}
    assert any("'wat' in 1" in note for note in corpus.notes)


# ----- bad rows, and where rows are


def json_part(rows, head=HEADER):
    """Make the beginning of a JSON document, or with None for `head` its end."""
    text = jsonl(rows).strip().replace("\n", ",\n")
    return f"[{text},\n" if head else f"{text}]"


BAD = {
    "x.tsv": [lines, "only one\na\tb\tmaybe\n\nc\t\tneutral\n", 3],
    "x.csv": [csv_of, 'a,b\n\n"open,b,neutral\na,b,maybe\n', 3],
    "y.csv": [lambda *a: csv_of(*a, sign=";"), "a;b\n\na;b;maybe\na;;neutral\n", 3],
    "q.tsv": [
        lambda *a: csv_of(*a, sign="\t", quoting=csv.QUOTE_ALL),
        *('"a"\t"b"\n\n"c"\t""\t"neutral"\n', 2),
    ],
    "x.jsonl": [lambda rows, *_: jsonl(rows), '{"sentence1": "a"}\n\n[1]\n{"a\n', 3],
    "x.json": [json_part, '{"sentence1": "a"},\n7,\n', 2],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_or_counted(tmp_path, name):
    make, bad, count = BAD[name]
    text = (make(ROWS[:2]) + bad + make(ROWS[2:], None)).replace("\r\n", "\n")
    path = write(tmp_path / name, text)
    refused(DataError, rf"{re.escape(name)}, line \d+: ", read, path)
    corpus = read(path, on_error="skip")
    assert rows_of(corpus) == ROWS and corpus.skipped == {"malformed": count}
    content = text.replace('\\"', '"').replace('""', '"').split("\n")
    for i, premise in enumerate(corpus.premises):
        line = int(re.fullmatch(rf"{re.escape(str(path))}, line (\d+)", corpus.where(i))[1])
        assert premise[-6:] in content[line - 1]
    vocab = build_vocab(corpus, 1)
    assert len(PairDataset.read(path, None, 16, vocab, verbose=False, on_error="skip")) == len(ROWS)
    refused(DataError, r"line \d+: ", PairDataset.read, path, None, 16, vocab, verbose=False)
    refused(ConfigError, "on_error", read, path, on_error="ignore")


# ----- train and dev


def test_a_tenth_is_held_out_by_premise(tmp_path):
    rows = [(f"premise {i}", f"h {i} {j}", LABELS[j]) for i in range(100) for j in range(3)]
    path = write(tmp_path / "x.tsv", lines(rows))
    train, dev = train_and_dev(path, dev=0.1, seed=3)
    assert not {*train.premises} & {*dev.premises}
    assert sorted(rows_of(train) + rows_of(dev)) == sorted(rows)
    assert 24 <= len(dev.labels) <= 36
    assert train_and_dev(path, dev=0.1, seed=3) == (train, dev)
    assert train_and_dev(path, dev=0.1, seed=4)[1] != dev
    assert dev.where(0) == f"{path}, line {rows.index(rows_of(dev)[0]) + 2}"
    assert 60 <= len(train_and_dev(str(path), 0.25)[1].labels) <= 90
    for bad in (0.0, 1.0, -0.5, 1.5, float("nan")):
        refused(ConfigError, "dev", train_and_dev, path, dev=bad)
    few = write(tmp_path / "few.tsv", lines([("same", f"h{i}", E) for i in range(50)]))
    with pytest.raises(BERTNLIError):  # one premise cannot be on both sides
        train_and_dev(few, dev=0.1)


def test_a_source_s_own_dev_split_is_taken(tmp_path):
    for split in ("train", "validation"):
        one_row(split, tmp_path / f"{split}.tsv")
    other = one_row("other", tmp_path / "more" / "x.csv")
    for sources, expected in (
        ((tmp_path,), (["train"], ["validation"])),
        ((tmp_path, other), (["train"], ["other"])),
        (([tmp_path / "train.tsv", other], other), (["train", "other"], ["other"])),
    ):
        train, dev = train_and_dev(*sources)
        assert (train.premises, dev.premises) == expected
    assert train_and_dev(other)[1] is None
    assert train_and_dev("sample") == (read("sample", "train"), read("sample", "dev"))
