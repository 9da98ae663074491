"""The state of a run on disk, from which it resumes after it was stopped or killed.

    state/step-000001200/     after 1,200 steps
      tensors.safetensors     weights, Adam's moments and, if weights are averaged, their mean
                              ("weights/NAME", "m/NAME", "v/NAME", "average/NAME", ...)
      state.json              epochs so far, sums of the one under way, settings, environment,
                              size and checksum of tensors.safetensors, checksum of all of this

A state is written under a temporary name, flushed to the disk, and renamed. If it is damaged all
the same (a crash, a full disk, a flipped bit), its checksums tell, and the state before it is used.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from bertnli._util.files import has_mark, is_plain_file, open_regular, read_json_object
from bertnli.errors import CheckpointError
from bertnli.formats.folder import remove_files, replaced_folder
from bertnli.formats.tensors import write_tensors
from bertnli.training.history import EpochRecord, History

FORMAT, VERSION = "bertnli training state", 2
STATE, TENSORS = FILES = "state.json", "tensors.safetensors"
_NAME = re.compile(r"step-(\d{9,})")
#: Largest state.json, which has the loss of each step, and read size, in bytes.
MAX_STATE, _BLOCK = 1 << 30, 1 << 22


@dataclass
class EpochProgress:
    """Sums over the steps of an unfinished epoch, and over their pairs; losses are in nats."""

    steps: int = 0
    loss_sum: float = 0.0
    num_correct: float = 0.0
    num_pairs: int = 0
    seconds: float = 0.0


@dataclass
class TrainingState:
    """The progress of a run, from which it resumes: settings, results, weights and optimizer.

    Data order and dropout are functions of seed and step, so they are not stored.

    Args:
        settings: what a resumed run must repeat; see `bertnli.training.checks.settings_of`.
        history: the finished epochs, and the losses of all steps.
        progress: the sums of the epoch under way.
        arrays: the weights and the optimizer's state, by name.
        environment: versions and machine of the last steps; see
            `bertnli.training.checks.environment`.
    """

    settings: dict[str, Any]
    history: History = field(default_factory=History)
    progress: EpochProgress = field(default_factory=EpochProgress)
    arrays: Mapping[str, NDArray] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Number of steps taken since the start of the run."""
        return len(self.history.step_losses)

    def to_dict(self) -> dict[str, Any]:
        """Convert the state without its arrays to values that JSON can hold."""
        return {
            "settings": self.settings,
            "epochs": [asdict(record) for record in self.history.epochs],
            "step_losses": self.history.step_losses,
            "progress": asdict(self.progress),
            "environment": self.environment,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> TrainingState:
        """Make a state from the values of `to_dict` and from its arrays."""
        epochs = [EpochRecord(**record) for record in values["epochs"]]
        history = History(epochs, [float(loss) for loss in values["step_losses"]])
        progress = EpochProgress(**values["progress"])
        return cls(values["settings"], history, progress, arrays, values["environment"])


def save_state(folder: Path, state: TrainingState, keep: int) -> None:
    """Write a state into a new subfolder, and remove all but the newest ``keep`` states.

    Raises:
        CheckpointError: the state cannot be written; those before it are left.
    """
    target = folder / f"step-{state.step:09d}"
    if os.path.lexists(target) and not is_state(target):
        raise CheckpointError(f"{target} is in the way, and no state of a run; move it elsewhere")
    try:
        with replaced_folder(target) as new:
            new.mkdir()
            size, checksum = write_tensors(new / TENSORS, state.arrays, FORMAT)
            content = {"tensors": {"bytes": size, "crc32": checksum}, **state.to_dict()}
            head = {"format": FORMAT, "version": VERSION, "crc32": _json_checksum(content)}
            text = json.dumps({**head, "content": content}) + "\n"
            (new / STATE).write_text(text, encoding="utf-8")
        remove_states(folder, keep)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


def load_state(folder: Path) -> TrainingState | None:
    """Load the newest undamaged state of a folder; None if the folder has no states.

    Damaged states are named on standard error.

    Raises:
        CheckpointError: all states are damaged.
    """
    damaged = []
    for path in states(folder):
        try:
            return _read(path)
        except CheckpointError as error:
            damaged.append(error)
            print(f"note: {error}; the state before it is taken", file=sys.stderr)
    if damaged:
        raise CheckpointError(f"all states in {folder} are damaged; the newest: {damaged[0]}")
    return None


def remove_states(folder: Path, keep: int = 0) -> None:
    """Remove all but the newest ``keep`` states of a folder, and nothing else."""
    for state in states(folder)[keep:]:
        remove_files(state, FILES)


def states(folder: Path) -> list[Path]:
    """List the folders of states, damaged ones included, the newest first."""
    paths = filter(is_state, folder.iterdir()) if folder.is_dir() else ()
    return sorted(paths, key=lambda path: int(path.name[5:]), reverse=True)


def is_state(path: Path) -> bool:
    """Return whether `save_state` wrote a folder; one file may be damaged, or both empty."""
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    files = [*path.iterdir()]
    if not {file.name for file in files} <= {*FILES} or not all(map(is_plain_file, files)):
        return False
    return any(has_mark(file, FORMAT) for file in files) or not any(f.stat().st_size for f in files)


def _read(path: Path) -> TrainingState:
    head = read_json_object(path / STATE, CheckpointError, MAX_STATE, MAX_STATE)
    try:
        if head["format"] != FORMAT or head["version"] != VERSION:
            raise CheckpointError(
                f"{path / STATE}: not a state of this version; use the bertnli that wrote it"
            )
        content = head["content"]
        tensors = content["tensors"]
        if _json_checksum(content) != head["crc32"]:
            raise CheckpointError(f"{path / STATE} is damaged: its checksum differs")
        if _size_and_checksum(path / TENSORS) != (tensors["bytes"], tensors["crc32"]):
            raise CheckpointError(f"{path / TENSORS} is damaged: its checksum differs")
        return TrainingState.from_dict(content, load_file(path / TENSORS))
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def state_to_bytes(state: TrainingState | None) -> bytes:
    """Serialise a state, or None, for another process."""
    if state is None:
        return b""
    text = json.dumps(state.to_dict()).encode()
    return len(text).to_bytes(8, "little") + text + save(dict(state.arrays))


def state_from_bytes(data: bytes) -> TrainingState | None:
    """Restore a state, or None, from the bytes of `state_to_bytes`."""
    if not data:
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    return TrainingState.from_dict(json.loads(data[8:end]), load(data[end:]))


def _json_checksum(content: Any) -> int:
    return zlib.crc32(json.dumps(content).encode())


def _size_and_checksum(path: Path) -> tuple[int, int]:
    size = checksum = 0
    with open_regular(path, CheckpointError) as file:
        while block := file.read(_BLOCK):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return size, checksum
