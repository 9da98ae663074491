"""Token ids from columns of text, a piece at a time, with pyarrow.

The ids equal those of `encode_corpus` on the same rows. `bertnli.data.arrays` gives the columns as
pyarrow arrays; `encode_columns` encodes them, several pieces at once; `Encoded.resolved` drops
unlabelled rows once the meaning of the labels of the whole file is known. Memory holds some pieces
and the ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertnli.data.arrays import BLANK, LF, NotSure, arrow_library, in_order
from bertnli.data.encode import EncodedPairs
from bertnli.data.parses import PLACEHOLDERS, sentence_of, words_of_parse
from bertnli.text.pairs import NUM_SPECIAL, truncated_lengths
from bertnli.text.tokenize import Tokens, lower_words, treebank_tokenize
from bertnli.text.vocab import Vocab

#: Chunks of text whose tokens are remembered.
MAX_CHUNKS = 1 << 16

# Byte classes of a parse. Only a bracket and a letter differ in both of the bits 0b11.
SPACE, BRACKET, LETTER, OTHER = 0, 1, 2, 4
KINDS = bytes(
    SPACE if byte in b" \n" else BRACKET if byte in b"()" else LETTER if 32 < byte < 128 else OTHER
    for byte in range(256)
)
LOWER = bytes(range(256)).lower()

Label = str | int | None


class Columns(NamedTuple):
    """The columns of sentence pairs in a piece of a table, as pyarrow arrays of strings.

    Args:
        premise_parse, hypothesis_parse: binary parses; None for a table without them.
        premise_text, hypothesis_text: sentences; of a table with parses, those that are taken where
            a parse is empty, or None.
        label: strings or integers; None for an unlabelled table.
        malformed: rows left out of the piece.
    """

    premise_parse: Any
    premise_text: Any
    hypothesis_parse: Any
    hypothesis_text: Any
    label: Any
    malformed: int = 0


class _Words(NamedTuple):
    """Sentences as ids: where the ids of each begin, and how many there are."""

    ids: NDArray[np.int32]
    begins: NDArray[np.int64]
    counts: NDArray[np.int64]

    def with_more(self, other: _Words) -> _Words:
        """Return these sentences, then others."""
        return _Words(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.begins, other.begins + len(self.ids)]),
            np.concatenate([self.counts, other.counts]),
        )


class _Piece(NamedTuple):
    """The encoded rows of a piece; ``codes`` are 0 in an unlabelled table."""

    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    premise_lens: NDArray[np.int32]
    is_cut: NDArray[np.bool_]
    codes: NDArray[np.int64]


class Encoded(NamedTuple):
    """The rows of a table as ids, before the meaning of its labels is known.

    Args:
        pieces: rows, piece by piece.
        labels: distinct raw label to number of rows, in the order of their codes (0, 1, ...); None
            for an unlabelled table.
        malformed: rows left out.
    """

    pieces: list[_Piece]
    labels: dict[Label, int] | None
    malformed: int

    @property
    def ends_empty(self) -> bool:
        """Whether both sentences of the last row are empty."""
        return bool(self.pieces) and bool((self.pieces[-1].lengths[-1:] <= NUM_SPECIAL).any())

    def resolved(
        self,
        ids_by_code: NDArray[Any] | None,
        names: Sequence[str],
        skipped: Mapping[str, int],
        source: str,
    ) -> EncodedPairs:
        """Return the labelled pairs, or all pairs of an unlabelled table.

        Args:
            ids_by_code: class id of each raw label, -1 for rows to leave out; unused where
                ``labels`` is None.
            names, skipped, source: see `EncodedPairs`.

        Raises:
            NotSure: there are rows, and all their sentences are empty.
        """
        by_code = np.asarray(ids_by_code if self.labels else [-1], np.int32)
        labels = [by_code[piece.codes] for piece in self.pieces]
        kept = [(ids >= 0) | (not self.labels) for ids in labels]

        def rows_of(parts: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
            rows = [part[which] for part, which in zip(parts, kept, strict=True)]
            return np.concatenate([np.zeros(0, dtype), *rows])

        lengths = rows_of((piece.lengths for piece in self.pieces), np.int64)
        if len(lengths) and lengths.max() <= NUM_SPECIAL:
            raise NotSure("all sentences are empty")
        token_ids, end = np.empty(lengths.sum(), np.int32), 0
        for piece, rows in zip(self.pieces, kept, strict=True):
            ids = piece.token_ids
            if not rows.all():
                ids = ids[np.repeat(rows, piece.lengths)]
            token_ids[end : end + len(ids)] = ids
            end += len(ids)
        return EncodedPairs(
            token_ids,
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            rows_of((piece.premise_lens for piece in self.pieces), np.int32),
            rows_of(labels, np.int32),
            rows_of((piece.is_cut for piece in self.pieces), np.bool_),
            tuple(names),
            dict(skipped),
            source,
        )


def encode_columns(
    batches: Iterable[Columns],
    vocab: Vocab,
    max_len: int,
    truncation: str,
    *,
    official: bool = False,
) -> Encoded:
    """Return sentence pairs as ids; see `PairDataset` for the settings.

    Args:
        batches: the table, piece by piece.
        official: keep empty sentences, as in SNLI's own files.

    Raises:
        NotSure: a sentence is missing or, unless ``official``, empty.
        DataError: the vocabulary lacks a special token.
    """
    encoder = _Encoder(vocab, max_len, truncation, official)
    pieces: list[_Piece] = []
    labels, codes = dict[Label, int](), dict[Label, int]()
    labelled, malformed = True, 0
    try:
        for piece, counts, left_out in in_order(encoder.encode, batches):
            malformed += left_out
            labelled = counts is not None
            if counts is not None:
                for label, count in counts.items():
                    labels[label] = labels.get(label, 0) + count
                    codes.setdefault(label, len(codes))
                here = np.array([codes[label] for label in counts], np.int64)
                piece = piece._replace(codes=here[piece.codes])
            pieces.append(piece)
    except encoder.arrow.ArrowException as error:  # a piece too large for int32 offsets
        raise NotSure from error
    return Encoded(pieces, labels if labelled else None, malformed)


class _Encoder:
    """Encodes pieces of a table."""

    def __init__(self, vocab: Vocab, max_len: int, truncation: str, official: bool) -> None:
        self.arrow: Any = arrow_library()
        self.special = np.array([vocab.required("<cls>"), vocab.required("<sep>")], np.int32)
        self.vocab, self.unk, self.official = vocab, vocab.unk, official
        self.max_tokens, self.truncation = max_len - NUM_SPECIAL, truncation
        self.chunk_ids = lru_cache(MAX_CHUNKS)(self._chunk_ids)

    def encode(self, piece: Columns) -> tuple[_Piece, dict[Label, int] | None, int]:
        """Return the rows of a piece, how many have each label, and how many were left out."""
        words, a = self._sentences(piece.premise_parse, piece.premise_text)
        others, b = self._sentences(piece.hypothesis_parse, piece.hypothesis_text)
        b += len(words.counts)
        words = words.with_more(others)
        len_a, len_b = words.counts[a], words.counts[b]
        if not self.official and not (len_a.all() and len_b.all()):
            raise NotSure("an empty sentence")
        is_cut = len_a + len_b > self.max_tokens
        self._cut(len_a, len_b, is_cut)
        # <cls> a <sep> b <sep> are five stretches of an array that begins with the special tokens.
        begins = np.tile(np.array([0, 0, 1, 0, 1]), (len(a), 1))
        lengths = np.ones_like(begins)
        begins[:, 1], begins[:, 3] = words.begins[a] + 2, words.begins[b] + 2
        lengths[:, 1], lengths[:, 3] = len_a, len_b
        token_ids = _gathered(
            np.concatenate([self.special, words.ids]), begins.ravel(), lengths.ravel()
        )
        codes, counts = np.zeros(len(a), np.int64), None
        if piece.label is not None:
            encoded = piece.label.dictionary_encode(null_encoding="encode")
            codes, labels = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
            numbers = np.bincount(codes, minlength=len(labels)).tolist()
            counts = dict(zip(labels, numbers, strict=True))
        encoded_piece = _Piece(token_ids, lengths.sum(1), len_a.astype(np.int32), is_cut, codes)
        return encoded_piece, counts, piece.malformed

    def _sentences(self, parses: Any, texts: Any) -> tuple[_Words, NDArray[np.int64]]:
        """Return the words of distinct sentences, and which of them each row has."""
        of_parses = parses is not None
        distinct = (parses if of_parses else texts).dictionary_encode()
        if distinct.null_count:
            raise NotSure("a missing sentence")
        which = distinct.indices.to_numpy().astype(np.int64)
        if not of_parses:
            return self._of_texts(distinct.dictionary), which
        words, is_short = self._of_parses(distinct.dictionary)
        rows = np.flatnonzero(is_short[which])
        if texts is not None and len(rows):
            both = (column.take(self.arrow.array(rows)).to_pylist() for column in (parses, texts))
            is_text = [
                not isinstance(sentence_of(*pair), Tokens) for pair in zip(*both, strict=True)
            ]
            rows = rows[np.array(is_text)]
            others, which[rows] = self._sentences(None, texts.take(self.arrow.array(rows)))
            which[rows] += len(words.counts)
            words = words.with_more(others)
        return words, which

    def _of_parses(self, parses: Any) -> tuple[_Words, NDArray[np.bool_]]:
        """Return the words of parses, and which parses may stand for none: see `sentence_of`."""
        if not self.vocab.WHOLE_WORDS:
            cleaned = [Tokens(words_of_parse(parse)) for parse in parses.to_pylist()]
            is_short = np.array([words.lower() in PLACEHOLDERS for words in cleaned], np.bool_)
            return self._of_pieces(cleaned), is_short
        text, bounds = self._joined(parses)
        kinds = np.frombuffer(text.translate(KINDS), np.uint8)
        # words_of_parse takes brackets out of words too, where one touches a word; see KINDS.
        odd = ((kinds[:-1] ^ kinds[1:]) == (BRACKET | LETTER)) | (kinds[:-1] == OTHER)
        plainly = np.unique(np.searchsorted(bounds, np.flatnonzero(odd), side="right") - 1)
        characters = np.frombuffer(text.translate(LOWER), np.uint8)
        words, which, begins, counts = self._split(characters, kinds == LETTER, bounds)
        ids = [np.array(self._lookup(words), np.int32)[which]]
        end = len(ids[0])
        for index in plainly:
            found = self._lookup(lower_words(words_of_parse(parses[index].as_py())))
            ids.append(np.array(found, np.int32))
            begins[index], counts[index] = end, len(ids[-1])
            end += len(ids[-1])
        return _Words(np.concatenate(ids), begins, counts), counts <= 1

    def _of_texts(self, texts: Any) -> _Words:
        """Return the words of raw text.

        No token spans a blank, and what stands before a blank changes the tokens after it only by
        opening or closing a double quotation. So each distinct chunk between blanks is tokenized
        once, or twice where it has such a mark.
        """
        if not self.vocab.WHOLE_WORDS:
            sentences = texts.to_pylist()
            if not self.official and not all(map(str.strip, sentences)):
                raise NotSure("an empty sentence")
            return self._of_pieces(sentences)
        text, bounds = self._joined(texts)
        characters = np.frombuffer(text, np.uint8)
        chunks, which, begins, counts = self._split(
            characters, (characters != BLANK) & (characters != LF), bounds
        )
        entries = list(map(self.chunk_ids, chunks))
        ids = [entry[0] for entry in entries]
        quoting = np.array([len(entry) > 1 for entry in entries], np.bool_)
        places = np.flatnonzero(quoting[which])
        if len(places):
            which, quoted = which.copy(), dict[int, int]()
            sentences = np.searchsorted(begins, places, side="right")
            is_open, last = False, 0
            for place, sentence in zip(places.tolist(), sentences.tolist(), strict=True):
                is_open, last = is_open and sentence == last, sentence
                chunk = int(which[place])
                after = entries[chunk][3 if is_open else 1]
                if is_open:
                    if chunk not in quoted:
                        quoted[chunk] = len(ids)
                        ids.append(entries[chunk][2])
                    which[place] = quoted[chunk]
                is_open = after
        lengths = np.array(list(map(len, ids)), np.int64)
        flat = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
        lengths_here = lengths[which]
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_here)])
        flat = _gathered(flat, (np.cumsum(lengths) - lengths)[which], lengths_here)
        return _Words(flat, ends[begins], ends[begins + counts] - ends[begins])

    def _chunk_ids(self, chunk: str) -> tuple[Any, ...]:
        """Return the ids of a chunk of text.

        For one with double quotation marks there follow: whether a quotation is open after it; the
        ids if one is open before it; and whether one is open after it then.
        """
        tokens = treebank_tokenize(chunk)
        ids = self._lookup([token.lower() for token in tokens])
        if "``" not in tokens and "''" not in tokens:
            return (ids,)
        inside = f"“ {chunk}"
        others = self._lookup([token.lower() for token in treebank_tokenize(inside)[1:]])
        # A mark after a blank opens a quotation where none is open.
        opens, opens_inside = (
            treebank_tokenize(f'{text} "x')[-2] == "''" for text in (chunk, inside)
        )
        return ids, opens, others, opens_inside

    def _of_pieces(self, sentences: Iterable[str]) -> _Words:
        """Return the word pieces of sentences."""
        ids, ends = array("i"), array("q", [0])
        for sentence in self.vocab.ids_of(sentences, False):
            ids.extend(sentence)
            ends.append(len(ids))
        bounds = np.array(ends, np.int64)
        return _Words(np.array(ids, np.int32), bounds[:-1], np.diff(bounds))

    def _joined(self, sentences: Any) -> tuple[bytes, NDArray[np.int32]]:
        """Return sentences with a line feed after each, and where each begins, and the end."""
        if not len(sentences):
            return b"", np.zeros(1, np.int32)
        lines = self.arrow.compute.binary_join_element_wise(sentences, "", "\n")
        bounds = np.frombuffer(lines.buffers()[1], np.int32, len(lines) + 1)
        return lines.buffers()[2].to_pybytes()[: bounds[-1]], bounds

    def _split(
        self,
        characters: NDArray[np.uint8],
        inside: NDArray[np.bool_],
        bounds: NDArray[np.int32],
    ) -> tuple[list[str], NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Return distinct words, which of them each word is, and each sentence's first and number.

        Args:
            characters: of all sentences, with something that is in no word after each.
            inside: whether each is in a word.
            bounds: where each sentence begins, and the end.
        """
        starts = inside.copy()
        np.greater(inside[1:], inside[:-1], out=starts[1:])
        letters = characters[inside]
        word_bounds = np.append(np.flatnonzero(starts[inside]), len(letters)).astype(np.int32)
        buffers = [None, *map(self.arrow.py_buffer, (word_bounds, letters))]
        words = self.arrow.Array.from_buffers(
            self.arrow.string(), len(word_bounds) - 1, buffers
        ).dictionary_encode()
        begins = np.searchsorted(np.flatnonzero(starts), bounds)
        which = words.indices.to_numpy()
        return words.dictionary.to_pylist(), which, begins[:-1], np.diff(begins)

    def _lookup(self, words: list[str]) -> list[int]:
        get, unk = self.vocab.token_to_idx.get, self.unk
        return [get(word, unk) for word in words]

    def _cut(
        self, len_a: NDArray[np.int64], len_b: NDArray[np.int64], is_cut: NDArray[np.bool_]
    ) -> None:
        """Reduce the lengths of long pairs to the tokens that are kept."""
        long = np.flatnonzero(is_cut)
        if len(long):
            # There are few different pairs of lengths.
            both, which = np.unique(len_a[long] << 32 | len_b[long], return_inverse=True)
            pairs = [(pair >> 32, pair & 0xFFFFFFFF) for pair in both.tolist()]
            kept = [truncated_lengths(*pair, self.max_tokens, self.truncation) for pair in pairs]
            len_a[long], len_b[long] = np.array(kept)[which].T


def _gathered(
    source: NDArray[np.int32], begins: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return stretches of an array, one after the other."""
    places = np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    places += np.arange(len(places))
    return source[places]
