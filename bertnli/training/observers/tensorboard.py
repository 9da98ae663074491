"""A run's numbers for TensorBoard, in event files that tensorboardX writes.

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
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertnli._util.files import is_plain_file
from bertnli._util.outputs import check_output_folder
from bertnli.errors import BackendError, ConfigError
from bertnli.training.history import EpochRecord
from bertnli.training.observers.interface import Observer

if TYPE_CHECKING:
    from bertnli.training.state import TrainingState

#: What the names of our event files end with, by which they are told from others'.
SUFFIX = ".bertnli"
STEP_LOSS = "step/loss"
#: Tag to the field of an epoch's record.
EPOCH_TAGS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "dev/loss": "dev_loss",
    "dev/accuracy": "dev_accuracy",
    "pairs_per_second": "pairs_per_second",
}
#: Seconds after which what was added is on the disk.
FLUSH = 10
#: Of a record in an event file: its length, and the length's checksum; behind it, its own checksum.
_HEAD, _TAIL = struct.Struct("<QI"), 4


class TensorBoard(Observer):
    """Writes a run's event files.

    A run that goes on writes all of its events anew, at the times they had: steps that a kill had
    taken back are in no file twice, and those that had not reached the disk are not missing.

    Args:
        folder: where to write; one for each run.
        replace: take the place of another run's events, which are an error otherwise.

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
        self._flushed = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the folder {self.folder} cannot be used for TensorBoard: {error}"
            ) from error
        if self._files() and not replace:
            raise ConfigError(
                f"{self.folder} holds the TensorBoard events of an earlier run; name a folder for "
                "each run, such as runs/tb/NAME, or go on with that run (--resume), or replace it "
                "(--overwrite)"
            )

    def _files(self) -> list[Path]:
        found = sorted(self.folder.glob(f"events.out.tfevents.*{SUFFIX}"))
        return [file for file in found if is_plain_file(file) and _has_events(file)]

    def on_start(self, state: TrainingState) -> None:
        """See `Observer.on_start`."""
        # Not SummaryWriter: it hands its events to a thread, and has no way to wait for it.
        from tensorboardX.event_file_writer import EventsWriter

        old = self._files()
        times = {key: when for file in old for key, when in _times(file).items()}
        # A name has the second it was made in, and must not be that of a file that goes.
        suffix = f".{time.time_ns()}{SUFFIX}"
        self._writer = EventsWriter(str(self.folder / "events"), suffix)
        for step, loss in enumerate(state.history.step_losses, 1):
            self._add(STEP_LOSS, loss, step, times.get((STEP_LOSS, step)))
        for record in state.history.epochs:
            self._add_epoch(record, times)
        self._flush()
        for file in old:
            file.unlink()

    def on_step(self, state: TrainingState) -> None:
        """See `Observer.on_step`."""
        self._add(STEP_LOSS, state.history.step_losses[-1], state.step)
        if time.monotonic() - self._flushed > FLUSH:
            self._flush()

    def on_epoch(self, state: TrainingState) -> None:
        """See `Observer.on_epoch`."""
        self._add_epoch(state.history.epochs[-1], {})
        self._flush()

    def on_end(self) -> None:
        """See `Observer.on_end`."""
        if self._writer is not None:
            self._writer.close()

    def _add_epoch(self, record: EpochRecord, times: dict[tuple[str, int], float]) -> None:
        for tag, name in EPOCH_TAGS.items():
            value = getattr(record, name)
            if value is not None:
                self._add(tag, value, record.steps, times.get((tag, record.steps)))

    def _add(self, tag: str, value: float, step: int, when: float | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        when = time.time() if when is None else when
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        self._writer.write_event(Event(wall_time=when, step=step, summary=summary))

    def _flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()


def _has_events(file: Path) -> bool:
    """Return whether a file is empty, or begins as event files do."""
    first = next(read_events(file), None)
    return file.stat().st_size == 0 or (first is not None and bool(first.file_version))


def _times(file: Path) -> dict[tuple[str, int], float]:
    """Return when each (tag, step) of an event file was written."""
    return {
        (value.tag, event.step): event.wall_time
        for event in read_events(file)
        for value in event.summary.value
    }


def read_events(file: str | Path) -> Iterator[Any]:
    """Yield the events of a file, up to the first that a kill has cut off."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    size = os.path.getsize(file)
    with open(file, "rb") as stream:
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            length = _HEAD.unpack(head)[0]
            body = stream.read(min(length, size) + _TAIL)
            if len(body) < length + _TAIL:
                return
            try:
                yield Event.FromString(body[:length])
            except DecodeError:
                return
