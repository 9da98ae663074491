"""The referee, the model in float64 NumPy, and comparisons of tensors and training runs."""

from bertnli.bert.referee import RefereeOutput, adam_step, forward, gradients, losses
from bertnli.parity.compare import (
    Difference,
    StepDifference,
    compare_arrays,
    is_key_bias,
    max_abs_difference,
    relative_difference,
    run_both,
)

__all__ = [
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
