"""Read and write Hugging Face's folders of a BERT, without transformers.

config.json         sizes, activation, class names; bert_config.json in Google's releases
model.safetensors   the tensors, or pytorch_model.bin, a state dict; each may be an index and shards
tokenizer.json      how text is cut into word pieces, or vocab.txt

The tensors' names are those of `BertModel`, `BertForSequenceClassification`, `BertForMaskedLM` and
`BertForPreTraining`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import TOKEN_TABLE
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.checkpoint import WEIGHT, Checkpoint, check_sizes
from bertnli.formats.class_names import read_class_names
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.formats.tensors import write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.tokenizer_config import SETTINGS_FILE, SPECIAL
from bertnli.text.wordpiece import WordPieceVocab

CONFIG, GOOGLE_CONFIG, WEIGHTS = "config.json", "bert_config.json", "model.safetensors"
#: An entry of the tokenizer's settings for another rule of truncation than that of transformers.
TRUNCATION, OWN_TRUNCATION = "pair_truncation", "longest_first"
#: Hugging Face's names of activations, of which the first is written.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
#: `BERTConfig` field to its name in a config.json.
SIZES = {
    "vocab_size": "vocab_size",
    "num_hiddens": "hidden_size",
    "ffn_num_hiddens": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_blks": "num_hidden_layers",
    "max_len": "max_position_embeddings",
}
#: Settings that change what a model computes, with the only value that is computed here.
FIXED = {
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "is_decoder": False,
    "add_cross_attention": False,
}
#: Values of ``problem_type`` for which the outputs are logits of exclusive classes.
PROBLEMS = (None, "single_label_classification")
#: Canonical names of layers and tensors to those of transformers; {} is the number of a block.
NAMES = {
    "encoder.pos_embedding": "bert.embeddings.position_embeddings.weight",
    "encoder.token_embedding": "bert.embeddings.word_embeddings",
    "encoder.segment_embedding": "bert.embeddings.token_type_embeddings",
    "encoder.ln": "bert.embeddings.LayerNorm",
    "encoder.blks.{}.attention.W_q": "bert.encoder.layer.{}.attention.self.query",
    "encoder.blks.{}.attention.W_k": "bert.encoder.layer.{}.attention.self.key",
    "encoder.blks.{}.attention.W_v": "bert.encoder.layer.{}.attention.self.value",
    "encoder.blks.{}.attention.W_o": "bert.encoder.layer.{}.attention.output.dense",
    "encoder.blks.{}.addnorm1.ln": "bert.encoder.layer.{}.attention.output.LayerNorm",
    "encoder.blks.{}.ffn.dense1": "bert.encoder.layer.{}.intermediate.dense",
    "encoder.blks.{}.ffn.dense2": "bert.encoder.layer.{}.output.dense",
    "encoder.blks.{}.addnorm2.ln": "bert.encoder.layer.{}.output.LayerNorm",
    "hidden": "bert.pooler.dense",
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.ln": "cls.predictions.transform.LayerNorm",
    "mlm.decoder": "cls.predictions.decoder",
    "nsp.output": "cls.seq_relationship",
    "output": "classifier",
}
#: How names begin in a file of `BertModel`, the model without heads: without the prefix "bert.".
BARE = ("embeddings.", "encoder.layer.", "pooler.")
#: Buffers that older versions of transformers stored among the weights.
BUFFERS = ("position_ids",)
#: Prefixes of tensors in transformers' models of other types.
OTHERS = ("roberta", "deberta", "distilbert", "electra", "albert", "mpnet", "xlnet", "bart")
_TENSOR = re.compile(rf"(bert|{'|'.join(OTHERS)})\.|embeddings\.|encoder\.layer\.")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether a file is of transformers, by its tensors' names or its config.json."""
    _, described = read_description(file.parent)
    kind = described.get("model_type", "bert")
    return kind != "bert" or any(_TENSOR.match(name) for name in stored)


