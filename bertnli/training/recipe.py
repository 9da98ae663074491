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
    """Return how each tensor is trained.

    The heads and the pooler, ``hidden``, have the learning rate itself. Block i of B has it times
    ``layer_decay ** (B - i)``, the embeddings and their layer normalisation times
    ``layer_decay ** (B + 1)`` (Howard and Ruder, 2018, section 3.2; for Transformers Clark et al.,
    2020). Biases, and layer normalisation's scales and shifts, do not decay (Devlin et al., 2019,
    in their code).

    Args:
        names: canonical.
        config: the run's settings.
        num_blks: B, of the encoder.
    """
    return {
        name: TensorRate(
            config.layer_decay ** _depth(name, num_blks),
            0.0 if _NOT_DECAYED.search(name) else config.weight_decay,
        )
        for name in names
    }


def _depth(name: str, num_blks: int) -> int:
    """Return the number of layers from the heads down to a tensor."""
    block = _BLOCK.match(name)
    if block is not None:
        return num_blks - int(block[1])
    return num_blks + 1 if name.startswith("encoder.") else 0


def smoothed(batch: Batch, label_smoothing: float, num_labels: int) -> Batch:
    """Return a batch with smoothed targets: ``(1 - s) * target + s / K`` for K classes.

    As in Szegedy et al. (2016, section 7) and `torch.nn.functional.cross_entropy`.

    Args:
        batch: with labels or targets; it is returned itself if s is 0.
        label_smoothing: s.
        num_labels: K.

    Raises:
        DataError: a label that is no class.
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
