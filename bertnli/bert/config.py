"""The sizes of a BERT and the settings of a training run, as plain, checked values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from bertnli._util.options import documented, option
from bertnli.errors import ConfigError

#: What is between the two dense layers of a feed-forward network; ``"gelu"`` is exact, with the
#: error function, ``"gelu_tanh"`` its approximation (Hendrycks and Gimpel, 2016).
ACTIVATIONS = ("relu", "gelu", "gelu_tanh")


@dataclass(frozen=True)
class BERTConfig:
    """The sizes of a BERT encoder, in the book's names, and in what BERTs differ.

    The defaults are the book's BERT. That of Devlin et al. (2019) has ``activation="gelu"``,
    ``embedding_norm=True`` and ``norm_eps=1e-12``. They are one model with three settings, so that
    what is true of one, the fast path above all, is true of the other.

    Args:
        vocab_size: number of tokens of the vocabulary.
        num_hiddens: width of every token's vector.
        ffn_num_hiddens: width inside the position-wise feed-forward network.
        num_heads: attention heads; each has ``num_hiddens / num_heads`` channels.
        num_blks: encoder blocks.
        dropout: probability, on attention weights and on every sublayer's output.
        max_len: number of positions that have an embedding.
        activation: one of `ACTIVATIONS`, of the feed-forward networks and of the MLM head.
        embedding_norm: whether the sum of the embeddings goes through layer normalisation, and
            dropout, before the first block.
        norm_eps: what layer normalisation adds to the variance.

    Raises:
        ConfigError: a size below 1, a width that the heads do not divide, a dropout outside [0, 1),
            an unknown activation.
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

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout!r}; it is a probability below 1")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation is {self.activation!r}; it is one of {list(ACTIVATIONS)}"
            )
        if not isinstance(self.embedding_norm, bool):
            raise ConfigError(f"embedding_norm is {self.embedding_norm!r}; it is True or False")
        if not (isinstance(self.norm_eps, float) and 0 < self.norm_eps < 1):
            raise ConfigError(f"norm_eps is {self.norm_eps!r}; it is a small positive number")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type != "int":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{field.name} is {value!r}; it must be a whole number above 0")
        if self.num_hiddens % self.num_heads:
            raise ConfigError(
                f"num_hiddens={self.num_hiddens} does not divide into num_heads={self.num_heads} "
                "heads of equal width; choose a number of heads that divides it"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BERTConfig:
        """Return the configuration of ``to_dict``; an unknown or missing size is a ConfigError."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"sizes are names and values, and not {values!r:.100}")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown sizes {unknown}; known are {sorted(known)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"incomplete sizes {dict(values)}: {error}") from None


#: Sizes of the book's pretrained models, and of the one that comes with bertnli. The vocabulary's
#: size comes with each model's file.
PRESETS: dict[str, dict[str, int]] = {
    "bert.mini": {
        "num_hiddens": 128,
        "ffn_num_hiddens": 256,
        "num_heads": 4,
        "num_blks": 3,
        "max_len": 128,
    },
    "bert.small": {
        "num_hiddens": 256,
        "ffn_num_hiddens": 512,
        "num_heads": 4,
        "num_blks": 2,
        "max_len": 512,
    },
    "bert.base": {
        "num_hiddens": 768,
        "ffn_num_hiddens": 3072,
        "num_heads": 12,
        "num_blks": 12,
        "max_len": 512,
    },
}


PRECISIONS = ("fp32", "bf16", "auto")


def check_precision(precision: str) -> None:
    """Raise ConfigError for what is no precision."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; it is one of {list(PRECISIONS)}")


#: What a recipe says of the settings of `TrainingConfig`; of the others, their defaults hold.
#: ``"book"`` is the chapter's: Adam at a constant rate. ``"best"`` is how Devlin et al. (2019,
#: appendix A.2, and their code) train.
RECIPES: dict[str, dict[str, Any]] = {
    "book": {},
    "best": {"schedule": "linear", "warmup": 0.1, "weight_decay": 0.01, "clip_norm": 1.0},
}


SCHEDULES = ("constant", "linear")
#: Settings, which of their values are valid, and how to say so.
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("lr",), lambda value: value > 0, "must be a positive number"),
    (("num_epochs", "batch_size"), lambda value: value >= 1, "must be at least 1"),
    (("warmup", "average"), lambda value: 0 <= value <= 1, "is a fraction of the steps, 0 to 1"),
    (
        ("seed", "weight_decay", "clip_norm", "patience"),
        lambda value: value >= 0,
        "must not be negative",
    ),
    (("layer_decay",), lambda value: 0 < value <= 1, "is a factor above 0, 1 for equal rates"),
    (("label_smoothing",), lambda value: 0 <= value < 1, "is a probability below 1"),
)


@documented
@dataclass(frozen=True)
class TrainingConfig:
    """How a run trains: everything that the order of the data and the step sizes depend on.

    An option is off at its default; given beside the recipe ``"best"``, the default turns it off.

    Raises:
        ConfigError: a value that cannot work.
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
        "end after as many epochs without a better dev accuracy; 0 for never",
        default=0,
    )

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in ("num_epochs", "batch_size", "seed", "patience"):
                if isinstance(value, bool) or not isinstance(value, Integral):
                    raise ConfigError(f"{name} is {value!r}; it must be a whole number")
            elif name != "schedule" and not (isinstance(value, Real) and math.isfinite(value)):
                raise ConfigError(f"{name} is {value!r}; it must be a number")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule is {self.schedule!r}; it is one of {list(SCHEDULES)}")
        for names, is_valid, expected in _CHECKS:
            for name in names:
                if not is_valid(getattr(self, name)):
                    raise ConfigError(f"{name} is {getattr(self, name)!r}; it {expected}")

    @classmethod
    def of_recipe(cls, recipe: str, **given: Any) -> TrainingConfig:
        """Return the settings of a recipe.

        Args:
            recipe: one of `RECIPES`.
            given: settings in place of the recipe's; one that is None is left to it.

        Raises:
            ConfigError: there is no such recipe, or a value cannot work.
        """
        if recipe not in RECIPES:
            raise ConfigError(f"recipe is {recipe!r}; it is one of {list(RECIPES)}")
        own = {name: value for name, value in given.items() if value is not None}
        return cls(**{**RECIPES[recipe], **own})

    @property
    def depends_on_length(self) -> bool:
        """Whether a step depends on how many steps the whole run has."""
        return self.schedule != "constant" or bool(self.warmup or self.average)

    def lr_at(self, step: int, total_steps: int) -> float:
        """Return the learning rate of one step.

        Args:
            step: number of the step, from 0.
            total_steps: steps of the whole run.
        """
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return self.lr * (step + 1) / warmup_steps
        if self.schedule == "constant":
            return self.lr
        return self.lr * (total_steps - step) / max(1, total_steps - warmup_steps)

    def averages_at(self, step: int, total_steps: int) -> bool:
        """Return whether the weights after a step are averaged; the last step's are, if any.

        Args:
            step: number of the step, from 0.
            total_steps: steps of the whole run.
        """
        if not self.average:
            return False
        return step >= total_steps - max(1, round(self.average * total_steps))
