"""Files of GluonNLP 0.x: the BERTs of its model zoo, and classifiers that it fine-tuned.

bert_12_768_12_book_corpus_wiki_en_uncased-75cc780f.params    what `save_parameters` writes
book_corpus_wiki_en_uncased-a6607397.vocab                    the word pieces, JSON

All of the zoo's files lie in one folder, ``~/.mxnet/models``: a model is named by its file, and its
vocabulary is the one whose name is in the model's. The tensors' names are those of its `BERTModel`,
with all heads or without, and `BERTClassifier`; RoBERTa and DistilBERT are other models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import infer_config
from bertnli.errors import CheckpointError, DataError
from bertnli.formats.names import by_template
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import load_gluonnlp, load_vocab

#: What such a file is called.
FORMAT = "GluonNLP BERT"
#: GluonNLP's names of layers (of block {}) and tensors, and the canonical ones.
NAMES = {
    "encoder.position_weight": "encoder.pos_embedding",
    "word_embed.0": "encoder.token_embedding",
    "token_type_embed.0": "encoder.segment_embedding",
    "encoder.layer_norm": "encoder.ln",
    "encoder.transformer_cells.{}.attention_cell.proj_query": "encoder.blks.{}.attention.W_q",
    "encoder.transformer_cells.{}.attention_cell.proj_key": "encoder.blks.{}.attention.W_k",
    "encoder.transformer_cells.{}.attention_cell.proj_value": "encoder.blks.{}.attention.W_v",
    "encoder.transformer_cells.{}.proj": "encoder.blks.{}.attention.W_o",
    "encoder.transformer_cells.{}.layer_norm": "encoder.blks.{}.addnorm1.ln",
    "encoder.transformer_cells.{}.ffn.ffn_1": "encoder.blks.{}.ffn.dense1",
    "encoder.transformer_cells.{}.ffn.ffn_2": "encoder.blks.{}.ffn.dense2",
    "encoder.transformer_cells.{}.ffn.layer_norm": "encoder.blks.{}.addnorm2.ln",
    "pooler": "hidden",
    "decoder.0": "mlm.dense",
    "decoder.2": "mlm.ln",
    "decoder.3": "mlm.decoder",
    "classifier": "nsp.output",
}
#: What a model's name says of it: activation, and what layer normalisation adds to the variance.
KINDS = {"bert": ("gelu", 1e-12), "ernie": ("relu", 1e-5)}
#: Positions of ERNIE, and of no other.
ERNIE_POSITIONS = 513
#: Probability of dropout in all of them.
DROPOUT = 0.1
#: The classes of the tasks that its fine-tuning script knows, in its order; the script names its
#: files model_bert_TASK_EPOCH.params.
TASKS = {
    "MNLI": ("neutral", "entailment", "contradiction"),
    "XNLI": ("neutral", "entailment", "contradiction"),
    "QNLI": ("not_entailment", "entailment"),
    "RTE": ("not_entailment", "entailment"),
}
_NAME = re.compile(r"(bert|ernie)_(\d+)_(\d+)_(\d+)(?=_|\b)")


def is_gluonnlp(names: Iterable[str]) -> bool:
    """Return whether tensors are named as in GluonNLP's BERT."""
    return any(re.match(r"(\w+\.)?encoder\.transformer_cells\.", name) for name in names)


