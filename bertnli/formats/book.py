"""The book's checkpoints: a folder with the parameters of one of its tabs, and vocab.json.

pretrained.params    a .params file of MXNet or a state dict of PyTorch; or
classifier.params    the same for a classifier
vocab.json           the tokens in the order of their ids
config.json          sizes and class names, which `convert` adds

Nets of bertnli that are saved by their framework's own functions have the same tensor names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.parameters import infer_config
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats import huggingface, names
from bertnli.formats.checkpoint import DROPOUT, WEIGHT, Checkpoint, check_sizes
from bertnli.formats.families import family_of
from bertnli.formats.native import CONFIG, is_described, read_description, write_description
from bertnli.formats.params import write_params

#: The file of a pretrained model's parameters, and of a classifier's.
PARAMS, CLASSIFIER_PARAMS = "pretrained.params", "classifier.params"
#: The value of ``format`` in the config.json.
FORMAT = "bertnli parameters"


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file and of the config.json beside it.

    Without a config.json the sizes follow from the tensors, except the number of heads.

    Args:
        file: path of the file of tensors.
        stored: the file's tensors by name.
    """
    of_mxnet = any(name.endswith(".gamma") for name in stored)
    rename = names.from_mxnet if of_mxnet else names.from_torch
    arrays = {rename(name): array for name, array in stored.items()}
    folder = file.parent
    labels: tuple[str, ...] | None = None
    format = "parameters of a classifier" if WEIGHT in arrays else "pretrained model of the book"
    if is_described(folder, [FORMAT]):
        path = folder / CONFIG
        config, labels, encoding = read_description(path)
        check_sizes(arrays, config, path, {})
    elif "encoder.ln.weight" not in arrays:
        config = infer_config(arrays, 1, DROPOUT, str(file))
        return Checkpoint(arrays, config, format=format, heads_known=False)
    else:
        path, described = huggingface.read_description(folder)
        if not described:
            raise CheckpointError(
                f"{file} has the tensors of a BERT that normalises its embeddings (encoder.ln), "
                "such as those of Hugging Face. Its activation, the epsilon of its layer "
                "normalisation and its heads are in no shape: put the config.json and the "
                "vocabulary of the folder that the net came from beside it, or write the net with "
                "net.save(folder)"
            )
        # Class names in this config.json belong to the folder's own weights.
        config = huggingface.read_config(path, described)
        check_sizes(arrays, config, path, family_of(config.family, path).all_keys)
        encoding = huggingface.read_encoding(folder, config.max_len)
    return Checkpoint(arrays, config, labels=labels, encoding=encoding, format=format)


def write_mxnet(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint to a new folder, with a .params file of MXNet."""
    arrays = {names.to_mxnet(name): array for name, array in checkpoint.arrays.items()}
    write_params(_new_folder(checkpoint, folder), arrays)


def write_torch(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint to a new folder, with a state dict; BackendError without PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            'a state dict is written by PyTorch: pip install "bertnli[torch]"'
        ) from error
    arrays = checkpoint.arrays.items()
    state = {names.to_torch(name): torch.from_numpy(np.array(array)) for name, array in arrays}
    torch.save(state, _new_folder(checkpoint, folder))


def _new_folder(checkpoint: Checkpoint, folder: Path) -> Path:
    """Make a folder with a vocabulary and a config.json; return the path for the parameters."""
    folder.mkdir()
    checkpoint.vocab.save(folder / checkpoint.vocab.FILE)
    write_description(folder / CONFIG, checkpoint, {"format": FORMAT})
    return folder / (PARAMS if checkpoint.labels is None else CLASSIFIER_PARAMS)
