"""The state of a machine and of an installation, and what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from itertools import combinations
from typing import Any

from bertnli._util.machine import describe_machine
from bertnli.backends import NAMES, available_backends, how_to_install
from bertnli.doctor.probe import TOLERANCE, expected, probe
from bertnli.hub.catalogue import cache_dir
from bertnli.version import __version__

#: Extras for working on bertnli, and the backends, which have their own sections.
_OTHER_EXTRAS = {"dev", "docs", "browser", *NAMES}
_MISSING = "not installed"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?[^;]*;.*\bextra\s*==\s*['\"]([\w-]+)")


def diagnose() -> dict[str, Any]:
    """Describe the machine and the installation, and try each backend in its own process.

    Returns:
        The object that `bertnli doctor --json` prints, without ``advice``:

        - ``bertnli``: the version; ``works``: whether at least one backend works.
        - ``machine``: see `bertnli._util.machine.describe_machine`.
        - ``packages``: the versions of the packages that bertnli always needs.
        - ``backends``: each backend's result, see `bertnli.doctor.probe.probe`.
        - ``differences``: the largest difference between two backends' probabilities of the test
          pair, under ``"torch - mxnet"``; and of each backend and the float64 referee.
        - ``extras``: each extra's packages and their versions, None if not installed.
        - ``downloads``: the folder of downloads, and whether it can be written to.
    """
    installed = available_backends()
    backends = {
        name: probe(name)
        if name in installed
        else {"works": False, "error": f"{_MISSING}: {how_to_install(name)}"}
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


def advise(diagnosis: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what to do about the problems of a `diagnose` result, as pairs of kind and text.

    The kind is ``"error"`` for something that does not work or gives wrong numbers, and
    ``"warning"`` for something that is slow or limited. Errors come first.
    """
    if not diagnosis["works"]:
        yield "error", 'no backend works: pip install "bertnli[torch]"'
    for name, backend in diagnosis["backends"].items():
        if not backend["works"] and not backend["error"].startswith(_MISSING):
            yield "error", f"{name} is installed and does not work: {backend['error']}"
    for names, difference in diagnosis["differences"].items():
        if not difference <= TOLERANCE:
            text = (
                f"{names}: the test's probabilities differ by {difference:.1e}, and at most "
                f"{TOLERANCE:.0e} is expected; `bertnli parity bert.mini` shows the layer"
            )
            yield "error", text
    torch, machine = diagnosis["backends"]["torch"], diagnosis["machine"]
    if machine["nvidia_driver"] and torch["works"] and not torch["gpus"]:
        text = (
            "this machine has an NVIDIA driver, and torch sees no GPU: look at "
            "CUDA_VISIBLE_DEVICES, or install a build of torch with CUDA"
        )
        yield "warning", text
    threads, cores = machine["variables"].get("OMP_NUM_THREADS", ""), machine["cores"]
    usable = min(cores["usable"], cores["limit"] or cores["usable"])
    if threads.isdigit() and int(threads) >= usable + 1:
        text = f"OMP_NUM_THREADS={threads} is more than the {usable:g} cores there are, and slower"
        yield "warning", text
    if not diagnosis["downloads"]["writable"]:
        folder = diagnosis["downloads"]["folder"]
        yield "warning", f"{folder} cannot be written to: set BERTNLI_CACHE to another folder"
