"""The sizes of a BERT and the settings of a training run, as immutable, validated values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from numbers import Integral, Real
from typing import Any

from bertnli._util.options import documented, option
from bertnli.errors import ConfigError

#: Activations of the feed-forward networks; ``"gelu"`` is exact, with the error function,
#: ``"gelu_tanh"`` its approximation (Hendrycks and Gimpel, 2016).
ACTIVATIONS = ("relu", "gelu", "gelu_tanh")
#: Activations of the pooler.
POOLER_ACTIVATIONS = ("tanh", *ACTIVATIONS)
PRECISIONS = ("fp32", "bf16", "auto")
SCHEDULES = ("constant", "linear")

#: A rule for a field: its type, a test of its value, and the end of the error message.
Rule = tuple[type, Callable[[Any], bool], str]


_COUNT: Rule = (Integral, lambda value: value >= 1, "a whole number above 0")
_COUNT_OR_0: Rule = (Integral, lambda value: value >= 0, "a whole number, 0 or above")
_PROBABILITY: Rule = (Real, lambda value: 0 <= value < 1, "a probability below 1")
_FRACTION: Rule = (Real, lambda value: 0 <= value <= 1, "a fraction of the steps, 0 to 1")
_POSITIVE_OR_0: Rule = (Real, lambda value: 0 <= value < inf, "a positive number, or 0 for none")


def _one_of(values: tuple[str, ...]) -> Rule:
    return str, values.__contains__, f"one of {list(values)}"


def _check(config: Any, rules: Mapping[str, Rule]) -> None:
    """Raise ConfigError if a field of a config breaks its rule, given by field name."""
    for name, (kind, is_valid, expected) in rules.items():
        value = getattr(config, name)
        is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not (is_kind and is_valid(value)):
            raise ConfigError(f"{name} is {value!r}; it must be {expected}")


_SIZES = ("num_hiddens", "ffn_num_hiddens", "num_heads", "num_blks", "max_len")
_SIZE: Rule = (int, *_COUNT[1:])
_SWITCH: Rule = (bool, lambda value: True, "True or False")
_BERT_RULES: dict[str, Rule] = {
    **dict.fromkeys(("vocab_size", *_SIZES, "embedding_width"), _SIZE),
    **dict.fromkeys(("dropout", "pooler_dropout", "classifier_dropout"), _PROBABILITY),
    "activation": _one_of(ACTIVATIONS),
    "pooler_activation": _one_of(POOLER_ACTIVATIONS),
    **dict.fromkeys(("embedding_norm", "pair_segments"), _SWITCH),
    "norm_eps": (float, lambda value: 0 < value < 1, "a small positive number"),
    "num_segments": (int, lambda value: 0 <= value <= 2, "0, 1 or 2"),
    "first_position": (int, *_COUNT_OR_0[1:]),
    "relative_buckets": (int, lambda value: value in (0, 32), "0 or 32"),
    "position_buckets": (int, lambda value: value == 0 or value >= 2, "0, or 2 and more"),
    "family": (str, lambda value: True, "a name"),
}


@dataclass(frozen=True)
class BERTConfig:
    """The sizes of a BERT, with the book's names, and the settings in which BERTs differ.

    The defaults are those of the book's BERT. The one of Devlin et al. (2019) has
    ``activation="gelu"``, ``embedding_norm=True`` and ``norm_eps=1e-12``. The settings after
    ``norm_eps`` are those of RoBERTa, DistilBERT, ELECTRA, MPNet and DeBERTa-v3; see the guide
    "Your encoder".

    Args:
        vocab_size: number of tokens in the vocabulary.
        num_hiddens: width of every token's vector.
        ffn_num_hiddens: width of the hidden layer of the feed-forward networks.
        num_heads: number of attention heads, each ``num_hiddens / num_heads`` wide.
        num_blks: number of encoder blocks.
        dropout: dropout probability of the output of every sublayer.
        max_len: number of positions that have an embedding.
        activation: one of `ACTIVATIONS`, for the feed-forward networks and the MLM head.
        embedding_norm: whether layer normalisation, then dropout, is applied to the sum of the
            embeddings.
        norm_eps: the epsilon of layer normalisation.
        attention_dropout, attention_output_dropout: dropout probability of attention weights, and
            of the output of attention; None for ``dropout``.
        pooler_dropout, classifier_dropout: dropout probability of the classifier's encoded
            ``<cls>``, before the pooler, and of the pooler's output.
        pooler_activation: one of `POOLER_ACTIVATIONS`.
        embedding_size: width of the embeddings, which a dense layer projects to ``num_hiddens`` if
            it differs; None for ``num_hiddens``.
        num_segments: number of segment embeddings, 0 to 2.
        pair_segments: whether the second sentence has a segment of its own; if not, all tokens have
            the first.
        first_position: row of the first token in the table of position embeddings, which has as
            many rows more than ``max_len``.
        relative_buckets: number of ranges of distances that have a bias of attention scores for
            each head, 32, as in MPNet (Song et al., 2020); 0 for none.
        position_buckets: half the number of ranges of distances that have a vector, to which
            attention also compares tokens, instead of position embeddings, as in DeBERTa-v3 (He et
            al., 2023); 0 for none.
        family: Hugging Face's ``model_type``, as which the model is written; nothing is computed
            from it.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, a dropout outside [0, 1),
            an unknown activation.

    Examples:
        >>> bertnli.BERTConfig(1000, **bertnli.PRESETS["bert.small"]).num_blks
        2
    """

    vocab_size: int
    num_hiddens: int
    ffn_num_hiddens: int
    num_heads: int
    num_blks: int
    dropout: float = 0.1
    max_len: int = 512
    activation: str = "relu"
    embedding_norm: bool = False
    norm_eps: float = 1e-5
    attention_dropout: float | None = None
    attention_output_dropout: float | None = None
    pooler_dropout: float = 0.0
    classifier_dropout: float = 0.0
    pooler_activation: str = "tanh"
    embedding_size: int | None = None
    num_segments: int = 2
    pair_segments: bool = True
    first_position: int = 0
    relative_buckets: int = 0
    position_buckets: int = 0
    family: str = "bert"

    def __post_init__(self) -> None:
        same: dict[str, float] = {"embedding_size": self.num_hiddens}
        same |= dict.fromkeys(("attention_dropout", "attention_output_dropout"), self.dropout)
        for name, value in same.items():
            if getattr(self, name) == value:
                object.__setattr__(self, name, None)
        _check(self, _BERT_RULES)
        for name in ("attention_dropout", "attention_output_dropout"):
            if getattr(self, name) is not None:
                _check(self, {name: _PROBABILITY})
        if self.num_hiddens % self.num_heads:
            raise ConfigError(
                f"num_hiddens={self.num_hiddens} does not divide into num_heads={self.num_heads} "
                "heads of equal width; choose a number of heads that divides it"
            )
        if self.pair_segments and self.num_segments == 1:
            raise ConfigError("pair_segments is True, which needs num_segments=2 (or 0 for none)")
        others = ("relative_buckets", "first_position", "embedding_size")
        if self.position_buckets and any(getattr(self, name) for name in others):
            raise ConfigError(f"position_buckets cannot be combined with {', '.join(others)}")

    @property
    def attention_dropouts(self) -> tuple[float, float]:
        """The dropout probabilities of attention weights, and of attention's output."""
        weights, output = self.attention_dropout, self.attention_output_dropout
        return (
            self.dropout if weights is None else weights,
            self.dropout if output is None else output,
        )

    @property
    def embedding_width(self) -> int:
        """The width of the embeddings."""
        return self.num_hiddens if self.embedding_size is None else self.embedding_size

    @property
    def score_terms(self) -> int:
        """The number of products that are summed to an attention score."""
        return 3 if self.position_buckets else 1

    def with_dropout(self, p: float) -> BERTConfig:
        """Return a copy in which every dropout that the model has is p."""
        return replace(
            self,
            dropout=p,
            attention_dropout=None,
            attention_output_dropout=self.attention_output_dropout and p,
            pooler_dropout=self.pooler_dropout and p,
            classifier_dropout=self.classifier_dropout and p,
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert the configuration to a dictionary, ready for JSON.

        The settings after ``norm_eps`` are left out where they have their default values.
        """
        rare = {f.name: f.default for f in fields(self)[len(_SIZES) + 5 :]}
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in rare or v != rare[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BERTConfig:
        """Make a configuration of the result of `to_dict`; ConfigError if it has other keys."""
        try:
            return cls(**values)
        except TypeError as error:  # other keys, or no mapping
            raise ConfigError(f"{values!r:.100} are not the sizes of a BERT: {error}") from None


#: Sizes of the book's pretrained models and of the one that comes with bertnli, without the size of
#: the vocabulary, which is in each model's file.
PRESETS: dict[str, dict[str, int]] = {
    "bert.mini": dict(zip(_SIZES, (128, 256, 4, 3, 128), strict=True)),
    "bert.small": dict(zip(_SIZES, (256, 512, 4, 2, 512), strict=True)),
    "bert.base": dict(zip(_SIZES, (768, 3072, 12, 12, 512), strict=True)),
}


def check_precision(precision: str) -> None:
    """Raise ConfigError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; it is one of {list(PRECISIONS)}")


#: Name of a recipe to the fields of `TrainingConfig` that it changes. ``"book"`` is the chapter's:
#: Adam at a constant rate. ``"best"`` is how Devlin et al. (2019, appendix A.2 and code) train.
RECIPES: dict[str, dict[str, Any]] = {
    "book": {},
    "best": {"schedule": "linear", "warmup": 0.1, "weight_decay": 0.01, "clip_norm": 1.0},
}

_TRAINING_RULES: dict[str, Rule] = {
    "lr": (Real, lambda value: 0 < value < inf, "a positive number"),
    **dict.fromkeys(("num_epochs", "batch_size"), _COUNT),
    "schedule": _one_of(SCHEDULES),
    **dict.fromkeys(("warmup", "average"), _FRACTION),
    **dict.fromkeys(("seed", "patience"), _COUNT_OR_0),
    **dict.fromkeys(("weight_decay", "clip_norm"), _POSITIVE_OR_0),
    "layer_decay": (Real, lambda value: 0 < value <= 1, "a factor above 0, 1 for equal rates"),
    "label_smoothing": _PROBABILITY,
}


@documented
@dataclass(frozen=True)
class TrainingConfig:
    """The settings of training: the optimizer's, the schedule's, and those of the data's order.

    A default value turns a setting off, also one that the recipe ``"best"`` turns on.

    Raises:
        ConfigError: a value has a wrong type or is outside its range.

    Examples:
        >>> config = bertnli.TrainingConfig(lr=1e-3, schedule="linear", warmup=0.1)
        >>> config.lr_at(0, 100) < config.lr_at(10, 100) > config.lr_at(90, 100)
        True
    """

    lr: float = option(
        "learning rate of Adam, the peak of a schedule; a small model from scratch needs more, "
        "such as 1e-3",
        default=1e-4,
        metavar="RATE",
    )
    num_epochs: int = option("passes over the training set", "--epochs", default=5)
    batch_size: int = option("pairs in a step, over all devices and processes", default=512)
    schedule: str = option(
        "linear falls to 0 at the end of the run", default="constant", choices=SCHEDULES
    )
    warmup: float = option(
        "share of all steps over which the rate rises", default=0.0, metavar="FRACTION"
    )
    seed: int = option("start values, order of the data and dropout depend on it alone", default=0)
    weight_decay: float = option(
        "decoupled weight decay (Loshchilov and Hutter, 2019), times the learning rate; not of "
        "biases and layer normalisation",
        default=0.0,
        metavar="RATE",
    )
    clip_norm: float = option(
        "largest norm of the gradient, over all tensors (Pascanu et al., 2013); 0 for no limit",
        default=0.0,
        metavar="NORM",
    )
    layer_decay: float = option(
        "of the learning rate, from each block to the one below it (Howard and Ruder, 2018)",
        default=1.0,
        metavar="FACTOR",
    )
    label_smoothing: float = option(
        "probability that is taken from the right class and given to all alike (Szegedy et al., "
        "2016)",
        default=0.0,
        metavar="P",
    )
    average: float = option(
        "share of all steps, the last, whose weights are averaged (Izmailov et al., 2018)",
        default=0.0,
        metavar="FRACTION",
    )
    patience: int = option(
        "end after as many epochs without a better dev accuracy; 0 for never", default=0
    )

    def __post_init__(self) -> None:
        _check(self, _TRAINING_RULES)

    @classmethod
    def of_recipe(cls, recipe: str, **given: Any) -> TrainingConfig:
        """Make the settings of a recipe.

        Args:
            recipe: a name in `RECIPES`.
            given: values that replace those of the recipe, unless they are None.
        """
        if recipe not in RECIPES:
            raise ConfigError(f"recipe is {recipe!r}; it is one of {list(RECIPES)}")
        changed = {name: value for name, value in given.items() if value is not None}
        return cls(**{**RECIPES[recipe], **changed})

    @property
    def depends_on_length(self) -> bool:
        """Whether the result of a step depends on the total number of steps in the run."""
        return self.schedule != "constant" or bool(self.warmup or self.average)

    def lr_at(self, step: int, total_steps: int) -> float:
        """Return the learning rate of step ``step``, counted from 0, of ``total_steps``."""
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return self.lr * (step + 1) / warmup_steps
        if self.schedule == "constant":
            return self.lr
        return self.lr * (total_steps - step) / max(1, total_steps - warmup_steps)

    def averages_at(self, step: int, total_steps: int) -> bool:
        """Return whether the weights after step ``step`` of ``total_steps`` go into the average."""
        last_steps = max(1, round(self.average * total_steps)) if self.average else 0
        return step >= total_steps - last_steps
