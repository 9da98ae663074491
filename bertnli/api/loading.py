"""Classifiers by path, on the chosen backend or on the first that is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertnli._util.hints import hinted
from bertnli.backends import available_backends, get_backend
from bertnli.backends.interface import Backend
from bertnli.errors import BackendError
from bertnli.nets.classifier import Classifier


def backend_of(backend: str | Backend | None) -> Backend:
    """Return a backend by its name; the first that is installed for None."""
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
    """Return a saved classifier, whichever backend trained it.

    Args:
        path: the folder that ``net.save`` or ``bertnli train`` wrote; a Hugging Face folder of a
            BERT that classifies pairs; or a file of parameters, of the book's classifier or of
            GluonNLP's, with its vocabulary beside it.
        backend: ``"torch"`` or ``"mxnet"``; None for the first that is installed.
        devices: where to put it; None for a GPU if there is one.
        labels: the classes' names in the order of the logits, where it has none.
        num_heads: attention heads, where it does not tell.

    Returns:
        The backend's ``BERTClassifier``.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its classes have no names or
            others than given.
        ConfigError: the number of heads is unknown.
        BackendError: the framework, or any framework, is missing.

    Examples:
        >>> net = bertnli.load("bert.mini", backend="torch")
        >>> net.predict([("A man is asleep.", "A man is awake.")])[0].label
        'contradiction'
    """
    return backend_of(backend).load(path, devices, labels, num_heads)


def loaded(
    model: str | Path | Classifier, backend: Any = None, precision: str = "fp32", **options: Any
) -> Classifier:
    """Return a classifier that is given as such or by its path, as `load`, in a precision."""
    if isinstance(model, Classifier):
        return model
    framework = backend_of(backend)
    devices = framework.as_devices(options.pop("devices", None))
    net: Classifier = framework.load(model, devices, **options)
    net.precision, reason = framework.as_precision(precision, devices[0])
    print_precision(net.precision, reason)
    return net


def print_precision(precision: str, reason: str) -> None:
    """Print to standard error which precision is used, where there is a reason to give."""
    if reason:
        print(f"precision: {precision}, for {reason}", file=sys.stderr)
