"""One door for data: every kind of source, every format, headers, labels, bad rows."""

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.data.read import pairs, read, read_sets, train_and_dev
from bertnli.errors import BERTNLIError, ConfigError, DataError

E, C, N = LABELS
NO = TWO_WAY[1]
HEADER = ("sentence1", "sentence2", "gold_label")
ROWS = [
    ("The baker sings in the rain.", "Someone sings.", E),
    ("The baker sings in the rain.", "It is dry; all is silent.", C),
    ('He said "no, thanks" to Zoë.', "Zoë's offer was 5,50 €.", N),
    ('"Rye" is on the sign', "The bread|cake is \\old", C),
    ("N/A", "null", N),
]
Row = Sequence[Any]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows, header=HEADER, sign="\t"):
    """Rows without any quoting."""
    return "".join(
        sign.join(map(str, row)) + "\n" for row in ([header] if header else []) + [*rows]
    )


def csv_of(rows, header=HEADER, sign=",", end="\r\n", **options):
    """Rows as the csv module writes them."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=sign, lineterminator=end, **options)
    writer.writerows(([header] if header else []) + [*rows])
    return file.getvalue()


def records(rows, header=HEADER):
    return [dict(zip(header, row, strict=True)) for row in rows]


def jsonl(rows, header=HEADER):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records(rows, header))


def rows_of(corpus):
    """Premise, hypothesis and the class's name of each pair."""
    names = [None if label < 0 else corpus.label_names[label] for label in corpus.labels]
    return list(zip(corpus.premises, corpus.hypotheses, names, strict=True))


def same(corpus, rows=ROWS, names=LABELS):
    assert rows_of(corpus) == [tuple(row) for row in rows]
    assert corpus.label_names == names and not corpus.skipped


def pandas_frame(rows=ROWS):
    pandas = import_module("pandas")
    return pandas.DataFrame(
        list(rows), columns=list(HEADER), index=[f"i{i}" for i in range(len(rows))]
    )


def polars_frame():
    return import_module("polars").DataFrame(records(ROWS))


def arrow_table():
    return import_module("pyarrow").table(
        dict(zip(HEADER, map(list, zip(*ROWS, strict=True)), strict=True))
    )


def hub_dataset(names=(E, N, C)):
    """A `datasets.Dataset` whose class is a number with a meaning."""
    datasets = import_module("datasets")
    features = {name: datasets.Value("string") for name in HEADER[:2]}
    features["gold_label"] = datasets.ClassLabel(names=list(names))
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    columns[2] = [names.index(name) for name in columns[2]]
    return datasets.Dataset.from_dict(
        dict(zip(HEADER, columns, strict=True)), features=datasets.Features(features)
    )


def parquet_file(path):
    import_module("pyarrow.parquet").write_table(arrow_table(), path)
    return path


def feather_file(path, **options):
    import_module("pyarrow.feather").write_feather(arrow_table(), str(path), **options)
    return path


EQUAL: dict[str, Callable[[Path], Any]] = {
    "tsv": lambda folder: write(folder / "x.tsv", lines(ROWS)),
    "csv": lambda folder: write(folder / "x.csv", csv_of(ROWS)),
    "csv ;": lambda folder: write(folder / "y.csv", csv_of(ROWS, sign=";")),
    "csv tab": lambda folder: write(folder / "t.csv", csv_of(ROWS, sign="\t")),
    "csv |": lambda folder: write(folder / "p.csv", csv_of(ROWS, sign="|")),
    "csv, all quoted": lambda folder: write(
        folder / "q.csv", csv_of(ROWS, quoting=csv.QUOTE_ALL, end="\n")
    ),
    "csv of Excel": lambda folder: write(
        folder / "e.csv", "\ufeffsep=;\r\n" + csv_of(ROWS, sign=";")
    ),
    "Unicode text of Excel": lambda folder: write(
        folder / "e.txt", csv_of(ROWS, sign="\t").encode("utf-16")
    ),
    "quoted tsv": lambda folder: write(folder / "q.tsv", csv_of(ROWS, sign="\t", end="\n")),
    "quoted tsv, all quoted": lambda folder: write(
        folder / "all.tsv", csv_of(ROWS, sign="\t", quoting=csv.QUOTE_ALL)
    ),
    "jsonl": lambda folder: write(folder / "x.jsonl", jsonl(ROWS)),
    "ndjson": lambda folder: write(folder / "x.ndjson", jsonl(ROWS)),
    "json array": lambda folder: write(folder / "x.json", json.dumps(records(ROWS))),
    "pretty json": lambda folder: write(
        folder / "y.json", json.dumps(records(ROWS), indent=2, ensure_ascii=False)
    ),
    "json lines called json": lambda folder: write(folder / "l.json", jsonl(ROWS)),
    "an array called jsonl": lambda folder: write(
        folder / "a.jsonl", json.dumps(records(ROWS), indent=1)
    ),
    "an object with a list": lambda folder: write(
        folder / "o.json",
        json.dumps({"version": "1.1", "license": {"name": "x"}, "data": records(ROWS)}, indent=1),
    ),
    "parquet": lambda folder: parquet_file(folder / "x.parquet"),
    "feather": lambda folder: feather_file(folder / "x.feather"),
    "feather, lz4": lambda folder: feather_file(folder / "x.arrow", compression="lz4"),
    "pandas": lambda folder: pandas_frame(),
    "polars": lambda folder: polars_frame(),
    "polars, categories": lambda folder: polars_frame().with_columns(
        import_module("polars").col("gold_label").cast(import_module("polars").Categorical)
    ),
    "pandas, categories": lambda folder: pandas_frame().astype({"gold_label": "category"}),
    "pyarrow": lambda folder: arrow_table(),
    "datasets": lambda folder: hub_dataset(),
    "tuples": lambda folder: ROWS,
    "lists": lambda folder: [list(row) for row in ROWS],
    "generator": lambda folder: (row for row in ROWS),
    "dicts": lambda folder: records(ROWS),
    "zip": lambda folder: zip(*map(list, zip(*ROWS, strict=True)), strict=True),
    "gz": lambda folder: write(folder / "x.tsv.gz", gzip.compress(lines(ROWS).encode())),
    "bz2": lambda folder: write(folder / "x.csv.bz2", bz2.compress(csv_of(ROWS).encode())),
    "xz": lambda folder: write(folder / "x.jsonl.xz", lzma.compress(jsonl(ROWS).encode())),
    "zst": lambda folder: write(
        folder / "x.tsv.zst",
        bytes(import_module("pyarrow").compress(lines(ROWS).encode(), "zstd", asbytes=True)),
    ),
}


@pytest.fixture
def plain(tmp_path):
    return read(write(tmp_path / "plain" / "x.tsv", lines(ROWS)))


