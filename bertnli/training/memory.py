"""Smaller micro-batches if memory does not suffice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from tqdm import tqdm

from bertnli.errors import TrainingError
from bertnli.training.engine import BaseEngine

T = TypeVar("T")


def within_memory(engine: BaseEngine, compute: Callable[[], T], num_pairs: int) -> T:
    """Return the result of a function that computes a batch in micro-batches.

    Args:
        engine: its ``micro_batch_size`` is halved until the function succeeds, if ``auto_batch``.
        compute: the function.
        num_pairs: of the batch, in this process.

    Raises:
        TrainingError: memory does not suffice.
    """
    while True:
        try:
            return compute()
        except Exception as error:
            if not engine.is_out_of_memory(error):
                raise
            size = min(engine.limits.micro_batch_size or num_pairs, num_pairs)
            lacks = f"memory does not suffice for {size} pairs at a time"
            if size <= 1:
                raise TrainingError(
                    f"memory does not suffice for one pair at a time: {error}. A smaller model "
                    "may, or shorter pairs (--max-len)"
                ) from error
            if not engine.limits.auto_batch:
                raise TrainingError(
                    f"{lacks}: {error}. With micro_batch_size={size // 2} (--micro-batch-size "
                    f"{size // 2}) the same steps need less, and auto_batch=True (--auto-batch) "
                    "finds the size that fits; a run that was saved can go on"
                ) from error
            engine.limits.micro_batch_size = size // 2
        # Here the error, and with it the tensors of its frames, is gone.
        tqdm.write(f"{lacks}; going on with {size // 2}, and the same batches", file=sys.stderr)
