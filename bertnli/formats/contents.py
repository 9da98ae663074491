"""What is in a checkpoint's files, whichever format they have; no framework is needed.

A checkpoint is a folder: bertnli's own or a run's, a Hugging Face folder, or one with a file of
parameters (of the book's MXNet or PyTorch tab, or of GluonNLP) and a vocabulary. Where a folder has
several files of parameters, one is meant by its path.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, expanded, is_there, open_regular, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import infer_config
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats import gluonnlp, huggingface, names, weights
from bertnli.formats.native import is_native, load_native
from bertnli.formats.params import LIST_MAGIC, read_params
from bertnli.formats.state_dict import read_state_dict
from bertnli.formats.tensors import read_tensors
from bertnli.hub.archives import NoArchiveError
from bertnli.hub.catalogue import (
    BUNDLED,
    CLASSIFIER,
    bundled,
    download_extract,
    is_model_name,
    missing_hint,
)
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import load_vocab

#: The book's files of a pretrained model.
PARAMS, VOCAB = "pretrained.params", "vocab.json"
#: What `convert` adds to them, for the sizes and class names that they do not tell.
DESCRIPTION, PARAMS_FORMAT = "config.json", "bertnli parameters"
#: A classifier's parameters, in the place of a pretrained model's.
CLASSIFIER_PARAMS = "classifier.params"
#: How files of parameters are called that may be meant by their path.
SUFFIXES = (".params", ".pt", ".pth", ".bin", ".ckpt", ".safetensors")
#: Dropout in the book.
DROPOUT = 0.1


@dataclass(frozen=True)
class Contents:
    """What a checkpoint's files say.

    Args:
        format: in words.
        arrays: canonical name to tensor, all that there are.
        config: the sizes; where the number of heads is not known, it is 1.
        heads_known: whether the files tell the number of heads.
        is_exact: whether these are all tensors of the model, and none has a start value.
        labels: the classes' names in the order of the logits, if there are any.
        path: of the folder, or of the file of parameters.
        own_vocab: a vocabulary that was read already.
        encoding: how pairs are cut to length, if the files tell.
        unnamed: why the classes have no names, if it is worth saying.
        other_head: why the output layer is none of classes; empty if it is one.
        described: the file that says the sizes; None where the shapes of the tensors do.
    """

    format: str
    arrays: dict[str, NDArray]
    config: BERTConfig
    heads_known: bool
    is_exact: bool
    labels: tuple[str, ...] | None
    path: Path
    own_vocab: Vocab | None = None
    encoding: PairEncoding | None = None
    unnamed: str = ""
    other_head: str = ""
    described: Path | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether it has an output layer for classes."""
        return "output.weight" in self.arrays

    def vocab(self) -> Vocab | None:
        """Return the vocabulary that lies beside the tensors; None if there is none.

        Raises:
            DataError: one that cannot be read.
            BackendError: the package tokenizers is missing, and needed.
        """
        if self.own_vocab is not None:
            return self.own_vocab
        if self.format == gluonnlp.FORMAT:
            return gluonnlp.find_vocab(self.path)
        return load_vocab(self.path.parent if self.path.is_file() else self.path)


def check_here(name: str | Path, classifies: bool = False) -> None:
    """Raise CheckpointError where a name means no local checkpoint, and none that is bundled.

    Args:
        name: what was given.
        classifies: whether a classifier is asked for, which no name of the hub means.
    """
    if bundled(name, CLASSIFIER) is not None or expanded(name, CheckpointError).exists():
        return
    if is_model_name(name):
        if classifies:
            raise CheckpointError(
                f"{name} is a pretrained BERT without a classifier; train one with `bertnli train "
                f"--pretrained {name}`, or with load_pretrained_model"
            )
        raise CheckpointError(
            f"{name} is the name of a download, and no file here; `bertnli download {name}` "
            "fetches it and prints the folder to give"
        )
    raise CheckpointError(
        f"{name}: no such file or folder; with bertnli comes {', '.join(BUNDLED)}"
        f"{missing_hint(name, BUNDLED)}"
    )


