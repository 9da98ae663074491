"""The results of a run, epoch by epoch: in memory, as JSON lines, as a curve."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from bertnli._util.files import read_text
from bertnli._util.hints import near_path
from bertnli.errors import DataError
from bertnli.plots import plot_curves

#: File of a run's folder with a line for each finished epoch.
METRICS = "metrics.jsonl"
#: Identifies the file of a curve.
CURVE_MARK = "bertnli training curve"
#: Largest metrics file, in bytes: some 100,000 epochs.
MAX_METRICS = 1 << 25


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch of a run.

    Args:
        epoch: number of the epoch, from 1.
        steps: number of optimizer steps since the start of the run.
        train_loss: mean loss over the epoch's pairs, while training (dropout on), in nats.
        train_accuracy: share of the epoch's pairs classified right, while training.
        dev_loss, dev_accuracy: the same on the dev set after the epoch; None without a dev set.
        pairs_per_second: training pairs over the whole wall time of the epoch's training, data
            preparation included.
        train_seconds, dev_seconds: wall time of training, and of the evaluation on the dev set.

    Examples:
        >>> run = bertnli.train("sample", pretrained="bert.mini", num_epochs=1, progress=False)
        >>> history = run.history
        >>> history.epochs[0].epoch, history.epochs[0].dev_accuracy > 0.3
        (1, True)
    """

    epoch: int
    steps: int
    train_loss: float
    train_accuracy: float
    dev_loss: float | None
    dev_accuracy: float | None
    pairs_per_second: float
    train_seconds: float
    dev_seconds: float

    def __str__(self) -> str:
        dev = "" if self.dev_accuracy is None else f", dev acc {self.dev_accuracy:.3f}"
        return (
            f"epoch {self.epoch}: loss {self.train_loss:.3f}, train acc {self.train_accuracy:.3f}"
            f"{dev}, {self.pairs_per_second:.1f} pairs/s"
        )


@dataclass
class History:
    """The results of the epochs of one run.

    Args:
        epochs: one record per finished epoch.
        step_losses: mean loss of every step's batch, in nats.

    Examples:
        >>> run = bertnli.train("sample", pretrained="bert.mini", num_epochs=1, progress=False)
        >>> history = run.history
        >>> len(history.step_losses), history.best.epoch
        (2, 1)
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)

    @property
    def best(self) -> EpochRecord:
        """The first epoch with the highest dev accuracy; without a dev set the last epoch."""
        if self.epochs[-1].dev_accuracy is None:
            return self.epochs[-1]
        return max(self.epochs, key=lambda record: record.dev_accuracy or 0.0)

    def has_stalled(self, patience: int) -> bool:
        """Return whether the last ``patience`` epochs brought no better dev accuracy; 0: never."""
        if not patience or not self.epochs:
            return False
        return self.epochs[-1].epoch - self.best.epoch >= patience

    def to_lines(self) -> str:
        """Return a line of JSON for each epoch."""
        return "".join(json.dumps(asdict(record)) + "\n" for record in self.epochs)

    def plot(self, path: str | Path, title: str = "") -> None:
        """Draw loss and accuracies against epochs, as the book's figure does, to a PNG file."""
        mark = {"Software": CURVE_MARK}
        plot_curves({title: self}).savefig(path, format="png", metadata=mark)


def read_history(path: str | Path) -> History:
    """Read the epochs of a run; the losses of its steps are not in the file.

    Args:
        path: the run's folder, or its ``metrics.jsonl``.

    Raises:
        DataError: the file does not exist, or is something else.
    """
    path = Path(path)
    file = path / METRICS if path.is_dir() else path
    try:
        lines = read_text(file, DataError, MAX_METRICS).splitlines()
    except DataError as error:
        raise DataError(
            f"{path} is no run's folder: {error}; give the --output of a run{near_path(path)}"
        ) from error
    names = {field.name for field in fields(EpochRecord)}
    history = History()
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            history.epochs.append(EpochRecord(**{name: values[name] for name in names}))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"{file}, line {number}: not an epoch's record, as a run writes them: {error!r}"
            ) from error
    return history
