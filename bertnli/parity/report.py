"""A report on whether backends compute the same, and if not, which one is off, and where.

It compares activations and gradients layer by layer, and the losses of some training steps, between
all backends and the float64 referee (`bertnli.bert.referee`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.progress import aligned
from bertnli.backends import NAMES
from bertnli.backends.interface import Backend
from bertnli.bert import referee
from bertnli.bert.labels import LABELS, label_permutation
from bertnli.bert.parameters import classifier_shapes, initial_arrays, layer_names, layer_of
from bertnli.data.batches import Batch
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read
from bertnli.errors import BackendError, DataError
from bertnli.formats.checkpoint import Checkpoint
from bertnli.parity import is_key_bias
from bertnli.plots import new_figure
from bertnli.training.engine import StepResult

REFEREE = "referee"
#: Tolerances: the norm of a difference of a layer's activations, or a tensor's gradients, as a
#: fraction of the norm. Rounding in float32 makes about 1e-6 of either; a unit of ReLU with nearly
#: no input may be on in one and off in the other, and its gradient with it.
ACTIVATIONS, GRADIENTS = 1e-4, 1e-3
#: Tolerance of the losses of a step, in nats.
LOSSES = 1e-4
#: A gradient's norm counts as at least this fraction of the largest tensor's.
FLOOR = 1e-6
#: The output layer's result on the path that computes no padding.
PACKED = "output (packed)"


@dataclass(frozen=True)
class Row:
    """Differences of one layer's activations or one tensor's gradient, for all pairs of backends.

    Args:
        name: the name of the layer or the tensor.
        absolute: dictionary of a pair of backends, ``"one - other"``, to the largest absolute
            difference.
        relative: the same with the norm of the difference divided by the norm of the other.
    """

    name: str
    absolute: dict[str, float]
    relative: dict[str, float]


@dataclass(frozen=True)
class ParityReport:
    """The differences between backends and the referee.

    Args:
        source: the checkpoint.
        backends: the names of the backends, which are compared with the referee and each other.
        pairs, tokens: the size of the batch of which activations and gradients are compared.
        activations: a row for each layer, and one for the logits computed without padding.
        gradients: a row for each tensor; those of key biases, which are zero but for rounding,
            have no tolerance.
        losses: dictionary of each backend, or ``"referee"``, to the mean loss of each step before
            its update.
        lr: the learning rate of the steps.
        problems: a sentence for each difference beyond the tolerances.
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
        """Return a row for each layer with the largest differences of its tensors' gradients.

        Key biases are left out.
        """
        layers: dict[str, list[Row]] = {}
        for row in self.gradients:
            if not is_key_bias(row.name):
                layers.setdefault(layer_of(row.name), []).append(row)

        def largest(values: list[dict[str, float]]) -> dict[str, float]:
            return {versus: float(np.max([v[versus] for v in values])) for versus in values[0]}

        return [
            Row(layer, largest([r.absolute for r in rows]), largest([r.relative for r in rows]))
            for layer, rows in layers.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report with tolerances and verdict as a dictionary that JSON can hold."""
        tolerances = {"activations": ACTIVATIONS, "gradients": GRADIENTS, "losses": LOSSES}
        return {**asdict(self), "tolerances": tolerances, "agrees": self.agrees}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.source}: {self.pairs} pairs, {self.tokens} tokens, no dropout"
        for missing in sorted(set(NAMES) - set(self.backends)):
            yield f"{missing} is not installed, and so not compared"
        yield "\nactivations: max abs difference (norm of the difference by the norm)"
        yield from _table(self.activations)
        yield "\ngradients, the worst tensor of each layer; without key biases, which have none"
        yield from _table(self.layer_gradients())
        if any(self.losses.values()):
            yield f"\nlosses of steps at the rate {self.lr:g}, in nats"
            steps = enumerate(zip(*self.losses.values(), strict=True), 1)
            rows = [[str(step), *(f"{loss:.7f}" for loss in losses)] for step, losses in steps]
            yield from aligned([["step", *self.losses], *rows])
        of_norm = f"activations {ACTIVATIONS:g}, gradients {GRADIENTS:g} of their norm"
        yield f"\ntolerances: {of_norm}; losses {LOSSES:g} nats"
        yield from self.problems
        yield "verdict: " + ("they agree" if self.agrees else "they do not agree")

    def plot(self, path: str | Path) -> None:
        """Plot the losses and their differences step by step to a PNG file.

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
            # Equal losses are drawn at the bottom.
            lower.semilogy(steps, np.maximum(apart, 1e-9), label=f"{one} - {other}", color=f"C{i}")
        lower.axhline(LOSSES, color="0.5", linestyle=":", label="tolerance")
        upper.set(ylabel="loss, nats")
        lower.set(xlabel="step", ylabel="difference, nats")
        lower.xaxis.get_major_locator().set_params(integer=True)
        for axes in (upper, lower):
            axes.grid(alpha=0.4)
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 4}
            axes.legend(fontsize="small", frameon=False, columnspacing=1.2, **above)
        figure.savefig(path)


