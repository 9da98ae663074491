"""What a backend provides: its classes and functions, under the same names on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bertnli._util.hints import hinted, no_attribute
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import load_classifier, load_pretrained
from bertnli.hub.catalogue import PRETRAINED, HubView
from bertnli.text.vocab import Vocab
from bertnli.training.workers import Workers


@dataclass(frozen=True)
class Backend:
    """bertnli on one framework; `bertnli.get_backend` returns it.

    The classes and functions take the same arguments on every backend.
    """

    name: str
    BERTModel: Callable[..., Any]
    BERTClassifier: Callable[..., Any]
    BERTForPretraining: Callable[..., Any]
    SNLIBERTDataset: type
    Trainer: type
    cpu: Callable[[], Any]
    try_gpu: Callable[..., Any]
    try_all_gpus: Callable[[], list]
    as_devices: Callable[..., list]
    as_precision: Callable[[str, Any], tuple[str, str]]
    find_workers: Callable[..., Workers]
    backend_info: Callable[[], dict[str, Any]]

    @classmethod
    def of_modules(cls, name: str, *modules: ModuleType) -> Backend:
        """Make a backend from the modules that define its classes and functions."""
        defined = {key: value for module in modules for key, value in vars(module).items()}
        return cls(name, **{each.name: defined[each.name] for each in fields(cls)[1:]})

    @property
    def DATA_HUB(self) -> HubView:
        """A mapping of the name of each download to its (URL, SHA-1) in this framework's format."""
        return HubView(self.name)

    @hinted()
    def load_pretrained_model(
        self,
        pretrained_model: str | Path,
        num_hiddens: int | None = None,
        ffn_num_hiddens: int | None = None,
        num_heads: int | None = None,
        num_blks: int | None = None,
        dropout: float | None = None,
        max_len: int | None = None,
        devices: Any = None,
        kind: str = PRETRAINED,
    ) -> tuple[Any, Vocab]:
        """Load a pretrained BERT and its vocabulary.

        Args:
            pretrained_model: a name of the hub (``"bert.small"``); or a local folder or zip, either
                the book's, with ``pretrained.params`` (of either tab) and ``vocab.json``, or a
                Hugging Face folder of a BERT; or a file of GluonNLP, with its vocabulary beside it.
            num_hiddens, ffn_num_hiddens, num_heads, num_blks, max_len: the model's sizes; None for
                those of the file. A file without the number of heads gets that of the hub's model
                of this name.
            dropout: the dropout probability during fine-tuning, wherever the model has dropout;
                None for what the file says, which is 0.1 where it says nothing.
            devices: the devices to put the model on (PyTorch: on the first, MXNet: on all); None
                for the GPUs if there are any, else the CPU.
            kind: which of the two models that come with bertnli under one name: ``"pretrained"`` or
                ``"classifier"``. A classifier's output layer is kept, and `BERTClassifier` starts
                with it.

        Raises:
            DownloadError: there is no local file, and it cannot be downloaded.
            CheckpointError: the file is damaged, contains pickled code, is a model that bertnli
                does not compute, or has other sizes than given.
            ConfigError: a required size is unknown.
            BackendError: the file needs the package tokenizers, which is not installed.
        """
        sizes = {
            "num_hiddens": num_hiddens,
            "ffn_num_hiddens": ffn_num_hiddens,
            "num_heads": num_heads,
            "num_blks": num_blks,
            "max_len": max_len,
        }
        checkpoint = load_pretrained(pretrained_model, self.name, sizes, dropout, kind)
        bert = self._bert(checkpoint)
        bert.move_to(self.as_devices(devices))
        return bert, checkpoint.vocab

    @hinted()
    def load(
        self,
        path: str | Path,
        devices: Any = None,
        labels: Sequence[str] | None = None,
        num_heads: int | None = None,
    ) -> Any:
        """Load a saved classifier.

        Args:
            path: the folder that ``net.save`` wrote on any backend; a run's folder, for its best
                checkpoint; a Hugging Face folder of a `BertForSequenceClassification`; or a
                parameter file of the book's classifier or of GluonNLP's, with its vocabulary beside
                it.
            devices: see `load_pretrained_model`.
            labels: the class names in the order of the logits, if the file has none.
            num_heads: the number of attention heads, if the file lacks it.

        Raises:
            CheckpointError: there is no classifier, it is damaged, or the names of its classes are
                unknown or differ from ``labels``.
            ConfigError: the number of heads is unknown.
        """
        checkpoint = load_classifier(path, labels, num_heads)
        net = self.BERTClassifier(self._bert(checkpoint), checkpoint.labels or ())
        net.encoding = checkpoint.encoding or net.encoding
        net.move_to(self.as_devices(devices))
        return net

    def _bert(self, checkpoint: Checkpoint) -> Any:
        sizes = checkpoint.config.to_dict()
        bert = self.BERTModel(**sizes, vocab=checkpoint.vocab, arrays=checkpoint.arrays)
        bert.head = checkpoint.head
        return bert

    if not TYPE_CHECKING:  # a checker of types would take any name then

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(f"the backend {self.__dict__.get('name')!r}", name, dir(self))
