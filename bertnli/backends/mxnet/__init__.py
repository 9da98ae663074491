"""bertnli on Apache MXNet."""

from bertnli.backends.interface import Backend
from bertnli.backends.mxnet.dataset import SNLIBERTDataset
from bertnli.backends.mxnet.devices import (
    as_devices,
    as_precision,
    backend_info,
    cpu,
    try_all_gpus,
    try_gpu,
)
from bertnli.backends.mxnet.engine import Trainer
from bertnli.backends.mxnet.model import BERTClassifier, BERTForPretraining, BERTModel
from bertnli.backends.mxnet.workers import find_workers

BACKEND = Backend(
    "mxnet",
    BERTModel,
    BERTClassifier,
    BERTForPretraining,
    SNLIBERTDataset,
    Trainer,
    cpu,
    try_gpu,
    try_all_gpus,
    as_devices,
    as_precision,
    find_workers,
    backend_info,
)

__all__ = ["BACKEND"]


def __dir__() -> list[str]:
    return __all__