def locate(name: str | Path, framework: str | None = None, kind: str = CLASSIFIER) -> Path:
    """Return the folder or the file of parameters that a name means, unpacked and downloaded.

    Args:
        name: a model that comes with bertnli, a name of the hub, a URL, or the path of a folder, an
            archive or a file of parameters.
        framework: whose file to take where the hub has one for each.
        kind: which to take of a model that comes with bertnli; see `bertnli.hub.catalogue.bundled`.

    Raises:
        DownloadError: it is neither here nor to be had.
    """
    own = bundled(name, kind)
    if own is not None:
        return own
    path = expanded(name, CheckpointError)
    if path.is_file():
        of_native = path.name == weights.WEIGHTS and is_native(path.parent)
        if of_native or weights.OF_FOLDER.fullmatch(path.name):
            return path.parent
        if path.suffix.lower() in SUFFIXES:
            return path
    try:
        return Path(download_extract(name, framework=framework))
    except NoArchiveError as error:
        hint = f"; give the folder, {path.parent}" if holds_checkpoint(path.parent) else ""
        raise CheckpointError(f"{error.found}, nor a file of parameters{hint}") from None


def holds_checkpoint(folder: Path) -> bool:
    """Return whether a folder has what one of the known kinds of checkpoints has."""
    if is_native(folder) or any(is_there(folder / name) for name in (PARAMS, CLASSIFIER_PARAMS)):
        return True
    try:
        return huggingface.is_huggingface(folder) and weights.has_weights(folder)
    except CheckpointError:  # its config.json is damaged
        return False


def read_contents(path: Path) -> Contents:
    """Return what a located checkpoint holds.

    Raises:
        CheckpointError: there is none, it is damaged, or has another number of blocks than it says.
    """
    found = _read(path)
    _check_sizes(found)
    blocks = {name.split(".")[2] for name in found.arrays if name.startswith("encoder.blks.")}
    if len(blocks) != found.config.num_blks:
        raise CheckpointError(
            f"{path} has the tensors of {len(blocks)} blocks, and {found.config.num_blks} by its "
            f"config. {COPY_ANEW}"
        )
    return found


def _check_sizes(found: Contents) -> None:
    """Raise CheckpointError where the file that says the sizes is not that of the tensors."""
    if found.described is None:
        return
    try:
        ours = infer_config(found.arrays, 1, DROPOUT, str(found.path)).to_dict()
    except (CheckpointError, ConfigError):  # tensors are missing, which is said later
        return
    said = found.config.to_dict()
    theirs = huggingface.SIZES if huggingface.is_huggingface(found.described.parent) else {}
    differ = [
        f"{theirs.get(name, name)} is {said[name]}, and {ours[name]} by the tensors"
        for name in huggingface.SIZES
        if name != "num_heads" and ours[name] != said[name]
    ]
    if differ:
        raise CheckpointError(
            f"{found.described} is not of the tensors beside it: {'; '.join(differ)}. Put the "
            f"{found.described.name} that belongs to them in its place, or copy the whole folder "
            "anew from where it came from"
        )


def _read(path: Path) -> Contents:
    if path.is_dir() and huggingface.is_huggingface(path):
        huggingface.check_type(path)
        file, stored = weights.read_stored(path, holds_checkpoint)
        stored = names.unwrapped(stored, str(file))
        if huggingface.has_names(stored):
            return _of_huggingface(path, file, stored)
        return _of_book(file, {names.from_torch(name): array for name, array in stored.items()})
    if path.is_dir() and is_native(path):
        found = load_native(path)
        return Contents(
            found.format,
            found.arrays,
            found.config,
            True,
            True,
            found.labels,
            found.path,
            found.vocab,
            found.encoding,
            described=found.path / DESCRIPTION,
        )
    path = _parameters_of(path) if path.is_dir() else path
    stored, of_mxnet = _read_tensors(path)
    if gluonnlp.is_gluonnlp(stored):
        arrays = gluonnlp.rename(stored, str(path))
        config, heads_known = gluonnlp.read_config(arrays, path)
        labels = gluonnlp.known_labels(path) if "output.weight" in arrays else None
        return Contents(gluonnlp.FORMAT, arrays, config, heads_known, False, labels, path)
    if huggingface.has_names(stored):
        if not huggingface.is_huggingface(path.parent):
            raise CheckpointError(
                f"{path} has the tensors of a model of transformers, whose sizes and activation "
                f"are in its {huggingface.CONFIG}; put that file beside it"
            )
        return _of_huggingface(path, path, stored)
    rename = names.from_mxnet if of_mxnet else names.from_torch
    return _of_book(path, {rename(name): array for name, array in stored.items()})


