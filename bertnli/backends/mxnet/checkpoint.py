"""Pretrained models and saved classifiers, opened on MXNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bertnli.backends.mxnet._framework import mx
from bertnli.backends.mxnet.devices import as_devices, move
from bertnli.backends.mxnet.model import BERTClassifier, BERTModel
from bertnli.backends.pretrained import PretrainedFiles, pretrained_config
from bertnli.checkpoints import names
from bertnli.checkpoints.native import load_native
from bertnli.errors import CheckpointError
from bertnli.text.vocab import Vocab


def load_pretrained_model(
    pretrained_model: str | Path,
    num_hiddens: int | None = None,
    ffn_num_hiddens: int | None = None,
    num_heads: int | None = None,
    num_blks: int | None = None,
    dropout: float = 0.1,
    max_len: int | None = None,
    devices: Any = None,
) -> tuple[BERTModel, Vocab]:
    """Return a pretrained BERT and its vocabulary.

    Args:
        pretrained_model: a name of the hub (``"bert.small"``), or a local folder or zip with
            ``pretrained.params`` (what gluon's ``save_parameters`` writes) and ``vocab.json``.
        num_hiddens, ffn_num_hiddens, num_heads, num_blks, max_len: sizes; those left out are taken
            from the file, and the number of heads, which no file tells, from the name.
        dropout: probability while fine-tuning.
        devices: where to put the model (all of them); None for the GPUs if there are any.

    Raises:
        DownloadError: the file is neither here nor to be had.
        CheckpointError: the file is damaged, or has other sizes than asked for.
        ConfigError: a size that is needed and unknown.
    """
    files = PretrainedFiles.find(pretrained_model, "mxnet")
    arrays = read_params(files.params)
    vocab = Vocab.load(files.vocab)
    config = pretrained_config(
        files, arrays, vocab, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len
    )
    bert = BERTModel(**config.to_dict(), vocab=vocab)
    bert.load_arrays(arrays, str(files.params))
    move(bert, as_devices(devices))
    return bert, vocab


@mx.util.use_np
def read_params(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a ``.params`` file under their canonical names.

    Raises:
        CheckpointError: the file is damaged, or its tensors have no names.
    """
    try:
        state = mx.npx.load(str(path))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable MXNet .params file: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no named tensors; write it with save_parameters")
    return {names.from_mxnet(name): value.asnumpy() for name, value in state.items()}


def load(path: str | Path, devices: Any = None) -> BERTClassifier:
    """Return the classifier of a native checkpoint, whichever backend trained it.

    Args:
        path: the folder that ``net.save`` wrote, or a run's folder (its best checkpoint).
        devices: where to put it (all of them); None for the GPUs if there are any.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    checkpoint = load_native(path)
    bert = BERTModel(**checkpoint.config.to_dict(), vocab=checkpoint.vocab)
    net = BERTClassifier(bert, checkpoint.labels)
    net.load_arrays(checkpoint.arrays, str(checkpoint.path))
    move(net, as_devices(devices))
    return net
