"""Read and write Hugging Face's folders of an encoder, without transformers.

config.json         sizes, activation, class names; bert_config.json in Google's releases
model.safetensors   the tensors, or pytorch_model.bin, a state dict; each may be an index and shards
tokenizer.json      how text is cut into pieces, or the files of `bertnli.text.tokenizer_files`

The encoders are those of `bertnli.formats.families`, with or without a head for classes, masked
tokens or pretraining. sentence-transformers' CrossEncoder adds a file with its activation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import is_there, read_json_object
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import POSITION_TABLE, TOKEN_TABLE, initial_arrays, some
from bertnli.errors import CheckpointError, ConfigError
from bertnli.formats.checkpoint import WEIGHT, Checkpoint, check_sizes
from bertnli.formats.class_names import read_class_names
from bertnli.formats.families import FAMILIES, FIXED, Family, family_of, unsaid
from bertnli.formats.names import by_template, canonical, without_gamma
from bertnli.formats.tensors import write_tensors
from bertnli.text.pairs import PairEncoding
from bertnli.text.subwords import SubwordVocab
from bertnli.text.tokenizer_config import DEFINED, SETTINGS_FILE

CONFIG, GOOGLE_CONFIG, WEIGHTS = "config.json", "bert_config.json", "model.safetensors"
#: An entry of the tokenizer's settings for another rule of truncation than that of transformers.
TRUNCATION, OWN_TRUNCATION = "pair_truncation", "longest_first"
INSTEAD = "Write it with --to torch, mxnet or bertnli, or `bertnli export --format onnx`"
#: A tokenizer's output with the segments, and the tokenizers that by themselves do not give it.
TYPES, WITHOUT_TYPES = (
    "token_type_ids",
    ("Roberta", "XLMRoberta", "Camembert", "DistilBert", "MPNet"),
)
#: Values of ``problem_type`` for which the outputs are logits of exclusive classes.
PROBLEMS = (None, "single_label_classification")
#: How names begin in files of an encoder without heads, which lack the family's prefix.
BARE = ("embeddings.", "embeddings_project.", "encoder.", "transformer.", "pooler.")
#: Buffers that older versions of transformers stored among the weights.
BUFFERS = ("position_ids",)
#: Prefixes of heads for other tasks, of which only the encoder is read.
OTHER_HEADS = ("qa_outputs.",)
#: Prefixes of tensors in transformers' models of types that are not computed here.
OTHERS = ("albert", "xlnet", "bart", "longformer", "funnel")
_PREFIXES = (*{family.prefix: None for family in FAMILIES.values()}, *OTHERS)
_TENSOR = re.compile(rf"({'|'.join(_PREFIXES)})\.|embeddings\.|(encoder|transformer)\.layer\.")
#: Activations of sentence-transformers after which the largest output is the class.
CROSS_ENCODER_FILE = "config_sentence_transformers.json"
CROSS_ENCODER_ACTIVATIONS = ("Identity", "Softmax")


def match(file: Path, stored: Mapping[str, NDArray]) -> bool:
    """Return whether a file is of transformers, by its tensors' names or its config.json."""
    if any(_TENSOR.match(name) for name in stored):
        return True
    is_of_book = any(name.startswith("encoder.blks.") for name in stored)
    return not is_of_book and read_description(file.parent)[1].get("model_type", "bert") != "bert"


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
                family_of(name.partition(".")[0], file)
        raise CheckpointError(
            f"{file} has the tensors of a model of transformers, whose sizes and activation are in "
            f"its {CONFIG}; put that file beside it"
        )
    family = family_of(described.get("model_type", "bert"), path)
    config = read_config(path, described)
    learned = {
        name: array
        for name, array in stored.items()
        if not name.endswith(BUFFERS) and not name.startswith(family.ignored + OTHER_HEADS)
    }
    if family.mlm_decoder:  # of two biases, that which transformers uses
        own, bias = f"{family.mlm_decoder[0]}.bias", family.mlm_decoder[1]
        if own != bias and {own, bias} <= {*learned}:
            del learned[own if described.get("tie_word_embeddings", True) else bias]
    arrays = canonical(learned, _translation(family, learned), str(file))
    if family.mlm_is_gelu and config.activation != "gelu":  # a head that is not computed here
        arrays = {name: array for name, array in arrays.items() if not name.startswith("mlm.")}
    check_sizes(arrays, config, path, family.all_keys)
    labels, unnamed = read_class_names(described)
    return Checkpoint(
        arrays,
        config,
        labels=labels,
        encoding=read_encoding(file.parent, config.max_len) if WEIGHT in arrays else None,
        format=f"Hugging Face {config.family}",
        unnamed=unnamed,
        other_head=_other_head(path, described) if WEIGHT in arrays else "",
    )


