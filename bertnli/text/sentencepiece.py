"""Read a model of SentencePiece, a protocol buffer, without the package sentencepiece."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bertnli._util.files import MAX_VOCAB, open_regular
from bertnli.errors import DataError

#: Types of pieces: control symbols, and symbols that the user defined.
CONTROL, USER_DEFINED = 3, 4
#: The type of a model whose pieces have probabilities, the only one that is read.
UNIGRAM = 1
#: Maximum number of pieces, and bytes of a piece.
MAX_PIECES, MAX_PIECE = 1 << 19, 256


class Piece(NamedTuple):
    """A piece, the logarithm of its probability, and its type."""

    text: str
    score: float
    type: int


class SentencePiece(NamedTuple):
    """A model's pieces in the order of their ids, and its table of characters, perhaps empty."""

    pieces: list[Piece]
    unknown_id: int
    charsmap: bytes


def read_sentencepiece(path: Path) -> SentencePiece:
    """Read a model such as ``spm.model``.

    Raises:
        DataError: the file cannot be read, is damaged, or is not a Unigram model.
    """
    with open_regular(path, DataError, MAX_VOCAB) as file:
        data = memoryview(file.read(MAX_VOCAB + 1))
    try:
        return _parsed(data)
    except (ValueError, struct.error) as error:
        raise DataError(f"{path}: not a model of SentencePiece: {error}") from error


def _parsed(data: memoryview) -> SentencePiece:
    pieces, kind, unknown_id, charsmap = list[Piece](), UNIGRAM, 0, b""
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_bytes(value)))
        elif number == 2:  # how it was trained
            for inner, setting in _fields(_bytes(value)):
                kind = setting if inner == 3 and isinstance(setting, int) else kind
                unknown_id = setting if inner == 40 and isinstance(setting, int) else unknown_id
        elif number == 3:  # how it changes characters
            for inner, setting in _fields(_bytes(value)):
                charsmap = bytes(_bytes(setting)) if inner == 2 else charsmap
        if len(pieces) > MAX_PIECES:
            raise ValueError(f"more than {MAX_PIECES:,} pieces")
    if kind != UNIGRAM or not pieces:
        raise ValueError(
            f"{len(pieces)} pieces, and model_type is {kind}; only Unigram's 1 is read"
        )
    return SentencePiece(pieces, unknown_id, charsmap)


def _piece(data: memoryview) -> Piece:
    text, score, type = b"", 0.0, 1
    for number, value in _fields(data):
        if number == 1:
            text = bytes(_bytes(value))
        elif number == 2:
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3 and isinstance(value, int):
            type = value
    if len(text) > MAX_PIECE or not -1e30 < score < 1e30:
        raise ValueError(f"a piece of {len(text)} bytes with the score {score}")
    return Piece(text.decode(), score, type)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number of each field of a message and its value, an integer or bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind, size = key & 7, 0
        if kind == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if size > len(data) - place:
            raise ValueError("it is cut off")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the integer of up to ten bytes at a place, and the place after it."""
    value = 0
    for i, byte in enumerate(data[place : place + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise ValueError("an integer without an end")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of bytes")
    return value
