"""A folder that is there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertnli.errors import CheckpointError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a place for a new folder, which gets the target's name when all has gone well.

    Raises:
        CheckpointError: the target exists, or cannot be written.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists; give a new folder")
    home = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield home / "new"
        (home / "new").rename(target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)
