"""Check that results can be written before the work that computes them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bertnli.errors import ConfigError


def check_output_folder(path: str | Path, what: str) -> None:
    """Raise ConfigError if files cannot be written to a folder, which need not exist.

    Args:
        path: the folder, which is not created.
        what: the purpose of the folder for the message, such as ``"report"``.
    """
    try:
        try_folder(Path(path))
    except OSError as error:
        raise ConfigError(f"the {what} folder {path} cannot be used: {error}") from error


def check_output_file(path: Path, option: str) -> None:
    """Raise ConfigError if the file that a command-line option names cannot be written."""
    if path.is_dir():
        raise ConfigError(f"{option}: {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option}: there is no folder {path.parent}")
    if path.exists() and not os.access(path, os.W_OK):
        raise ConfigError(f"{option}: {path} cannot be written: permission denied")
    try:
        try_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be written: {error.strerror}") from error


def try_folder(path: Path) -> None:
    """Write to a folder, or to its nearest existing parent, and remove what was written.

    Raises:
        OSError: the folder cannot be written to.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        raise OSError(f"{existing} is a file; give a folder")
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError as error:  # its message names the temporary folder
        raise OSError(error.errno, error.strerror, str(path)) from error
