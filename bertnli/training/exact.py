"""The same gradients however many processes compute them: fixed parts, added up in float64.

The pairs of a batch pull a weight in different directions, so that of the sum of their gradients
fewer digits are right than of each, and which ones depends on what was computed together and added
up first. Here neither depends on the number of processes: a batch is always cut into the same
parts, each has dropout of its own, and their sums lose nothing.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from bertnli.data.batches import Batch
from bertnli.data.packing import split_by_length
from bertnli.training.engine import BaseEngine
from bertnli.training.memory import within_memory

#: Pairs of a part, where ``micro_batch_size`` does not say.
EXACT_PAIRS = 8


def exact_gradients(
    engine: BaseEngine, batch: Batch, seed: int
) -> tuple[dict[str, NDArray[np.float32]], float, float]:
    """Return the gradients of a batch's mean loss, and what this process's parts gave.

    Args:
        engine: whose net is computed.
        batch: the same in each process.
        seed: of the step's dropout; the same in each process.

    Returns:
        The gradients under canonical names, the sum of the losses, and the number right.
    """
    parts = split_by_length(batch, None, engine.limits.micro_batch_size or EXACT_PAIRS)
    sums = {name: np.zeros(a.shape) for name, a in engine.net.arrays().items()}
    loss_sum, num_correct = 0.0, 0.0
    workers = engine.workers
    for i in range(workers.rank, len(parts), workers.size):
        part_seed = int(np.random.SeedSequence([seed, i]).generate_state(1)[0] & 0x7FFFFFFF)
        compute = partial(engine.part_gradients, parts[i], part_seed)
        result, gradients = within_memory(engine, compute, len(parts[i]))
        for name, gradient in gradients.items():
            sums[name] += gradient
        loss, hits = result.read()
        loss_sum, num_correct = loss_sum + loss, num_correct + hits
    flat = workers.exact_sum(np.concatenate([array.ravel() for array in sums.values()]))
    found, end = {}, 0
    for name, array in sums.items():
        start, end = end, end + array.size
        mean = flat[start:end].reshape(array.shape) / len(batch)
        found[name] = mean.astype(np.float32)
    return found, loss_sum, num_correct
