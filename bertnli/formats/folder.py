"""Files and folders that are written completely or not at all, whatever ends their process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertnli._util.outputs import try_folder
from bertnli._util.temporary import NEW, OLD, temporary_folder
from bertnli.errors import CheckpointError


def check_new(*targets: Path, instead: str = "a new folder") -> None:
    """Raise CheckpointError if a path exists, or cannot be written: before the work for it.

    Args:
        targets: the paths, of one folder.
        instead: what to give in the place of one that exists.
    """
    for target in targets:
        if target.exists():
            raise CheckpointError(f"{target} exists; give {instead}")
    try:
        try_folder(targets[0])
    except OSError as error:
        raise CheckpointError(f"{targets[0]} cannot be written: {error}") from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a place for a new folder, which gets the target's name when all has gone well.

    Raises:
        CheckpointError: the target exists, or cannot be written.
    """
    check_new(target)
    try:
        with temporary_folder(target) as home:
            yield home / NEW
            _flush_folder(home / NEW)
            (home / NEW).rename(target)  # which fails where something has taken the name by now
            flush_to_disk(target.parent)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


@contextmanager
def new_files(targets: Sequence[Path]) -> Iterator[Path]:
    """Give a place for a new folder, whose files become the targets, which are of one folder.

    Raises:
        CheckpointError: a target exists, or cannot be written.
    """
    check_new(*targets, instead="another name")
    try:
        with temporary_folder(targets[0]) as home:
            yield home / NEW
            _flush_folder(home / NEW)
            for target in targets:
                (home / NEW / target.name).rename(target)
            flush_to_disk(targets[0].parent)
    except OSError as error:
        raise CheckpointError(f"{targets[0]} cannot be written: {error}") from error


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give a place for a folder that takes the target's name, and its place, when all went well.

    Its files are on the disk by then. A process that is killed leaves the old folder under the
    target's name or, in the instant between two renames, where `clear_leftovers` looks. The old
    folder is removed with all that it holds: the caller has looked what that is.

    Raises:
        OSError: it cannot be written; the target is as it was.
    """
    with temporary_folder(target) as home:
        yield home / NEW
        _flush_folder(home / NEW)
        if target.exists():
            target.rename(home / OLD)
        try:
            (home / NEW).rename(target)
        except OSError:
            if (home / OLD).exists():
                (home / OLD).rename(target)
            raise
        flush_to_disk(target.parent)


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """Give a place for a file that takes the target's name, and its place, when all went well.

    Raises:
        OSError: it cannot be written; the target is as it was.
    """
    with temporary_folder(target) as home:
        yield home / NEW
        flush_to_disk(home / NEW)
        (home / NEW).replace(target)
        flush_to_disk(target.parent)


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files from a folder, and then the folder; OSError where that is not empty by then."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _flush_folder(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        flush_to_disk(path)


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
