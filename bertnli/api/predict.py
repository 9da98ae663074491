"""`bertnli.predict`: classify unlabelled pairs as they come."""

from __future__ import annotations

import select
import sys
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.progress import LogLines
from bertnli.api.loading import describe_unknown, loaded, note
from bertnli.data import read
from bertnli.errors import BERTNLIError
from bertnli.nets.classifier import Classifier, Prediction

Pair = tuple[str, str]
STANDARD_INPUT = "-"
#: Number of batches of a file whose pairs are sorted by length together.
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
    """Yield the class of each pair of a source, in order; memory does not grow with the source.

    Args:
        model: a checkpoint of any format, or a classifier.
        source, split, reading: the arguments of `bertnli.read`; labels are not read. The pairs of
            ``"-"``, standard input, are answered as they come.
        backend, devices, labels, num_heads: how a checkpoint is loaded; see `bertnli.load`.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``.
        batch_size, max_len, truncation: see `Classifier.predict`.
        progress: whether to print guesses about the source, the progress, and the number of pairs
            that were cut or have many unknown tokens to standard error.

    Raises:
        BERTNLIError: the checkpoint or a pair cannot be read; the pairs before it are answered.

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
    how: Any = {"batch_size": batch_size, **encoding.to_dict()}
    return _predictions(net, chunks, how, name if progress else "")


def _predictions(
    net: Classifier, chunks: Iterable[list[Pair]], how: dict[str, Any], name: str
) -> Iterator[Prediction]:
    """Yield the predictions for chunks of pairs; print the progress if the source has a name.

    Args:
        how: the keyword arguments of `Classifier.predict`.
    """
    lines, num_cut, unknown_shares = LogLines(name), 0, array("d")
    try:
        for chunk in chunks:
            predictions = net.predict(chunk, **how)
            num_cut += sum(prediction.is_cut for prediction in predictions)
            unknown_shares.extend(prediction.unknown_share for prediction in predictions)
            yield from predictions
            if name:
                lines.update(len(unknown_shares))
    finally:
        if name and num_cut:
            cut = f"{num_cut} of {len(unknown_shares)} pairs had more than {how['max_len']} tokens"
            print(f"{cut} and were cut; --max-len sets another length", file=sys.stderr)
        warning = describe_unknown(np.array(unknown_shares))
        if name and warning:
            print(warning, file=sys.stderr)


def _chunks(pairs: Iterable[Pair], size: int, is_stream: bool) -> Iterator[list[Pair]]:
    """Group pairs into lists of ``size``; from a stream, yield a shorter list before it blocks.

    If a pair cannot be read, the pairs before it are yielded before the error is raised.
    """
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
    """Return whether standard input can be read without waiting; True if that is unknown."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # not a file, or on Windows not a socket
        return not sys.stdin.isatty()
