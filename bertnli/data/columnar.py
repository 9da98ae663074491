"""Token ids from columns of text, several pieces at once, with pyarrow and NumPy.

The ids equal those of `encode_corpus` on the same rows. Memory holds a few pieces and the ids.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli.data.encode import EncodedPairs
from bertnli.data.parses import PLACEHOLDERS, sentence_of, words_of_parse
from bertnli.text.pairs import truncated_lengths
from bertnli.text.tokenize import Tokens, treebank_tokenize
from bertnli.text.vocab import Vocab

#: Number of threads; more need more memory, and gain little.
MAX_THREADS = 4
#: Number of chunks of text (see `_Encoder._words`) whose tokens are cached.
MAX_CHUNKS = 1 << 16
# Byte classes of a parse. Only a bracket and a letter differ in both of the bits 0b11.
SPACE, BRACKET, LETTER, OTHER = 0, 1, 2, 4
PARSE_KINDS = bytes(
    SPACE if byte in b" \n" else BRACKET if byte in b"()" else LETTER if 32 < byte < 128 else OTHER
    for byte in range(256)
)
TEXT_KINDS = bytes(SPACE if byte in b" \n" else LETTER for byte in range(256))
LOWER = bytes(range(256)).lower()

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")


class NotSure(Exception):
    """Raised by the columnar reader when a source must be read row by row instead."""


class Columns(NamedTuple):
    """The columns of sentence pairs in a piece of a table, as pyarrow arrays.

    Args:
        premise_parse, hypothesis_parse: binary parses; None for a table without them.
        premise_text, hypothesis_text: sentences, used where a parse is empty; None for a table
            without them.
        label: strings or int64; None for an unlabelled table.
        malformed: the number of rows that were left out.
    """

    premise_parse: Any
    premise_text: Any
    hypothesis_parse: Any
    hypothesis_text: Any
    label: Any
    malformed: int = 0


#: A function that parses a piece of a table; a thread calls it.
Piece = Callable[[], Columns]


class _Words(NamedTuple):
    """The token ids of sentences: sentence i is ``ids[begins[i] : begins[i] + counts[i]]``."""

    ids: Int32s
    begins: Int64s
    counts: Int64s

    def __add__(self, other: Any) -> _Words:
        return _Words(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.begins, other.begins + len(self.ids)]),
            np.concatenate([self.counts, other.counts]),
        )


class _Rows(NamedTuple):
    """The encoded rows of a piece of a table.

    ``labels`` is a dictionary of each distinct label to its number of rows, and ``codes`` (rows,)
    has the position of each row's label among its keys.
    """

    token_ids: Int32s
    lengths: Int64s
    premise_lens: Int32s
    is_cut: NDArray[np.bool_]
    codes: Int64s
    labels: Counter[str | int | None] | None
    malformed: int


class Encoded:
    """The rows of a table as ids, before the meaning of its labels is known.

    Attributes:
        labels: dictionary of each label to its number of rows; None for an unlabelled table.
        malformed: the number of rows that were left out.
        num_special: the number of special tokens of a pair.
    """

    def __init__(self, pieces: Iterable[_Rows], num_special: int) -> None:
        self.pieces, self.num_special = list(pieces), num_special
        self.malformed = sum(piece.malformed for piece in self.pieces)
        if self.pieces and (self.pieces[-1].lengths[-1:] <= num_special).any():
            raise NotSure("rows of empty fields at the end do not count")
        labels = [piece.labels for piece in self.pieces if piece.labels is not None]
        total: Counter[str | int | None] = Counter()
        for counts in labels:
            total.update(counts)
        self.labels = total if labels else None

    def resolved(self, ids: Sequence[int]) -> EncodedPairs:
        """Concatenate the rows as encoded pairs.

        Args:
            ids: the class id of each of `labels`, in order; rows with a negative id are left out.
        """
        id_of = dict(zip(self.labels or (), ids, strict=True))
        kinds = (np.int32, np.int64, np.int32, np.int32, np.bool_)
        columns: list[list[NDArray[Any]]] = [[np.zeros(0, kind)] for kind in kinds]
        while self.pieces:
            piece = self.pieces.pop(0)
            labels = np.array([id_of[label] for label in piece.labels or ()] or [-1], np.int32)
            labels = labels[piece.codes]
            kept = (labels >= 0) | (self.labels is None)
            tokens = slice(None) if kept.all() else np.repeat(kept, piece.lengths)
            rows = (piece.lengths, piece.premise_lens, labels, piece.is_cut)
            values = piece.token_ids[tokens], *(column[kept] for column in rows)
            for column, added in zip(columns, values, strict=True):
                column.append(added)
        joined: list[Any] = list(map(np.concatenate, columns))
        token_ids, lengths, *others = joined
        if len(lengths) and lengths.max() <= self.num_special:
            raise NotSure("all sentences are empty")
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return EncodedPairs(token_ids, offsets, *others)


def encode_pieces(
    pieces: Iterable[Piece], vocab: Vocab, max_len: int, truncation: str, official: bool = False
) -> Encoded:
    """Encode the sentence pairs of a table.

    Args:
        pieces: functions that parse the pieces of the table, in order.
        vocab, max_len, truncation: see `PairDataset`.
        official: whether sentences may be empty, as some in SNLI are.
    """
    encoder = _Encoder(vocab, max_len, truncation, official)
    try:
        rows = in_order(lambda piece: encoder.encode(piece()), pieces)
        return Encoded(rows, vocab.num_special)
    except encoder.arrow.ArrowException as error:  # such as text too large for int32
        raise NotSure from error


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items in several threads; yield the results in the order of the items."""
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def arrow_library() -> Any:
    """Import pyarrow; NotSure if it is missing."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
    except ImportError:
        raise NotSure("there is no pyarrow") from None
    return pyarrow


class _Encoder:
    def __init__(self, vocab: Vocab, max_len: int, truncation: str, official: bool) -> None:
        self.arrow: Any = arrow_library()
        cls, sep = vocab.required("<cls>"), vocab.required("<sep>")
        self.special = np.array([cls, *[sep] * vocab.separators], np.int32)
        self.vocab, self.official = vocab, official
        self.limits = max_len - vocab.num_special, truncation
        self.chunk_ids = lru_cache(MAX_CHUNKS)(self._chunk_ids)

    def encode(self, piece: Columns) -> _Rows:
        """Encode the rows of a piece of a table."""
        premises, a = self._sentences(piece.premise_parse, piece.premise_text)
        hypotheses, b = self._sentences(piece.hypothesis_parse, piece.hypothesis_text)
        words, b = premises + hypotheses, b + len(premises.counts)
        len_a, len_b = words.counts[a], words.counts[b]
        if not self.official and not (len_a.all() and len_b.all()):
            raise NotSure("an empty sentence")
        is_cut = len_a + len_b > self.limits[0]
        for row in np.flatnonzero(is_cut):
            len_a[row], len_b[row] = truncated_lengths(len_a[row], len_b[row], *self.limits)
        # <cls> a <sep> b <sep> are five ranges of an array that begins with the special tokens.
        begins = np.tile(np.array([0, 0, 1, 0, 1]), (len(a), 1))
        lengths = np.tile(np.array([1, 0, len(self.special) - 1, 0, 1]), (len(a), 1))
        begins[:, 1] = words.begins[a] + len(self.special)
        begins[:, 3] = words.begins[b] + len(self.special)
        lengths[:, 1], lengths[:, 3] = len_a, len_b
        ids = np.concatenate([self.special, words.ids])
        token_ids = _ranges(ids, begins.ravel(), lengths.ravel())
        codes, labels = np.zeros(len(a), np.int64), None
        if piece.label is not None:
            encoded = piece.label.dictionary_encode(null_encoding="encode")
            codes = encoded.indices.to_numpy()
            counts = np.bincount(codes).tolist()
            labels = Counter(dict(zip(encoded.dictionary.to_pylist(), counts, strict=True)))
        rows = token_ids, lengths.sum(1), len_a.astype(np.int32), is_cut
        return _Rows(*rows, codes, labels, piece.malformed)

    def _sentences(self, parses: Any, texts: Any) -> tuple[_Words, Int64s]:
        """Encode the distinct sentences, and return the index of each row's sentence among them."""
        is_parse = parses is not None
        distinct = (parses if is_parse else texts).dictionary_encode()
        if distinct.null_count:
            raise NotSure("a missing sentence")
        which = distinct.indices.to_numpy().astype(np.int64)
        words, may_be_missing = self._words(distinct.dictionary, is_parse)
        rows = np.flatnonzero(may_be_missing[which]) if is_parse and texts is not None else ()
        if len(rows):
            both = (column.take(self.arrow.array(rows)).to_pylist() for column in (parses, texts))
            sentences = map(sentence_of, *both)
            rows = rows[np.array([not isinstance(text, Tokens) for text in sentences])]
            others, which[rows] = self._sentences(None, texts.take(self.arrow.array(rows)))
            which[rows] += len(words.counts)
            words += others
        return words, which

    def _words(self, sentences: Any, is_parse: bool) -> tuple[_Words, NDArray[np.bool_]]:
        """Encode sentences; also return (sentences,) bool, whether a parse may be empty, see
        `sentence_of`.

        A sentence is split at blanks, and each distinct chunk is tokenized once. In two cases the
        sentence must be tokenized at once: double quotation marks of text, which open or close
        depending on those before; and brackets of a parse that touch a word.
        """
        if not self.vocab.WHOLE_WORDS:
            texts, words = self._singly(sentences, is_parse)
            if not is_parse and not self.official and not all(map(str.strip, texts)):
                raise NotSure("an empty sentence")
            return words, np.array([text.lower() in PLACEHOLDERS for text in texts], np.bool_)
        text, bounds = self._joined(sentences)
        kinds = np.frombuffer(text.translate(PARSE_KINDS if is_parse else TEXT_KINDS), np.uint8)
        characters = np.frombuffer(text.translate(LOWER) if is_parse else text, np.uint8)
        chunks, which, begins, counts = self._split(characters, kinds == LETTER, bounds)
        if is_parse:
            flat = np.array(self._lookup(chunks), np.int32)[which]
            odd = ((kinds[:-1] ^ kinds[1:]) == (BRACKET | LETTER)) | (kinds[:-1] == OTHER)
            places = np.searchsorted(bounds, np.flatnonzero(odd), side="right") - 1
        else:
            entries = list(map(self.chunk_ids, chunks))
            lengths = np.array([len(ids) for ids, _ in entries], np.int64)
            ids = np.fromiter(chain.from_iterable(ids for ids, _ in entries), np.int32)
            has_quote = np.array([quote for _, quote in entries], np.bool_)
            places = np.searchsorted(begins, np.flatnonzero(has_quote[which]), side="right") - 1
            flat = _ranges(ids, (np.cumsum(lengths) - lengths)[which], lengths[which])
            ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[which])])
            begins, counts = ends[begins], ends[begins + counts] - ends[begins]
        places = np.unique(places)
        _, words = self._singly(sentences.take(self.arrow.array(places)), is_parse)
        begins[places], counts[places] = words.begins + len(flat), words.counts
        return _Words(np.concatenate([flat, words.ids]), begins, counts), counts <= 1

    def _chunk_ids(self, chunk: str) -> tuple[list[int], bool]:
        """Return the token ids of a chunk of text, and whether it has a double quotation mark."""
        tokens = treebank_tokenize(chunk)
        return self._lookup(map(str.lower, tokens)), "``" in tokens or "''" in tokens

    def _singly(self, sentences: Any, is_parse: bool) -> tuple[list[str], _Words]:
        """Encode sentences one at a time; return their words, joined by spaces, and ids."""
        texts = sentences.to_pylist()
        if is_parse:
            texts = [Tokens(words_of_parse(parse)) for parse in texts]
        ids, lengths = array("i"), array("q")
        for sentence in self.vocab.ids_of(texts, False):
            ids.extend(sentence)
            lengths.append(len(sentence))
        counts = np.array(lengths, np.int64)
        return texts, _Words(np.array(ids, np.int32), np.cumsum(counts) - counts, counts)

    def _joined(self, sentences: Any) -> tuple[bytes, Int32s]:
        """Join sentences as bytes, with a line feed after each; also return their start offsets.

        The last offset is the end.
        """
        if not len(sentences):
            return b"", np.zeros(1, np.int32)
        lines = self.arrow.compute.binary_join_element_wise(sentences, "", "\n")
        bounds = np.frombuffer(lines.buffers()[1], np.int32, len(lines) + 1)
        return lines.buffers()[2].to_pybytes()[: bounds[-1]], bounds

    def _split(
        self, characters: NDArray[np.uint8], inside: NDArray[np.bool_], bounds: Int32s
    ) -> tuple[list[str], Int32s, Int64s, Int64s]:
        # Returns the distinct words; the index of each word among them; for each sentence, the
        # number of words before it, and in it.
        starts = inside.copy()
        np.greater(inside[1:], inside[:-1], out=starts[1:])
        letters = characters[inside]
        word_bounds = np.append(np.flatnonzero(starts[inside]), len(letters)).astype(np.int32)
        buffers = [None, *map(self.arrow.py_buffer, (word_bounds, letters))]
        words = self.arrow.Array.from_buffers(self.arrow.string(), len(word_bounds) - 1, buffers)
        words = words.dictionary_encode()
        begins = np.searchsorted(np.flatnonzero(starts), bounds)
        which = words.indices.to_numpy()
        return words.dictionary.to_pylist(), which, begins[:-1], np.diff(begins)

    def _lookup(self, words: Iterable[str]) -> list[int]:
        get, unk = self.vocab.token_to_idx.get, self.vocab.unk
        return [get(word, unk) for word in words]


def _ranges(values: Int32s, begins: Int64s, lengths: Int64s) -> Int32s:
    """Concatenate ``values[begins[i] : begins[i] + lengths[i]]`` for all i."""
    places = np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    places += np.arange(len(places))
    return values[places]
