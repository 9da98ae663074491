"""Read files of GluonNLP 0.x: the BERTs of its model zoo, and classifiers that it fine-tuned.

bert_12_768_12_book_corpus_wiki_en_uncased-75cc780f.params    what `save_parameters` writes
book_corpus_wiki_en_uncased-a6607397.vocab                    the word pieces, JSON
openai_webtext_bpe_ranks-396d4d8e.json                        RoBERTa's merges of bytes, a line each

All files of the zoo are in one folder, ``~/.mxnet/models``: a model is named by its file, and the
name of its vocabulary is a part of that name. The tensors' names are those of its `BERTModel`,
`RoBERTaModel` and `DistilBERTModel`, with or without heads, and of the classifiers around them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import COPY_ANEW, MAX_VOCAB, read_json_object, read_text
from bertnli.bert.parameters import SEGMENT_TABLE, infer_config
from bertnli.errors import CheckpointError, DataError
from bertnli.formats.checkpoint import DROPOUT, WEIGHT, Checkpoint
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.text.subwords import SubwordVocab, load_gluonnlp, load_vocab
from bertnli.text.vocab import Vocab

#: How the name of the format begins.
FORMAT = "GluonNLP"
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
#: Kind of model, as a file's name begins, to its name, activation and epsilon of layer
#: normalisation.
KINDS = {
    "bert": ("BERT", "gelu", 1e-12),
    "ernie": ("ERNIE", "relu", 1e-5),
    "roberta": ("RoBERTa", "gelu", 1e-5),
    "distilbert": ("DistilBERT", "gelu", 1e-5),
}
#: The number of positions of ERNIE, and of no other model.
ERNIE_POSITIONS = 513
#: The rows before the first position in RoBERTa's table, which GluonNLP's files lack.
ROBERTA_FIRST = 2
#: GLUE task to its classes in the order of GluonNLP's fine-tuning script, which names its files
#: model_bert_TASK_EPOCH.params.
TASKS = {
    "MNLI": ("neutral", "entailment", "contradiction"),
    "XNLI": ("neutral", "entailment", "contradiction"),
    "QNLI": ("not_entailment", "entailment"),
    "RTE": ("not_entailment", "entailment"),
}
_NAME = re.compile(r"(roberta|distilbert|bert|ernie)_(\d+)_(\d+)_(\d+)(?=_|\b)")
#: Limit of RoBERTa's pieces, and of its merges; GluonNLP's has 50,265 and 50,000.
MAX_MERGED = 1 << 17
#: RoBERTa's special tokens of a pair.
_SPECIAL = ("<s>", "</s>")
#: RoBERTa's merges: GluonNLP's file, or the same under the name that transformers uses.
_MERGES = ("*bpe_ranks*.json", "merges.txt")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether the tensors ``stored`` in a file have the names of GluonNLP's BERT."""
    return any(re.match(r"(\w+\.)?encoder\.transformer_cells\.", name) for name in stored)


