"""Hugging Face's folders of a BERT, read and written without transformers.

config.json         sizes, activation, class names; bert_config.json in Google's releases
model.safetensors   the tensors, or pytorch_model.bin, a state dict; each may be an index and shards
tokenizer.json      how text is cut into word pieces, or vocab.txt

The tensors' names are those of `BertModel`, `BertForSequenceClassification`, `BertForMaskedLM` and
`BertForPreTraining`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.class_names import read_class_names
from bertnli.formats.names import by_template
from bertnli.formats.tensors import write_tensors
from bertnli.formats.weights import COMPUTED, WEIGHTS
from bertnli.text.pairs import PairEncoding
from bertnli.text.tokenizer_config import SETTINGS_FILE, SPECIAL
from bertnli.text.vocab import Vocab
from bertnli.text.wordpiece import WordPieceVocab

CONFIG, GOOGLE_CONFIG = "config.json", "bert_config.json"
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
#: How transformers' models of other types begin the names of their tensors.
OTHERS = ("roberta", "deberta", "distilbert", "electra", "albert", "mpnet", "xlnet", "bart")
#: Settings that change what is computed, with the only value that a BERT here can have.
FIXED = {
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "is_decoder": False,
    "add_cross_attention": False,
}
#: What a classifier's output may be; softmax is wrong for the others.
PROBLEMS = (None, "single_label_classification")
#: Canonical names of layers (of block {}) and tensors, and Hugging Face's.
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
_CANONICAL = {theirs: ours for ours, theirs in NAMES.items()}


@dataclass(frozen=True)
class Description:
    """What a config.json says.

    Args:
        config: the sizes.
        labels: the classes' names in the order of the logits, if there are any.
        unnamed: why there are none, if it is worth saying.
        other_head: why the output of a classifier is none of classes; empty if it is one.
    """

    config: BERTConfig
    labels: tuple[str, ...] | None
    unnamed: str
    other_head: str


def is_huggingface(folder: Path) -> bool:
    """Return whether a folder has what a Hugging Face model has.

    Raises:
        CheckpointError: its config.json cannot be read.
    """
    return _config_path(folder) is not None


def _config_path(folder: Path) -> Path | None:
    """Return the file that says what the model of a folder is; None where there is none."""
    path = folder / CONFIG
    path = path if is_there(path) else folder / GOOGLE_CONFIG
    if not is_there(path):
        return None
    described = read_json_object(path, CheckpointError)
    keys = ("model_type", "id2label", "hidden_size")
    return path if "format" not in described and any(key in described for key in keys) else None


def config_path(folder: Path) -> Path:
    """Return the file that says what the model of a folder is, which may be missing."""
    return _config_path(folder) or folder / CONFIG


def check_type(folder: Path) -> None:
    """Raise CheckpointError where the model of a folder is no BERT, by its config.json."""
    path = config_path(folder)
    _check_type(read_json_object(path, CheckpointError).get("model_type", "bert"), path)


def check_names(stored: Iterable[str], path: Path) -> None:
    """Raise CheckpointError where the names of tensors are those of another type of model."""
    for name in stored:
        if name.startswith(tuple(f"{kind}." for kind in OTHERS)):
            _check_type(name.partition(".")[0], path)


def _check_type(kind: Any, path: Path) -> None:
    if kind != "bert":
        raise CheckpointError(
            f"{path}: a model of type {kind!r:.80}, and only 'bert' is computed here: of Hugging "
            "Face's models those of model_type 'bert', such as BERT, MiniLM and TinyBERT"
        )


def read_config(folder: Path) -> Description:
    """Return what the config.json of a folder says.

    Raises:
        CheckpointError: the file is missing or damaged, or the model is no BERT that is computed
            here; the message names what is different.
    """
    path = config_path(folder)
    described = read_json_object(path, CheckpointError)
    _check_type(described.get("model_type", "bert"), path)
    for name, value in FIXED.items():
        if described.get(name, value) != value:
            raise CheckpointError(
                f"{path}: {name} is {described[name]!r}, and only {value!r} is computed here"
            )
    other_head = ""
    if described.get("problem_type") not in PROBLEMS:
        other_head = (
            f"{path}: problem_type is {described['problem_type']!r}; only classes of which one is "
            "right are computed here"
        )
    act = described.get("hidden_act", "gelu")
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise CheckpointError(f"{path}: hidden_act is {act!r}, none of {sorted(ACTIVATIONS)}")
    try:
        config = BERTConfig(
            **{ours: described[theirs] for ours, theirs in SIZES.items()},
            dropout=float(described.get("hidden_dropout_prob", 0.1)),
            activation=ACTIVATIONS[act],
            embedding_norm=True,
            norm_eps=float(described.get("layer_norm_eps", 1e-12)),
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing") from error
    except (ConfigError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Description(config, *read_class_names(described), other_head)


def read_encoding(folder: Path, positions: int) -> PairEncoding:
    """Return how a model's pairs are cut to length.

    As transformers' tokenizers do, up to ``model_max_length`` or, without one, to the model's
    positions; by another rule where `write_model` wrote its name.

    Raises:
        CheckpointError: the file is damaged, or pairs are cut in a way that is not done here.
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
    if longest is None:
        longest = positions
    # "No limit" is written as 1e30, which JSON may give as a float.
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
        raise CheckpointError(f"{path}: model_max_length is {longest!r}, and no number of tokens")
    try:
        values = {
            "max_len": int(min(longest, positions)),
            "truncation": described.get(TRUNCATION, OWN_TRUNCATION),
        }
        return PairEncoding.from_dict(values, positions)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def has_names(stored: Iterable[str]) -> bool:
    """Return whether tensors are named as in transformers' BERT."""
    return any(re.match(r"(bert\.)?(embeddings|encoder\.layer)\.", name) for name in stored)


