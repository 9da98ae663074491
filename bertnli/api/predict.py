"""Classes of unlabelled pairs, from any source, as they come."""

from __future__ import annotations

import select
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.progress import LogLines
from bertnli.api.loading import loaded
from bertnli.api.sets import describe_unknown, note
from bertnli.data import read
from bertnli.errors import BERTNLIError
from bertnli.nets.classifier import Classifier, Prediction

Pair = tuple[str, str]
STANDARD_INPUT = "-"
#: Batches of a file's pairs that are sorted by length together.
BATCHES_AT_ONCE = 64


def predict(
    model: str | Path | Classifier,
    source: Any,
    split: str | None = None,
    *,
    backend: str | None = None,
    devices: Any = None,
    labels: Any = None,
    num_heads: int | None = None,
    precision: str = "fp32",
    batch_size: int = 64,
    max_len: int | None = None,
    truncation: str | None = None,
    progress: bool = True,
    **reading: Any,
) -> Iterator[Prediction]:
    """Yield the class of each pair of a source, in its order; memory does not grow with the source.

    Args:
        model: a checkpoint of any format, or a classifier.
        source, split, reading: see `bertnli.read`; labels are not looked for. Of ``"-"``, standard
            input, pairs are answered as they come.
        backend, devices, labels, num_heads, precision: of a checkpoint; see `bertnli.load`.
        batch_size, max_len, truncation: see `Classifier.predict`.
        progress: print to standard error what was guessed of the source, how far the work is, and
            how many pairs were cut or hold words that the model does not know.

    Raises:
        BERTNLIError: of a checkpoint, as `bertnli.load`; of a pair that cannot be read, as
            `bertnli.read`, after the answers to the pairs before it.
    """
    net = loaded(model, backend, devices, labels, num_heads, precision)
    how = net.encoding.overridden(max_len, truncation, net.config.max_len)
    told = {"on_note": note} if progress else {}
    pairs = read.pairs(source, split, **told, **reading)
    name = str(source) if isinstance(source, str | Path) else "the pairs"
    name = "standard input" if name == STANDARD_INPUT else name
    at_once = batch_size * (BATCHES_AT_ONCE if isinstance(source, str | Path) else 1)
    return _predictions(net, _chunks(pairs, at_once, name), batch_size, how, progress and name)


def _predictions(
    net: Classifier, chunks: Iterable[list[Pair]], batch_size: int, how: Any, name: str | bool
) -> Iterator[Prediction]:
    lines, done, num_cut = LogLines(str(name)), 0, 0
    unknown_shares = array("d")
    try:
        for chunk in chunks:
            options = {"max_len": how.max_len, "truncation": how.truncation}
            found = net.predict(chunk, batch_size=batch_size, **options)
            num_cut += sum(one.is_cut for one in found)
            unknown_shares.extend(one.unknown_share for one in found)
            yield from found
            done += len(found)
            if name:
                lines.update(done)
    finally:
        if name and num_cut:
            print(
                f"{num_cut} of {len(unknown_shares)} pairs had more than {how.max_len} tokens and "
                "were cut; --max-len sets another length",
                file=sys.stderr,
            )
        unread = describe_unknown(np.array(unknown_shares))
        if name and unread:
            print(unread, file=sys.stderr)


def _chunks(pairs: Iterable[Pair], size: int, name: str) -> Iterator[list[Pair]]:
    """Yield pairs, some at a time; those before a bad line come before its error."""
    is_stream = name == "standard input"
    chunk: list[Pair] = []
    try:
        for pair in pairs:
            chunk.append(pair)
            if len(chunk) == size or (is_stream and not _more_is_waiting()):
                yield chunk
                chunk = []
    except BERTNLIError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _more_is_waiting() -> bool:
    """Return whether standard input can be read without waiting, as far as can be told."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # not a file, or on Windows not a socket
        return not sys.stdin.isatty()
