"""Pretrained models and saved classifiers, opened on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from bertnli.backends.pretrained import PretrainedFiles, pretrained_config
from bertnli.backends.torch.devices import as_devices
from bertnli.backends.torch.model import BERTClassifier, BERTModel
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
            ``pretrained.params`` (a torch state dict, in either of torch's formats) and
            ``vocab.json``.
        num_hiddens, ffn_num_hiddens, num_heads, num_blks, max_len: sizes; those left out are taken
            from the file, and the number of heads, which no file tells, from the name.
        dropout: probability while fine-tuning.
        devices: where to put the model (the first of them); None for a GPU if there is one.

    Raises:
        DownloadError: the file is neither here nor to be had.
        CheckpointError: the file is damaged, holds pickled code, or has other sizes than asked for.
        ConfigError: a size that is needed and unknown.
    """
    files = PretrainedFiles.find(pretrained_model, "torch")
    arrays = read_state_dict(files.params)
    vocab = Vocab.load(files.vocab)
    config = pretrained_config(
        files, arrays, vocab, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len
    )
    bert = BERTModel(**config.to_dict(), vocab=vocab)
    bert.load_arrays(arrays, str(files.params))
    return bert.to(as_devices(devices)[0]), vocab


def read_state_dict(path: str | Path) -> dict[str, NDArray]:
    """Return the tensors of a state dict's file under their canonical names.

    Nothing but tensors and plain containers is unpickled: no code of the file is run.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        raise CheckpointError(
            f"{path} is not a readable torch state dict: {[*str(error).splitlines(), 'empty'][0]}"
        ) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise CheckpointError(f"{path} is not a state dict: a dictionary of tensors is expected")
    # NumPy has no bfloat16; float32 holds each of its values exactly.
    return {
        names.from_torch(name): (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in state.items()
    }


def load(path: str | Path, devices: Any = None) -> BERTClassifier:
    """Return the classifier of a native checkpoint, whichever backend trained it.

    Args:
        path: the folder that ``net.save`` wrote, or a run's folder (its best checkpoint).
        devices: where to put it (the first of them); None for a GPU if there is one.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    checkpoint = load_native(path)
    bert = BERTModel(**checkpoint.config.to_dict(), vocab=checkpoint.vocab)
    net = BERTClassifier(bert, checkpoint.labels)
    net.load_arrays(checkpoint.arrays, str(checkpoint.path))
    return net.to(as_devices(devices)[0])
