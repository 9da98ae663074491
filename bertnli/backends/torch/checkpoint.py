"""Pretrained models and saved classifiers, opened on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertnli._util.hints import hinted
from bertnli.backends.torch.devices import as_devices
from bertnli.backends.torch.model import BERTClassifier, BERTModel
from bertnli.formats.load import load_classifier, load_pretrained
from bertnli.hub.catalogue import PRETRAINED
from bertnli.text.vocab import Vocab


@hinted()
def load_pretrained_model(
    pretrained_model: str | Path,
    num_hiddens: int | None = None,
    ffn_num_hiddens: int | None = None,
    num_heads: int | None = None,
    num_blks: int | None = None,
    dropout: float = 0.1,
    max_len: int | None = None,
    devices: Any = None,
    kind: str = PRETRAINED,
) -> tuple[BERTModel, Vocab]:
    """Return a pretrained BERT and its vocabulary.

    Args:
        pretrained_model: a name of the hub (``"bert.small"``); or a local folder or zip, either
            the book's, with ``pretrained.params`` (of either tab) and ``vocab.json``, or a Hugging
            Face folder of a BERT; or a file of GluonNLP, with its vocabulary beside it.
        num_hiddens, ffn_num_hiddens, num_heads, num_blks, max_len: sizes; those left out are taken
            from the file, and the number of heads, which no such file tells, from the name.
        dropout: probability while fine-tuning.
        devices: where to put the model (the first of them); None for a GPU if there is one.
        kind: which to take of a model that comes with bertnli: ``"pretrained"``, or the one of its
            ``"classifier"``. The model of a classifier, of whatever format, brings its output layer
            along, and `BERTClassifier` goes on with that.

    Raises:
        DownloadError: the file is neither here nor to be had.
        CheckpointError: the file is damaged, holds pickled code, is another model than is computed
            here, or has other sizes than asked for.
        ConfigError: a size that is needed and unknown.
        BackendError: word pieces without the package tokenizers.
    """
    sizes = {
        "num_hiddens": num_hiddens,
        "ffn_num_hiddens": ffn_num_hiddens,
        "num_heads": num_heads,
        "num_blks": num_blks,
        "max_len": max_len,
    }
    found = load_pretrained(pretrained_model, "torch", sizes, dropout, kind)
    bert = BERTModel(**found.config.to_dict(), vocab=found.vocab, arrays=found.arrays)
    bert.head = found.head
    return bert.to(as_devices(devices)[0]), found.vocab


@hinted()
def load(
    path: str | Path,
    devices: Any = None,
    labels: Sequence[str] | None = None,
    num_heads: int | None = None,
) -> BERTClassifier:
    """Return a saved classifier.

    Args:
        path: the folder that ``net.save`` wrote on any backend, a run's folder (its best
            checkpoint); a Hugging Face folder of a `BertForSequenceClassification`; or a file of
            parameters, of the book's classifier or GluonNLP's, with its vocabulary beside it.
        devices: where to put it (the first of them); None for a GPU if there is one.
        labels: the classes' names in the order of the logits, where it has none.
        num_heads: attention heads, where it does not tell.

    Raises:
        CheckpointError: there is no classifier, it is damaged, or its classes have no names or
            others than given.
        ConfigError: the number of heads is unknown.
    """
    found = load_classifier(path, labels, num_heads)
    bert = BERTModel(**found.config.to_dict(), vocab=found.vocab, arrays=found.arrays)
    bert.head = found.head
    net = BERTClassifier(bert, found.labels or ())
    net.encoding = found.encoding or net.encoding
    return net.to(as_devices(devices)[0])