def rename(stored: Mapping[str, NDArray], source: str) -> dict[str, NDArray]:
    """Return tensors under their canonical names.

    Args:
        stored: GluonNLP's name to tensor.
        source: the file, for messages.

    Raises:
        CheckpointError: they are of RoBERTa or DistilBERT, or of no known BERT.
    """
    classifies = any(name.startswith("bert.") for name in stored)
    found: dict[str, NDArray] = {}
    unknown, twice = [], []
    for name, array in stored.items():
        plain = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        # The dropout before a classifier's output layer, if there is one, has the number 0.
        head = re.fullmatch(r"classifier\.\d\.(weight|bias)", plain) if classifies else None
        try:
            if head is not None:
                ours = f"output.{head[1]}"
            else:
                ours = by_template(plain.removeprefix("bert."), NAMES)
        except KeyError:
            unknown.append(name)
            continue
        if ours in found and found[ours].tobytes() != array.tobytes():
            twice.append(name)
        found[ours] = array
    if twice:
        raise CheckpointError(
            f"{source} holds {', '.join(twice[:5])} twice, under two names, and they differ"
        )
    if unknown or "encoder.segment_embedding.weight" not in found:
        missing = "no embeddings of token types" if not unknown else ", ".join(unknown[:5])
        raise CheckpointError(
            f"{source} holds {missing}: it is a model of GluonNLP, and of these only BERT and "
            "ERNIE are computed here, not RoBERTa or DistilBERT"
        )
    positions = found.get("encoder.pos_embedding")
    if positions is not None and positions.ndim == 2:
        found["encoder.pos_embedding"] = positions[None]
    # Tied tensors may be in the file once, under either name.
    table, decoder = "encoder.token_embedding.weight", "mlm.decoder.weight"
    if table not in found and decoder in found:
        found[table] = found[decoder]
    if "mlm.decoder.bias" in found and table in found:
        found.setdefault(decoder, found[table])
    elif "mlm.decoder.bias" not in found:
        found.pop(decoder, None)
    for name in ("nsp.output.weight", "nsp.output.bias"):
        if name in found and found[name].ndim:  # its first class is the book's second
            found[name] = np.ascontiguousarray(found[name][::-1])
    return found


def read_config(arrays: dict[str, NDArray], path: Path) -> tuple[BERTConfig, bool]:
    """Return a model's sizes, and whether its number of heads is known: the file's name tells it.

    Without it, the number is 1. ERNIE's MLM head, which has another activation than its blocks, is
    taken out of the arrays.

    Args:
        arrays: canonical name to tensor.
        path: of the file.

    Raises:
        CheckpointError: a tensor is missing that any BERT has.
    """
    named = _NAME.search(path.name)
    heads = 1
    config = infer_config(arrays, heads, DROPOUT, str(path))
    # A classifier's file does not name its model.
    kind = "ernie" if config.max_len == ERNIE_POSITIONS else "bert"
    fits = named is not None and [int(named[2]), int(named[3])] == [
        config.num_blks,
        config.num_hiddens,
    ]
    if named is not None and fits:
        kind, heads = named[1], int(named[4])
    if kind == "ernie":
        for name in [name for name in arrays if name.startswith("mlm.")]:
            del arrays[name]
    activation, eps = KINDS[kind]
    config = replace(
        config, num_heads=heads, activation=activation, embedding_norm=True, norm_eps=eps
    )
    return config, fits


def known_labels(path: Path) -> tuple[str, ...] | None:
    """Return a classifier's classes, where its file has the name that GluonNLP's script gives."""
    named = re.fullmatch(r"model_bert_([A-Z]+)_\d+\.params", path.name)
    return TASKS.get(named[1]) if named is not None else None


def find_vocab(path: Path) -> Vocab | None:
    """Return the vocabulary that belongs to a model's file, from its folder; None without one.

    Raises:
        DataError: it cannot be read, or there are several and none is named as the model is.
        BackendError: the package tokenizers is missing.
    """
    files = sorted(path.parent.glob("*.vocab"))
    mine = [file for file in files if re.sub(r"-\w+$", "", file.stem) in path.name]
    if mine or len(files) == 1:
        return load_gluonnlp(max(mine or files, key=lambda file: len(file.stem)))
    found = load_vocab(path.parent)
    if found is None and files:
        raise DataError(
            f"{path.parent} has {len(files)} vocabularies, none of them named as {path.name} is; "
            "put the model and its own into a folder"
        )
    return found
