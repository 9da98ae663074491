"""Hugging Face's folders of a BERT, read and written without transformers.

config.json         sizes, activation, class names; bert_config.json in Google's releases
model.safetensors   the tensors, or pytorch_model.bin, a state dict; each may be an index and shards
tokenizer.json      how text is cut into word pieces, or vocab.txt

The tensors' names are those of `BertModel`, `BertForSequenceClassification`, `BertForMaskedLM` and
`BertForPreTraining`. Another type of model is one more entry of `FAMILIES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.checkpoint import Checkpoint, check_sizes
from bertnli.formats.class_names import read_class_names
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.formats.tensors import write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.tokenizer_config import SETTINGS_FILE, SPECIAL
from bertnli.text.wordpiece import WordPieceVocab

CONFIG, GOOGLE_CONFIG, WEIGHTS = "config.json", "bert_config.json", "model.safetensors"
#: In the tokenizer's settings, the rule by which pairs are cut, where it is not transformers' own.
TRUNCATION, OWN_TRUNCATION = "pair_truncation", "longest_first"
#: Hugging Face's names of activations, of which the first is written.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
#: Our names of sizes, and those in a config.json.
SIZES = {
    "vocab_size": "vocab_size",
    "num_hiddens": "hidden_size",
    "ffn_num_hiddens": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_blks": "num_hidden_layers",
    "max_len": "max_position_embeddings",
}
#: What a classifier's output may be; softmax is wrong for the others.
PROBLEMS = (None, "single_label_classification")
#: Buffers that older versions of transformers stored among the weights.
BUFFERS = ("position_ids",)


@dataclass(frozen=True)
class Family:
    """How transformers describes one type of model that is computed here.

    Args:
        names: canonical names of layers (of block {}) and tensors to transformers'.
        aliases: other names that files may use, to those of `names`.
        bare: how names begin in a file of the model without heads, which has no prefix.
        fixed: settings that change what is computed, with the only value that is computed here.
    """

    names: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    bare: tuple[str, ...] = ("embeddings.", "encoder.layer.", "pooler.")
    fixed: Mapping[str, Any] = field(default_factory=dict)


BERT = Family(
    names={
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
    },
    aliases={"cls.predictions.bias": "cls.predictions.decoder.bias"},
    fixed={
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "is_decoder": False,
        "add_cross_attention": False,
    },
)
#: The model_type of a config.json, with which the names of tensors begin, to what it means.
FAMILIES = {"bert": BERT}
#: How transformers' models of other types begin the names of their tensors.
OTHERS = ("roberta", "deberta", "distilbert", "electra", "albert", "mpnet", "xlnet", "bart")
_NAMED = re.compile(rf"({'|'.join((*FAMILIES, *OTHERS))})\.|embeddings\.|encoder\.layer\.")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether tensors are named as in transformers, or a config.json says another type."""
    _, described = read_description(file.parent)
    kind = described.get("model_type", "bert")
    return kind not in [*FAMILIES] or any(_NAMED.match(name) for name in stored)


def read_description(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the config.json of a transformers model, and what it says: nothing without one."""
    path = folder / CONFIG
    path = path if is_there(path) else folder / GOOGLE_CONFIG
    if not is_there(path):
        return folder / CONFIG, {}
    described = read_json_object(path, CheckpointError)
    keys = ("model_type", "id2label", "hidden_size")
    is_ours = "format" in described or not any(key in described for key in keys)
    return path, {} if is_ours else described


def read(file: Path, stored: Mapping[str, NDArray]) -> Checkpoint:
    """Read a checkpoint from a folder, without its vocabulary."""
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
    arrays = _renamed(stored, FAMILIES[described.get("model_type", "bert")], file)
    check_sizes(arrays, config, path, SIZES)
    labels, unnamed = read_class_names(described)
    other_head = ""
    if described.get("problem_type") not in PROBLEMS:
        other_head = (
            f"{path}: problem_type is {described['problem_type']!r}; only classes of which one is "
            "right are computed here"
        )
    encoding = None
    if "output.weight" in arrays:
        encoding = read_encoding(file.parent, config.max_len)
    return Checkpoint(
        arrays,
        config,
        labels=labels,
        encoding=encoding,
        format="Hugging Face BERT",
        unnamed=unnamed,
        other_head=other_head,
    )


def _check_type(kind: Any, path: Path) -> None:
    if kind not in [*FAMILIES]:  # a list: the kind of a damaged file may have no hash
        raise CheckpointError(
            f"{path}: a model of type {kind!r:.80}, and only 'bert' is computed here: of Hugging "
            "Face's models those of model_type 'bert', such as BERT, MiniLM and TinyBERT"
        )


def read_config(path: Path, described: Mapping[str, Any]) -> BERTConfig:
    """Return the sizes of a description, or CheckpointError if they are not computed here."""
    kind = described.get("model_type", "bert")
    _check_type(kind, path)
    for name, value in FAMILIES[kind].fixed.items():
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
    """Return how a model's pairs are cut to length.

    As transformers' tokenizers do, up to ``model_max_length`` or, without one, to the model's
    positions; by another rule where `write` wrote its name.
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


def _renamed(stored: Mapping[str, NDArray], family: Family, file: Path) -> dict[str, NDArray]:
    table = {value: key for key, value in family.names.items()}
    prefix = next(iter(table)).partition(".")[0]

    def translate(name: str) -> str:
        name = without_gamma(name)
        if name.startswith(family.bare):
            name = f"{prefix}.{name}"
        return by_template(family.aliases.get(name, name), table)

    learned = {name: array for name, array in stored.items() if not name.endswith(BUFFERS)}
    return canonical(learned, translate, str(file))


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder that `AutoTokenizer` opens, and transformers' model of the same kind.

    With labels that is `AutoModelForSequenceClassification`, without `BertForPreTraining`.
    transformers takes over the length at which pairs are cut, and has no rule but its own.
    """
    config, vocab, encoding = checkpoint.config, checkpoint.vocab, checkpoint.encoding
    instead = "Write it with --to torch, mxnet or bertnli, or `bertnli export --format onnx`"
    if not config.embedding_norm:
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
    tensors = {by_template(name, BERT.names): array for name, array in arrays.items()}
    tensors[BERT.names["encoder.pos_embedding"]] = arrays["encoder.pos_embedding"][0]
    tied = True
    if checkpoint.labels is None:
        table, decoder = arrays["encoder.token_embedding.weight"], arrays["mlm.decoder.weight"]
        tied = bool(np.array_equal(table, decoder))
        tensors["cls.predictions.bias"] = arrays["mlm.decoder.bias"]
        for leaf in ("weight", "bias"):  # the first class there is the book's second
            tensors[f"cls.seq_relationship.{leaf}"] = arrays[f"nsp.output.{leaf}"][::-1]
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": config.max_len if encoding is None else encoding.max_len,
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
    """Return the settings in config.json."""
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
        **BERT.fixed,
    }
    if labels is not None:
        described |= {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    return described
