"""From SNLI's file to ids at once: the same as the plain way, and the cache."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bertnli
from bertnli.data import columnar
from bertnli.data.columnar import COLUMNS, encode_snli
from bertnli.data.dataset import PairDataset
from bertnli.data.encode import EncodedPairs
from bertnli.errors import BERTNLIError, ConfigError, DataError
from bertnli.text.vocab import RESERVED_TOKENS, Vocab

HEADER = ["pairID", "sentence2_binary_parse", "gold_label", "sentence1_binary_parse"]
NAME = "snli_1.0_dev.txt"
WORDS = ["a", "dog", "Dog", ".", "café", "i̇", "σ", "ss", "n't", "-lrb-", '"', "/", "\x7f", "\ud800"]
VOCAB = Vocab([*WORDS, *"bcxyz"], 0, RESERVED_TOKENS)
ARRAYS = ("token_ids", "offsets", "premise_lens", "labels", "is_cut")


def write(
    folder: Path, rows: list[tuple[str, str, str]], *, end: str = "\n", name: str = NAME
) -> Path:
    """Write (label, premise, hypothesis) rows."""
    lines = [HEADER, *([str(i), row[2], row[0], row[1]] for i, row in enumerate(rows))]
    content = "".join("\t".join(line) + end for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def plainly(folder: Path, max_len: int = 16, **options: Any) -> PairDataset:
    """What must come out."""
    corpus = bertnli.read_snli(folder, "dev", on_error=options.pop("on_error", "raise"))
    return PairDataset(corpus, max_len, VOCAB, verbose=False, **options)


def at_once(folder: Path, max_len: int = 16, vocab: Vocab = VOCAB, **options: Any) -> EncodedPairs:
    return encode_snli(folder, "dev", vocab, max_len, **options)


def assert_same(found: Any, expected: Any) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    for name in ("skipped", "source", "label_names"):
        assert getattr(found, name) == getattr(expected, name)


PLAIN_ROWS = [
    ("neutral", "( A ( dog . ) )", "( x y )"),
    ("-", "( A ( dog . ) )", "y"),
    ("entailment", "( A ( dog . ) )", "( ( x n't ) zebra )"),
    ("contradiction", "()", "( )"),
    ("neutral", "( \" ( 5' CAFÉ ) )", "(İ b) \u3000ẞ \x00 ΑΣ <sep>"),
    ("entailment", "(a) d(o)g", ") b)c(x"),
    ("neutral", "a b c " * 9, "( x ( y z ) ) " * 7),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", [NAME, NAME + ".gz"])
@pytest.mark.parametrize("piece", [1, 100, columnar.PIECE])
def test_ids_are_those_of_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, name: str, piece: int
) -> None:
    monkeypatch.setattr(columnar, "PIECE", piece)
    monkeypatch.setattr(columnar, "read_snli_file", None)  # the whole file goes the fast way
    write(tmp_path, PLAIN_ROWS, end=end, name=name)
    for max_len in (5, 16, 128):
        for rule in ("book", "ratio"):
            found = at_once(tmp_path, max_len, truncation=rule, cache=False)
            assert_same(found, plainly(tmp_path, max_len, truncation=rule))
    assert found.skipped == {"no gold label": 1}


def test_malformed_rows_are_counted_without_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*PLAIN_ROWS, ("maybe", "a", "b"), ("neutral", "a", "b\tc"), ("neutral", "a", "b")]
    write(tmp_path, rows)
    with monkeypatch.context() as patch:
        patch.setattr(columnar, "read_snli_file", None)
        found = at_once(tmp_path, on_error="skip")
    assert_same(found, plainly(tmp_path, on_error="skip"))
    assert found.skipped == {"no gold label": 1, "malformed": 2}
    with pytest.raises(DataError, match=r"snli_1\.0_dev\.txt, line 9: label 'maybe'"):
        at_once(tmp_path)


ODD = " ()\u00a0\u3000\u2028\x1c\x0b\x0c\x00\r\x7f\x85\ufeffaZéİßẞΣσKﬁ😀\"'`<>"
SENTENCE = st.one_of(
    st.lists(st.sampled_from(["(", ")", "a", "Dog", ".", "n't", "zebra", "<sep>", " "])).map(
        " ".join
    ),
    st.text(st.sampled_from(" ()ab."), max_size=8),
    st.text(st.sampled_from(ODD), max_size=8),
    st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), max_size=4),
)
LABEL = st.sampled_from([*bertnli.LABELS, *bertnli.LABELS, "-", "maybe", ""])
ROW = st.one_of(
    *[st.tuples(st.just("1"), SENTENCE, LABEL, SENTENCE)] * 4,
    st.lists(SENTENCE, max_size=6).map(tuple),
)


@st.composite
def files(draw: Any) -> bytes:
    """The bytes of a file, mostly such as one may meet."""
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\n", "\r\n", "\n\n", "\r", "\r\r\n"]]))
    text = "".join(
        "\t".join(row) + draw(st.sampled_from(ends))
        for row in [HEADER, *draw(st.lists(ROW, max_size=8))]
    )
    content = draw(st.sampled_from(["", "", "", "\ufeff"])).encode() + text.encode()
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + b"\xff" + content[place:]
    return content[:-1] if draw(st.booleans()) else content


def outcome(make: Any, *args: Any, **options: Any) -> Any:
    try:
        return make(*args, **options)
    except BERTNLIError as error:
        return type(error), str(error)


@settings(max_examples=400)
@given(
    content=files(),
    max_len=st.integers(5, 20),
    truncation=st.sampled_from(["book", "ratio"]),
    on_error=st.sampled_from(["raise", "skip"]),
    piece=st.sampled_from([1, 30, 1 << 20]),
)
@example("\t".join(HEADER).encode(), 5, "book", "raise", 30)
@example("\t".join([*HEADER, "x\r"]).encode() + b"\n", 5, "book", "raise", 30)
@example("\t".join(COLUMNS).encode() + b"\n\xef\xbb\xbfneutral\ta\tb\n", 5, "book", "raise", 30)
@example("\t".join(HEADER).encode() + b"\n\xff\ta\tneutral\tb\n", 5, "book", "raise", 30)
@example(b"gold_label\n-\n", 5, "book", "skip", 30)
@example(b"", 5, "book", "raise", 30)
def test_any_file_gives_what_the_plain_way_gives(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    max_len: int,
    truncation: str,
    on_error: str,
    piece: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / NAME).write_bytes(content)
    options = {"truncation": truncation, "on_error": on_error}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columnar, "PIECE", piece)
        found = outcome(at_once, folder, max_len, cache=False, **options)
    expected = outcome(plainly, folder, max_len, **options)
    if isinstance(expected, PairDataset):
        assert_same(found, expected)
    else:
        assert found == expected


def test_without_pyarrow_and_in_jsonl_the_plain_way_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, PLAIN_ROWS)
    expected = plainly(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert_same(at_once(tmp_path, cache=False), expected)
    (tmp_path / NAME).unlink()
    row = {"gold_label": "neutral", "sentence1": "It's a dog.", "sentence2": "A dog."}
    (tmp_path / "snli_1.0_dev.jsonl").write_text(json.dumps(row))
    for _ in range(2):
        assert_same(at_once(tmp_path), plainly(tmp_path))


def test_arguments_and_files_are_refused_as_by_the_plain_way(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dev split"):
        at_once(tmp_path)
    write(tmp_path, PLAIN_ROWS)
    with pytest.raises(ConfigError, match="max_len=3"):
        at_once(tmp_path, 3)
    with pytest.raises(ConfigError, match="on_error"):
        at_once(tmp_path, on_error="ignore")
    with pytest.raises(DataError, match="'<cls>'"):
        at_once(tmp_path, vocab=Vocab(["a"]))
    with pytest.raises(ConfigError, match="give the vocabulary"):
        PairDataset.from_snli(tmp_path, "dev", 16)
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.gz")
    with pytest.raises(DataError, match="cannot be read"):
        at_once(tmp_path)


def test_dataset_from_snli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, PLAIN_ROWS)
    expected = plainly(tmp_path)
    order = np.array([4, 0, 2])
    for _ in range(2):  # the second is memory-mapped
        found = PairDataset.from_snli(tmp_path, "dev", 16, VOCAB)
        assert capsys.readouterr().out == "read 6 examples\n"
        assert_same(found, expected)
        batch, same = found.batch(order), expected.batch(order)
        for name in ("token_ids", "segments", "valid_lens", "labels"):
            assert type(getattr(batch, name)) is np.ndarray
            assert getattr(batch, name).flags.writeable
            np.testing.assert_array_equal(getattr(batch, name), getattr(same, name))
        assert found.padded(1)[2:] == expected.padded(1)[2:]


class Cached:
    """A corpus with its ids cached, and what was encoded since."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.runs = folder, 0
        self.file = write(folder, PLAIN_ROWS)
        original = columnar._Encoder.encode

        def counted(*args: Any) -> EncodedPairs:
            self.runs += 1
            return original(*args)

        patch.setattr(columnar._Encoder, "encode", counted)
        self.encodes()

    def encodes(self, **options: Any) -> bool:
        """Encode; return whether the cache did not have it."""
        before = self.runs
        assert_same(at_once(self.folder, **options), plainly(self.folder))
        return self.runs > before

    @property
    def entry(self) -> Path:
        (entry,) = (self.folder / ".bertnli").iterdir()
        return entry


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    monkeypatch.setenv("BERTNLI_CACHE", str(tmp_path / "downloads"))
    (tmp_path / "snli").mkdir()
    return Cached(tmp_path / "snli", monkeypatch)


