"""Everything that `bertnli doctor` looks at, and what is wrong with it."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bertnli.backends import NAMES, available_backends
from bertnli.doctor.machine import describe_machine
from bertnli.doctor.probe import expected, probe
from bertnli.hub.catalogue import CACHE_VARIABLE, cache_dir
from bertnli.version import __version__

#: Extras that are for working on bertnli, not with it, or that the backends' section shows.
_NOT_SHOWN = {"dev", "docs", "browser", *NAMES}
_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?[^;]*;.*\bextra\s*==\s*['\"]([\w-]+)")


@dataclass(frozen=True)
class Examination:
    """What was found.

    Args:
        bertnli: the version.
        machine: see `bertnli.doctor.machine.describe_machine`.
        packages: those that the core needs, to their versions; None where one is missing.
        backends: name to what the backend says of itself, or the error.
        differences: "one - other", the referee among them, to the largest difference of a
            probability of the test.
        extras: name of the extra to its packages and their versions; None where one is missing.
        cache: of downloads: folder, bytes, whether it can be written to.
    """

    bertnli: str
    machine: dict[str, Any]
    packages: dict[str, str | None]
    backends: dict[str, dict[str, Any]]
    differences: dict[str, float]
    extras: dict[str, dict[str, str | None]]
    cache: dict[str, Any]

    @property
    def works(self) -> bool:
        """Whether one backend works, at least."""
        return any(found["works"] for found in self.backends.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {**asdict(self), "works": self.works}


def examine() -> Examination:
    """Look at the machine, and try each backend in a process of its own."""
    here = available_backends()
    backends = {name: probe(name) if name in here else _missing(name) for name in NAMES}
    return Examination(
        bertnli=__version__,
        machine=describe_machine(),
        packages={name: version(name) for name in ("numpy", "safetensors", "requests", "tqdm")},
        backends=backends,
        differences=_differences(backends),
        extras=extras(),
        cache=_cache(),
    )


def _missing(name: str) -> dict[str, Any]:
    return {
        "works": False,
        "installed": False,
        "error": f'not installed: pip install "bertnli[{name}]"',
    }


def _differences(backends: dict[str, dict[str, Any]]) -> dict[str, float]:
    answers = {
        name: found["test"]["probabilities"] for name, found in backends.items() if "test" in found
    }
    if not answers:
        return {}
    answers["referee"] = expected()
    names = list(answers)
    return {
        f"{one} - {other}": max(abs(answers[one][k] - answers[other][k]) for k in answers[one])
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    }


def version(package: str) -> str | None:
    """Return the version of an installed package; None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, dict[str, str | None]]:
    """Return each extra's packages and their versions; nothing where bertnli is not installed."""
    found: dict[str, dict[str, str | None]] = {}
    try:
        requirements = metadata.requires("bertnli") or []
    except metadata.PackageNotFoundError:
        return {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is not None and match[3] not in _NOT_SHOWN and match[1] != "bertnli":
            found.setdefault(match[3], {})[match[1]] = version(match[1])
    return found


def _cache() -> dict[str, Any]:
    folder = cache_dir()
    size = 0
    for top, _, files in os.walk(folder):
        for file in files:
            try:
                size += (Path(top) / file).lstat().st_size
            except OSError:
                continue  # gone meanwhile
    return {
        "folder": str(folder),
        "moved_by": CACHE_VARIABLE if os.environ.get(CACHE_VARIABLE) else None,
        "exists": folder.is_dir(),
        "bytes": size,
        "writable": _writable(folder),
    }


def _writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself, as it is not there."""
    if not folder.exists():
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        return above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
