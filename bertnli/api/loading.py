"""Load classifiers, read sources of pairs, and describe what was read, for the calls of `api/`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.backends import available_backends, get_backend
from bertnli.backends.interface import Backend
from bertnli.bert.config import BERTConfig
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.sources import default_split
from bertnli.errors import BackendError, ConfigError, LabelError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import read_checkpoint
from bertnli.formats.weights import locate
from bertnli.nets.classifier import Classifier
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

Result = TypeVar("Result", Corpus, PairDataset)
#: A pair with a larger share of unknown tokens gets a warning.
MANY_UNKNOWN = 1 / 3


def backend_of(backend: str | Backend | None) -> Backend:
    """Return the backend of a name; for None, the first one whose framework is installed."""
    if isinstance(backend, Backend):
        return backend
    names = [backend] if backend is not None else available_backends()
    if not names:
        raise BackendError(
            'no framework is installed: pip install "bertnli[torch]", or "bertnli[mxnet]"'
        )
    return get_backend(names[0])


@hinted()
def load(
    path: str | Path,
    backend: str | None = None,
    devices: Any = None,
    labels: Sequence[str] | None = None,
    num_heads: int | None = None,
) -> Any:
    """Load a saved classifier on any backend, whichever one trained it.

    Args:
        path: the folder that ``net.save`` or ``bertnli train`` wrote; a Hugging Face folder of a
            BERT that classifies pairs; or a parameter file of the book's or GluonNLP's classifier,
            with its vocabulary beside it.
        backend: ``"torch"`` or ``"mxnet"``; None for the first that is installed.
        devices: the devices that hold the weights; None for a GPU if there is one.
        labels: the class names in the order of the logits, if the files lack them.
        num_heads: the number of attention heads, if the files lack it.

    Returns:
        The backend's ``BERTClassifier``.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or the names of its classes are
            unknown or differ from ``labels``.
        ConfigError: the number of heads is unknown.
        BackendError: the framework is not installed.

    Examples:
        >>> net = bertnli.load("bert.mini", backend="torch")
        >>> net.predict([("A man is asleep.", "A man is awake.")])[0].label
        'contradiction'
    """
    return backend_of(backend).load(path, devices, labels, num_heads)


def loaded(
    model: str | Path | Classifier, backend: Any = None, precision: str = "fp32", **options: Any
) -> Classifier:
    """Load a classifier with `load` and set its precision; return a classifier unchanged."""
    if isinstance(model, Classifier):
        return model
    framework = backend_of(backend)
    devices = framework.as_devices(options.pop("devices", None))
    net: Classifier = framework.load(model, devices, **options)
    net.precision, reason = framework.as_precision(precision, devices[0])
    print_precision(net.precision, reason)
    return net


def print_precision(precision: str, reason: str) -> None:
    """Print to standard error a precision and why it was chosen; print nothing without a reason."""
    if reason:
        print(f"precision: {precision}, for {reason}", file=sys.stderr)


def encoding_of(
    config: BERTConfig, saved: PairEncoding | None, max_len: int | None, truncation: str | None
) -> PairEncoding:
    """Return the encoding for a model's pairs: the saved one, or else the book's.

    ``max_len`` and ``truncation`` replace its values unless they are None.
    """
    encoding = saved or PairEncoding.default(config.max_len)
    return encoding.overridden(max_len, truncation, config.max_len)


def read_tokens(path: str | Path, max_len: int | None, truncation: str | None = None) -> Checkpoint:
    """Read a checkpoint for its vocabulary, with the encoding that `encoding_of` returns."""
    checkpoint = read_checkpoint(locate(path))
    if not len(checkpoint.vocab):
        raise ConfigError(f"{path} has no vocabulary; name a checkpoint that has one")
    encoding = encoding_of(checkpoint.config, checkpoint.encoding, max_len, truncation)
    return replace(checkpoint, encoding=encoding)


def read_ids(
    source: Any,
    split: str | None,
    vocab: Vocab,
    encoding: PairEncoding,
    *,
    default: str = "dev",
    **reading: Any,
) -> PairDataset:
    """Read a source (see `bertnli.read`) and return its pairs as token ids.

    The split is ``split`` or, if that is None, ``default``. ``reading`` are further arguments of
    `bertnli.read`.
    """
    split, how = split or default_split(source, default), encoding.truncation
    return PairDataset.read(
        source, split, encoding.max_len, vocab, truncation=how, verbose=False, **reading
    )


def labelled_or_not(read: Callable[..., Result], source: Any, **options: Any) -> Result:
    """Return ``read(source, **options)``; if the classes are unknown, read it without labels.

    A note of the result says so. A stream, which cannot be read twice, raises the LabelError.
    """
    try:
        return read(source, **options)
    except LabelError as error:
        if not isinstance(source, str | Path | Mapping) or str(source).startswith(("-", "/dev/")):
            raise
        reason = f"read without classes: {error}"
    unlabelled = {k: v for k, v in options.items() if k not in ("label", "label_map")}
    result = read(source, labelled=False, **unlabelled)
    result.notes += (reason,)
    return result


def note(text: str) -> None:
    """Print a note to standard error."""
    print(f"note: {text}", file=sys.stderr)


def describe(corpus: Corpus | PairDataset) -> str:
    """Print a corpus's notes; return a line with its size, its source and the rows left out."""
    for text in corpus.notes:
        note(text)
    skipped = ", ".join(f"{n} ({reason})" for reason, n in corpus.skipped.items())
    left_out = f"; rows left out: {skipped}" if skipped else ""
    return f"{len(corpus.labels)} pairs from {corpus.source}{left_out}"


def describe_encoding(dataset: PairDataset) -> str:
    """Return a line on the number of cut pairs, with the warning of `describe_unknown`."""
    cut = (
        f"{int(dataset.is_cut.sum())} of {len(dataset)} pairs have more than {dataset.max_len} "
        f"tokens and were cut ({dataset.truncation})"
    )
    return "\n".join(filter(None, [cut, describe_unknown(dataset.unknown_shares)]))


def describe_unknown(shares: NDArray[np.float64]) -> str:
    """Return a warning about pairs with many unknown tokens, or the empty string.

    Args:
        shares: (N,) the share of each pair's tokens that the vocabulary lacks.
    """
    many = np.flatnonzero(shares > MANY_UNKNOWN)
    if not len(many):
        return ""
    if len(shares) == 1:
        return (
            f"warning: the model does not know {shares[0]:.0%} of this pair's tokens, so its "
            "answer means little"
        )
    return (
        f"warning: the model does not know more than a third of the tokens of {len(many)} of "
        f"{len(shares)} pairs (the first: pair {many[0] + 1}), so these answers mean little"
    )
