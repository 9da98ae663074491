"""The encoders of Hugging Face that are one model with settings: their names and their config.json.

Each family has a model type, under which transformers keeps its code. A `Family` says how its
tensors are called there, which entry of config.json is which field of `BERTConfig`, and which
fields have one value in the whole family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bertnli.bert.config import BERTConfig
from bertnli.errors import CheckpointError

#: Hugging Face's names of activations, of which the first is written.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
}
#: `BERTConfig` field to its name in a config.json, first those that must be there.
SIZES = {
    "vocab_size": "vocab_size",
    "num_hiddens": "hidden_size",
    "ffn_num_hiddens": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_blks": "num_hidden_layers",
    "max_len": "max_position_embeddings",
}
KEYS = SIZES | {
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
}
#: Values of entries that a config.json lacks.
DEFAULTS: dict[str, Any] = {
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation": "gelu",
    "norm_eps": 1e-12,
    "num_segments": 2,
    "relative_buckets": 32,
    "pooler_dropout": 0.0,
}
#: Entries that change what a model computes, with the only value that is computed here.
FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def _block(layer: str, *names: str) -> dict[str, str]:
    """Return the names of a block's layers; ``layer`` is their prefix, {} the block's number."""
    ours = (
        *("attention.W_q", "attention.W_k", "attention.W_v", "attention.W_o", "addnorm1.ln"),
        *("ffn.dense1", "ffn.dense2", "addnorm2.ln"),
    )
    return {f"encoder.blks.{{}}.{a}": f"{layer}.{b}" for a, b in zip(ours, names, strict=True)}


_EMBEDDINGS = {
    "encoder.pos_embedding": "embeddings.position_embeddings.weight",
    "encoder.token_embedding": "embeddings.word_embeddings",
    "encoder.segment_embedding": "embeddings.token_type_embeddings",
    "encoder.ln": "embeddings.LayerNorm",
}
_BERT = _EMBEDDINGS | _block(
    "encoder.layer.{}",
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "attention.output.LayerNorm"),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)
_MPNET = _EMBEDDINGS | _block(
    "encoder.layer.{}",
    *("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
    *("attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
)
_DISTILBERT = _EMBEDDINGS | _block(
    "transformer.layer.{}",
    *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    *("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
)
_DEBERTA = {
    **{k: v for k, v in _BERT.items() if "pos_embedding" not in k},
    **_block(
        "encoder.layer.{}",
        *("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        *("attention.output.dense", "attention.output.LayerNorm"),
        *("intermediate.dense", "output.dense", "output.LayerNorm"),
    ),
    "encoder.distances.embedding": "encoder.rel_embeddings",
    "encoder.distances.ln": "encoder.LayerNorm",
}
_LM_HEAD = {"mlm.dense": "lm_head.dense", "mlm.ln": "lm_head.layer_norm"}
_BERT_HEADS = {
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.ln": "cls.predictions.transform.LayerNorm",
    "output": "classifier",
}
_BERT_DECODER = ("cls.predictions.decoder", "cls.predictions.bias")
_OUT = {"hidden": "classifier.dense", "output": "classifier.out_proj"}
#: A head that classifies tokens, where that for pairs has other names.
_OF_TOKENS = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Family:
    """How transformers stores a family of encoders.

    Args:
        prefix: how the names of the encoder's tensors begin, but in files of the encoder alone.
        encoder: canonical names of its layers and tensors to those after the prefix; {} is the
            number of a block.
        heads: the same for the classifier and the MLM head, whose names have no prefix.
        mlm_decoder: the MLM head's last layer, and the name of its bias; () for no such head.
        pooler: the pooler of the encoder alone, after the prefix; empty for none.
        models: transformers' classes for a classifier, and for pretraining.
        keys: `BERTConfig` field to its entry in config.json, where it is not that of `KEYS`.
        settings: `BERTConfig` fields with one value in the family.
        ignored: prefixes of tensors that have no place here.
        computed: makes, of a config.json, further entries that change what a model computes, with
            the only values that are computed here; they are written.
        defaults: entries that a config.json may lack, where transformers assumes other values.
        drops_before_pooler: whether the classifier's dropout is also applied before the pooler.
        reads_segments: whether the family's own tokenizer gives segments.
    """

    prefix: str
    encoder: Mapping[str, str]
    heads: Mapping[str, str]
    models: tuple[str, str]
    mlm_decoder: tuple[str, ...] = ("lm_head.decoder", "lm_head.bias")
    pooler: str = "pooler.dense"
    keys: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    computed: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda described: {}
    defaults: Mapping[str, Any] = field(default_factory=dict)
    drops_before_pooler: bool = False
    reads_segments: bool = False

    @property
    def mlm_is_gelu(self) -> bool:
        """Whether the MLM head's activation is GELU, whatever that of the blocks is."""
        return self.heads.get("mlm.dense") == _LM_HEAD["mlm.dense"]

    @property
    def all_keys(self) -> dict[str, str]:
        """`BERTConfig` field to its entry in config.json."""
        return {
            name: key for name, key in (KEYS | dict(self.keys)).items() if name not in self.settings
        }

    def config(self, described: Mapping[str, Any], name: str) -> BERTConfig:
        """Make the configuration that a config.json describes.

        Raises:
            KeyError: a size is missing.
            ValueError, ConfigError: a value is of another kind, or invalid.
        """
        keys = self.all_keys
        values = {"embedding_norm": True, "pooler_dropout": 0.0, **self.settings}
        for ours, key in keys.items():
            value = described[key] if ours in SIZES else described.get(key)
            values[ours] = DEFAULTS.get(ours) if value is None else value
        act = values["activation"]
        if not isinstance(act, str) or act not in ACTIVATIONS:
            raise ValueError(f"{keys['activation']} is {act!r}, none of {sorted(ACTIVATIONS)}")
        values["activation"] = ACTIVATIONS[act]
        if values.get("classifier_dropout") is None:
            values["classifier_dropout"] = values["dropout"]
        floats = "dropout attention_dropout pooler_dropout classifier_dropout norm_eps"
        for ours in floats.split():
            values[ours] = float(values[ours])
        if self.drops_before_pooler:
            values["pooler_dropout"] = values["classifier_dropout"]
        if values.get("first_position") is None:
            values["first_position"] = described.get("pad_token_id", 1) + 1
        values["max_len"] -= values["first_position"]
        values["pair_segments"] = self.reads_segments or not values["num_segments"]
        return BERTConfig(**values, family=name)

    def description(self, config: BERTConfig) -> dict[str, Any]:
        """Return the entries of a config.json that `config` reads."""
        values = asdict(config) | {
            "max_len": config.max_len + config.first_position,
            "attention_dropout": config.attention_dropouts[0],
            "embedding_size": config.embedding_width,
            "activation": next(k for k, act in ACTIVATIONS.items() if act == config.activation),
        }
        return {key: values[name] for name, key in self.all_keys.items()}

    def names(self, of_classifier: bool) -> dict[str, str]:
        """Return canonical names of layers and tensors to those of a file, for `by_template`."""
        names = {ours: f"{self.prefix}.{name}" for ours, name in self.encoder.items()}
        if self.pooler:
            names["hidden"] = f"{self.prefix}.{self.pooler}"
        heads = self.heads.items()
        kept = {k: v for k, v in heads if of_classifier or k not in ("hidden", "output")}
        decoder = zip(("mlm.decoder", "mlm.decoder.bias"), self.mlm_decoder, strict=False)
        return names | kept | dict(decoder)


