"""Do the backends compute the same from a checkpoint, and if not, which of them is off, and where?

Activations and gradients layer by layer, and some steps of training, of each backend that is
installed and of the float64 referee.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bertnli.backends.interface import Backend
from bertnli.bert import referee
from bertnli.bert.labels import LABELS, label_permutation
from bertnli.bert.parameters import classifier_shapes, initial_arrays, layer_names, layer_of
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.errors import BackendError, DataError
from bertnli.formats.opening import Checkpoint
from bertnli.parity.compare import is_key_bias
from bertnli.plots import new_figure
from bertnli.training.engine import StepResult

REFEREE = "referee"
#: How far apart a layer's activations, and a tensor's gradients, may be: the norm of the difference
#: by the norm. Rounding in float32 makes some 1e-6 of either; a unit of ReLU with nearly no input
#: may be on in one and off in the other, and its gradient with it.
ACTIVATIONS, GRADIENTS = 1e-4, 1e-3
#: How far apart the losses of a step may be, in nats.
LOSSES = 1e-4
#: The norm that a difference is divided by is at least this, by the largest of all tensors'.
FLOOR = 1e-6
#: The output layer's result on the path that computes no padding, and of the last block only what
#: the classes need.
PACKED = "output (packed)"


@dataclass(frozen=True)
class Row:
    """One layer's activations or one tensor's gradient, in all pairs of what computed it.

    Args:
        name: of the layer or the tensor.
        absolute: "one - other" to the largest absolute difference.
        relative: "one - other" to the norm of the difference by that of the other's.
    """

    name: str
    absolute: dict[str, float]
    relative: dict[str, float]


@dataclass(frozen=True)
class ParityReport:
    """What was compared, and what came of it.

    Args:
        source: the checkpoint.
        backends: names of the backends that were compared with the referee and with each other.
        pairs, tokens: of the batch whose activations and gradients these are.
        activations: one row for each layer, and one for the logits of the packed path.
        gradients: one row for each tensor; those of key biases, which are zero but for rounding,
            are judged by nothing.
        losses: backend, or ``"referee"``, to the mean loss of each step, before it.
        lr: of the steps.
        problems: what is beyond the tolerances, in words; empty where everything agrees.
    """

    source: str
    backends: tuple[str, ...]
    pairs: int
    tokens: int
    activations: tuple[Row, ...]
    gradients: tuple[Row, ...]
    losses: dict[str, list[float]]
    lr: float
    problems: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether everything is within the tolerances."""
        return not self.problems

    def layer_gradients(self) -> list[Row]:
        """Return one row for each layer: the worst of its tensors, key biases left out."""
        worst: dict[str, Row] = {}
        for row in self.gradients:
            if is_key_bias(row.name):
                continue
            before = worst.setdefault(layer_of(row.name), Row(layer_of(row.name), {}, {}))
            for mine, new in ((before.absolute, row.absolute), (before.relative, row.relative)):
                for versus, value in new.items():
                    mine[versus] = _worse(value, mine.get(versus, 0.0))
        return list(worst.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, the tolerances and the verdict with it."""
        tolerances = {"activations": ACTIVATIONS, "gradients": GRADIENTS, "losses": LOSSES}
        return {**asdict(self), "tolerances": tolerances, "agrees": self.agrees}

    def plot(self, path: str | Path) -> None:
        """Draw the losses, and how far apart they are, step by step, to a PNG file.

        Raises:
            BackendError: matplotlib is missing.
        """
        figure = new_figure(5.2, 4.8)
        upper, lower = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": (3, 2)})
        steps = range(1, len(self.losses[REFEREE]) + 1)
        for i, (name, values) in enumerate(self.losses.items()):
            style = {"linestyle": ("-", "--", ":")[i], "marker": "os^"[i], "markersize": 4}
            upper.plot(steps, values, label=name, color=f"C{i}", **style)
        for i, (one, other) in enumerate(combinations(self.losses, 2)):
            apart = np.abs(np.subtract(self.losses[one], self.losses[other]))
            # What agrees to the last digit is drawn at the bottom.
            lower.semilogy(steps, np.maximum(apart, 1e-9), label=f"{one} - {other}", color=f"C{i}")
        lower.axhline(LOSSES, color="0.5", linestyle=":", label="tolerance")
        upper.set_ylabel("loss, nats")
        lower.set_ylabel("difference, nats")
        lower.set_xlabel("step")
        for axes in (upper, lower):
            axes.grid(alpha=0.4)
            axes.legend(
                fontsize="small",
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=4,
                columnspacing=1.2,
                handlelength=1.5,
                frameon=False,
            )
        lower.xaxis.get_major_locator().set_params(integer=True)
        figure.tight_layout()
        figure.savefig(path)


def parity_report(
    checkpoint: Checkpoint,
    backends: Sequence[Backend],
    *,
    steps: int = 5,
    batch_size: int = 8,
    max_len: int = 64,
    lr: float = 1e-4,
) -> ParityReport:
    """Compute the same on each backend and by the referee, without dropout.

    The pairs are the first of the sample corpus. A pretrained model gets an output layer with start
    values.

    Args:
        checkpoint: a classifier or a pretrained model.
        backends: one or more.
        steps: of training, each on pairs of its own.
        batch_size: pairs of each step, and of the activations and gradients.
        max_len: tokens of a pair.
        lr: of the steps.

    Raises:
        BackendError: no backend.
        DataError: the vocabulary cannot encode pairs.
    """
    if not backends:
        raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
    config = replace(checkpoint.config, dropout=0.0)
    labels = checkpoint.labels or LABELS
    shapes = classifier_shapes(config, len(labels))
    arrays = {name: a for name, a in checkpoint.arrays.items() if name in shapes}
    arrays |= initial_arrays({name: s for name, s in shapes.items() if name not in arrays}, 0)
    checkpoint = replace(checkpoint, arrays=arrays, config=config, labels=tuple(labels))
    batches = _batches(checkpoint, max(1, steps), batch_size, max_len)

    judge = _RefereeTrainer(checkpoint)
    activations = {REFEREE: judge.activations(batches[0])}
    gradients: dict[str, Mapping[str, NDArray]] = {REFEREE: judge.gradients(batches[0])}
    trainers: dict[str, Any] = {}
    for nli in backends:
        net: Any = nli.BERTClassifier(nli.BERTModel(**config.to_dict(), arrays=arrays), labels)
        net.load_arrays(arrays, checkpoint.source)
        trainers[nli.name] = nli.Trainer(net, lr=lr, devices="cpu")
        activations[nli.name] = {
            **net.activations(batches[0]),
            PACKED: net.logits(batches[0]),
        }
        gradients[nli.name] = trainers[nli.name].gradients(batches[0], 0)
    losses = {
        name: [
            trainer.train_step(batch, lr, step).read()[0] / len(batch)
            for step, batch in enumerate(batches[:steps])
        ]
        for name, trainer in {**trainers, REFEREE: judge}.items()
    }
    activation_rows = _rows([*trainers, REFEREE], activations, batches[0])
    gradient_rows = _rows([*trainers, REFEREE], gradients, None)
    return ParityReport(
        source=checkpoint.source,
        backends=tuple(trainers),
        pairs=len(batches[0]),
        tokens=int(batches[0].valid_lens.sum()),
        activations=activation_rows,
        gradients=gradient_rows,
        losses=losses,
        lr=lr,
        problems=tuple(_problems(activation_rows, gradient_rows, losses)),
    )


class _RefereeTrainer:
    """The referee with the weights that it trains."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.weights = {name: np.asarray(a, np.float64) for name, a in checkpoint.arrays.items()}
        self.moments: tuple[referee.Arrays, referee.Arrays] = ({}, {})
        self.steps = 0

    def activations(self, batch: Batch) -> dict[str, NDArray]:
        out = referee.forward(
            self.weights, self.config, batch.token_ids, batch.segments, batch.valid_lens
        )
        assert out.logits is not None
        found = [*out.layers, out.pooled, out.logits, out.logits]
        return dict(zip([*layer_names(self.config), PACKED], found, strict=True))

    def gradients(self, batch: Batch) -> referee.Arrays:
        return referee.gradients(
            self.weights,
            self.config,
            batch.token_ids,
            batch.segments,
            batch.valid_lens,
            batch.labels,
        )

    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        logits = self.activations(batch)["output"]
        self.steps += 1
        self.weights = referee.adam_step(
            self.weights, self.gradients(batch), *self.moments, self.steps, lr
        )
        loss_sum = float(referee.losses(logits, batch.labels).sum())
        hits = int((logits.argmax(axis=1) == batch.labels).sum())
        return StepResult([(loss_sum, hits)])


def _batches(checkpoint: Checkpoint, count: int, size: int, max_len: int) -> list[Batch]:
    """Return batches of the sample corpus, each of its own pairs as far as there are enough."""
    corpus = read("sample", "train")
    max_len = min(max_len, checkpoint.config.max_len)
    dataset = PairDataset(corpus, max_len, checkpoint.vocab, verbose=False)
    labels = checkpoint.labels or ()
    try:
        ids = label_permutation(labels, dataset.label_names)
    except DataError:  # other classes: any will do
        ids = np.arange(len(dataset.label_names)) % len(labels)
    found = []
    for i in range(count):
        batch = dataset.batch(np.arange(i * size, (i + 1) * size) % len(dataset))
        found.append(replace(batch, labels=ids[batch.labels].astype(np.int32)))
    return found


def _rows(
    order: Sequence[str], values: Mapping[str, Mapping[str, NDArray]], batch: Batch | None
) -> tuple[Row, ...]:
    """Compare under each name what each of ``order`` computed; of a batch only what is a token."""

    def relevant(array: NDArray) -> NDArray[np.float64]:
        wide = np.asarray(array, np.float64)
        if batch is None or wide.ndim != 3:
            return wide
        return wide[np.arange(wide.shape[1]) < batch.valid_lens[:, None]]

    names = [*values[REFEREE]]
    norms = [np.linalg.norm(relevant(values[REFEREE][name])) for name in names]
    floor = FLOOR * float(np.max(norms, initial=0.0)) if batch is None else 0.0
    rows = []
    for name in names:
        each = {who: relevant(values[who][name]) for who in order}
        absolute, relative = {}, {}
        for one, other in combinations(order, 2):
            absolute[f"{one} - {other}"] = float(np.abs(each[one] - each[other]).max(initial=0.0))
            relative[f"{one} - {other}"] = _relative(each[one], each[other], floor)
        rows.append(Row(name, absolute, relative))
    return tuple(rows)


def _relative(one: NDArray, other: NDArray, floor: float) -> float:
    """Return the norm of the difference by the norm of the other, which is at least so much."""
    apart = float(np.linalg.norm(one - other))
    size = max(float(np.linalg.norm(other)), floor)
    return apart / size if size else apart


def _problems(
    activations: Sequence[Row], gradients: Sequence[Row], losses: Mapping[str, ArrayLike]
) -> list[str]:
    """Return what is beyond the tolerances: for each backend where it begins, and how much."""
    found = []
    judged = [row for row in gradients if not is_key_bias(row.name)]
    judged.reverse()  # the order in which they are computed
    for versus in activations[0].relative:
        who = versus.replace(f" - {REFEREE}", " is off") if REFEREE in versus else versus
        for what, rows, limit in (
            ("activations", activations, ACTIVATIONS),
            ("gradients", judged, GRADIENTS),
        ):
            # Not "above": a NaN is above nothing.
            bad = [row for row in rows if not row.relative[versus] <= limit]
            if bad:
                first = bad[0]
                found.append(
                    f"{who}: {what} of {first.name} by {first.relative[versus]:.1e} of their "
                    f"size, {limit:g} allowed"
                    + (f"; and {len(bad) - 1} more after it" if len(bad) > 1 else "")
                )
        one, _, other = versus.partition(" - ")
        apart = np.abs(np.subtract(losses[one], losses[other]))
        steps = np.flatnonzero(~(apart <= LOSSES))
        if len(steps):
            found.append(
                f"{who}: the loss of step {steps[0] + 1} by {apart[steps[0]]:.1e} nats, "
                f"{LOSSES:g} allowed"
            )
    return found


def _worse(one: float, other: float) -> float:
    return one if not one <= other else other
