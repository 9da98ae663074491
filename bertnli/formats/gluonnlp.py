"""Read files of GluonNLP 0.x: the BERTs of its model zoo, and classifiers that it fine-tuned.

bert_12_768_12_book_corpus_wiki_en_uncased-75cc780f.params    what `save_parameters` writes
book_corpus_wiki_en_uncased-a6607397.vocab                    the word pieces, JSON

All files of the zoo are in one folder, ``~/.mxnet/models``: a model is named by its file, and the
name of its vocabulary is a part of that name. The tensors' names are those of its `BERTModel`, with
or without heads, and `BERTClassifier`; RoBERTa and DistilBERT are other models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from numpy.typing import NDArray

from bertnli.bert.parameters import infer_config
from bertnli.errors import CheckpointError, DataError
from bertnli.formats.checkpoint import DROPOUT, WEIGHT, Checkpoint
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.text.subwords import load_gluonnlp, load_vocab
from bertnli.text.vocab import Vocab

FORMAT = "GluonNLP BERT"
#: GluonNLP's names of layers and tensors to the canonical ones; {} is the number of a block.
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
#: Kind of model, as a file's name begins, to its activation and its epsilon of layer normalisation.
KINDS = {"bert": ("gelu", 1e-12), "ernie": ("relu", 1e-5)}
#: The number of positions of ERNIE, and of no other model.
ERNIE_POSITIONS = 513
#: GLUE task to its classes in the order of GluonNLP's fine-tuning script, which names its files
#: model_bert_TASK_EPOCH.params.
TASKS = {
    "MNLI": ("neutral", "entailment", "contradiction"),
    "XNLI": ("neutral", "entailment", "contradiction"),
    "QNLI": ("not_entailment", "entailment"),
    "RTE": ("not_entailment", "entailment"),
}
_NAME = re.compile(r"(bert|ernie)_(\d+)_(\d+)_(\d+)(?=_|\b)")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether the tensors ``stored`` in a file have the names of GluonNLP's BERT."""
    return any(re.match(r"(\w+\.)?encoder\.transformer_cells\.", name) for name in stored)


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file, and of the file's name.

    The name of a pretrained model's file says the number of heads; a classifier's does not.
    """
    is_classifier = any(name.startswith("bert.") for name in stored)

    def translate(name: str) -> str:
        name = without_gamma(name)
        # Dropout before a classifier's output layer, if there is any, is layer 0.
        head = re.fullmatch(r"classifier\.\d\.(weight|bias)", name) if is_classifier else None
        return f"output.{head[1]}" if head else by_template(name.removeprefix("bert."), NAMES)

    arrays = canonical(stored, translate, str(file))
    if "encoder.segment_embedding.weight" not in arrays:
        raise CheckpointError(
            f"{file} holds no embeddings of token types: it is a model of GluonNLP, and of these "
            "only BERT and ERNIE are computed here, not RoBERTa or DistilBERT"
        )
    config = infer_config(arrays, 1, DROPOUT, str(file))
    kind, heads = "ernie" if config.max_len == ERNIE_POSITIONS else "bert", 1
    parts = _NAME.search(file.name)
    sizes = [config.num_blks, config.num_hiddens]
    heads_known = parts is not None and [int(parts[2]), int(parts[3])] == sizes
    if parts is not None and heads_known:
        kind, heads = parts[1], int(parts[4])
    if kind == "ernie":  # the activation of its MLM head is not that of its blocks
        arrays = {name: array for name, array in arrays.items() if not name.startswith("mlm.")}
    activation, eps = KINDS[kind]
    config = replace(
        config, num_heads=heads, activation=activation, embedding_norm=True, norm_eps=eps
    )
    task = re.fullmatch(r"model_bert_([A-Z]+)_\d+\.params", file.name)
    labels = TASKS.get(task[1]) if task is not None and WEIGHT in arrays else None
    return Checkpoint(arrays, config, labels=labels, format=FORMAT, heads_known=heads_known)


def find_vocab(file: Path) -> Vocab | None:
    """Load the vocabulary that belongs to a model's file from its folder; None if there is none."""
    files = sorted(file.parent.glob("*.vocab"))
    named = [path for path in files if re.sub(r"-\w+$", "", path.stem) in file.name]
    if named or len(files) == 1:
        return load_gluonnlp(max(named or files, key=lambda path: len(path.stem)))
    vocab = load_vocab(file.parent)
    if vocab is None and files:
        raise DataError(
            f"{file.parent} has {len(files)} vocabularies, none of them named as {file.name} is; "
            "put the model and its own into a folder"
        )
    return vocab