def _table(rows: Sequence[Row]) -> list[str]:
    pairs = list(rows[0].absolute)
    cells = [[r.name, *(f"{r.absolute[p]:.1e} ({r.relative[p]:.1e})" for p in pairs)] for r in rows]
    return aligned([["layer", *pairs], *cells])


def parity_report(
    checkpoint: Checkpoint,
    backends: Sequence[Backend],
    *,
    steps: int = 5,
    batch_size: int = 8,
    max_len: int = 64,
    lr: float = 1e-4,
) -> ParityReport:
    """Run a checkpoint on each backend and the referee, without dropout, and compare.

    The pairs are the first of the sample corpus. A pretrained model gets an output layer with
    initial values.

    Args:
        checkpoint: a classifier or a pretrained model.
        backends: one or more backends.
        steps: the number of training steps, each on other pairs.
        batch_size: the number of pairs of a step, and of the batch whose activations and gradients
            are compared.
        max_len: the maximum number of tokens of a pair.
        lr: the learning rate of the steps.

    Raises:
        BackendError: there are no backends.
        DataError: the vocabulary cannot encode pairs.
    """
    if not backends:
        raise BackendError('no framework is installed: pip install "bertnli[torch,mxnet]"')
    checkpoint = _as_classifier(checkpoint)
    sizes, arrays = checkpoint.config.to_dict(), checkpoint.arrays
    batches = _batches(checkpoint, max(1, steps), batch_size, max_len)
    first = batches[0]
    trainers: dict[str, Any] = {}
    activations: dict[str, Mapping[str, NDArray]] = {}
    for nli in backends:
        net = nli.BERTClassifier(nli.BERTModel(**sizes, arrays=arrays), checkpoint.labels)
        net.load_arrays(arrays, checkpoint.source)
        trainers[nli.name] = nli.Trainer(net, lr=lr, devices="cpu")
        activations[nli.name] = {**net.activations(first), PACKED: net.logits(first)}
    trainers[REFEREE] = referee_trainer = _RefereeTrainer(checkpoint)
    activations[REFEREE] = referee_trainer.activations(first)
    gradients = {name: t.gradients(first, 0) for name, t in trainers.items()}
    losses = {
        name: [t.train_step(b, lr, i).read()[0] / len(b) for i, b in enumerate(batches[:steps])]
        for name, t in trainers.items()
    }
    is_token = np.arange(first.token_ids.shape[1]) < first.valid_lens[:, None]
    of_tokens = {
        name: {layer: a[is_token] if a.ndim == 3 else a for layer, a in layers.items()}
        for name, layers in activations.items()
    }
    largest = max(float(np.linalg.norm(array)) for array in gradients[REFEREE].values())
    activation_rows, gradient_rows = _rows(of_tokens, 0.0), _rows(gradients, FLOOR * largest)
    return ParityReport(
        source=checkpoint.source,
        backends=tuple(nli.name for nli in backends),
        pairs=len(first),
        tokens=int(first.valid_lens.sum()),
        activations=activation_rows,
        gradients=gradient_rows,
        losses=losses,
        lr=lr,
        problems=tuple(_problems(activation_rows, gradient_rows, losses)),
    )


def _as_classifier(checkpoint: Checkpoint) -> Checkpoint:
    """Turn off dropout, and add an output layer with initial values if there is none."""
    labels = tuple(checkpoint.labels or LABELS)
    shapes = classifier_shapes(checkpoint.config, len(labels))
    arrays = {name: a for name, a in checkpoint.arrays.items() if name in shapes}
    arrays |= initial_arrays({name: s for name, s in shapes.items() if name not in arrays}, 0)
    config = checkpoint.config.with_dropout(0.0)
    return replace(checkpoint, arrays=arrays, config=config, labels=labels)


