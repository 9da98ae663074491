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
            how many pairs were cut or have words that the model does not know.

    Raises:
        BERTNLIError: of a checkpoint, as `bertnli.load`; of a pair that cannot be read, as
            `bertnli.read`, after the answers to the pairs before it.

    Examples:
        >>> pairs = [("A man is asleep.", "A man is awake.")]
        >>> [prediction.label for prediction in bertnli.predict("bert.mini", pairs, progress=False)]
        ['contradiction']
    """
    net = loaded(model, backend, precision, devices=devices, labels=labels, num_heads=num_heads)
    encoding = net.encoding.overridden(max_len, truncation, net.config.max_len)
    pairs = read.pairs(source, split, **({"on_note": note} if progress else {}), **reading)
    is_stream, is_file = source == STANDARD_INPUT, isinstance(source, str | Path)
    chunks = _chunks(pairs, batch_size * (BATCHES_AT_ONCE if is_file else 1), is_stream)
    name = "standard input" if is_stream else str(source) if is_file else "the pairs"
    return _predictions(net, chunks, batch_size, encoding, name if progress else "")


def _predictions(
    net: Classifier, chunks: Iterable[list[Pair]], batch_size: int, encoding: Any, name: str
) -> Iterator[Prediction]:
    lines, num_cut, unknown_shares = LogLines(name), 0, array("d")
    try:
        for chunk in chunks:
            predictions = net.predict(
                chunk,
                batch_size=batch_size,
                max_len=encoding.max_len,
                truncation=encoding.truncation,
            )
            num_cut += sum(prediction.is_cut for prediction in predictions)
            unknown_shares.extend(prediction.unknown_share for prediction in predictions)
            yield from predictions
            if name:
                lines.update(len(unknown_shares))
    finally:
        if name and num_cut:
            print(
                f"{num_cut} of {len(unknown_shares)} pairs had more than {encoding.max_len} tokens "
                "and were cut; --max-len sets another length",
                file=sys.stderr,
            )
        warning = describe_unknown(np.array(unknown_shares))
        if name and warning:
            print(warning, file=sys.stderr)


def _chunks(pairs: Iterable[Pair], size: int, is_stream: bool) -> Iterator[list[Pair]]:
    """Yield pairs, some at a time; those before a bad line come before its error."""
    chunk: list[Pair] = []
    try:
        for pair in pairs:
            chunk.append(pair)
            if len(chunk) == size or (is_stream and not _has_input()):
                yield chunk
                chunk = []
    except BERTNLIError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _has_input() -> bool:
    """Return whether standard input can be read without waiting, as far as can be told."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # not a file, or on Windows not a socket
        return not sys.stdin.isatty()
