"""Fine-tune BERT for natural language inference, on PyTorch and on Apache MXNet alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertnli.backends import available_backends, get_backend
from bertnli.backends.interface import Prediction
from bertnli.config import PRESETS, BERTConfig, TrainingConfig
from bertnli.data.corpus import Corpus
from bertnli.data.read import read
from bertnli.errors import (
    BackendError,
    BERTNLIError,
    CheckpointError,
    ConfigError,
    DataError,
    DownloadError,
    RankError,
    TrainingError,
)
from bertnli.explain import Explanation
from bertnli.hints import hinted, no_attribute
from bertnli.hub import DATA_HUB, download, download_extract, register
from bertnli.labels import LABELS
from bertnli.text.pairs import get_tokens_and_segments
from bertnli.text.tokenize import tokenize, treebank_tokenize
from bertnli.text.vocab import Vocab
from bertnli.training.history import EpochRecord, History
from bertnli.training.metrics import Metrics
from bertnli.version import __version__


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

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its classes have no names or
            others than given.
        ConfigError: the number of heads is unknown.
        BackendError: the framework, or any framework, is missing.
    """
    names = [backend] if backend is not None else available_backends()
    if not names:
        raise BackendError('no framework is installed: pip install "bertnli[torch]"')
    return get_backend(names[0]).load(path, devices, labels, num_heads)


__all__ = [
    "DATA_HUB",
    "LABELS",
    "PRESETS",
    "BERTConfig",
    "BERTNLIError",
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "Corpus",
    "DataError",
    "DownloadError",
    "EpochRecord",
    "Explanation",
    "History",
    "Metrics",
    "Prediction",
    "RankError",
    "TrainingConfig",
    "TrainingError",
    "Vocab",
    "__version__",
    "available_backends",
    "download",
    "download_extract",
    "get_backend",
    "get_tokens_and_segments",
    "load",
    "read",
    "register",
    "tokenize",
    "treebank_tokenize",
]


if not TYPE_CHECKING:  # a checker of types would take any name then

    def __getattr__(name: str) -> Any:
        raise no_attribute("bertnli", name, __all__)


def __dir__() -> list[str]:
    return __all__  # without what this file imports for itself
