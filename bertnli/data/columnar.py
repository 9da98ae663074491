"""From SNLI's 14-column file to token ids, column by column, in pieces of the file.

What comes out is what the plain way gives (`read_snli`, then `encode_corpus`), faster. It goes in
pieces of whole lines, so that memory holds some pieces and the ids. Parses of plain ASCII are cut
into words with NumPy; any other, and texts that stand for empty parses, go through the plain way's
own functions. A file with
something that pyarrow might read in another way (`NotSure`) is read the plain way from its start,
and its errors are that way's own.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.data.cache import cached
from bertnli.data.corpus import MALFORMED, NO_LABEL, check_on_error
from bertnli.data.encode import EncodedPairs, encode_corpus
from bertnli.data.lines import open_binary
from bertnli.data.parses import HYPOTHESIS, PREMISE, sentence_of, words_of_parse
from bertnli.data.snli import LABEL, find_split, read_snli_file
from bertnli.labels import LABELS
from bertnli.text.pairs import NUM_SPECIAL, check_truncation, truncated_lengths
from bertnli.text.tokenize import Tokens, lower_tokens, lower_words
from bertnli.text.vocab import Vocab

#: Bytes of the file that are worked on at a time, by each thread.
PIECE = 8 << 20
#: More threads than this need more memory, and gain little.
MAX_THREADS = 4
NO_IDS = np.zeros(0, np.int32)
#: The columns that must be there, and those of text that stands for empty parses.
COLUMNS = (LABEL, PREMISE.preferred, HYPOTHESIS.preferred)
TEXTS = (PREMISE.text, HYPOTHESIS.text)
BOM = b"\xef\xbb\xbf"

# What a byte is in a parse. No two but a bracket and a letter differ in the bits 0b11.
SPACE, BRACKET, LETTER, OTHER = 0, 1, 2, 4
KINDS = bytes(
    SPACE if byte in b" \n" else BRACKET if byte in b"()" else LETTER if 32 < byte < 128 else OTHER
    for byte in range(256)
)
LOWER = bytes(range(256)).lower()


class NotSure(Exception):
    """Something in the file that the plain way might read differently."""


class _Words(NamedTuple):
    """Sentences as ids: of each, where its words begin and how many they are."""

    ids: NDArray[np.int32]
    begins: NDArray[np.int64]
    counts: NDArray[np.int64]


class _Piece(NamedTuple):
    """What a piece of the file gives."""

    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    premise_lens: NDArray[np.int32]
    labels: NDArray[np.int32]
    is_cut: NDArray[np.bool_]
    skipped: Counter[str]


def encode_snli(
    data_dir: str | Path,
    split: str | bool,
    vocab: Vocab,
    max_len: int,
    *,
    truncation: str = "book",
    on_error: str = "raise",
    cache: bool = True,
) -> EncodedPairs:
    """Return one split of SNLI's official files as token ids.

    The result is that of `read_snli` and `PairDataset`. With pyarrow (the extra ``fast``) a file in
    14 columns is read column by column; without it, in another format, or with a vocabulary of word
    pieces, the plain way.

    Args:
        data_dir, split, on_error: see `read_snli`.
        vocab, max_len, truncation: see `PairDataset`.
        cache: keep the ids beside the corpus (else in the folder of downloads), and take them from
            there, memory-mapped, if nothing that they depend on has changed.

    Raises:
        ConfigError, DataError: as `read_snli` and `PairDataset`.
    """
    check_truncation(max_len, truncation)
    check_on_error(on_error)
    path = find_split(data_dir, split)

    def encode() -> EncodedPairs:
        try:
            return _Encoder(vocab, max_len, truncation, on_error).encode(path)
        except NotSure:
            return encode_corpus(read_snli_file(path, on_error), max_len, vocab, truncation)

    if not cache:
        return encode()
    depends = [vocab.definition(), int(max_len), truncation, on_error, LABELS]
    return cached(path, depends, encode)


class _Encoder:
    """Encodes files with settings that stay the same."""

    def __init__(self, vocab: Vocab, max_len: int, truncation: str, on_error: str) -> None:
        try:
            import pyarrow
            import pyarrow.compute
            import pyarrow.csv
        except ImportError:
            raise NotSure("there is no pyarrow") from None
        if not vocab.WHOLE_WORDS:
            raise NotSure("word pieces are cut by their own library")
        self.pyarrow: Any = pyarrow
        self.special = np.array([vocab.required("<cls>"), vocab.required("<sep>")], np.int32)
        self.unk, self.token_to_idx = vocab.unk, vocab.token_to_idx
        self.max_tokens, self.truncation = max_len - NUM_SPECIAL, truncation
        self.on_error = on_error

    def encode(self, path: Path) -> EncodedPairs:
        """Return the pairs of a file in 14 columns.

        Raises:
            NotSure: it has another format, or something in it may be read in two ways.
        """
        if ".jsonl" in path.name:
            raise NotSure("not in columns")
        try:
            with open_binary(path) as file:
                names = file.readline().decode("utf-8-sig").rstrip("\r\n").split("\t")
                if any("\r" in name for name in names) or len({*names}) < len(names):
                    raise NotSure("the plain way says what is wrong with the header")
                places = [names.index(column) for column in COLUMNS]
                places += [names.index(column) for column in TEXTS if column in names]
                if len(places) == len(COLUMNS) + 1:
                    raise NotSure("one sentence has a text, and the other has none")
                pieces = list(self._pieces(file, len(names), places))
        except (OSError, EOFError, zlib.error, ValueError, self.pyarrow.ArrowException) as error:
            # Unreadable, not UTF-8, without the columns, or with rows of other lengths.
            raise NotSure from error
        lengths = np.concatenate([np.zeros(1, np.int64), *(piece.lengths for piece in pieces)])
        if len(lengths) > 1 and lengths.max() <= NUM_SPECIAL:
            raise NotSure("all sentences are empty, which the plain way says")
        return EncodedPairs(
            np.concatenate([NO_IDS, *(piece.token_ids for piece in pieces)]),
            np.cumsum(lengths),
            np.concatenate([NO_IDS, *(piece.premise_lens for piece in pieces)]),
            np.concatenate([NO_IDS, *(piece.labels for piece in pieces)]),
            np.concatenate([np.zeros(0, np.bool_), *(piece.is_cut for piece in pieces)]),
            LABELS,
            dict(sum((piece.skipped for piece in pieces), Counter())),
            str(path),
        )

    def _pieces(self, file: IO[bytes], width: int, places: list[int]) -> Iterator[_Piece]:
        """Yield what each piece of the file gives, in order; several are worked on at a time."""
        threads = min(os.cpu_count() or 1, MAX_THREADS)
        pending: deque[Future[_Piece]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            while piece := file.read(PIECE) + file.readline():
                pending.append(pool.submit(self._piece, piece, width, places))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _piece(self, piece: bytes, width: int, places: list[int]) -> _Piece:
        (label, *columns), malformed = self._columns(piece, width, places)
        parses, texts = columns[:2], columns[2:]
        premise = parses[0].dictionary_encode()  # each stands in three rows, most often
        label_ids, skipped = _label_ids(label)
        skipped[MALFORMED] += malformed
        if skipped[MALFORMED] and self.on_error == "raise":
            raise NotSure("the plain way's error names the line")
        rows = np.flatnonzero(label_ids >= 0)
        words = self._word_ids(self.pyarrow.concat_arrays([premise.dictionary, parses[1]]))
        a = premise.indices.to_numpy()[rows]
        b = len(premise.dictionary) + rows
        for which, *columns in zip((a, b), parses, texts, strict=False):
            words = self._with_texts(words, which, rows, *columns)
        ids, begins, counts = words
        is_cut = counts[a] + counts[b] > self.max_tokens
        kept_a, kept_b = self._cut(counts[a], counts[b], is_cut)
        token_ids, lengths = self._laid_out(ids, begins[a], kept_a, begins[b], kept_b)
        return _Piece(
            token_ids,
            lengths,
            kept_a.astype(np.int32),
            label_ids[rows].astype(np.int32),
            is_cut,
            +skipped,
        )

    def _columns(self, piece: bytes, width: int, places: list[int]) -> tuple[list[Any], int]:
        """Return the columns of whole lines, and how many lines were malformed."""
        if not piece.isascii():
            piece.decode("utf-8")  # also of the columns that are not read
        if piece.count(b"\r") != piece.count(b"\r\n") or piece.startswith(BOM):
            raise NotSure("pyarrow takes a lone CR for a line end, and a first BOM for nothing")
        malformed = 0

        def leave_out(row: Any) -> str:
            nonlocal malformed
            malformed += 1
            return "skip" if self.on_error == "skip" else "error"

        csv = self.pyarrow.csv
        wanted = [str(place) for place in places]
        table = csv.read_csv(
            self.pyarrow.BufferReader(piece),
            csv.ReadOptions(
                use_threads=False,
                block_size=len(piece) + 1,
                column_names=[str(place) for place in range(width)],
            ),
            csv.ParseOptions(
                delimiter="\t", quote_char=False, escape_char=False, invalid_row_handler=leave_out
            ),
            csv.ConvertOptions(
                check_utf8=False,
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, self.pyarrow.string()),
                strings_can_be_null=False,
            ),
        )
        columns = [self.pyarrow.concat_arrays(table.column(name).chunks) for name in wanted]
        return columns, malformed

    def _word_ids(self, sentences: Any) -> _Words:
        """Return the words of parses."""
        lines = self.pyarrow.compute.binary_join_element_wise(sentences, "", "\n")
        bounds = np.frombuffer(lines.buffers()[1], np.int32, len(lines) + 1)
        text = lines.buffers()[2].to_pybytes()[: bounds[-1]]
        kinds = np.frombuffer(text.translate(KINDS), np.uint8)
        letters = kinds == LETTER
        # The plain way takes brackets out of words too, where one touches a word; see KINDS.
        odd = ((kinds[:-1] ^ kinds[1:]) == (BRACKET | LETTER)) | (kinds[:-1] == OTHER)
        plain_way = np.unique(np.searchsorted(bounds, np.flatnonzero(odd), side="right") - 1)
        starts = letters.copy()
        np.greater(letters[1:], letters[:-1], out=starts[1:])

        characters = np.frombuffer(text, np.uint8)[letters].tobytes().translate(LOWER)
        word_bounds = np.append(np.flatnonzero(starts[letters]), len(characters)).astype(np.int32)
        buffers = [None, *map(self.pyarrow.py_buffer, (word_bounds, characters))]
        words = self.pyarrow.Array.from_buffers(
            self.pyarrow.string(), len(word_bounds) - 1, buffers
        ).dictionary_encode()
        distinct = self._lookup(words.dictionary.to_pylist())
        ids = [distinct[words.indices.to_numpy()]]

        begins = np.searchsorted(np.flatnonzero(starts), bounds)
        begins, counts = begins[:-1], np.diff(begins)
        end = len(ids[0])
        for index in plain_way:
            ids.append(self._lookup(lower_words(words_of_parse(sentences[index].as_py()))))
            begins[index], counts[index] = end, len(ids[-1])
            end += len(ids[-1])
        return _Words(np.concatenate(ids), begins, counts)

    def _with_texts(
        self, words: _Words, which: NDArray[np.int64], rows: NDArray[np.int64], *columns: Any
    ) -> _Words:
        """Return the words with those of texts added, for parses that are empty.

        Args:
            words: of the parses.
            which: of each row, which words it has; changed for those that take the text's.
            rows: of the columns.
            columns: of parses and of texts.
        """
        ids, places = [words.ids], dict[str, int]()
        for i in np.flatnonzero(words.counts[which] <= 1):  # none, or perhaps a placeholder
            sentence = sentence_of(*(column[int(rows[i])].as_py() for column in columns))
            if isinstance(sentence, Tokens):
                continue
            if sentence not in places:
                places[sentence] = len(words.counts) + len(places)
                ids += map(self._lookup, lower_tokens([sentence], False))
            which[i] = places[sentence]
        counts = np.array([len(one) for one in ids])
        begins = np.cumsum(counts)[:-1]
        return _Words(
            np.concatenate(ids),
            np.concatenate([words.begins, begins]),
            np.concatenate([words.counts, counts[1:]]),
        )

    def _lookup(self, words: list[str]) -> NDArray[np.int32]:
        get, unk = self.token_to_idx.get, self.unk
        return np.array([get(word, unk) for word in words], np.int32)

    def _cut(
        self, len_a: NDArray[np.int64], len_b: NDArray[np.int64], is_cut: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many tokens of each sentence are kept."""
        long = np.flatnonzero(is_cut)
        if len(long):
            # There are few different pairs of lengths.
            both, which = np.unique(len_a[long] << 32 | len_b[long], return_inverse=True)
            kept = np.array(
                [
                    truncated_lengths(n >> 32, n & 0xFFFFFFFF, self.max_tokens, self.truncation)
                    for n in both.tolist()
                ]
            )
            len_a[long], len_b[long] = kept[which].T
        return len_a, len_b

    def _laid_out(
        self,
        ids: NDArray[np.int32],
        begin_a: NDArray[np.int64],
        len_a: NDArray[np.int64],
        begin_b: NDArray[np.int64],
        len_b: NDArray[np.int64],
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of ``<cls> a <sep> b <sep>`` of each pair, and how many they are."""
        # Five stretches a pair, of an array that begins with the two special tokens.
        source = np.concatenate([self.special, ids])
        begins = np.tile(np.array([0, 0, 1, 0, 1]), (len(len_a), 1))
        lengths = np.ones_like(begins)
        begins[:, 1], begins[:, 3] = begin_a + 2, begin_b + 2
        lengths[:, 1], lengths[:, 3] = len_a, len_b
        flat = lengths.ravel()
        ends = np.cumsum(flat)
        places = np.repeat(begins.ravel() - (ends - flat), flat)
        places += np.arange(len(places))
        return source[places], lengths.sum(1)


def _label_ids(label: Any) -> tuple[NDArray[np.int64], Counter[str]]:
    """Return each row's class id, -1 for one that is left out, and how many are, by reason."""
    encoded = label.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    which = encoded.indices.to_numpy()
    skipped: Counter[str] = Counter()
    for name, rows in zip(names, np.bincount(which, minlength=len(names)).tolist(), strict=True):
        if name not in LABELS:
            skipped[NO_LABEL if name == "-" else MALFORMED] += rows
    ids = np.array([LABELS.index(name) if name in LABELS else -1 for name in names])
    return ids[which], skipped
