"""What a backend provides: its classes and functions, under the same names on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertnli._util.hints import no_attribute
from bertnli.hub.catalogue import HubView
from bertnli.text.vocab import Vocab
from bertnli.training.workers import Workers


@dataclass(frozen=True)
class Backend:
    """One framework's side of bertnli; what `bertnli.get_backend` returns.

    ``load_pretrained_model``, ``load``, the classes and the device functions take the same
    arguments on every backend.
    """

    name: str
    BERTModel: type
    BERTClassifier: type
    BERTForPretraining: type
    SNLIBERTDataset: type
    Trainer: type
    load_pretrained_model: Callable[..., tuple[Any, Vocab]]
    load: Callable[..., Any]
    cpu: Callable[[], Any]
    try_gpu: Callable[..., Any]
    try_all_gpus: Callable[[], list]
    as_devices: Callable[..., list]
    as_precision: Callable[[str, Any], tuple[str, str]]
    find_workers: Callable[..., Workers]
    backend_info: Callable[[], dict[str, Any]]
    DATA_HUB: HubView

    if not TYPE_CHECKING:  # a checker of types would take any name then

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(f"the backend {self.__dict__.get('name')!r}", name, self.__dict__)
