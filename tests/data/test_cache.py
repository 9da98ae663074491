"""The cache of encoded corpora: used until something changes, and made again where damaged."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from bertnli.data.cache import ARRAYS, cached
from bertnli.data.corpus import Corpus
from bertnli.data.encode import encode_corpus
from bertnli.errors import DataError
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

CORPUS = Corpus(["a dog"] * 50, ["b ."] * 50, [0, 1] * 25, tokenized=True, skipped={"malformed": 2})
PAIRS = encode_corpus(CORPUS, 16, Vocab(["a", "dog", "b"], 0, RESERVED_TOKENS), "book")


class Cached:
    """A file in a folder of its own, whose ids are cached."""

    def __init__(self, folder):
        self.file, self.runs = folder / "file.tsv", 0
        self.file.write_text("some text")
        self.makes()

    def makes(self, *depends, sources=None):
        """Call `cached`; return whether it computed the ids instead of loading them."""
        before, sources = self.runs, sources or [self.file]

        def make():
            self.runs += 1
            return PAIRS

        pairs = cached(sources, list(depends), make)
        assert pairs.source == ", ".join(map(str, sources))
        for name in (*ARRAYS, "label_names", "skipped"):
            np.testing.assert_array_equal(getattr(pairs, name), getattr(PAIRS, name))
        return self.runs > before

    @property
    def entry(self):
        (entry,) = (self.file.parent / ".bertnli").iterdir()
        return entry


@pytest.fixture
def entry(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "downloads"))
    (tmp_path / "data").mkdir()
    return Cached(tmp_path / "data")


def test_it_is_used_until_something_changes(entry, monkeypatch):
    assert entry.runs == 1 and not entry.makes()
    os.utime(entry.file, (1, 1))
    copy = entry.file.with_name("copy")
    copy.write_bytes(entry.file.read_bytes())
    assert not entry.makes() and not entry.makes(sources=[copy])
    for depends in ((16,), (16, "ratio"), ("16",)):
        assert entry.makes(*depends) and not entry.makes(*depends)
    assert entry.makes(sources=[entry.file, copy]) and not entry.makes(sources=[copy, entry.file])
    stat = entry.file.stat()
    entry.file.write_text("other txt")  # of the same length and age
    os.utime(entry.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert entry.makes()
    assert not (entry.file.parent.parent / "downloads").exists()
    refused(DataError, "cannot be read", entry.makes, sources=[Path("missing")])


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "meta.json"])
def test_a_damaged_entry_is_made_again(entry, name):
    path = entry.entry / name
    content = path.read_bytes()
    middle = len(content) // 2
    bit = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (content[:-3], content + b"123", b"", b"[" * len(content), bit, None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert entry.makes() and not entry.makes()
        assert path.read_bytes() == content


def test_a_file_whose_folder_cannot_be_written(entry):
    downloads = entry.file.parent.parent / "downloads"
    shutil.rmtree(entry.file.parent / ".bertnli")
    (entry.file.parent / ".bertnli").write_text("a file, where the folder would be")
    assert entry.makes() and not entry.makes()
    assert len(list((downloads / "encoded").iterdir())) == 1
    (downloads / "encoded").rename(downloads / "moved")
    (downloads / "encoded").write_text("no folder either")
    assert entry.makes() and entry.makes()


def test_several_may_write_an_entry_at_once(entry):
    with ThreadPoolExecutor(4) as pool:
        for pairs in pool.map(lambda i: cached([entry.file], [i // 4], lambda: PAIRS), range(40)):
            np.testing.assert_array_equal(pairs.token_ids, PAIRS.token_ids)
    for folder in (entry.file.parent / ".bertnli").iterdir():
        assert len(list(folder.iterdir())) == len(ARRAYS) + 1
