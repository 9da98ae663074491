"""Folders that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertnli.errors import CheckpointError

#: In the temporary folder beside a target: what is written, and what it replaces.
_NEW, _OLD = "new", "old"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a place for a new folder, which gets the target's name when all has gone well.

    Raises:
        CheckpointError: the target exists, or cannot be written.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists; give a new folder")
    try:
        with replaced_folder(target) as folder:
            yield folder
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


@contextmanager
def new_files(targets: Sequence[Path]) -> Iterator[Path]:
    """Give a place for a new folder, whose files become the targets when all has gone well.

    Args:
        targets: of one folder; the files have the same names.

    Raises:
        CheckpointError: a target exists, or cannot be written.
    """
    for target in targets:
        if target.exists():
            raise CheckpointError(f"{target} exists; give another name")
    parent = targets[0].parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(dir=parent, prefix=_prefix(targets[0])))
        try:
            yield home / _NEW
            for target in targets:
                flush_to_disk(home / _NEW / target.name)
                (home / _NEW / target.name).rename(target)
            flush_to_disk(parent)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f"{targets[0]} cannot be written: {error}") from error


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give a place for a folder that takes the target's name, and its place, when all went well.

    Its files are on the disk by then. A process that is killed leaves the old folder under the
    target's name or, in the instant between two renames, where `recover_folder` finds it.

    Raises:
        OSError: it cannot be written; the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target)))
    try:
        yield home / _NEW
        for path in (home / _NEW).iterdir():
            flush_to_disk(path)
        flush_to_disk(home / _NEW)
        if target.exists():
            target.rename(home / _OLD)
        try:
            (home / _NEW).rename(target)
        except OSError:
            if (home / _OLD).exists():
                (home / _OLD).rename(target)
            raise
        flush_to_disk(target.parent)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Clear away what a killed process left beside a target, and put back what it had moved."""
    for home in target.parent.glob(f"{_prefix(target)}*"):
        if not target.exists() and (home / _OLD).is_dir():
            (home / _OLD).rename(target)
        shutil.rmtree(home, ignore_errors=True)


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prefix(target: Path) -> str:
    return f".{target.name}."