def test_cache_is_used_until_something_changes(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached.runs == 1
    assert not cached.encodes()
    monkeypatch.chdir(cached.folder)
    assert at_once(Path()).source == NAME and cached.runs == 1  # the same file by another name
    assert cached.encodes(cache=False)
    larger = Vocab.from_list([*VOCAB.idx_to_token, "word"])
    for options in ({"max_len": 15}, {"truncation": "ratio"}, {"on_error": "skip"}):
        before = cached.runs
        at_once(cached.folder, **options)
        at_once(cached.folder, vocab=larger, **options)
        assert cached.runs == before + 2
    stat = cached.file.stat()
    os.utime(cached.file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert cached.encodes()
    write(cached.folder, PLAIN_ROWS[:-1])
    assert cached.encodes()
    assert not (cached.folder.parent / "downloads").exists()


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "meta.json"])
@pytest.mark.parametrize(
    "damage", ["short", "long", "empty", "other", "missing", "folder", "a bit", "a late bit"]
)
def test_a_damaged_entry_is_made_anew(cached: Cached, name: str, damage: str) -> None:
    path = cached.entry / name
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        changed = {"short": content[:-3], "long": content + b"123", "empty": b""}
        for which, place in (("a bit", len(content) // 2), ("a late bit", len(content) - 4)):
            changed[which] = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes(changed.get(damage, b"[" * len(content)))
    assert cached.encodes()
    assert not cached.encodes()
    assert path.read_bytes() == content


def test_a_corpus_that_cannot_be_written_beside(cached: Cached) -> None:
    downloads = cached.folder.parent / "downloads"
    for child in cached.entry.iterdir():
        child.unlink()
    cached.entry.rmdir()
    (cached.folder / ".bertnli").rmdir()
    (cached.folder / ".bertnli").write_text("a file, where the folder would be")
    assert cached.encodes()
    assert not cached.encodes()
    assert len(list((downloads / "encoded").iterdir())) == 1
    (downloads / "encoded").rename(downloads / "moved")
    (downloads / "encoded").write_text("no folder either")
    assert cached.encodes()
    assert cached.encodes()


def test_two_processes_at_once(tmp_path: Path) -> None:
    write(tmp_path, PLAIN_ROWS * 50)
    code = (
        "import sys; from bertnli.data.columnar import encode_snli\n"
        "from bertnli.text.vocab import RESERVED_TOKENS, Vocab\n"
        "sys.stdin.readline()\n"
        "vocab = Vocab(['a', 'dog'], 0, RESERVED_TOKENS)\n"
        "for i in range(5, 15): print(encode_snli(sys.argv[1], 'dev', vocab, i).token_ids.sum())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [processes.Process(command, **pipes) for _ in range(2)]
    results = [process.finish("go\n") for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert results[0] == results[1]
    assert len(results[0][0].split()) == 10
    entries = list((tmp_path / ".bertnli").iterdir())
    assert len(entries) == 10
    assert all(len(list(entry.iterdir())) == len(ARRAYS) + 1 for entry in entries)
