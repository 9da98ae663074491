"""Files of GluonNLP 0.x: the BERTs of its model zoo, and classifiers that it fine-tuned; read only.

bert_12_768_12_book_corpus_wiki_en_uncased-75cc780f.params    what `save_parameters` writes
book_corpus_wiki_en_uncased-a6607397.vocab                    the word pieces, JSON

All of the zoo's files lie in one folder, ``~/.mxnet/models``: a model is named by its file, and its
vocabulary is the one whose name is in the model's. The tensors' names are those of its `BERTModel`,
with all heads or without, and `BERTClassifier`; RoBERTa and DistilBERT are other models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from numpy.typing import NDArray

from bertnli.bert.parameters import infer_config
from bertnli.errors import CheckpointError, DataError
from bertnli.formats.checkpoint import DROPOUT, Checkpoint
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import load_gluonnlp, load_vocab

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
#: The classes of the tasks that its fine-tuning script knows, in its order; the script names its
#: files model_bert_TASK_EPOCH.params.
TASKS = {
    "MNLI": ("neutral", "entailment", "contradiction"),
    "XNLI": ("neutral", "entailment", "contradiction"),
    "QNLI": ("not_entailment", "entailment"),
    "RTE": ("not_entailment", "entailment"),
}
_NAME = re.compile(r"(bert|ernie)_(\d+)_(\d+)_(\d+)(?=_|\b)")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether tensors are named as in GluonNLP's BERT."""
    return any(re.match(r"(\w+\.)?encoder\.transformer_cells\.", name) for name in stored)


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Read a checkpoint from a file, without its vocabulary.

    The file's name tells the number of heads. A classifier's does not, nor which model it is.
    """
    arrays = _renamed(stored, str(file))
    config = infer_config(arrays, 1, DROPOUT, str(file))
    named = _NAME.search(file.name)
    sizes = [config.num_blks, config.num_hiddens]
    heads_known = named is not None and [int(named[2]), int(named[3])] == sizes
    kind, heads = "ernie" if config.max_len == ERNIE_POSITIONS else "bert", 1
    if named is not None and heads_known:
        kind, heads = named[1], int(named[4])
    if kind == "ernie":  # its MLM head has another activation than its blocks
        arrays = {name: array for name, array in arrays.items() if not name.startswith("mlm.")}
    activation, eps = KINDS[kind]
    config = replace(
        config, num_heads=heads, activation=activation, embedding_norm=True, norm_eps=eps
    )
    task = re.fullmatch(r"model_bert_([A-Z]+)_\d+\.params", file.name)
    labels = TASKS.get(task[1]) if task is not None and "output.weight" in arrays else None
    return Checkpoint(arrays, config, labels=labels, format=FORMAT, heads_known=heads_known)


def _renamed(stored: Mapping[str, NDArray], source: str) -> dict[str, NDArray]:
    classifies = any(name.startswith("bert.") for name in stored)

    def translate(name: str) -> str:
        plain = without_gamma(name)
        # The dropout before a classifier's output layer, if there is one, has the number 0.
        head = re.fullmatch(r"classifier\.\d\.(weight|bias)", plain) if classifies else None
        if head is not None:
            return f"output.{head[1]}"
        return by_template(plain.removeprefix("bert."), NAMES)

    arrays = canonical(stored, translate, source)
    if "encoder.segment_embedding.weight" not in arrays:
        raise CheckpointError(
            f"{source} holds no embeddings of token types: it is a model of GluonNLP, and of these "
            "only BERT and ERNIE are computed here, not RoBERTa or DistilBERT"
        )
    return arrays


def find_vocab(file: Path) -> Vocab | None:
    """Return the vocabulary that belongs to a model's file, from its folder; None without one.

    Raises:
        DataError: it cannot be read, or there are several and none is named as the model is.
        BackendError: the package tokenizers is missing.
    """
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
