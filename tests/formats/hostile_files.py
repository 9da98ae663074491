"""Small corpora and archives that would take much, and files that are none; and their places."""

import gzip
import io
import lzma
import os
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hostile_models import DEEP, MB, MODELS, Content, deflated_pickle, zip_of_many

HEAD = "gold_label\tsentence1\tsentence2\n"
CSV = b"gold_label,sentence1,sentence2\n"


def gz(raw):
    return gzip.compress(raw, 9)


def _long_gz(start, piece, count):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(start.encode())
        for _ in range(count):
            file.write(piece)
    return buffer.getvalue()


def packed_tar(pack, size):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a")
        info.size = size
        tar.addfile(info, io.BytesIO(bytes(size)))
    return pack(buffer.getvalue())


def _xz_with_a_large_dictionary(raw):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST}]
    small = lzma.compress(raw, filters=[{**filters[0], "dict_size": 1 << 20}])
    # The size of the dictionary is one byte of the block's header, whose checksum follows.
    place = small.index(b"\x21\x01", 12)
    header = bytearray(small[12 : 12 + (small[12] + 1) * 4])
    header[place - 12 + 2] = 38  # 2 GiB
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    return small[:12] + bytes(header) + small[12 + len(header) :]


def with_sentence(sentence):
    return f"{HEAD}neutral\t{sentence}\tb\n".encode()


DEEP_NAME = "{}/" + "/".join("abcdefghijklmnopqrstuvwxyzabcd")
#: Kind of folder and file of it to cases.
CASES: dict[tuple[str, str], dict[str, Content]] = MODELS | {
    ("corpus", "a.jsonl.gz"): {"one line": lambda: _long_gz('{"sentence1": "', b"a" * MB, 40)},
    ("corpus", "a.tsv.gz"): {
        "one line": lambda: _long_gz(HEAD, b"a" * MB, 40),
        "empty lines": lambda: _long_gz(HEAD, b"\n" * MB, 40),
        "nothing but zeros": lambda: _long_gz("", bytes(MB), 40),
        "packed twice": lambda: gz(_long_gz(HEAD, bytes(MB), 40)),
        "of nothing": lambda: gz(b"") * 5_000,
        "a long name": lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (2 * MB),
    },
    ("corpus", "a.csv.gz"): {
        "one field": lambda: _long_gz(CSV.decode() + 'neutral,"', b"aaaaaaa\n" * (MB // 8), 40)
    },
    ("snli.txt.gz", "snli_1.0_dev.txt.gz"): {"empty lines": lambda: _long_gz(HEAD, b"\n" * MB, 40)},
    ("corpus", "a.tsv"): {
        "columns": lambda: b"\t" * (3 * MB),
        "clitics": lambda: with_sentence("a" + "'s" * 50_000),
        "signs": lambda: with_sentence("+" * 100_000),
        "marks": lambda: with_sentence('("' * 50_000),
    },
    ("corpus", "a.csv"): {
        "columns": lambda: b"," * (3 * MB),
        "one field": lambda: CSV + b'neutral,"' + b"a b\n" * 300_000,
        "marks": lambda: CSV + b'neutral,"a\n' * 40_000,
    },
    ("corpus", "a.jsonl"): {
        "deep": lambda: (b"[" * 50_000 + b"\n") * 10,
        "lists": lambda: b"[" + b"[]," * 600_000 + b"[]]\n",
        "a huge number": lambda: b'{"gold_label": ' + b"9" * MB + b"}\n",
    },
    ("text", "a.txt.gz"): {"one line": lambda: _long_gz("", b"a" * MB, 40)},
    ("text", "a.txt"): {"marks": lambda: b". ! ? " * 100_000},
    ("run", "metrics.jsonl"): {"deep": lambda: DEEP},
    ("archive", "a.zip"): {
        "members": lambda: zip_of_many(20_000),
        "folders": lambda: zip_of_many(700, DEEP_NAME),
        "nothing but zeros": deflated_pickle,
    },
    ("archive", "a.tar"): {
        "gz, zeros": lambda: packed_tar(gz, 70 * MB),
        "xz, zeros": lambda: packed_tar(lambda raw: lzma.compress(raw, preset=0), 70 * MB),
        "xz, a dictionary of 2 GB": lambda: packed_tar(_xz_with_a_large_dictionary, MB),
    },
}


# What is no file


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def _sparse(path):
    path.touch()
    os.truncate(path, 20 << 30)


def _sparse_after(begin):
    def make(path):
        path.write_bytes(begin)
        os.truncate(path, 20 << 30)

    return make


KINDS: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/urandom"),
    "socket": _socket,
    "folder": Path.mkdir,
    "sparse": _sparse,
    "sparse after a zip's begin": _sparse_after(b"PK\3\4"),
    "sparse after a header": _sparse_after(HEAD.encode()),
    "sparse after a JSON's begin": _sparse_after(b'{"a": "'),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "empty": Path.touch,
}
#: Folder and file that must be one.
PLACES = (
    *(("hf", name) for name in ("config.json", "model.safetensors", "tokenizer.json")),
    ("hf", "tokenizer_config.json"),
    *(("hf, pieces", name) for name in ("vocab.txt", "added_tokens.json")),
    ("hf, pickled", "pytorch_model.bin"),
    *(("ours", name) for name in ("config.json", "model.safetensors", "vocab.json")),
    *(("params", name) for name in ("pretrained.params", "vocab.json", "config.json")),
    *(("gluonnlp", name) for name in ("bert_2_32_4_tiny.params", "tiny.vocab")),
    *(("corpus", f"a.{end}") for end in ("tsv", "csv", "jsonl", "tsv.gz", "jsonl.gz")),
    *((f"snli.{end}", f"snli_1.0_dev.{end}") for end in ("txt", "txt.gz", "jsonl")),
    *(("text", name) for name in ("a.txt", "a.txt.gz")),
    *(("archive", name) for name in ("a.zip", "a.tar", "a.tar.gz")),
    ("run", "metrics.jsonl"),
)


@contextmanager
def in_place(path, make):
    """Put something into a file's place, for a while."""
    before = path.read_bytes() if path.is_file() else None
    path.unlink(missing_ok=True)
    make(path)
    try:
        yield path
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
