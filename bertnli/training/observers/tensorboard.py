"""A run's numbers for TensorBoard, written by tensorboardX.

tag                 at               what
step/loss           each step        mean loss of the step's batch, in nats
train/loss          each epoch       as in metrics.jsonl, at the number of steps taken by then
train/accuracy
dev/loss
dev/accuracy
pairs_per_second
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertnli._util.outputs import check_output_folder
from bertnli.errors import BackendError, ConfigError
from bertnli.training.observers.interface import Observer

if TYPE_CHECKING:
    from bertnli.training.state import TrainingState

STEP_LOSS = "step/loss"
#: Tag to the field of an epoch's record.
EPOCH_TAGS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "dev/loss": "dev_loss",
    "dev/accuracy": "dev_accuracy",
    "pairs_per_second": "pairs_per_second",
}
#: Seconds after which an event is on the disk.
FLUSH = 10


class TensorBoard(Observer):
    """Writes a run's event files.

    A run that resumes, or overwrites another, adds a file that has TensorBoard hide the earlier
    events of the steps from there on.

    Args:
        folder: where to write; one for each run.
        replace: the folder may hold events, of the run to resume or to overwrite.

    Raises:
        BackendError: tensorboardX is missing.
        ConfigError: the folder has the events of another run, or cannot be used.
    """

    def __init__(self, folder: str | Path, replace: bool) -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise BackendError(
                'TensorBoard\'s files need tensorboardX: pip install "bertnli[tensorboard]"'
            )
        check_output_folder(folder, "TensorBoard")
        self.folder = Path(folder)
        self._writer: Any = None
        if not replace and any(self.folder.glob("events.out.tfevents.*")):
            raise ConfigError(
                f"{self.folder} holds the TensorBoard events of an earlier run; name a folder for "
                "each run, such as runs/tb/NAME, or go on with that run (--resume), or replace it "
                "(--overwrite)"
            )

    def on_start(self, state: TrainingState) -> None:
        """See `Observer.on_start`."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(self.folder),
            purge_step=state.step + 1,
            flush_secs=FLUSH,
            filename_suffix=f".{time.time_ns()}",  # or two files of a second had the same name
        )

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        self._writer.add_scalar(STEP_LOSS, state.history.step_losses[-1], state.step)

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        record = state.history.epochs[-1]
        for tag, name in EPOCH_TAGS.items():
            value = getattr(record, name)
            if value is not None:
                self._writer.add_scalar(tag, value, record.steps)

    def on_end(self) -> None:
        """See `Observer.on_end`."""
        if self._writer is not None:
            self._writer.close()
