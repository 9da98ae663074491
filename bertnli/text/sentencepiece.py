"""Read a model of SentencePiece, a protocol buffer, without the package sentencepiece."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bertnli._util.files import MAX_VOCAB, open_regular
from bertnli.errors import DataError

#: Types of pieces: control symbols, and symbols that the user defined.
CONTROL, USER_DEFINED = 3, 4
#: The type of a model whose pieces have probabilities, the only one that is read.
UNIGRAM = 1
#: Maximum number of pieces, of fields of a piece, and of other fields.
MAX_PIECES, MAX_FIELDS, MAX_OTHERS = 1 << 18, 4, 1 << 12


class SentencePiece(NamedTuple):
    """A model: (text, log probability, type) of each piece, the table of characters or b""."""

    pieces: list[tuple[str, float, int]]
    unknown_id: int
    charsmap: bytes


def read_sentencepiece(path: Path) -> SentencePiece:
    """Read a model such as ``spm.model``; DataError if it is damaged, or not Unigram's."""
    with open_regular(path, DataError, MAX_VOCAB) as file:
        data = file.read(MAX_VOCAB + 1)
    pieces, parts = [], {2: dict[int, Any](), 3: dict[int, Any]()}  # 2: training, 3: characters
    try:
        for number, value in _fields(data, MAX_PIECES + MAX_OTHERS):
            if number == 1:
                piece: dict[int, Any] = {2: bytes(4), 3: 1, **dict(_fields(value, MAX_FIELDS))}
                pieces.append((piece[1].decode(), *struct.unpack("<f", piece[2]), piece[3]))
            elif number in parts and not parts[number]:
                parts[number] |= dict(_fields(value, MAX_OTHERS))
        if parts[2].get(3, UNIGRAM) != UNIGRAM:
            raise ValueError(f"model_type is {parts[2][3]}, and only that of Unigram is read, 1")
        return SentencePiece(pieces, parts[2].get(40, 0), b"" + parts[3].get(2, b""))
    except (ValueError, TypeError, AttributeError, LookupError, struct.error) as error:
        raise DataError(
            f"{path}: it cannot be read as a model of SentencePiece: {error}"
        ) from error


def _fields(data: bytes, limit: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each field of a message and its value, an integer or bytes."""
    place = count = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind, count, value = key & 7, count + 1, 0
        if kind in (0, 2):
            value, place = _varint(data, place)
        if kind != 0:
            size = {1: 8, 2: value, 5: 4}.get(kind, len(data))
            place += size
        if place > len(data) or count > limit:
            raise ValueError("it is cut off, or has too many fields")
        yield key >> 3, value if kind == 0 else data[place - size : place]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the integer of up to ten bytes at a place, and the place after it."""
    value = 0
    for i in range(10):
        byte = data[place + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise ValueError("an integer has no end")
