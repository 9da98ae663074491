"""bertnli on Apache MXNet."""

from bertnli.backends.interface import Backend
from bertnli.backends.mxnet.checkpoint import load, load_pretrained_model
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
from bertnli.hub.catalogue import hub_view

BACKEND = Backend(
    name="mxnet",
    BERTModel=BERTModel,
    BERTClassifier=BERTClassifier,
    BERTForPretraining=BERTForPretraining,
    SNLIBERTDataset=SNLIBERTDataset,
    Trainer=Trainer,
    load_pretrained_model=load_pretrained_model,
    load=load,
    cpu=cpu,
    try_gpu=try_gpu,
    try_all_gpus=try_all_gpus,
    as_devices=as_devices,
    as_precision=as_precision,
    find_workers=find_workers,
    backend_info=backend_info,
    DATA_HUB=hub_view("mxnet"),
)

__all__ = [
    "BACKEND",
    "BERTClassifier",
    "BERTForPretraining",
    "BERTModel",
    "SNLIBERTDataset",
    "Trainer",
    "as_devices",
    "as_precision",
    "backend_info",
    "cpu",
    "find_workers",
    "load",
    "load_pretrained_model",
    "try_all_gpus",
    "try_gpu",
]


def __dir__() -> list[str]:
    return __all__