def _of_huggingface(path: Path, file: Path, stored: dict[str, NDArray]) -> Contents:
    """Return the contents of a file with transformers' names; a config.json is beside it."""
    found = huggingface.read_config(file.parent)
    arrays = huggingface.rename(stored, file)
    encoding = None
    if "output.weight" in arrays:
        encoding = huggingface.read_encoding(file.parent, found.config.max_len)
    return Contents(
        "Hugging Face BERT",
        arrays,
        found.config,
        True,
        False,
        found.labels,
        path,
        encoding=encoding,
        unnamed=found.unnamed,
        other_head=found.other_head,
        described=huggingface.config_path(file.parent),
    )


def _of_book(path: Path, arrays: dict[str, NDArray]) -> Contents:
    """Return the contents of a file with the book's names."""
    format = "parameters of a classifier"
    if "output.weight" not in arrays:
        format = "pretrained model of the book"
    if "encoder.token_embedding.weight" not in arrays:  # what any BERT has
        huggingface.check_names(arrays, path)
        if huggingface.is_huggingface(path.parent):
            huggingface.check_type(path.parent)
    described = _read_description(path.parent)
    if described is not None:
        config, labels, encoding = described
        file = path.parent / DESCRIPTION
        return Contents(
            format, arrays, config, True, True, labels, path, encoding=encoding, described=file
        )
    if "encoder.ln.weight" not in arrays:
        config = infer_config(arrays, 1, DROPOUT, str(path))
        return Contents(format, arrays, config, False, True, None, path)
    if not huggingface.is_huggingface(path.parent):
        raise CheckpointError(
            f"{path} has the tensors of a BERT that normalises its embeddings (encoder.ln), such "
            "as those of Hugging Face, and its activation, the epsilon of its layer normalisation "
            "and its heads are in no shape. Put the config.json and the vocabulary of the folder "
            "that the net came from beside it, or write the net with net.save(folder)"
        )
    # Its class names are those of the folder's own weights.
    config = huggingface.read_config(path.parent).config
    own = huggingface.read_encoding(path.parent, config.max_len)
    file = huggingface.config_path(path.parent)
    return Contents(format, arrays, config, True, True, None, path, encoding=own, described=file)


def _parameters_of(folder: Path) -> Path:
    """Return the file of parameters of a folder."""
    for name in (PARAMS, CLASSIFIER_PARAMS):
        if is_there(folder / name):
            return folder / name
    found = sorted(f for f in folder.glob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"{folder} has several files of parameters; give the path of one: "
            f"{', '.join(file.name for file in found[:5])}"
        )
    if inner := weights.inner_folders(folder, holds_checkpoint):
        raise CheckpointError(f"{folder} holds no checkpoint itself; {inner}")
    raise CheckpointError(
        f"{folder} holds no checkpoint. It is one of bertnli (config.json and model.safetensors, "
        f"also in best/ or last/), a pretrained model of the book ({PARAMS} and {VOCAB}), a "
        "Hugging Face folder, or one with a .params file of GluonNLP and its vocabulary"
    )


def _read_tensors(path: Path) -> tuple[dict[str, NDArray], bool]:
    """Return the tensors of a file under its own names, and whether MXNet wrote it, or PyTorch."""
    if path.suffix.lower() == ".safetensors":
        return names.unwrapped(read_tensors(path), str(path)), False
    with open_regular(path, CheckpointError) as file:
        is_mxnet = file.read(8) == struct.pack("<Q", LIST_MAGIC)
    if not is_mxnet:
        return names.unwrapped(read_state_dict(path), str(path)), False
    found = read_params(path)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no named tensors; write it with save_parameters")
    return found, True


def _read_description(
    folder: Path,
) -> tuple[BERTConfig, tuple[str, ...] | None, PairEncoding | None] | None:
    """Return sizes, class names and encoding that `convert` wrote, if it made the folder."""
    path = folder / DESCRIPTION
    if not is_there(path):
        return None
    described = read_json_object(path, CheckpointError)
    if described.get("format") != PARAMS_FORMAT:
        return None
    try:
        labels = described["labels"]
        if labels is not None and not (
            isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        ):
            raise TypeError("labels is no list of names")
        config = BERTConfig.from_dict(described["model"])
        encoding = None
        if "encoding" in described:
            encoding = PairEncoding.from_dict(described["encoding"], config.max_len)
        return config, None if labels is None else tuple(labels), encoding
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
