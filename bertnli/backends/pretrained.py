"""A pretrained model's files, and the sizes that file, name and arguments agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from bertnli.config import PRESETS, BERTConfig
from bertnli.errors import CheckpointError, ConfigError
from bertnli.hub import download_extract
from bertnli.parameters import bert_shapes, check_shapes, infer_config
from bertnli.text.vocab import Vocab


@dataclass(frozen=True)
class PretrainedFiles:
    """Where a pretrained model's files lie, and the name that was asked for."""

    name: str
    params: Path
    vocab: Path

    @classmethod
    def find(cls, pretrained_model: str | Path, framework: str) -> PretrainedFiles:
        """Find the files by a hub's name, downloading them if need be, or in a folder or zip.

        Raises:
            CheckpointError: the folder lacks one of the two files.
        """
        folder = Path(download_extract(str(pretrained_model), framework=framework))
        params, vocab = folder / "pretrained.params", folder / "vocab.json"
        for path in (params, vocab):
            if not path.is_file():
                raise CheckpointError(
                    f"{folder} has no {path.name}; a pretrained model is a folder or zip with "
                    "pretrained.params and vocab.json. A classifier that bertnli saved is opened "
                    "with bertnli.load"
                )
        return cls(str(pretrained_model), params, vocab)


def pretrained_config(
    files: PretrainedFiles,
    arrays: Mapping[str, NDArray],
    vocab: Vocab,
    num_hiddens: int | None,
    ffn_num_hiddens: int | None,
    num_heads: int | None,
    num_blks: int | None,
    dropout: float,
    max_len: int | None,
) -> BERTConfig:
    """Return the sizes of a pretrained model, having checked them against its file.

    Raises:
        ConfigError: the number of heads is neither given nor known from the name.
        CheckpointError: a size that was given contradicts the file.
    """
    if num_heads is None:
        num_heads = PRESETS.get(files.name, {}).get("num_heads")
    if num_heads is None:
        raise ConfigError(
            f"give num_heads for {files.name}: a checkpoint's shapes do not tell its number of "
            "attention heads, and a wrong one computes something else without an error"
        )
    source = str(files.params)
    found = infer_config(arrays, num_heads, dropout, source)
    asked = BERTConfig(
        vocab_size=len(vocab),
        num_hiddens=found.num_hiddens if num_hiddens is None else num_hiddens,
        ffn_num_hiddens=found.ffn_num_hiddens if ffn_num_hiddens is None else ffn_num_hiddens,
        num_heads=num_heads,
        num_blks=found.num_blks if num_blks is None else num_blks,
        dropout=dropout,
        max_len=found.max_len if max_len is None else max_len,
    )
    check_shapes(arrays, bert_shapes(asked), source)
    return asked
