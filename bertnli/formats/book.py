"""The book's files: a folder with a model's parameters as either tab writes them, and vocab.json.

pretrained.params    a .params file of MXNet or a state dict of PyTorch; or
classifier.params    the same of a classifier
vocab.json           the tokens in the order of their ids
config.json          sizes and class names, which `convert` adds

Nets of ours are saved with the same names by their frameworks' own functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.parameters import infer_config
from bertnli.errors import BackendError, CheckpointError
from bertnli.formats import huggingface, names
from bertnli.formats.checkpoint import DROPOUT, Checkpoint, check_sizes
from bertnli.formats.native import CONFIG, is_described, read_description, write_description
from bertnli.formats.params import write_params

#: A pretrained model's parameters, and a classifier's.
PARAMS, CLASSIFIER_PARAMS = "pretrained.params", "classifier.params"
#: The format of the config.json.
FORMAT = "bertnli parameters"


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether tensors may be of this format: all may that have no other."""
    return True


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Read a checkpoint from a file, without its vocabulary.

    Without a config.json the sizes are those of the tensors, and the number of heads is not known.
    """
    of_mxnet = any(name.endswith(".gamma") for name in stored)
    rename = names.from_mxnet if of_mxnet else names.from_torch
    arrays = {rename(name): array for name, array in stored.items()}
    folder = file.parent
    format = "pretrained model of the book"
    if "output.weight" in arrays:
        format = "parameters of a classifier"
    if is_described(folder, [FORMAT]):
        config, labels, encoding = read_description(folder / CONFIG)
        check_sizes(arrays, config, folder / CONFIG, {})
        return Checkpoint(arrays, config, labels=labels, encoding=encoding, format=format)
    if "encoder.ln.weight" not in arrays:
        config = infer_config(arrays, 1, DROPOUT, str(file))
        return Checkpoint(arrays, config, format=format, heads_known=False)
    path, described = huggingface.read_description(folder)
    if not described:
        raise CheckpointError(
            f"{file} has the tensors of a BERT that normalises its embeddings (encoder.ln), such "
            "as those of Hugging Face. Its activation, the epsilon of its layer normalisation and "
            "its heads are in no shape: put the config.json and the vocabulary of the folder that "
            "the net came from beside it, or write the net with net.save(folder)"
        )
    # The class names in this config.json are those of the folder's own weights.
    config = huggingface.read_config(path, described)
    check_sizes(arrays, config, path, huggingface.SIZES)
    encoding = huggingface.read_encoding(folder, config.max_len)
    return Checkpoint(arrays, config, encoding=encoding, format=format)


def write_mxnet(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder with a .params file."""
    arrays = {names.to_mxnet(name): array for name, array in checkpoint.arrays.items()}
    write_params(_new_folder(checkpoint, folder), arrays)


def write_torch(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder with a state dict; BackendError without PyTorch."""
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
    """Make a folder with all but the parameters; return where these go."""
    folder.mkdir()
    checkpoint.vocab.save(folder / checkpoint.vocab.FILE)
    write_description(folder / CONFIG, checkpoint, {"format": FORMAT})
    return folder / (PARAMS if checkpoint.labels is None else CLASSIFIER_PARAMS)