def _translation(family: Family, stored: Mapping[str, NDArray]) -> Callable[[str], str | None]:
    """Return a function from a family's tensor names to canonical ones.

    It gives None for a tensor that nothing is computed from, and KeyError for an unknown one.
    """
    output, prefix = family.heads["output"], f"{family.prefix}."
    is_classifier = any(name.startswith(f"{output}.") for name in stored)
    table = {theirs: ours for ours, theirs in family.names(is_classifier).items()}
    has_own = is_classifier and family.pooler and "hidden" in family.heads
    unused = prefix + family.pooler if has_own else None  # as old versions wrote it

    def translate(name: str) -> str | None:
        name = without_gamma(name)
        is_bare = name.startswith(BARE) and not name.startswith(family.heads.get("hidden", prefix))
        name = prefix + name if is_bare else name
        if unused is not None and name.startswith(unused):
            return None
        return by_template(name, table)

    return translate


def _other_head(path: Path, described: Mapping[str, Any]) -> str:
    """Return why the output layer does not compute classes of which one is right, or ""."""
    if described.get("problem_type") not in PROBLEMS:
        problem = f"problem_type is {described['problem_type']!r}"
    else:
        file = path.parent / CROSS_ENCODER_FILE
        own = read_json_object(file, CheckpointError) if is_there(file) else {}
        older = described.get("sentence_transformers")
        activation = (
            own.get("activation_fn")
            or (older.get("activation_fn") if isinstance(older, dict) else None)
            or described.get("sbert_ce_default_activation_function")
        )
        if activation is None or str(activation).rpartition(".")[2] in CROSS_ENCODER_ACTIVATIONS:
            return ""
        problem = f"the activation of sentence-transformers is {activation!r}"
    return f"{path}: {problem}; only classes of which one is right are computed here"


