"""What a backend provides: its classes and functions, under the same names on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertnli._util.hints import hinted, no_attribute
from bertnli.formats.checkpoint import Checkpoint
from bertnli.formats.load import load_classifier, load_pretrained
from bertnli.hub.catalogue import PRETRAINED, HubView
from bertnli.text.vocab import Vocab
from bertnli.training.workers import Workers


@dataclass(frozen=True)
class Backend:
    """One framework's side of bertnli; what `bertnli.get_backend` returns.

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

    @property
    def DATA_HUB(self) -> HubView:
        """The book's downloads in this framework's format, by name."""
        return HubView(self.name)

    @hinted()
    def load_pretrained_model(
        self,
        pretrained_model: str | Path,
        num_hiddens: int | None = None,
        ffn_num_hiddens: int | None = None,
        num_heads: int | None = None,
        num_blks: int | None = None,
        dropout: float = 0.1,
        max_len: int | None = None,
        devices: Any = None,
        kind: str = PRETRAINED,
    ) -> tuple[Any, Vocab]:
        """Return a pretrained BERT and its vocabulary.

        Args:
            pretrained_model: a name of the hub (``"bert.small"``); or a local folder or zip, either
                the book's, with ``pretrained.params`` (of either tab) and ``vocab.json``, or a
                Hugging Face folder of a BERT; or a file of GluonNLP, with its vocabulary beside it.
            num_hiddens, ffn_num_hiddens, num_heads, num_blks, max_len: sizes; those left out are
                taken from the file, and the number of heads, which no such file has, from the name.
            dropout: probability while fine-tuning.
            devices: where to put the model: PyTorch's on the first of them, MXNet's on all; None
                for the GPUs if there are any, else the CPU.
            kind: which to take of a model that comes with bertnli: ``"pretrained"``, or the one of
                its ``"classifier"``. The model of a classifier, of any format, brings its output
                layer along, and `BERTClassifier` goes on with that.

        Raises:
            DownloadError: the file is neither here nor can it be downloaded.
            CheckpointError: the file is damaged, holds pickled code, is another model than is
                computed here, or has other sizes than asked for.
            ConfigError: a size that is needed is unknown.
            BackendError: word pieces without the package tokenizers.
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
        """Return a saved classifier.

        Args:
            path: the folder that ``net.save`` wrote on any backend, a run's folder (its best
                checkpoint); a Hugging Face folder of a `BertForSequenceClassification`; or a file
                of parameters, of the book's classifier or GluonNLP's, with its vocabulary beside
                it.
            devices: see `load_pretrained_model`.
            labels: the classes' names in the order of the logits, where the file has none.
            num_heads: attention heads, where the file does not say.

        Raises:
            CheckpointError: there is no classifier, it is damaged, or its classes have no names or
                others than given.
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