@pytest.mark.parametrize("kind", EQUAL)
def test_a_corpus_is_the_same_in_whatever_form(tmp_path, kind, plain):
    corpus = read(EQUAL[kind](tmp_path))
    same(corpus)
    assert corpus == plain and corpus.digest() == plain.digest()
    assert corpus.rows.tolist() == sorted(corpus.rows.tolist()) and min(corpus.rows) >= 1
    assert list(pairs(EQUAL[kind](tmp_path))) == [row[:2] for row in ROWS]
    vocab = build_vocab(plain, 1)
    expected = PairDataset(plain, 24, vocab, verbose=False)
    for _ in range(1 + isinstance(EQUAL[kind](tmp_path), Path)):  # once more, from the cache
        dataset = PairDataset.read(EQUAL[kind](tmp_path), None, 24, vocab, verbose=False)
        assert dataset.digest() == expected.digest()


# ----- sources


@pytest.mark.parametrize("kind", [*[*EQUAL][:13], "gz", "parquet", "feather"])
def test_standard_input(tmp_path, kind, plain, monkeypatch):
    sent = io.BufferedReader(io.BytesIO(EQUAL[kind](tmp_path).read_bytes()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(sent))
    assert read("-") == plain


@pytest.mark.parametrize("format", ["tsv", "jsonl", "csv", "no header"])
def test_a_pair_comes_before_the_next_is_written(format):
    sign = {"csv": ","}.get(format, "\t")
    source, sink = os.pipe()
    with os.fdopen(sink, "w", buffering=1) as file, ThreadPoolExecutor(1) as pool:
        if format in ("tsv", "csv"):
            file.write(f"premise{sign}hypothesis\n")
        answers = pairs(f"/dev/fd/{source}")
        for i in range(4):
            row = f"the goat {i}", "a goat"
            text = jsonl([row], KNOWN[0]).lower() if format == "jsonl" else sign.join(row) + "\n"
            file.write(text)
            assert pool.submit(next, answers).result(60) == row


def test_the_sample_has_three_splits():
    for split in ("train", "dev", "test"):
        assert read("sample", split) == read(f"sample:{split}")
    assert read("sample", "validation") == read("sample", "valid") == read("sample", "dev")
    assert read("sample", True) == read("sample", "train")
    assert read("sample", False) == read("sample", "test")
    with pytest.raises(BERTNLIError, match=r"trian.*'train'"):
        read("sample", "trian")


FOLDERS = {
    "plain": ["train.tsv", "dev.tsv", "test.tsv"],
    "mixed": ["train.csv", "validation.jsonl", "test.tsv.gz"],
    "valid": ["train.jsonl", "valid.jsonl", "test.jsonl"],
    "val": ["train.json", "val.json", "test.json"],
    "SNLI's": ["snli_1.0_train.txt", "snli_1.0_dev.txt", "snli_1.0_test.txt"],
    "XNLI's": ["multinli.train.de.tsv", "xnli.dev.tsv", "xnli.test.tsv"],
    "upper": ["Train.tsv", "Dev.tsv", "Test.tsv"],
    "deep": ["data/train.tsv", "data/dev.tsv", "data/test.tsv"],
}


def one_row(split, path):
    """Write a file of one pair, whose premise is its split."""
    row = [(split, "h", E)]
    name = path.name.removesuffix(".gz")
    text = jsonl(row) if name.endswith(".jsonl") else lines(row)
    if name.endswith(".csv"):
        text = csv_of(row)
    if name.endswith(".json"):
        text = json.dumps(records(row))
    return write(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


@pytest.mark.parametrize(
    ("names", "packed"),
    [*((names, None) for names in FOLDERS), *(("mixed", end) for end in ("zip", "tar.gz", "tar"))],
)
def test_a_folder_or_an_archive_has_splits(tmp_path, names, packed):
    folder = tmp_path / "set"
    for split, name in zip(("train", "dev", "test"), FOLDERS[names], strict=True):
        one_row(split, folder / name)
    write(folder / "README.md", "# A set\n\n| premise | hypothesis |\n")
    write(folder / "LICENSE", "Do what you like.\n")
    source = folder
    if packed == "zip":
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as file:
            for path in sorted(folder.rglob("*.*")):
                file.write(path, f"set/{path.relative_to(folder)}")
                file.writestr(f"__MACOSX/set/._{path.name}", b"\0\5\x16\7")
    elif packed:
        source = tmp_path / f"set.{packed}"
        with tarfile.open(source, "w:gz" if packed == "tar.gz" else "w") as file:
            file.add(folder, "set")
    for split, asked in (
        *(("train", "train"), ("dev", "dev"), ("dev", "validation"), ("dev", "valid")),
        *(("test", "test"), ("train", True), ("test", False)),
    ):
        assert read(source, asked).premises == [split]
    assert read(f"{source}:dev").premises == ["dev"]
    assert read(str(source), "test").premises == ["test"]
    with pytest.raises(BERTNLIError, match=r"(?i)name one, as set:\w"):
        read(source)  # which of them?
    with pytest.raises(BERTNLIError, match=r"(?i)no split 'tset': .*test"):
        read(source, "tset")


def test_multinli_has_two_dev_sets(tmp_path):
    for split in ("train", "dev_matched", "dev_mismatched"):
        one_row(split, tmp_path / f"multinli_1.0_{split}.txt")
        one_row(split, tmp_path / f"multinli_1.0_{split}.jsonl")
    for split in ("train", "dev_matched", "dev_mismatched"):
        assert read(tmp_path, split).premises == [split]
        assert read(f"{tmp_path}:{split}").premises == [split]
    with pytest.raises(BERTNLIError, match=r"dev_matched.*dev_mismatched"):
        read(tmp_path, "dev")


def test_shards_of_the_hub_are_one_split(tmp_path):
    parquet = import_module("pyarrow.parquet")
    table = arrow_table()
    for i in range(3):
        path = tmp_path / "data" / f"train-0000{i}-of-00003.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table.slice(2 * i, 2), path)
    parquet.write_table(table.slice(0, 1), tmp_path / "data" / "validation-00000-of-00001.parquet")
    same(read(tmp_path, "train"))
    same(read(tmp_path, "dev"), ROWS[:1])


def test_several_sources_are_one(tmp_path):
    a = write(tmp_path / "a.tsv", lines(ROWS[:2]))
    b = write(tmp_path / "b.jsonl", "\n" + jsonl(ROWS[2:]))
    both = read([a, str(b)])
    same(both)
    assert list(both.parts.values()) == [2, 3] and len(both.parts) == 2
    assert [both.where(i) for i in (0, 1, 2, 4)] == [
        *(f"{a}, line 2", f"{a}, line 3", f"{b}, line 2", f"{b}, line 4")
    ]
    with pytest.raises(IndexError):
        both.where(5)
    again = read([a, b, a])
    assert [again.where(i) for i in (4, 5, 6)] == [
        *(f"{b}, line 4", f"{a} (2), line 2", f"{a} (2), line 3")
    ]
    same(read([pandas_frame(), b]), ROWS + ROWS[2:])
    twice = read([a, a])
    assert len(twice.labels) == 4 and [twice.where(i) for i in (1, 2)] == [
        f"{a}, line 3",
        f"{a}, line 2",
    ]
    one, two = read_sets([a, b])
    same(one, ROWS[:2])
    same(two, ROWS[2:])
    assert one.name != two.name
    with pytest.raises(BERTNLIError):
        read([])


def test_two_and_three_classes_do_not_become_one_set_unseen(tmp_path):
    three = write(tmp_path / "a.tsv", lines(ROWS))
    two = write(tmp_path / "b.tsv", lines([("a", "b", "not_entailment"), ("a", "c", E)]))
    with pytest.raises(BERTNLIError, match="entailment"):
        read([three, two])
    merged = read([three, two], labels=TWO_WAY)
    assert merged.label_names == TWO_WAY
    assert merged.labels == [0, 1, 1, 1, 1, 1, 0]


def test_a_dataset_dict_has_splits():
    datasets = import_module("datasets")
    whole = hub_dataset()
    both = datasets.DatasetDict(
        train=whole, validation=whole.select([0]), test=whole.select([1, 2])
    )
    same(read(both, "train"))
    same(read(both, "dev"), ROWS[:1])
    same(read(both, False), ROWS[1:3])
    with pytest.raises(BERTNLIError, match=r"train.*validation"):
        read(both)
    train, dev = train_and_dev(both)
    same(train)
    assert dev is not None
    same(dev, ROWS[:1])
    same(read(whole.shuffle(seed=1).sort("sentence2")), sorted(ROWS, key=lambda row: row[1]))
    same(read(whole.to_iterable_dataset()))


def test_frames_may_lack_labels_or_have_odd_columns():
    pandas = import_module("pandas")
    frame = pandas_frame().rename(columns={"gold_label": "Label", "sentence1": "Premise"})
    frame = frame.rename(columns={"sentence2": "HYPOTHESIS"}).assign(score=1.5, when="now")
    same(read(frame))
    frame.loc["i1", "Label"] = None
    corpus = read(frame)
    assert corpus.skipped == {"no gold label": 1}
    assert corpus.rows.tolist() == [1, 3, 4, 5]
    bare = read(frame[["Premise", "HYPOTHESIS"]], labelled=False)
    assert bare.labels == [-1] * 5
    frame.loc["i2", "Premise"] = float("nan")
    with pytest.raises(DataError, match=r"(row|line) 3"):
        read(frame)
    assert read(frame, on_error="skip").skipped == {"no gold label": 1, "malformed": 1}
    numbers = pandas.DataFrame({0: ["a"], 1: ["b"], 2: [E]})
    same(read(numbers, premise=1, hypothesis=2, label=3), [("a", "b", E)])


def test_pairs_and_triples_of_python():
    bare = read([("a", "b"), ("c", "d")], labelled=False)
    assert rows_of(bare) == [("a", "b", None), ("c", "d", None)]
    same(read(iter(ROWS)))
    corpus = read([*ROWS[:1], ("c", "d", "-"), ("e", "f", None)])
    assert rows_of(corpus) == [ROWS[0]] and corpus.skipped == {"no gold label": 2}
    for bad in ([("a",)], [("a", "b", E, "x")], ["ab"], [("a", 7, E)], [7], [("", "b", E)]):
        with pytest.raises(DataError):
            read([*ROWS, *bad])
        assert read([*ROWS, *bad], on_error="skip").skipped == {"malformed": 1}
    for nothing in (7, None, object()):
        with pytest.raises(BERTNLIError):
            read(nothing)


# ----- formats


def test_a_delimiter_is_said_and_can_be_given(tmp_path):
    odd = [("a, b; c", "d, e; f", E), ("g, h; i", "j, k; l", N)]
    for sign in ",;\t|":
        corpus = read(write(tmp_path / "x.csv", csv_of(odd, sign=sign)))
        same(corpus, odd)
        if sign != ",":
            assert any("delimiter" in note for note in corpus.notes), corpus.notes
        same(read(tmp_path / "x.csv", delimiter=sign), odd)
    same(read(write(tmp_path / "y.csv", csv_of(odd, sign="~")), delimiter="~"), odd)
    same(read(write(tmp_path / "z.tsv", csv_of(odd)), format="csv"), odd)
    for bad in ("", "ab", '"', "\n"):
        with pytest.raises(BERTNLIError, match="delimiter"):
            read(tmp_path / "x.csv", delimiter=bad)
    with pytest.raises(ConfigError, match="format"):
        read(tmp_path / "x.csv", format="excel")


MARKED = [
    ('"Rye" bread', 'is "old"', E),
    ('"All"', '"', C),
    ('a "b" c', "don't", N),
    ('5"', "'x'", N),
]


def test_quotation_marks_of_a_raw_table_stay(tmp_path):
    raw = write(tmp_path / "raw.tsv", lines(MARKED))
    same(read(raw), MARKED)
    same(read(raw, quoted=False), MARKED)
    same(read(write(tmp_path / "first.tsv", lines([('"Yes."', "No.", N), *ROWS[:2]], None))),
         [('"Yes."', "No.", N), *ROWS[:2]])  # fmt: skip
    for one in ([('"All"', "b", E)], [('"A" or "B"', '"C', E)]):  # some of many
        same(
            read(write(tmp_path / "one.tsv", lines([*MARKED, *one, *ROWS]))), [*MARKED, *one, *ROWS]
        )


@pytest.mark.parametrize("before", [0, 20, 3000])
def test_quotation_marks_of_a_quoted_table_go(tmp_path, before):
    """Those who write such tables quote a field where they must, which may be far below."""
    rows = [*ROWS[:2]] * before + MARKED + [("a\tb", "two\nlines", N)]
    path = write(tmp_path / "q.tsv", csv_of(rows, sign="\t", end="\n"))
    corpus = read(path)
    same(corpus, rows)
    same(read(path, quoted=True), rows)
    assert any("quoted" in note for note in corpus.notes)
    same(read(write(path, csv_of(MARKED * 9, sign="\t"))), MARKED * 9)


def test_pandas_and_polars_write_what_is_read(tmp_path):
    frame = pandas_frame([*ROWS, *MARKED])
    for name, options in (("a.tsv", {"sep": "\t"}), ("b.csv", {}), ("c.csv", {"sep": ";"})):
        frame.to_csv(tmp_path / name, index=False, **options)
        same(read(tmp_path / name), [*ROWS, *MARKED])
        frame.to_csv(tmp_path / name, **options)  # with the index, whose column has no name
        same(read(tmp_path / name), [*ROWS, *MARKED])
    for name, options in (("d.jsonl", {"lines": True}), ("e.json", {})):
        frame.to_json(tmp_path / name, orient="records", **options)
        same(read(tmp_path / name), [*ROWS, *MARKED])
    polars_frame().write_csv(tmp_path / "f.csv")
    polars_frame().write_ndjson(tmp_path / "g.jsonl")
    polars_frame().write_json(tmp_path / "h.json")
    for name in ("f.csv", "g.jsonl", "h.json"):
        same(read(tmp_path / name))
    if "pyarrow" in sys.modules:
        frame.to_parquet(tmp_path / "i.parquet")
        same(read(tmp_path / "i.parquet"), [*ROWS, *MARKED])
    hub_dataset().to_json(tmp_path / "j.jsonl")
    hub_dataset().to_parquet(tmp_path / "k.parquet")
    same(read(tmp_path / "k.parquet"))
    with pytest.raises(DataError, match="label_map"):  # here the names are lost
        read(tmp_path / "j.jsonl")


ENCODED = [("Zoë singt über Äpfel", "Jemand singt – “laut”", E), ("naïve", "café", N)]


@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl", "json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_known_by_its_mark(tmp_path, format, encoding):
    made = {"tsv": lines, "csv": csv_of, "jsonl": jsonl}
    text = json.dumps(records(ENCODED), ensure_ascii=False)
    text = made[format](ENCODED) if format in made else text
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    path = write(tmp_path / f"x.{format}", (mark + text).encode(encoding))
    same(read(path), ENCODED)
    assert read(path).rows.tolist() == read(write(tmp_path / f"y.{format}", text)).rows.tolist()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("format", ["tsv", "csv", "jsonl"])
def test_another_encoding_is_proposed_and_then_works(tmp_path, encoding, format):
    rows = ENCODED[1:] if encoding == "latin-1" else ENCODED
    text = {"tsv": lines, "csv": csv_of, "jsonl": jsonl}[format](rows)
    path = write(tmp_path / f"x.{format}", text.encode(encoding))
    for on_error in ("raise", "skip"):
        with pytest.raises(
            DataError, match=r"encoding=.*--encoding|--encoding.*encoding="
        ) as caught:
            read(path, on_error=on_error)
    proposed = re.search(r"encoding=['\"]([\w-]+)['\"]", str(caught.value))
    assert proposed, caught.value
    same(read(path, encoding=proposed[1]), rows)
    same(read(path, encoding=encoding), rows)
    with pytest.raises(ConfigError, match="encoding"):
        read(path, encoding="utf-9")


def test_an_excel_file_says_how_to_export_it(tmp_path):
    path = tmp_path / "x.xlsx"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("xl/workbook.xml", "<workbook/>")
    for source in (path, write(tmp_path / "y.csv", path.read_bytes())):
        with pytest.raises(BERTNLIError, match="Save the sheet as CSV UTF-8"):
            read(source)
    with pytest.raises(BERTNLIError, match=r"(?i)csv"):
        read(write(tmp_path / "z.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600))


def test_a_format_is_found_from_the_content(tmp_path):
    for text in (lines(ROWS), csv_of(ROWS), csv_of(ROWS, sign=";"), jsonl(ROWS)):
        same(read(write(tmp_path / "snippet", text)))
        same(read(write(tmp_path / "x.data", text)))
        same(read(write(tmp_path / "x.txt", text)))
    same(read(write(tmp_path / "x.csv", lines(ROWS[:3]))), ROWS[:3])
    same(read(write(tmp_path / "x.tsv", csv_of(ROWS))))
    same(read(parquet_file(tmp_path / "nameless")))
    same(read(write(tmp_path / "noending", gzip.compress(lines(ROWS).encode()))))


def test_nothing_is_lost_for_lack_of_a_last_line_end(tmp_path):
    for name, text in (("x.tsv", lines(ROWS)), ("x.csv", csv_of(ROWS)), ("x.jsonl", jsonl(ROWS))):
        for end in ("", "\n", "\n\n", "\r\n", "\n\r\n\n"):
            same(read(write(tmp_path / name, text.rstrip("\r\n") + end)))
            dos = re.sub(r"\r?\n", "\r\n", text.rstrip("\r\n")) + end
            same(read(write(tmp_path / name, dos)))


@pytest.mark.parametrize(
    "name", ["x.tsv", "x.csv", "x.jsonl", "x.json", "x", "x.parquet", "x.feather"]
)
@pytest.mark.parametrize(
    "content", [b"", b"\n", b"   ", b"\xff\xfe", b"[]", b"{}", b"[1]", b"null"]
)
def test_an_empty_file_is_an_error(tmp_path, name, content):
    path = write(tmp_path / name, content)
    for on_error in ("raise", "skip"):
        try:
            corpus = read(path, on_error=on_error)
        except BERTNLIError as error:
            assert name in str(error)  # noqa: PT017
        else:
            assert not corpus.labels and content in (b"[]", b"[1]", b"{}", b"null")


def test_json_documents_name_the_line_of_a_bad_row(tmp_path):
    rows = [*records(ROWS[:1]), {"sentence1": "a"}, 7, *records(ROWS[1:])]
    path = write(tmp_path / "x.json", json.dumps(rows, indent=1))
    with pytest.raises(DataError, match=r"x\.json, (line|row) \d+"):
        read(path)
    corpus = read(path, on_error="skip")
    assert rows_of(corpus) == ROWS and corpus.skipped == {"malformed": 2}
    cut = write(tmp_path / "cut.json", json.dumps(records(ROWS), indent=1)[:-60])
    with pytest.raises(DataError, match=r"cut\.json"):
        read(cut)
    two = write(tmp_path / "two.json", json.dumps({"a": records(ROWS), "b": records(ROWS)}))
    with pytest.raises(BERTNLIError, match=r"two\.json:a"):
        read(two)
    same(read(f"{two}:a"))
    same(read(two, "b"))


def test_nested_keys_have_dots(tmp_path):
    row = {"in": {"text": {"a": "The goat", "b": "A goat"}}, "out": {"class": E}}
    path = write(tmp_path / "x.jsonl", json.dumps(row) + "\n")
    options = {"premise": "in.text.a", "hypothesis": "IN.Text.b", "label": "out.class"}
    same(read(path, **options), [("The goat", "A goat", E)])
    flat = write(tmp_path / "y.jsonl", json.dumps({"in.text.a": "x", "b": "y", "label": E}))
    same(read(flat, premise="in.text.a", hypothesis="b"), [("x", "y", E)])


# ----- headers and columns


def test_columns_are_found_by_name_or_number(tmp_path):
    table = [(i, row[1], row[2], row[0], "x") for i, row in enumerate(ROWS)]
    odd = write(tmp_path / "odd.csv", csv_of(table, ("id", "Behauptung", "Urteil", "Text", "z")))
    names = {"premise": "text", "hypothesis": "BEHAUPTUNG", "label": "urteil"}
    same(read(odd, **names))
    same(read(odd, premise=4, hypothesis=2, label=3))
    same(read(odd, premise="4", hypothesis="2", label="3"))
    with pytest.raises(DataError, match=r"premise=.*--premise-column"):
        read(odd)
    with pytest.raises(BERTNLIError, match=r"'Txet'.*Text"):
        read(odd, **{**names, "premise": "Txet"})
    for bad in (0, 6, -1):
        with pytest.raises(BERTNLIError, match="column"):
            read(odd, **{**names, "premise": bad})
    same(read(write(tmp_path / "two.tsv", lines(ROWS, ("Premise ", " Hypothesis", "Label")))))
    both = write(tmp_path / "both.tsv", lines([("a", "b", "c", E)], ("text", "Text", "h", "label")))
    same(read(both, premise="text", hypothesis="h"), [("a", "c", E)])
    same(read(both, premise="Text", hypothesis="h"), [("b", "c", E)])


def test_a_table_without_a_header(tmp_path):
    by_number = {"premise": 1, "hypothesis": 2, "label": 3, "header": False}
    for name, text in (
        ("x.tsv", lines(ROWS, None)),
        ("x.csv", csv_of(ROWS, None)),
        ("y.csv", csv_of(ROWS, None, sign=";")),
    ):
        path = write(tmp_path / name, text)
        corpus = read(path, **by_number)
        same(corpus)
        assert corpus.rows.tolist() == [1, 2, 3, 4, 5]
        same(read(path, **{**by_number, "header": None}))
        # The third column says what it is.
        same(read(path))
    two = write(tmp_path / "two.tsv", lines([row[:2] for row in ROWS], None))
    bare = read(two, premise=1, hypothesis=2, header=False, labelled=False)
    assert rows_of(bare) == [(*row[:2], None) for row in ROWS]
    turned = read(two, premise=2, hypothesis=1, header=False, labelled=False)
    assert turned.premises == bare.hypotheses
    with pytest.raises(BERTNLIError, match="header"):
        read(write(tmp_path / "z.tsv", lines([("a", "b", "c", "d")], None)), header=True)


# ----- pairs to be answered


def answered(path, **options):
    notes: list[str] = []
    return list(pairs(path, on_note=notes.append, **options)), notes


TWO = [row[:2] for row in ROWS]
KNOWN = [("Premise", "Hypothesis"), ("PREMISE", "HYPOTHESIS"), ("sentence1", "Sentence2"),
         ("Sentence_A", "sentence_B"), ("context", "hypothesis"), ("evidence", "Claim"),
         ("premise", "hypo"), ("question", "sentence")]  # fmt: skip


@pytest.mark.parametrize("header", KNOWN)
@pytest.mark.parametrize("make", [lines, csv_of])
def test_a_known_header_is_no_pair(tmp_path, header, make):
    path = write(tmp_path / "x.txt", make(TWO, header))
    answers, notes = answered(path)
    assert sorted(map(sorted, answers)) == sorted(map(sorted, TWO)), "a pair too many or too few"
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


def test_blank_lines_are_no_pairs(tmp_path):
    header = ("premise", "hypothesis")
    for name, text in (
        *(("x.tsv", lines(TWO, header)), ("x.csv", csv_of(TWO, header, end="\n"))),
        ("x.jsonl", jsonl(TWO, header)),
    ):
        for end in ("\n", "\n\n\n", "\r\n"):
            assert answered(write(tmp_path / name, text + end))[0] == TWO
    assert answered(write(tmp_path / "y.tsv", lines(TWO, None) + "\n"), header=False)[0] == TWO


def test_bad_pairs_are_skipped_on_demand(tmp_path):
    path = write(tmp_path / "x.tsv", lines([*TWO[:2], ("alone",), ("", ""), *TWO[2:]],
                                           ("premise", "hypothesis")))  # fmt: skip
    with pytest.raises(DataError, match="line 4"):
        answered(path)
    answers, notes = answered(path, on_error="skip")
    assert answers == TWO
    assert [re.findall(r"line \d+", note) for note in notes] == [["line 4"], ["line 5"]]
    long = [("word " * 300_000, "b")]
    for name, text in (("a.csv", csv_of(long, KNOWN[0])), ("a.tsv", lines(long, KNOWN[0]))):
        assert answered(write(tmp_path / name, text))[0] == long


# ----- labels


def test_classes_are_known_in_the_spellings_of_the_field(tmp_path):
    spellings = {
        E: [E, "ENTAILMENT", " Entailment ", "entails", "e", "SUPPORTS", "entailed"],
        C: [C, "Contradiction", "contradictory", "contradicts", "c", "REFUTES"],
        N: [N, "NEUTRAL", "n", "NOT ENOUGH INFO"],
    }
    for name, written in spellings.items():
        for label in written:
            path = write(tmp_path / "x.tsv", lines([("a", "b", label)]))
            assert rows_of(read(path)) == [("a", "b", name)], label
    for label in ("not_entailment", "non-entailment", "Not Entailment", "NOT-ENTAILMENT"):
        path = write(tmp_path / "x.tsv", lines([("a", "b", label), ("c", "d", E)]))
        same(read(path), [("a", "b", NO), ("c", "d", E)], TWO_WAY)


def test_no_label_is_left_out_and_counted(tmp_path):
    rows = [*ROWS, ("a", "b", "-"), ("c", "d", -1), ("e", "f", "-")]
    for name, text in (("x.tsv", lines(rows)), ("x.csv", csv_of(rows)), ("x.jsonl", jsonl(rows))):
        corpus = read(write(tmp_path / name, text))
        assert rows_of(corpus) == ROWS and corpus.skipped == {"no gold label": 3}


NUMBERS = [("a", "b", 0), ("c", "d", 1), ("e", "f", 2), ("g", "h", 2), ("i", "j", 0), ("k", "l", 0)]


def number_sources(folder):
    header = ("premise", "hypothesis", "label")
    yield write(folder / "n.tsv", lines(NUMBERS, header))
    yield write(folder / "n.csv", csv_of(NUMBERS, header))
    yield write(folder / "n.jsonl", jsonl(NUMBERS, header))
    yield write(folder / "n.json", json.dumps(records(NUMBERS, header), indent=1))
    yield NUMBERS
    yield pandas_frame(NUMBERS)
    yield pandas_frame(NUMBERS).astype({"gold_label": float})
    yield pandas_frame(NUMBERS).astype({"gold_label": "Int64"})
    yield import_module("pyarrow").Table.from_pylist(records(NUMBERS, header))
    yield import_module("polars").DataFrame(records(NUMBERS, header))


def proposed_maps(message):
    """The meanings that a message proposes, for Python and for a command."""
    maps = [ast.literal_eval(one) for one in re.findall(r"label_map=(\{[^{}]*\})", message)]
    for option in re.findall(r"--label-map (\S*=[\w,=-]*)", message):
        maps.append(dict(pair.split("=") for pair in option.split(",")))
    return maps


def test_numbers_without_a_meaning_are_refused_with_both_orders(tmp_path):
    for source in number_sources(tmp_path):
        for on_error in ("raise", "skip"):
            with pytest.raises(DataError, match="--label-map") as caught:
                read(source, on_error=on_error)
        message = str(caught.value)
        for number, count in Counter(str(row[2]) for row in NUMBERS).items():
            assert re.search(
                rf"\b{count}\b[^.;]*\b{number}\b|\b{number}\b[^.;]*\b{count}\b", message
            )
        orders = [tuple(one.values()) for one in proposed_maps(message)]
        # The Hub's (SNLI, MultiNLI, ANLI) and the book's.
        assert {(E, N, C), (E, C, N)} <= set(orders), message
        for proposed in proposed_maps(message):
            corpus = read(source, label_map=proposed)
            meaning = {str(key): name for key, name in proposed.items()}
            same(corpus, [(*row[:2], meaning[str(row[2])]) for row in NUMBERS])
        same(read(source, label_map={0: N, 1: E, 2: C}),
             [(*row[:2], (N, E, C)[row[2]]) for row in NUMBERS])  # fmt: skip


def test_numbers_with_a_meaning():
    for names in ((E, N, C), (E, C, N), (C, E, N), ("Contradiction", "Neutral", "Entailment")):
        lowered = [name.lower() for name in names]
        same(read(hub_dataset(lowered)))
    dataset = hub_dataset().map(lambda row, i: {"gold_label": -1 if i == 1 else row["gold_label"]},
                                with_indices=True)  # fmt: skip
    corpus = read(dataset)
    assert rows_of(corpus) == [*ROWS[:1], *ROWS[2:]] and corpus.skipped == {"no gold label": 1}
    assert corpus.rows.tolist() == [1, 3, 4, 5]


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
    given = {"ja": E, "nein": C}
    same(read(path, label_map=given), [("a", "b", E), ("c", "d", C), ("e", "f", E)])
    corpus = read(path, label_map={"ja": E, "nein": "-"})
    assert rows_of(corpus) == [("a", "b", E), ("e", "f", E)]
    assert corpus.skipped == {"no gold label": 1}
    with pytest.raises(DataError, match=r"'nein'.*label_map"):
        read(path, label_map={"ja": E})
    with pytest.raises(ConfigError, match="Konfusion"):
        read(path, label_map={"ja": E, "nein": "Konfusion"})
    two = read(path, label_map={"ja": E, "nein": "not_entailment"})
    same(two, [("a", "b", E), ("c", "d", NO), ("e", "f", E)], TWO_WAY)
    own = read(path, labels=("ja", "nein"))
    assert (own.labels, own.label_names) == ([0, 1, 0], ("ja", "nein"))


def test_a_classifier_s_classes(tmp_path):
    three = write(tmp_path / "three.tsv", lines(ROWS))
    two = write(tmp_path / "two.tsv", lines([("a", "b", "not_entailment"), ("c", "d", E)]))
    assert read(three, labels=(N, E, C)).labels == [1, 2, 0, 2, 0]
    assert read(three, labels=TWO_WAY).labels == [0, 1, 1, 1, 1]
    turned = read(three, labels=("not_entailment", "entailment"))
    assert turned.labels == [1, 0, 0, 0, 0]
    assert turned.label_names == ("not_entailment", "entailment")
    assert read(two, labels=("not_entailment", "entailment")).labels == [0, 1]
    assert read(two, labels=TWO_WAY).labels == [1, 0]
    upper = read(three, labels=("ENTAILMENT", "NEUTRAL", "CONTRADICTION"))
    assert upper.labels == [0, 2, 1, 2, 1]
    # Of the three classes there is no way back: what the file has is said.
    assert read(two, labels=LABELS).label_names == TWO_WAY
    with pytest.raises(DataError, match="label_map"):
        read(three, labels=("yes", "no"))
    assert read(three, labels=("yes", "no"), label_map={E: "yes", N: "no", C: "no"}).labels == [
        *(0, 1, 1, 1, 1)
    ]


# ----- bad rows, and where rows are


BAD = {
    "x.tsv": (
        lines(ROWS[:2]) + "only one\na\tb\tmaybe\n\nc\t\tneutral\n" + lines(ROWS[2:], None),
        3,
    ),
    "x.csv": (
        csv_of(ROWS[:2], end="\n") + 'a,b\n\n"open,b,neutral\na,b,maybe\n'
        + csv_of(ROWS[2:], None, end="\n"),
        3,
    ),
    "y.csv": (
        csv_of(ROWS[:2], sign=";", end="\n") + "a;b\n\na;b;maybe\na;;neutral\n"
        + csv_of(ROWS[2:], None, sign=";", end="\n"),
        3,
    ),
    "q.tsv": (
        csv_of([*ROWS[:2], *ROWS[3:]], sign="\t", quoting=csv.QUOTE_ALL, end="\n") + '"a"\t"b"\n\n'
        + '"c"\t""\t"neutral"\n' + csv_of(ROWS[2:3], None, sign="\t", quoting=csv.QUOTE_ALL),
        2,
    ),
    "x.jsonl": (jsonl(ROWS[:2]) + '{"sentence1": "a"}\n\n[1]\n{"a\n' + jsonl(ROWS[2:]), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_or_counted(tmp_path, name):
    text, bad = BAD[name]
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=rf"{re.escape(name)}, line \d+: "):
        read(path)
    corpus = read(path, on_error="skip")
    assert sorted(rows_of(corpus)) == sorted(ROWS) and corpus.skipped == {"malformed": bad}
    for i in range(len(corpus.labels)):
        line = int(re.fullmatch(rf"{re.escape(str(path))}, line (\d+)", corpus.where(i))[1])
        # What is written there is the pair's beginning.
        assert corpus.premises[i][-6:] in text.split("\n")[line - 1].replace('\\"', '"').replace(
            '""', '"'
        )
    data = PairDataset.read(path, None, 16, build_vocab(corpus, 1), verbose=False, on_error="skip")
    assert len(data) == len(ROWS)
    with pytest.raises(DataError, match=r"line \d+: "):
        PairDataset.read(path, None, 16, build_vocab(corpus, 1), verbose=False)
    with pytest.raises(ConfigError, match="on_error"):
        read(path, on_error="ignore")


# ----- train and dev


def grouped(path, premises=100):
    rows = [
        (f"premise {i}", f"hypothesis {i} {j}", LABELS[j])
        for i in range(premises)
        for j in range(3)
    ]
    return write(path, lines(rows))


def test_a_tenth_is_held_out_by_premise(tmp_path):
    path = grouped(tmp_path / "x.tsv")
    whole = read(path)
    train, dev = train_and_dev(path, dev=0.1, seed=3)
    assert dev is not None
    assert not {*train.premises} & {*dev.premises}
    assert sorted(rows_of(train) + rows_of(dev)) == sorted(rows_of(whole))
    assert 24 <= len(dev.labels) <= 36
    again = train_and_dev(path, dev=0.1, seed=3)
    assert again[0] == train and again[1] == dev
    other = train_and_dev(path, dev=0.1, seed=4)
    assert other[1] != dev
    assert dev.where(0) == f"{path}, line {whole.premises.index(dev.premises[0]) + 2}"
    quarter = train_and_dev(str(path), 0.25)[1]
    assert quarter is not None and 60 <= len(quarter.labels) <= 90
    for bad in (0.0, 1.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="dev"):
            train_and_dev(path, dev=bad)
    few = write(tmp_path / "few.tsv", lines([("same", f"h{i}", E) for i in range(50)]))
    with pytest.raises(BERTNLIError):  # one premise cannot be on both sides
        train_and_dev(few, dev=0.1)


def test_a_source_s_own_dev_split_is_taken(tmp_path):
    for split in ("train", "validation"):
        one_row(split, tmp_path / f"{split}.tsv")
    train, dev = train_and_dev(tmp_path)
    assert (train.premises, dev and dev.premises) == (["train"], ["validation"])
    other = one_row("other", tmp_path / "more" / "x.csv")
    train, dev = train_and_dev(tmp_path, other)
    assert dev is not None and dev.premises == ["other"]
    assert train_and_dev(other)[1] is None
    train, dev = train_and_dev([tmp_path / "train.tsv", other], other)
    assert train.premises == ["train", "other"]
    sample = train_and_dev("sample")
    assert sample == (read("sample", "train"), read("sample", "dev"))


@pytest.mark.parametrize(
    ("first", "second"),
    [("text", "hypothesis"), ("Prämisse", "Hypothese"), ("premise_en", "hypothesis_en"),
     ("prem", "hyp"), ("context", "statement"), ("text_a", "text_b"), ("s1", "s2"),
     ("Satz 1", "Satz 2"), ("first", "second"), ("text", "claim")],
)  # fmt: skip
def test_names_tell_the_premise(tmp_path, first, second):
    for turned in (False, True):
        rows = [(b, a, c) if turned else (a, b, c) for a, b, c in ROWS_OF_THREE]
        header = (second, first, "label") if turned else (first, second, "label")
        corpus = read(write(tmp_path / "x.csv", csv_of(rows, header)))
        assert rows_of(corpus) == ROWS_OF_THREE


def test_texts_of_excel_lose_their_quotes(tmp_path):
    text = (
        'premise\thypothesis\tlabel\r\n"A man, old, sleeps."\tA man rests.\tentailment\r\n'
        'A dog runs.\t"A dog, brown, sleeps."\tcontradiction\r\n'
    )
    corpus = read(write(tmp_path / "x.txt", text))
    assert corpus.premises[0] == "A man, old, sleeps." and corpus.notes
    bare = text.replace('"A dog, brown, sleeps."', "A dog, brown, sleeps.")
    assert read(write(tmp_path / "x.txt", bare)).premises[0] == '"A man, old, sleeps."'


def test_a_corpus_and_a_table_of_lists_are_sources():
    corpus = read("sample", "dev")
    again = read(corpus)
    assert tuple(again) == tuple(corpus) and again.tokenized == corpus.tokenized
    table = dict(zip(COLUMNS, map(list, zip(*ROWS_OF_THREE, strict=True)), strict=True))
    assert rows_of(read(table)) == ROWS_OF_THREE
    assert rows_of(read(np.array(ROWS_OF_THREE))) == ROWS_OF_THREE
    with pytest.raises(ConfigError, match="label_map"):
        read(corpus, label_map={"entailment": 0})


COLUMNS = ("premise", "hypothesis", "label")
ROWS_OF_THREE = [
    ("A man sleeps on a bench.", "A man rests.", E),
    ("A dog runs over the grass.", "A dog sleeps.", C),
    ("Kids play in the park.", "Kids eat cake.", N),
]


def test_a_space_after_the_comma_is_no_part_of_a_sentence(tmp_path):
    path = write(
        tmp_path / "x.csv",
        'premise, hypothesis, label\nA man., "A man sits, quietly.", neutral\n'
        "A dog, An owl, neutral\n",
    )
    assert read(path).hypotheses == ["A man sits, quietly.", "An owl"]
    vocab = build_vocab(read(path), 1)
    ids = PairDataset.read(path, None, 32, vocab, cache=False, verbose=False)
    assert ids.digest() == PairDataset(read(path), 32, vocab, verbose=False).digest()


@pytest.mark.parametrize("label", [E, 1])
def test_sentences_without_a_header_stay_in_their_order(tmp_path, label):
    path = write(tmp_path / "x.tsv", lines([(label, "A man sits.", "A man rests.")] * 3, None))
    corpus = read(path, label_map={"1": E})
    assert (corpus.premises[0], corpus.hypotheses[0]) == ("A man sits.", "A man rests.")
    path = write(tmp_path / "y.csv", csv_of([(7, "A b.", "C d.", E), (8, "E f.", "G h.", C)], None))
    with pytest.raises(DataError, match="--premise-column 2 --hypothesis-column 3"):
        read(path)


def test_no_other_split_is_read_than_the_one_that_is_named(tmp_path):
    rows, more = records(ROWS_OF_THREE), records(ROWS_OF_THREE[:1])
    one = write(tmp_path / "one.json", json.dumps({"train": rows}))
    for source in (one, write(tmp_path / "list.json", json.dumps(rows))):
        with pytest.raises(BERTNLIError, match="split"):
            read(source, "dev")
    both = write(tmp_path / "both.json", json.dumps({"train": rows, "validation": more}))
    assert len(read(both, "dev").labels) == len(read(f"{both}:validation").labels) == 1
    column = [{**row, "split": "train"} for row in rows] + [{**more[0], "split": "validation"}]
    for path in (
        write(tmp_path / "x.json", json.dumps(column)),
        write(tmp_path / "x.jsonl", jsonl([list(one.values()) for one in column], [*column[0]])),
    ):
        for split in ("dev", "val", "validation", "Valid"):
            assert len(read(path, split).labels) == 1
        with pytest.raises(DataError, match=r"no split 'tran'.*'dev', 'train'.*Did you mean"):
            read(path, "tran")
        assert "x.json" in read(path).notes[0] and ":train" in read(path).notes[0]
        assert not read(path, "train").notes


def test_numbers_mean_what_their_own_source_says(tmp_path):
    import datasets

    def numbered(names):
        columns = {"premise": datasets.Value("string"), "hypothesis": datasets.Value("string")}
        features = datasets.Features({**columns, "label": datasets.ClassLabel(names=names)})
        rows = [(a, b, names.index(c)) for a, b, c in ROWS_OF_THREE]
        listed = records(rows, ("premise", "hypothesis", "label"))
        return datasets.Dataset.from_list(listed, features=features)

    one, other = numbered([E, N, C]), numbered([C, N, E])
    names = write(tmp_path / "names.csv", csv_of(ROWS_OF_THREE))
    for sources in ([one, other], [other, one], [names, other], [one, names, other]):
        assert rows_of(read(sources)) == [tuple(row) for row in ROWS_OF_THREE] * len(sources)
    rows = [(a, b, i) for i, (a, b, _) in enumerate(ROWS_OF_THREE)]
    bare = write(tmp_path / "bare.csv", csv_of(rows, ("premise", "hypothesis", "label")))
    with pytest.raises(DataError, match=r"bare\.csv, line 2: label '0'"):
        read([one, bare])
    with pytest.raises(DataError, match="label-map"):
        read([bare, one])
    assert len(read([bare, bare], label_map={0: E, 1: N, 2: C}).labels) == 6


@pytest.mark.parametrize("sign", ["\t", "|", ";"])
@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x"])
def test_commas_of_few_sentences_are_no_delimiters(tmp_path, sign, name):
    rows = [("A man, old, sits.", "A man sits.", E), ("A dog, a cat, run.", "A dog runs.", C)]
    path = write(tmp_path / name, lines(rows, None, sign))
    same(read(path), rows)
    same(read(write(path, lines(rows[:1], None, sign))), rows[:1])
    if sign != ";":  # which is in sentences, too
        two = write(tmp_path / name, lines([row[:2] for row in rows], None, sign))
        assert [*pairs(two)] == [row[:2] for row in rows]


def test_a_quotation_that_spans_rows_takes_none_of_them(tmp_path):
    rows = [('"Here I am.', "He is.", E), ('So are you."', "She is.", N), ("A b.", "C d.", E)]
    same(read(write(tmp_path / "x.tsv", lines(rows))), rows)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["A man sits.", "Мальчик играет.", "一个男人在弹吉他。"])
def test_utf_16_without_a_mark_is_said(tmp_path, encoding, text):
    rows = [(text, text[::-1], E)] * 9
    path = write(tmp_path / "x.tsv", lines(rows).encode(encoding))
    with pytest.raises(DataError, match=rf"--encoding {encoding}\)"):
        read(path)
    same(read(path, encoding=encoding), rows)


def test_a_scale_from_minus_one_is_proposed_as_it_is_typed(tmp_path):
    rows = [(a, b, {E: 1, C: -1, N: 0}[c]) for a, b, c in ROWS_OF_THREE]
    path = write(tmp_path / "x.tsv", lines(rows))
    with pytest.raises(DataError, match="--label-map=-1=contradiction,0=neutral,1=entailment") as e:
        read(path)
    same(read(path, label_map=proposed_maps(str(e.value))[2]), ROWS_OF_THREE)


@pytest.mark.parametrize(
    "spelled",
    [("__label__entailment", "__label__contradiction", "__label__neutral"),
     ("0 - Entailment", "1 - Contradiction", "2 - Neutral"), ("T", "F"), ("yes", "no")],
)  # fmt: skip
def test_a_class_s_name_is_found_in_a_label(tmp_path, spelled):
    names = LABELS if len(spelled) == 3 else TWO_WAY
    rows = [(f"A man {i}.", f"A dog {i}.", names[i % len(names)]) for i in range(12)]
    odd = [("q", i % 8, a, b, spelled[names.index(c)]) for i, (a, b, c) in enumerate(rows)]
    path = write(tmp_path / "x.tsv", lines(odd, ("set", "id", "text1", "text2", "answer")))
    with pytest.raises(DataError, match="--label-column answer"):
        read(path)
    columns = {"premise": "text1", "hypothesis": "text2", "label": "answer"}
    with pytest.raises(DataError) as caught:
        read(path, **columns)
    same(read(path, **columns, label_map=proposed_maps(str(caught.value))[0]), rows, names)


def test_json_by_ids_is_rows(tmp_path):
    for columns in (COLUMNS, ("text", "claim", "label")):
        frame = pandas.DataFrame(ROWS_OF_THREE, columns=list(columns))
        for orient in ("index", "columns", "split", "records"):
            frame.to_json(tmp_path / "x.json", orient=orient)
            assert rows_of(read(tmp_path / "x.json")) == ROWS_OF_THREE


@pytest.mark.parametrize("sign", [";", ",", "\t"])
def test_titles_above_the_header_are_no_pairs(tmp_path, sign):
    above = [["My survey", "", ""], ["# of 2024"], ["", "", ""]]
    title = "".join(sign.join(row) + "\r\n" for row in above)
    path = write(tmp_path / "survey.csv", title + csv_of(ROWS_OF_THREE, sign=sign))
    corpus = read(path)
    same(corpus, ROWS_OF_THREE)
    assert any("line 4" in note for note in corpus.notes)
    assert list(pairs(path)) == [row[:2] for row in ROWS_OF_THREE]


@pytest.mark.parametrize("sign", [";", ",", "\t"])
def test_empty_rows_at_the_end_are_no_pairs(tmp_path, sign):
    path = write(
        tmp_path / "x.csv", csv_of([*ROWS_OF_THREE, ("", "", ""), ("", "", "")], sign=sign)
    )
    same(read(path), ROWS_OF_THREE)
    with pytest.raises(DataError, match="line 5"):  # above a pair it may be a lost one
        read(write(path, path.read_text() + csv_of(ROWS_OF_THREE, None, sign=sign)))


def test_a_class_that_comes_back_is_no_bad_row(tmp_path):
    rows = "".join(
        f"Satz {i}.;Ein Satz.;{'Widerspruch' if i % 3 else 'neutral'}\n" for i in range(9)
    )
    path = write(tmp_path / "t.csv", "premise;hypothesis;label\n" + rows)
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=r"Widerspruch.*--label-map") as caught:
            read(path, on_error=on_error)
        assert "skip" not in str(caught.value)
    rows += "".join(f"Satz {i}.;Ein Satz.;neutral\n" for i in range(200))
    corpus = read(
        write(
            path,
            "premise;hypothesis;label\na.;b.;wat\n" + rows.replace("Widerspruch", "entailment"),
        ),
        on_error="skip",
    )
    assert corpus.skipped == {"malformed": 1}
    assert any("'wat' in 1" in note for note in corpus.notes)


def test_columns_of_one_name_are_distinct_names_by_number(tmp_path):
    path = write(tmp_path / "t.csv", "s,s,label,label\na b,c d,contradiction,neutral\n")
    frame = pandas.read_csv(path, header=0)
    frame.columns = ["s", "s", "label", "label"]
    for source in (path, frame):
        for label, expected in ((3, "contradiction"), (4, "neutral")):
            corpus = read(source, premise=1, hypothesis=2, label=label)
            assert [*zip(*corpus[:2], strict=True)] == [("a b", "c d")]
            assert corpus.label_names[corpus.labels[0]] == expected
        with pytest.raises(DataError, match="two columns 's'"):
            read(source, premise="s", hypothesis=2, label=3)
        assert list(pairs(source, premise=2, hypothesis=1)) == [("c d", "a b")]


def test_what_is_no_source_is_told(tmp_path):
    text = "premise,hypothesis,label\na,b,neutral\n"
    frame = pandas.read_csv(io.StringIO(text))
    for source in (io.StringIO(text), io.BytesIO(text.encode())):
        with pytest.raises(DataError, match="open file; give its path"):
            read(source)
    with pytest.raises(DataError, match="data frame"):
        read(frame.premise)
    with pytest.raises(DataError, match="is text, and no path"):
        read(text * 999)


def test_a_header_of_unknown_names_under_a_title(tmp_path):
    body = "Satz A;Satz B;Urteil\n" + "".join(f"Satz {i}.;Ein Satz.;neutral\n" for i in range(5))
    for above in ("Mein Titel;;\n", "Mein Titel\n\n", "# eins; zwei; drei\n# vier\n"):
        corpus = read(write(tmp_path / "t.csv", above + body))
        assert corpus.premises == [f"Satz {i}." for i in range(5)]


def test_single_quotation_marks(tmp_path):
    text = "'premise','hypothesis','label'\n'It''s, well','b','neutral'\n'a','c','entailment'\n"
    corpus = read(write(tmp_path / "t.csv", text))
    assert corpus.premises == ["It's, well", "a"] and corpus.notes


def test_a_frame_as_a_dictionary():
    frame = pandas.DataFrame({"premise": ["a"], "hypothesis": ["b"], "label": ["neutral"]})
    assert read(frame.to_dict()) == read(frame)


def test_a_readme_of_the_hub_names_the_classes(tmp_path):
    names = "".join(f"          '{i}': {name}\n" for i, name in enumerate((E, N, C)))
    card = (
        "---\ndataset_info:\n  features:\n  - name: premise\n    dtype: string\n  - name: label\n"
        f"    dtype:\n      class_label:\n        names:\n{names}---\n# A set\n"
    )
    write(tmp_path / "README.md", card)
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "train.csv", "premise,hypothesis,label\na b,c,2\nd,e f,1\n")
    corpus = read(path)
    assert [corpus.label_names[i] for i in corpus.labels] == [C, N]
