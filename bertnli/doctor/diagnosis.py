"""The state of a machine and of an installation; what to do about it is in `advice`."""

from __future__ import annotations

import os
import re
from importlib import metadata
from itertools import combinations
from typing import Any

from bertnli.backends import NAMES, available_backends
from bertnli.doctor.machine import describe_machine
from bertnli.doctor.probe import expected, probe
from bertnli.hub.catalogue import cache_dir
from bertnli.version import __version__

#: Extras for working on bertnli, and the backends, which have sections of their own.
_OTHER_EXTRAS = {"dev", "docs", "browser", *NAMES}
_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?[^;]*;.*\bextra\s*==\s*['\"]([\w-]+)")


def diagnose() -> dict[str, Any]:
    """Look at the machine, and try each backend in a process of its own.

    Returns:
        What `bertnli doctor --json` prints, without the advice:

        - ``bertnli``: the version; ``works``: whether at least one backend works.
        - ``machine``: see `bertnli.doctor.machine.describe_machine`.
        - ``packages``: the versions of the packages that the core needs.
        - ``backends``: by name, see `bertnli.doctor.probe.probe`.
        - ``differences``: for "torch - mxnet" and the like, also with the float64 referee, the
          largest difference between the probabilities of the test's pair.
        - ``extras``: by extra, the versions of its packages; None for one that is not installed.
        - ``downloads``: their folder, and whether it can be written to.
    """
    installed = available_backends()
    backends = {
        name: probe(name) if name in installed else {"works": False, "error": "not installed"}
        for name in NAMES
    }
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return {
        "bertnli": __version__,
        "works": any(backend["works"] for backend in backends.values()),
        "machine": describe_machine(),
        "packages": {name: _version(name) for name in ("numpy", "safetensors", "requests", "tqdm")},
        "backends": backends,
        "differences": _differences(backends),
        "extras": _extras(),
        "downloads": {"folder": str(folder), "writable": writable},
    }


def _differences(backends: dict[str, dict[str, Any]]) -> dict[str, float]:
    answers = {name: b["probabilities"] for name, b in backends.items() if b["works"]}
    if answers:
        answers["referee"] = expected()
    return {
        f"{a} - {b}": max(abs(answers[a][label] - answers[b][label]) for label in answers[a])
        for a, b in combinations(answers, 2)
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, dict[str, str | None]]:
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in (metadata.requires("bertnli") or []) if _version("bertnli") else []:
        match = _REQUIREMENT.match(requirement)
        if match is not None and match[3] not in _OTHER_EXTRAS and match[1] != "bertnli":
            extras.setdefault(match[3], {})[match[1]] = _version(match[1])
    return extras
