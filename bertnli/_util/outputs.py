"""Where results will be written: tried before the work that makes them."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from bertnli.errors import ConfigError


def check_output_folder(path: str | Path, what: str) -> None:
    """Raise ConfigError if files cannot be written into a folder, which may not be there yet.

    The folder is not made.

    Args:
        path: of the folder.
        what: it is for, such as ``"report"``.
    """
    try:
        try_folder(Path(path))
    except OSError as error:
        raise ConfigError(f"the {what} folder {path} cannot be used: {error}") from error


def check_output_file(path: Path, option: str) -> None:
    """Raise ConfigError if a file cannot be written to a path that an option gives."""
    if path.is_dir():
        raise ConfigError(f"{option}: {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option}: there is no folder {path.parent}")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        try_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be written: {error.strerror}") from error


def try_folder(path: Path) -> None:
    """Write into a folder or, where it is not there yet, beside it, and take that away again.

    Raises:
        OSError: that is not possible.
    """
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise OSError(f"{there} is a file; give a folder")
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:  # which names what was tried
        raise OSError(error.errno, error.strerror, str(path)) from error
