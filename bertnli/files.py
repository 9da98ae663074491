"""Files of other people, which may hold anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bertnli.errors import BERTNLIError


def read_json(path: Path, error: type[BERTNLIError]) -> Any:
    """Return what a JSON file holds.

    Args:
        path: of the file.
        error: what to raise where it cannot be read, or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        if "\\ud" in text.lower():  # half a character, perhaps, which no file could be written of
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason}") from reason
    # RecursionError: brackets in brackets, some thousand times.
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: not a JSON file: {reason}") from reason


def expanded(path: str | Path, error: type[BERTNLIError]) -> Path:
    """Return a path with its ``~`` replaced; raise the error where nobody has that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as reason:
        raise error(f"{path}: {reason}") from reason


def read_json_object(path: Path, error: type[BERTNLIError]) -> dict[str, Any]:
    """Return the JSON object of a file; see `read_json`."""
    found = read_json(path, error)
    if not isinstance(found, dict):
        raise error(f"{path}: an object is expected, not a {type(found).__name__}")
    return found


def is_plain_file(path: Path) -> bool:
    """Return whether a path is a regular file, and not a symbolic link to one."""
    return path.is_file() and not path.is_symlink()