def read(file: Path, stored: Mapping[str, NDArray], kind: str = "") -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file, and of the file's name.

    The name of a pretrained model's file says the number of heads; a classifier's does not.

    Args:
        file: path of the file.
        stored: the file's tensors by name.
        kind: one of `KINDS`, which decides where the tensors do not; empty for the file's name.
    """
    # Dropout, if there is any, has a number, too.
    numbered = {
        m[0]: int(m[1]) for m in (re.match(r"classifier\.(\d{1,3})\b", n) for n in stored) if m
    }
    layers = sorted(numbered, key=lambda layer: numbered[layer])
    heads = dict(zip(layers, ("hidden", "output")[-len(layers) :], strict=False))

    def translate(name: str) -> str:
        name = without_gamma(name)
        layer, _, leaf = name.rpartition(".")
        if layer in heads:
            return f"{heads[layer]}.{leaf}"
        return by_template(re.sub(r"^(bert|roberta)\.", "", name), NAMES)

    arrays = canonical(stored, translate, str(file))
    config = infer_config(arrays, 1, DROPOUT, str(file))
    parts, num_heads = _NAME.search(file.name), 1
    sizes = [config.num_blks, config.num_hiddens]
    heads_known = parts is not None and [int(parts[2]), int(parts[3])] == sizes
    if parts is not None and heads_known:
        kind, num_heads = kind or parts[1], int(parts[4])
    kind = _kind(file, arrays, len(heads), kind)
    if kind == "ernie":  # the activation of its MLM head is not that of its blocks
        arrays = {name: array for name, array in arrays.items() if not name.startswith("mlm.")}
    settings: dict[str, Any] = {}
    if kind == "roberta":
        # Zeros for what transformers' RoBERTa has besides: they change nothing that is computed.
        rows = arrays["encoder.pos_embedding"]
        before = [(ROBERTA_FIRST * (axis == 1), 0) for axis in range(rows.ndim)]
        arrays["encoder.pos_embedding"] = np.pad(rows, before)
        arrays[SEGMENT_TABLE] = np.zeros_like(rows, shape=(1, rows.shape[-1]))
        settings = {"first_position": ROBERTA_FIRST, "num_segments": 1, "pair_segments": False}
    elif kind == "distilbert":
        settings = {"pooler_activation": "relu"}
    name, activation, eps = KINDS[kind]
    config = replace(
        config,
        num_heads=num_heads,
        activation=activation,
        embedding_norm=True,
        norm_eps=eps,
        family=kind if settings else "bert",
        **settings,
    )
    task = re.fullmatch(r"model_bert_([A-Z]+)_\d+\.params", file.name)
    labels = TASKS.get(task[1]) if task is not None and WEIGHT in arrays else None
    return Checkpoint(
        arrays, config, labels=labels, format=f"{FORMAT} {name}", heads_known=heads_known
    )


def _kind(file: Path, arrays: Mapping[str, NDArray], num_layers: int, named: str) -> str:
    """Return which of `KINDS` a model is.

    Args:
        file: path of the file.
        arrays: tensors by canonical name.
        num_layers: the number of dense layers of the classifier; 0 for a pretrained model.
        named: the kind by the file's name, or empty.
    """
    if SEGMENT_TABLE in arrays:
        is_ernie = arrays["encoder.pos_embedding"].shape[1] == ERNIE_POSITIONS
        return named if named in ("bert", "ernie") else "ernie" if is_ernie else "bert"
    if "hidden.weight" in arrays and num_layers < 2:  # with a pooler, and without segments
        return "bert"
    if "mlm.dense.weight" in arrays or num_layers:
        return "roberta"
    if named not in ("roberta", "distilbert"):
        raise CheckpointError(
            f"{file} holds no more than RoBERTa and DistilBERT have in common; let its name begin "
            "as in GluonNLP's model zoo, such as roberta_12_768_12_ or distilbert_6_768_12_"
        )
    return named


def find_vocab(file: Path) -> Vocab | None:
    """Load the vocabulary that belongs to a model's file from its folder; None if there is none."""
    files = sorted(file.parent.glob("*.vocab"))
    named = [path for path in files if re.sub(r"-\w+$", "", path.stem) in file.name]
    if named or len(files) == 1:
        path = max(named or files, key=lambda path: len(path.stem))
        described = read_json_object(path, DataError, MAX_VOCAB)
        tokens = described.get("idx_to_token")
        if isinstance(tokens, list) and _SPECIAL[0] in tokens and "[CLS]" not in tokens:
            return _load_merged(path, tokens)
        return load_gluonnlp(path)
    vocab = load_vocab(file.parent)
    if vocab is None and files:
        raise DataError(
            f"{file.parent} has {len(files)} vocabularies, none of them named as {file.name} is; "
            "put the model and its own into a folder"
        )
    return vocab


def _load_merged(path: Path, tokens: list[Any]) -> Vocab:
    """Read RoBERTa's vocabulary: pieces of text in bytes, and the merges in another file.

    Text is cut as by GluonNLP's `GPT2BPETokenizer`, which knows no special tokens in it, and a pair
    has one separator, as GluonNLP trains its classifiers.
    """
    merges = next((file for name in _MERGES for file in sorted(path.parent.glob(name))), None)
    if merges is None:
        vocab = load_vocab(path.parent)
        if vocab is None:
            raise DataError(
                f"{path}: its merges are in GluonNLP's openai_webtext_bpe_ranks-396d4d8e.json, and "
                "in merges.txt of Hugging Face's roberta-base; put either beside it"
            )
        return vocab
    lines = read_text(merges, DataError, MAX_VOCAB).rstrip("\n").split("\n", MAX_MERGED)
    if max(len(lines), len(tokens)) > MAX_MERGED:
        raise DataError(f"{path} or {merges.name}: more than {MAX_MERGED:,} pieces or merges")
    results = {line.replace(" ", "") for line in lines[1:]}
    try:
        ids = {token: i for i, token in enumerate(tokens)}
        lacking = [t for t in tokens if len(t) > 1 and t[0] != "<" and t not in results]
        if len(ids) < len(tokens) or len(lacking) > len(tokens) / 100:
            raise DataError(
                f"{path}: {len(tokens) - len(ids)} of its pieces occur twice, and {merges.name} "
                f"lacks the merges of {len(lacking)}. {COPY_ANEW}"
            )
        special = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in _SPECIAL}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: it is no vocabulary of RoBERTa's: {error}") from error
    begin, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in _SPECIAL)
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    definition = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {**bytes_of, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, a, end],
            "pair": [begin, a, end, b, end],
            "special_tokens": special,
        },
        "decoder": {**bytes_of, "use_regex": True},
        "model": {"type": "BPE", "vocab": ids, "merges": lines[1:], "unk_token": "<unk>"},
    }
    try:
        return SubwordVocab(json.dumps(definition))
    except DataError as error:
        raise DataError(f"{path} and {merges.name}: {error}") from error
