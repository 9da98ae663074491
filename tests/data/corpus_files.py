"""Rows of sentence pairs, as files of the formats that people use."""

import csv
import io
import json

import pyarrow
import pyarrow.feather
import pyarrow.parquet

HEADER = ("sentence1", "sentence2", "gold_label")


def write(path, content):
    """Write text (as UTF-8) or bytes to a file, and make its folder; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows, header=HEADER, sign="\t"):
    """Format rows as lines without any quoting."""
    table = [*([header] if header else []), *rows]
    return "".join(sign.join(map(str, row)) + "\n" for row in table)


def csv_of(rows, header=HEADER, sign=",", end="\r\n", **options):
    """Format rows as the csv module writes them."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=sign, lineterminator=end, **options)
    writer.writerows([*([header] if header else []), *rows])
    return file.getvalue()


def records(rows, header=HEADER):
    return [dict(zip(header, row, strict=True)) for row in rows]


def jsonl(rows, header=HEADER):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records(rows, header))


def parquet(table, **options):
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, **options)
    return file.getvalue()


def feather(table, **options):
    file = io.BytesIO()
    pyarrow.feather.write_feather(table, file, **options)
    return file.getvalue()


def rows_of(corpus):
    """List a corpus's pairs: premise, hypothesis, name of the class (None without one)."""
    names = [None if label < 0 else corpus.label_names[label] for label in corpus.labels]
    return list(zip(corpus.premises, corpus.hypotheses, names, strict=True))
