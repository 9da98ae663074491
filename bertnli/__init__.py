"""Fine-tune BERT for natural language inference, on PyTorch and on Apache MXNet alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bertnli._util.hints import no_attribute
from bertnli.api.convert import Exported, export
from bertnli.api.describe import Lengths, Summary, lengths, summarize
from bertnli.api.evaluate import Report, evaluate
from bertnli.api.loading import load
from bertnli.api.predict import predict
from bertnli.api.runs import Run
from bertnli.api.train import pretrain, train
from bertnli.backends import available_backends, get_backend
from bertnli.bert.config import PRESETS, BERTConfig, TrainingConfig
from bertnli.bert.labels import LABELS
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
from bertnli.hub.catalogue import DATA_HUB, download, download_extract, register
from bertnli.nets.classifier import Prediction
from bertnli.nets.metrics import Metrics
from bertnli.text.pairs import get_tokens_and_segments
from bertnli.text.tokenize import tokenize, treebank_tokenize
from bertnli.text.vocab import Vocab
from bertnli.training.history import EpochRecord, History
from bertnli.version import __version__

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
    "Exported",
    "History",
    "Lengths",
    "Metrics",
    "Prediction",
    "RankError",
    "Report",
    "Run",
    "Summary",
    "TrainingConfig",
    "TrainingError",
    "Vocab",
    "__version__",
    "available_backends",
    "download",
    "download_extract",
    "evaluate",
    "export",
    "get_backend",
    "get_tokens_and_segments",
    "lengths",
    "load",
    "predict",
    "pretrain",
    "read",
    "register",
    "summarize",
    "tokenize",
    "train",
    "treebank_tokenize",
]


if not TYPE_CHECKING:  # with it, type checkers would accept any name

    def __getattr__(name: str) -> Any:
        raise no_attribute("bertnli", name, __all__)


def __dir__() -> list[str]:
    return __all__  # without the names of typing and of submodules