def read_description(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the path of a folder's config.json, and its content.

    The content is {} if there is no such file, or if it is one in bertnli's own format.
    """
    path = folder / CONFIG
    path = path if is_there(path) else folder / GOOGLE_CONFIG
    if not is_there(path):
        return folder / CONFIG, {}
    described = read_json_object(path, CheckpointError)
    keys = ("model_type", "id2label", "hidden_size")
    is_ours = "format" in described or not any(key in described for key in keys)
    return path, {} if is_ours else described


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Make a checkpoint of the tensors ``stored`` in a file and of the config.json beside it.

    It has no vocabulary yet.
    """
    path, described = read_description(file.parent)
    if not described:
        for name in stored:
            if name.startswith(OTHERS):
                _check_type(name.partition(".")[0], file)
        raise CheckpointError(
            f"{file} has the tensors of a model of transformers, whose sizes and activation are in "
            f"its {CONFIG}; put that file beside it"
        )
    config = read_config(path, described)
    learned = {name: array for name, array in stored.items() if not name.endswith(BUFFERS)}
    arrays = canonical(learned, _canonical_name, str(file))
    check_sizes(arrays, config, path, SIZES)
    labels, unnamed = read_class_names(described)
    other_head = ""
    if described.get("problem_type") not in PROBLEMS:
        other_head = (
            f"{path}: problem_type is {described['problem_type']!r}; only classes of which one is "
            "right are computed here"
        )
    return Checkpoint(
        arrays,
        config,
        labels=labels,
        encoding=read_encoding(file.parent, config.max_len) if WEIGHT in arrays else None,
        format="Hugging Face BERT",
        unnamed=unnamed,
        other_head=other_head,
    )


def _canonical_name(name: str) -> str:
    """Convert a tensor name of transformers to the canonical one; KeyError if it has none."""
    name = without_gamma(name)
    if name == "cls.predictions.bias":
        return "mlm.decoder.bias"
    name = f"bert.{name}" if name.startswith(BARE) else name
    return by_template(name, {value: key for key, value in NAMES.items()})


def _check_type(kind: Any, path: Path) -> None:
    if kind != "bert":
        raise CheckpointError(
            f"{path}: a model of type {kind!r:.80}, and only 'bert' is computed here: of Hugging "
            "Face's models those of model_type 'bert', such as BERT, MiniLM and TinyBERT"
        )


def read_config(path: Path, described: Mapping[str, Any]) -> BERTConfig:
    """Make a `BERTConfig` of ``described``, the content of the config.json at ``path``."""
    _check_type(described.get("model_type", "bert"), path)
    for name, value in FIXED.items():
        if described.get(name, value) != value:
            raise CheckpointError(
                f"{path}: {name} is {described[name]!r}, and only {value!r} is computed here"
            )
    act = described.get("hidden_act", "gelu")
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise CheckpointError(f"{path}: hidden_act is {act!r}, none of {sorted(ACTIVATIONS)}")
    try:
        return BERTConfig(
            **{name: described[key] for name, key in SIZES.items()},
            dropout=float(described.get("hidden_dropout_prob", 0.1)),
            activation=ACTIVATIONS[act],
            embedding_norm=True,
            norm_eps=float(described.get("layer_norm_eps", 1e-12)),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing") from error
    except (ConfigError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_encoding(folder: Path, positions: int) -> PairEncoding:
    """Read from a tokenizer's settings how a model truncates sentence pairs.

    The rule is that of transformers' tokenizers, unless `write` has added another one. The length
    is ``model_max_length``, at most the model's number of positions.
    """
    path = folder / SETTINGS_FILE
    if not is_there(path):
        return PairEncoding(positions, OWN_TRUNCATION)
    described = read_json_object(path, CheckpointError)
    if described.get("truncation_side", "right") != "right":
        raise CheckpointError(
            f"{path}: truncation_side is {described['truncation_side']!r}, and only the ends of "
            'sentences are cut here; set it to "right" if no pair is longer than the model reads'
        )
    longest = described.get("model_max_length")
    longest = positions if longest is None else longest
    # "No limit" is written as 1e30, which JSON may give as a float.
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
        raise CheckpointError(f"{path}: model_max_length is {longest!r}, and no number of tokens")
    rule = described.get(TRUNCATION, OWN_TRUNCATION)
    values = {"max_len": int(min(longest, positions)), "truncation": rule}
    try:
        return PairEncoding.from_dict(values, positions)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder that transformers' `AutoTokenizer` and model classes open.

    With labels it is for `AutoModelForSequenceClassification`, without for `BertForPreTraining`.
    transformers adopts the maximum length of pairs, but only knows its own rule of truncation.
    """
    vocab, encoding = checkpoint.vocab, checkpoint.encoding
    instead = "Write it with --to torch, mxnet or bertnli, or `bertnli export --format onnx`"
    if not checkpoint.config.embedding_norm:
        raise CheckpointError(
            "transformers' BERT normalises the sum of the embeddings, and this model, the book's, "
            f"does not: no values of the same tensors make the two compute the same. {instead}"
        )
    if not isinstance(vocab, WordPieceVocab):
        raise CheckpointError(
            "transformers' BERT has a vocabulary of word pieces, and this model has one of words. "
            f"{instead}"
        )
    arrays = checkpoint.arrays
    tensors = {by_template(name, NAMES): array for name, array in arrays.items()}
    tensors[NAMES["encoder.pos_embedding"]] = arrays["encoder.pos_embedding"][0]
    tied = True
    if checkpoint.labels is None:
        table, decoder = arrays[TOKEN_TABLE], arrays["mlm.decoder.weight"]
        tied = bool(np.array_equal(table, decoder))
        tensors["cls.predictions.bias"] = arrays["mlm.decoder.bias"]
        for leaf in ("weight", "bias"):  # the first class there is the book's second
            tensors[f"cls.seq_relationship.{leaf}"] = arrays[f"nsp.output.{leaf}"][::-1]
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": checkpoint.config.max_len if encoding is None else encoding.max_len,
        **({} if encoding is None else {TRUNCATION: encoding.truncation}),
        **{f"{token.strip('<>')}_token": text for token, text in SPECIAL.items()},
        **vocab.settings(),
    }
    described = {**_description(checkpoint), "tie_word_embeddings": tied}
    folder.mkdir()
    write_tensors(folder / WEIGHTS, tensors, "pt")
    vocab.save(folder / vocab.FILE)
    (folder / "vocab.txt").write_text("\n".join(vocab.idx_to_token) + "\n", encoding="utf-8")
    for name, values in ((SETTINGS_FILE, tokenizer), (CONFIG, described)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of the config.json, without ``tie_word_embeddings``."""
    config, labels = checkpoint.config, checkpoint.labels
    described: dict[str, Any] = {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        **{key: getattr(config, name) for name, key in SIZES.items()},
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "hidden_act": next(key for key, act in ACTIVATIONS.items() if act == config.activation),
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": checkpoint.vocab.required("<pad>"),
        **FIXED,
    }
    if labels is not None:
        described |= {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    return described
