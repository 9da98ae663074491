"""Learning rates and weight decay of each tensor, and smoothed targets, for both backends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bertnli.bert.config import TrainingConfig
from bertnli.data.batches import Batch
from bertnli.errors import DataError

_BLOCK = re.compile(r"encoder\.blks\.(\d+)\.")
#: Biases, and the scales of layer normalisation.
_NOT_DECAYED = re.compile(r"\.bias$|(^|\.)ln\.weight$")


class TensorRate(NamedTuple):
    """The factor of a tensor's learning rate, and its weight decay; see `TrainingConfig`."""

    lr_factor: float
    weight_decay: float


def tensor_rates(
    names: Iterable[str], config: TrainingConfig, num_blks: int
) -> dict[str, TensorRate]:
    """Compute the learning-rate factor and the weight decay of each tensor.

    The learning rate decays from the heads down (Howard and Ruder, 2018, section 3.2; for
    Transformers Clark et al., 2020): the factor is 1 for the heads and the pooler, ``hidden``,
    ``layer_decay ** (B - i)`` for block i of B, and ``layer_decay ** (B + 1)`` for the embeddings
    and their layer normalisation. Weights do not decay in biases and in layer normalisation (as in
    the code of Devlin et al., 2019).

    Args:
        names: canonical names of the tensors.
        config: the run's settings.
        num_blks: number B of the encoder's blocks.
    """

    def depth(name: str) -> int:  # layers from the heads down
        if block := _BLOCK.match(name):
            return num_blks - int(block[1])
        return num_blks + 1 if name.startswith("encoder.") else 0

    return {
        name: TensorRate(
            config.layer_decay ** depth(name),
            0.0 if _NOT_DECAYED.search(name) else config.weight_decay,
        )
        for name in names
    }


def smoothed(batch: Batch, label_smoothing: float, num_labels: int) -> Batch:
    """Smooth a batch's targets: ``(1 - s) * target + s / K`` for K classes.

    As in Szegedy et al. (2016, section 7) and `torch.nn.functional.cross_entropy`.

    Args:
        batch: a batch with labels or targets; returned as it is if s is 0.
        label_smoothing: the strength s, from 0 to 1.
        num_labels: the number K of classes.

    Raises:
        DataError: a label is not a class id.
    """
    if not label_smoothing:
        return batch
    targets = batch.targets
    if targets is None:
        if ((batch.labels < 0) | (batch.labels >= num_labels)).any():
            raise DataError(
                f"a batch has label ids from {batch.labels.min()} to {batch.labels.max()}; the "
                f"model's classes are 0 to {num_labels - 1}"
            )
        targets = np.eye(num_labels, dtype=np.float32)[batch.labels]
    kept, spread = np.float32(1 - label_smoothing), np.float32(label_smoothing / num_labels)
    return replace(batch, targets=kept * targets + spread)