_BERT_FAMILY = Family(
    "bert",
    _BERT,
    _BERT_HEADS | {"nsp.output": "cls.seq_relationship"},
    ("BertForSequenceClassification", "BertForPreTraining"),
    _BERT_DECODER,
    keys={"classifier_dropout": "classifier_dropout"},
    settings={"num_segments": 2, "first_position": 0},
    reads_segments=True,
)


def _roberta(models: str) -> Family:
    return Family(
        "roberta",
        _BERT,
        _LM_HEAD | _OUT,
        (f"{models}ForSequenceClassification", f"{models}ForMaskedLM"),
        keys={"num_segments": "type_vocab_size", "classifier_dropout": "classifier_dropout"},
        ignored=_OF_TOKENS,
        drops_before_pooler=True,
    )


def _of_deberta_v3(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return what sets DeBERTa-v3 apart from v2, and from other models of transformers' code.

    Raises:
        ValueError: there are no ranges of distances.
    """
    ranges, width = described["position_buckets"], described["hidden_size"]
    if not ranges > 0:
        raise ValueError(f"position_buckets is {ranges}, and only models with some are computed")
    terms, furthest = described.get("pos_att_type"), described.get("max_relative_positions", -1)
    split = terms.split("|") if isinstance(terms, str) else terms or []
    is_both = sorted(split) == ["c2p", "p2c"]
    return {
        "relative_attention": True,
        "position_biased_input": False,
        "share_att_key": True,
        "pos_att_type": terms if is_both else ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "max_relative_positions": -1 if furthest < 1 else described["max_position_embeddings"],
        "type_vocab_size": 0,
        "conv_kernel_size": 0,
        "embedding_size": width,
        "attention_head_size": width // described["num_attention_heads"],
        "pooler_hidden_size": width,
        "pooler_hidden_act": "gelu",
    }


#: Model type to the family. The description of a BERT whose type is not said is that of BERT.
FAMILIES = {
    "bert": _BERT_FAMILY,
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    "distilbert": Family(
        "distilbert",
        _DISTILBERT,
        {
            "mlm.dense": "vocab_transform",
            "mlm.ln": "vocab_layer_norm",
            "hidden": "pre_classifier",
            "output": "classifier",
        },
        ("DistilBertForSequenceClassification", "DistilBertForMaskedLM"),
        ("vocab_projector", "vocab_projector.bias"),
        pooler="",
        keys={
            "num_hiddens": "dim",
            "ffn_num_hiddens": "hidden_dim",
            "num_heads": "n_heads",
            "num_blks": "n_layers",
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
            "activation": "activation",
        },
        settings={
            "num_segments": 0,
            "first_position": 0,
            "norm_eps": 1e-12,
            "attention_output_dropout": 0.0,
            "pooler_activation": "relu",
        },
    ),
    "electra": Family(
        "electra",
        _BERT | {"encoder.projection": "embeddings_project"},
        _OUT,
        ("ElectraForSequenceClassification", "ElectraModel"),
        mlm_decoder=(),
        pooler="",
        keys={"embedding_size": "embedding_size", "classifier_dropout": "classifier_dropout"},
        settings={"num_segments": 2, "first_position": 0, "pooler_activation": "gelu"},
        ignored=(
            *("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
            *_OF_TOKENS,
        ),
        drops_before_pooler=True,
        reads_segments=True,
    ),
    "mpnet": Family(
        "mpnet",
        _MPNET | {"encoder.relative_embedding": "encoder.relative_attention_bias"},
        _LM_HEAD | _OUT,
        ("MPNetForSequenceClassification", "MPNetForMaskedLM"),
        keys={"relative_buckets": "relative_attention_num_buckets"},
        settings={"num_segments": 0, "first_position": 2},
        ignored=_OF_TOKENS,
        drops_before_pooler=True,
    ),
    "deberta-v2": Family(
        "deberta",
        _DEBERTA,
        _BERT_HEADS | {"hidden": "pooler.dense"},
        ("DebertaV2ForSequenceClassification", "DebertaV2ForMaskedLM"),
        _BERT_DECODER,
        pooler="",
        keys={
            "position_buckets": "position_buckets",
            "pooler_dropout": "pooler_dropout",
            "classifier_dropout": "cls_dropout",
        },
        settings={"num_segments": 0, "first_position": 0, "pooler_activation": "gelu"},
        ignored=(
            *("lm_predictions.", "mask_predictions.", "deberta.embeddings.position_embeddings."),
            "deberta.embeddings.word_embeddings._weight",
        ),
        computed=_of_deberta_v3,
        defaults={
            "relative_attention": False,
            "position_biased_input": True,
            "share_att_key": False,
            "pos_att_type": None,
            "norm_rel_ebd": "none",
            "layer_norm_eps": 1e-7,
        },
    ),
}


def family_of(model_type: Any, source: object) -> Family:
    """Return the family of a model type, or raise CheckpointError."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"{source}: a model of type {model_type!r:.80}, and of Hugging Face's models only the "
            f"types {', '.join(FAMILIES)} are computed here"
        )
    return FAMILIES[model_type]


def unsaid(config: BERTConfig, family: Family) -> list[str]:
    """Return the settings of a configuration that a family's config.json cannot say.

    Whether segments are read is said by the tokenizer's settings.
    """
    described = family.description(config) | {"pad_token_id": config.first_position - 1}
    said = family.config(described, config.family)
    return [
        f"{f.name}={getattr(config, f.name)!r} (here {getattr(said, f.name)!r})"
        for f in fields(config)
        if f.name != "pair_segments" and getattr(config, f.name) != getattr(said, f.name)
    ]