def read_config(path: Path, described: Mapping[str, Any]) -> BERTConfig:
    """Make a `BERTConfig` of ``described``, the content of the config.json at ``path``."""
    model_type = described.get("model_type", "bert")
    family = family_of(model_type, path)
    described = {**family.defaults, **described}
    fixed = FIXED | ({"type_vocab_size": 2} if family.reads_segments else {})
    try:
        for name, value in (fixed | family.computed(described)).items():
            if described.get(name, value) != value:
                raise ValueError(
                    f"{name} is {described[name]!r}, and only {value!r} is computed here"
                )
        return family.config(described, model_type)
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing") from error
    except (ConfigError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
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


def with_segments(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Set ``config.pair_segments`` to whether a folder's tokenizer gives the model segments."""
    config = checkpoint.config
    if config.num_segments < 2 or not len(checkpoint.vocab):
        return checkpoint
    path = folder / SETTINGS_FILE
    settings = read_json_object(path, CheckpointError) if is_there(path) else {}
    inputs, kind = settings.get("model_input_names"), settings.get("tokenizer_class")
    reads = config.pair_segments
    if isinstance(inputs, list):
        reads = TYPES in inputs
    elif "backend" in settings and kind in DEFINED:  # version 5, whose default is another
        reads = False
    elif isinstance(kind, str):
        reads = kind.removesuffix("Fast").removesuffix("Tokenizer") not in WITHOUT_TYPES
    reads = reads and checkpoint.vocab.gives_segments
    return replace(checkpoint, config=replace(config, pair_segments=reads))


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a new folder that transformers' `AutoTokenizer` and model classes open.

    It is of the family in ``config.family``. With labels it is for
    `AutoModelForSequenceClassification`, without for the family's pretraining model. transformers
    adopts the maximum length of pairs, but only knows its own rule of truncation.
    """
    config, vocab, arrays = checkpoint.config, checkpoint.vocab, checkpoint.arrays
    family = family_of(config.family, checkpoint.source)
    names = family.names(of_classifier=checkpoint.labels is not None)
    _check_can_say(checkpoint, family)
    tensors, unnamed = {}, {}
    for name, array in arrays.items():
        try:
            tensors[by_template(name, names)] = array
        except KeyError:
            unnamed[name] = array
    start = initial_arrays({name: array.shape for name, array in unnamed.items()}, 0)
    trained = [name for name in unnamed if not np.array_equal(unnamed[name], start[name])]
    if trained:
        raise CheckpointError(
            f"transformers' {config.family} has no place for {some(trained)}, which is trained. "
            f"{INSTEAD}"
        )
    if POSITION_TABLE in arrays:
        tensors[names[POSITION_TABLE]] = arrays[POSITION_TABLE][0]
    tied = True
    if checkpoint.labels is None and family.mlm_decoder:
        tied = bool(np.array_equal(arrays[TOKEN_TABLE], arrays["mlm.decoder.weight"]))
        if not tied:  # then transformers reads the bias under the layer's own name
            tensors[f"{names['mlm.decoder']}.bias"] = arrays["mlm.decoder.bias"]
    for leaf in ("weight", "bias"):  # the first class there is the book's second
        if f"cls.seq_relationship.{leaf}" in tensors:
            tensors[f"cls.seq_relationship.{leaf}"] = arrays[f"nsp.output.{leaf}"][::-1]
    described = {**_description(checkpoint, family), "tie_word_embeddings": tied}
    folder.mkdir()
    write_tensors(folder / WEIGHTS, tensors, "pt")
    for name, values in ((SETTINGS_FILE, _tokenizer(checkpoint)), (CONFIG, described)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    vocab.save(folder / vocab.FILE)
    if vocab.is_wordpiece:
        (folder / "vocab.txt").write_text("\n".join(vocab.idx_to_token) + "\n", encoding="utf-8")


def _check_can_say(checkpoint: Checkpoint, family: Family) -> None:
    """Raise CheckpointError for a model that transformers' code does not compute."""
    config = checkpoint.config
    if not config.embedding_norm:
        raise CheckpointError(
            "transformers' BERT normalises the sum of the embeddings, and this model, the book's, "
            f"does not: no values of the same tensors make the two compute the same. {INSTEAD}"
        )
    if not isinstance(checkpoint.vocab, SubwordVocab):
        raise CheckpointError(
            "transformers' BERT has a vocabulary of word pieces, and this model has one of words. "
            f"{INSTEAD}"
        )
    if settings := unsaid(config, family):
        raise CheckpointError(
            f"the config.json of transformers' {config.family} cannot say {', '.join(settings)}. "
            f"{INSTEAD}"
        )


def _tokenizer(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of the tokenizer's settings."""
    vocab, encoding = checkpoint.vocab, checkpoint.encoding
    length = checkpoint.config.max_len if encoding is None else encoding.max_len
    reads = checkpoint.config.pair_segments and checkpoint.config.num_segments
    inputs = ["input_ids", *([TYPES] if reads else []), "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it stands
        "model_max_length": length,
        **({} if encoding is None else {TRUNCATION: encoding.truncation}),
        "model_input_names": inputs,
        **{f"{name.strip('<>')}_token": text for name, text in vocab.special.items()},
        **vocab.settings(),
    }


def _description(checkpoint: Checkpoint, family: Family) -> dict[str, Any]:
    """Return the content of the config.json, without ``tie_word_embeddings``."""
    config, labels = checkpoint.config, checkpoint.labels
    own = family.description(config)
    described: dict[str, Any] = {
        "architectures": [family.models[labels is None]],
        "model_type": config.family,
        **own,
        **family.computed(own),
        "pad_token_id": config.first_position - 1
        if "first_position" not in family.settings
        else checkpoint.vocab.required("<pad>"),
        **FIXED,
    }
    if family.reads_segments:
        described["type_vocab_size"] = 2
    if labels is not None:
        described |= {
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    return described