def rename(stored: Mapping[str, NDArray], path: Path) -> dict[str, NDArray]:
    """Return tensors under their canonical names.

    Those that are computed and not learned are left out. A decoder that is tied to the token
    embedding, which may not be in the file, is that embedding.

    Args:
        stored: transformers' name to tensor.
        path: the file, for messages.

    Raises:
        CheckpointError: there is a tensor of no known BERT.
    """
    found: dict[str, NDArray] = {}
    unknown = []
    for name, array in stored.items():
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.endswith(COMPUTED):
            continue
        if name == "cls.predictions.bias":
            name = "cls.predictions.decoder.bias"
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        try:
            ours = by_template(name, _CANONICAL)
        except KeyError:
            unknown.append(name)
            continue
        if ours in found and found[ours].tobytes() != array.tobytes():  # tied ones are the same
            raise CheckpointError(f"{path} holds {name} twice, under two names, and they differ")
        found[ours] = array
    if unknown:
        raise CheckpointError(f"{path}: no BERT has the tensors {', '.join(unknown[:5])}")
    if found.get("encoder.pos_embedding", np.empty(0)).ndim == 2:
        found["encoder.pos_embedding"] = found["encoder.pos_embedding"][None]
    table = found.get("encoder.token_embedding.weight")
    if table is not None and "mlm.decoder.bias" in found:
        found.setdefault("mlm.decoder.weight", table)
    for name in ("nsp.output.weight", "nsp.output.bias"):
        if (
            name in found and found[name].ndim
        ):  # its first class is "is the next", the book's second
            found[name] = found[name][::-1]
    return found


def write_model(
    folder: Path,
    arrays: Mapping[str, NDArray],
    config: BERTConfig,
    vocab: Vocab,
    labels: Sequence[str] | None,
    encoding: PairEncoding | None = None,
) -> None:
    """Write a folder that `AutoTokenizer` opens, and transformers' model of the same kind.

    With labels that is `AutoModelForSequenceClassification`, without `BertForPreTraining`.

    Args:
        folder: a new one, or an empty one.
        arrays: canonical name to tensor, of a classifier or of a pretrained model.
        config, vocab: the model's.
        labels: the classes' names in the order of the logits; None of a pretrained model.
        encoding: how a classifier's pairs are cut to length. transformers takes its length; it
            has no rule but its own, so `read_encoding` alone takes the rule.

    Raises:
        CheckpointError: the model is not such a BERT, with the reason; or the folder is not empty,
            or cannot be written.
    """
    if not config.embedding_norm:
        raise CheckpointError(
            "transformers' BERT normalises the sum of the embeddings, and this model, the book's, "
            "does not: no values of the same tensors make the two compute the same. Write it with "
            "--to torch, mxnet or bertnli, or with `bertnli export --format onnx`"
        )
    if not isinstance(vocab, WordPieceVocab):
        raise CheckpointError(
            "transformers' BERT has a vocabulary of word pieces, and this model has one of words. "
            "Write it with --to torch, mxnet or bertnli, or with `bertnli export --format onnx`"
        )
    tensors = {by_template(name, NAMES): array for name, array in arrays.items()}
    positions = NAMES["encoder.pos_embedding"]
    tensors[positions] = tensors[positions][0]
    tied = True
    if labels is None:
        table, decoder = arrays["encoder.token_embedding.weight"], arrays["mlm.decoder.weight"]
        tied = bool(np.array_equal(table, decoder))
        tensors["cls.predictions.bias"] = arrays["mlm.decoder.bias"]
        for leaf in ("weight", "bias"):  # the first class there is the book's second
            tensors[f"cls.seq_relationship.{leaf}"] = arrays[f"nsp.output.{leaf}"][::-1]
    described = {**_described(config, vocab, labels), "tie_word_embeddings": tied}
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": config.max_len if encoding is None else encoding.max_len,
        **({} if encoding is None else {TRUNCATION: encoding.truncation}),
        **{f"{token.strip('<>')}_token": theirs for token, theirs in SPECIAL.items()},
        **vocab.settings(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty; give a new folder")
        write_tensors(folder / WEIGHTS, tensors, "pt")
        vocab.save(folder / vocab.FILE)
        (folder / "vocab.txt").write_text("\n".join(vocab.idx_to_token) + "\n", encoding="utf-8")
        for name, values in ((SETTINGS_FILE, tokenizer), (CONFIG, described)):
            (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def _described(config: BERTConfig, vocab: Vocab, labels: Sequence[str] | None) -> dict[str, Any]:
    """Return what config.json says."""
    found: dict[str, Any] = {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.num_hiddens,
        "intermediate_size": config.ffn_num_hiddens,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_blks,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "max_position_embeddings": config.max_len,
        "hidden_act": next(key for key, ours in ACTIVATIONS.items() if ours == config.activation),
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": vocab.required("<pad>"),
        **FIXED,
    }
    if labels is not None:
        found |= {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    return found