class _RefereeTrainer:
    """A trainer, for `run_both`, whose net is the float64 referee."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.weights = {name: np.asarray(a, np.float64) for name, a in checkpoint.arrays.items()}
        self.moments: tuple[referee.Arrays, referee.Arrays] = ({}, {})
        self.steps = 0

    def activations(self, batch: Batch) -> dict[str, NDArray]:
        output = referee.forward(self.weights, self.config, *batch.inputs())
        assert output.logits is not None
        arrays = [*output.layers, output.pooled, output.logits, output.logits]
        return dict(zip([*layer_names(self.config), PACKED], arrays, strict=True))

    def gradients(self, batch: Batch, seed: int) -> referee.Arrays:
        inputs = batch.token_ids, batch.segments, batch.valid_lens
        return referee.gradients(self.weights, self.config, *inputs, batch.labels)

    def train_step(self, batch: Batch, lr: float, seed: int) -> StepResult:
        logits, gradients = self.activations(batch)["output"], self.gradients(batch, seed)
        self.steps += 1
        self.weights = referee.adam_step(self.weights, gradients, *self.moments, self.steps, lr)
        hits = (logits.argmax(axis=1) == batch.labels).sum()
        return StepResult([(referee.losses(logits, batch.labels).sum(), hits)])


def _batches(checkpoint: Checkpoint, count: int, size: int, max_len: int) -> list[Batch]:
    """Make batches of the sample corpus, repeating its pairs if there are too few."""
    max_len = min(max_len, checkpoint.config.max_len)
    dataset = PairDataset(read("sample", "train"), max_len, checkpoint.vocab, verbose=False)
    labels = checkpoint.labels or ()
    try:
        ids = label_permutation(labels, dataset.label_names)
    except DataError:  # other classes: any will do
        ids = np.arange(len(dataset.label_names)) % len(labels)
    numbers = np.arange(count * size).reshape(count, size) % len(dataset)
    return [dataset.batch(each).relabelled(ids.astype(np.int32)) for each in numbers]


def _rows(values: Mapping[str, Mapping[str, NDArray]], floor: float) -> tuple[Row, ...]:
    """Compare the arrays of each pair of backends; ``values`` has them by backend, then by name.

    Relative differences are divided by norms of at least ``floor``.
    """
    rows = []
    for name in values[REFEREE]:
        row = Row(name, {}, {})
        for one, other in combinations(values, 2):
            a, b = (np.asarray(values[backend][name], np.float64) for backend in (one, other))
            apart, size = float(np.linalg.norm(a - b)), max(float(np.linalg.norm(b)), floor)
            row.absolute[f"{one} - {other}"] = float(np.abs(a - b).max(initial=0.0))
            row.relative[f"{one} - {other}"] = apart / size if size else apart
        rows.append(row)
    return tuple(rows)


def _problems(
    activations: Sequence[Row], gradients: Sequence[Row], losses: Mapping[str, Sequence[float]]
) -> list[str]:
    """Describe, for each pair of backends, the first layer and step beyond the tolerances."""
    problems = []
    # In the order in which they are computed.
    backwards = [row for row in reversed(gradients) if not is_key_bias(row.name)]
    tables = ("activations", activations, ACTIVATIONS), ("gradients", backwards, GRADIENTS)
    for versus in activations[0].relative:
        subject = versus.replace(f" - {REFEREE}", " is off") if REFEREE in versus else versus
        for what, rows, limit in tables:
            # Not "above": a NaN is above nothing.
            bad = [row for row in rows if not row.relative[versus] <= limit]
            if bad:
                more = f"; and {len(bad) - 1} more after it" if len(bad) > 1 else ""
                problems.append(
                    f"{subject}: {what} of {bad[0].name} by {bad[0].relative[versus]:.1e} of their "
                    f"size, {limit:g} allowed{more}"
                )
        one, _, other = versus.partition(" - ")
        apart = np.abs(np.subtract(losses[one], losses[other]))
        steps = np.flatnonzero(~(apart <= LOSSES))
        if len(steps):
            problems.append(
                f"{subject}: the loss of step {steps[0] + 1} by {apart[steps[0]]:.1e} nats, "
                f"{LOSSES:g} allowed"
            )
    return problems
