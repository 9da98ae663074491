"""Context managers that write a file or a folder completely or not at all, even if killed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bertnli._util.outputs import try_folder
from bertnli._util.temporary import NEW, OLD, temporary_folder
from bertnli.errors import CheckpointError


def check_new(*targets: Path, instead: str = "a new folder") -> None:
    """Raise CheckpointError if one of the paths exists or cannot be written.

    The paths are in one folder. If a path exists, the message asks for ``instead``.

    If a path exists, the message asks for ``instead``.
    """
    for target in targets:
        if target.exists():
            raise CheckpointError(f"{target} exists; give {instead}")
    try:
        try_folder(targets[0])
    except OSError as error:
        raise CheckpointError(f"{targets[0]} cannot be written: {error}") from error


@contextmanager
def new_folder(*targets: Path, as_files: bool = False) -> Iterator[Path]:
    """Context manager that yields a path, at which the caller makes a folder and fills it.

    When the context ends, the folder is renamed to ``targets``; after an exception or a kill, the
    target does not exist.

    Args:
        targets: the path of the new folder; with ``as_files``, the paths of several files in one
            existing folder, to which the files in the yielded folder are renamed.
        as_files: whether the targets are files.
    """
    check_new(*targets, instead="another name" if as_files else "a new folder")
    try:
        with temporary_folder(targets[0]) as home:
            yield home / NEW
            _flush_folder(home / NEW)
            for target in targets:  # rename fails if a folder has taken the name by now
                (home / NEW / target.name if as_files else home / NEW).rename(target)
            flush_to_disk(targets[0].parent)
    except OSError as error:
        raise CheckpointError(f"{targets[0]} cannot be written: {error}") from error


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Context manager that yields a path for a new folder, which replaces ``target``.

    A killed process leaves the old folder either under its name or, between two renames, where
    `clear_leftovers` finds it. The old folder is removed with all its content: callers check first
    that only files of bertnli are in it. After an error the old folder is unchanged.
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
    """Context manager that yields the path of a file to write, which then replaces ``target``."""
    with temporary_folder(target) as home:
        yield home / NEW
        flush_to_disk(home / NEW)
        (home / NEW).replace(target)
        flush_to_disk(target.parent)


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files from a folder, then the folder; OSError if it still holds something else."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _flush_folder(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        flush_to_disk(path)


def flush_to_disk(path: Path) -> None:
    """Force a file's content, or a folder's list of names, from the system's cache to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
