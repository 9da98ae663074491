"""What the backends are judged by: the model in float64, and comparisons of tensors and runs."""

from bertnli.bert.referee import RefereeOutput, adam_step, forward, gradients, losses
from bertnli.parity.compare import (
    KEY_BIAS,
    Difference,
    StepDifference,
    compare_arrays,
    is_key_bias,
    max_abs_difference,
    relative_difference,
    run_both,
)

__all__ = [
    "KEY_BIAS",
    "Difference",
    "RefereeOutput",
    "StepDifference",
    "adam_step",
    "compare_arrays",
    "forward",
    "gradients",
    "is_key_bias",
    "losses",
    "max_abs_difference",
    "relative_difference",
    "run_both",
]


def __dir__() -> list[str]:
    return __all__
