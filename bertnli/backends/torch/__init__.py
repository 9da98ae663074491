"""bertnli on PyTorch."""

from bertnli.backends.interface import Backend
from bertnli.backends.torch.dataset import SNLIBERTDataset
from bertnli.backends.torch.devices import (
    as_devices,
    as_precision,
    backend_info,
    cpu,
    try_all_gpus,
    try_gpu,
)
from bertnli.backends.torch.engine import Trainer
from bertnli.backends.torch.model import BERTClassifier, BERTForPretraining, BERTModel
from bertnli.backends.torch.workers import find_workers

BACKEND = Backend(
    "torch",
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
