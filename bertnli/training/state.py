"""Where a run stands, on disk, so that it can go on after it was stopped or killed.

    state/step-000001200/     after 1,200 steps
      tensors.safetensors     the weights, the optimizer's state, and the mean of the last weights
                              if one is taken ("weights/NAME", "m/NAME", "average/NAME", ...)
      state.json              the epochs so far, the sums of the one under way, the run's settings,
                              where it was computed, the size and checksum of
                              tensors.safetensors, and a checksum of all of this

A folder is written under a temporary name, flushed to the disk, and renamed. What a crash, a full
disk or a flipped bit has damaged all the same is recognised, and the folder before it is taken.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from bertnli._util.files import is_plain_file, open_regular, read_json_object
from bertnli.errors import CheckpointError
from bertnli.formats.folder import remove_files, replaced_folder
from bertnli.formats.tensors import write_tensors
from bertnli.training.history import EpochRecord, History

FORMAT, VERSION = "bertnli training state", 2
TENSORS, STATE = "tensors.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{9,})")
#: Both files say within so many bytes what they are.
_BEGIN = 1 << 12
#: Bytes of a state's JSON file, which has the loss of each step.
MAX_STATE = 1 << 30
#: Bytes that are read and summed at a time.
_BLOCK = 1 << 22


@dataclass
class EpochProgress:
    """The sums of the epoch under way.

    Args:
        steps: taken in this epoch.
        loss_sum: of its pairs, in nats.
        num_correct, num_pairs: of its pairs.
        seconds: wall time.
    """

    steps: int = 0
    loss_sum: float = 0.0
    num_correct: float = 0.0
    num_pairs: int = 0
    seconds: float = 0.0


@dataclass
class TrainingState:
    """Everything that a run's further course depends on, and what it has to tell so far.

    The order of the data and dropout are computed from seed and step: what is not stored cannot be
    stored wrong.

    Args:
        settings: what a run that goes on must have the same; see `bertnli.training.settings`.
        history: the finished epochs, and the losses of all steps.
        progress: of the epoch under way.
        arrays: the weights and the optimizer's state, by name.
        environment: where the last steps were computed; see `bertnli.training.environment`.
    """

    settings: dict[str, Any]
    history: History = field(default_factory=History)
    progress: EpochProgress = field(default_factory=EpochProgress)
    arrays: Mapping[str, NDArray] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps taken since the start of the run."""
        return len(self.history.step_losses)


def save_state(folder: Path, state: TrainingState, keep: int) -> None:
    """Add a state to a folder, and take away all but the last ``keep`` of them.

    Raises:
        CheckpointError: it cannot be written; the states that were there are left.
    """
    target = folder / f"step-{state.step:09d}"
    if os.path.lexists(target) and not is_state(target):
        raise CheckpointError(f"{target} is in the way, and no state of a run; move it elsewhere")
    try:
        with replaced_folder(target) as new:
            new.mkdir()
            size, checksum = write_tensors(new / TENSORS, state.arrays, FORMAT)
            content = {"tensors": {"bytes": size, "crc32": checksum}, **_described(state)}
            described = {
                "format": FORMAT,
                "version": VERSION,
                "crc32": _checksum_of(content),
                "content": content,
            }
            text = json.dumps(described) + "\n"
            (new / STATE).write_text(text, encoding="utf-8")
        for old in states(folder)[keep:]:
            remove_files(old, (STATE, TENSORS))
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


def load_state(folder: Path) -> TrainingState | None:
    """Return the newest state of a folder that is whole; None if there is none.

    One that is not is left out, and named on standard error.

    Raises:
        CheckpointError: there are states, and all are damaged.
    """
    damaged = []
    for path in states(folder):
        try:
            return _read(path)
        except CheckpointError as error:
            damaged.append(error)
            print(f"note: {error}; the state before it is taken", file=sys.stderr)
    if damaged:
        raise CheckpointError(f"no state in {folder} is whole; the newest: {damaged[0]}")
    return None


def remove_states(folder: Path) -> None:
    """Make a folder for states, or remove the states that are in it, and nothing else.

    Raises:
        OSError: it cannot be made, or they cannot be removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for state in states(folder):
        remove_files(state, (STATE, TENSORS))


def states(folder: Path) -> list[Path]:
    """Return the folders of states, whole or damaged, the newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if is_state(path)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def has_name_of_state(path: Path) -> bool:
    """Return whether a path is named as a state is; see `is_state`."""
    return _NAME.fullmatch(path.name) is not None


def is_state(path: Path) -> bool:
    """Return whether a path is a folder that `save_state` wrote, by name and content.

    One of its two files may be damaged beyond recognition, or both be empty.
    """
    if not has_name_of_state(path) or path.is_symlink() or not path.is_dir():
        return False
    files = [*path.iterdir()]
    if not {f.name for f in files} <= {STATE, TENSORS} or not all(map(is_plain_file, files)):
        return False
    begins = []
    for file in files:
        with suppress(OSError), file.open("rb") as stream:
            begins.append(stream.read(_BEGIN))
    return any(FORMAT.encode() in begin for begin in begins) or not any(begins)


def _read(path: Path) -> TrainingState:
    described = read_json_object(path / STATE, CheckpointError, MAX_STATE, MAX_STATE)
    try:
        if described["format"] != FORMAT or described["version"] != VERSION:
            raise CheckpointError(
                f"{path / STATE}: not a state of this version; use the bertnli that wrote it"
            )
        content = described["content"]
        if _checksum_of(content) != described["crc32"]:
            raise CheckpointError(f"{path / STATE} is damaged: its checksum is another")
        expected = content["tensors"]
        if _checksum(path / TENSORS) != (expected["bytes"], expected["crc32"]):
            raise CheckpointError(f"{path / TENSORS} is damaged: its checksum is another")
        return _state_of(content, load_file(path / TENSORS))
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def state_to_bytes(state: TrainingState | None) -> bytes:
    """Return a state, or that there is none, for another process."""
    if state is None:
        return b""
    text = json.dumps(_described(state)).encode()
    return len(text).to_bytes(8, "little") + text + save(dict(state.arrays))


def state_from_bytes(data: bytes) -> TrainingState | None:
    """Return what `state_to_bytes` was given."""
    if not data:
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    return _state_of(json.loads(data[8:end]), load(data[end:]))


def _described(state: TrainingState) -> dict[str, Any]:
    """Return all of a state but its arrays, for JSON."""
    return {
        "settings": state.settings,
        "epochs": [asdict(record) for record in state.history.epochs],
        "step_losses": state.history.step_losses,
        "progress": asdict(state.progress),
        "environment": state.environment,
    }


def _state_of(described: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> TrainingState:
    history = History(
        [EpochRecord(**record) for record in described["epochs"]],
        [float(loss) for loss in described["step_losses"]],
    )
    progress = EpochProgress(**described["progress"])
    return TrainingState(described["settings"], history, progress, arrays, described["environment"])


def _checksum_of(content: Any) -> int:
    """Return the CRC-32 of what JSON makes of a state's content, the same when it is read again."""
    return zlib.crc32(json.dumps(content).encode())


def _checksum(path: Path) -> tuple[int, int]:
    size = checksum = 0
    with open_regular(path, CheckpointError) as file:
        while block := file.read(_BLOCK):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return size, checksum
