"""The machine, as far as it decides how fast and whether bertnli runs."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from bertnli._util.machine import ROOT, available_cores, cpu, text_of

#: Environment variables that decide how many threads there are, and what they do.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "MXNET_OMP_MAX_THREADS",
    "MXNET_ENGINE_TYPE",
    "KMP_AFFINITY",
    "GOMP_CPU_AFFINITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
)
#: cgroup v1 writes "unlimited" as a huge number.
_UNLIMITED = 1 << 60


def describe_machine(root: Path = ROOT) -> dict[str, Any]:
    """Return the system, the processor, cores, memory and threads' variables.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return {
        "system": f"{platform.system()} {platform.release()}, {_distribution()}".rstrip(", "),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "cpu": cpu(root),
        "cores": {
            "machine": os.cpu_count() or 1,
            "usable": available_cores(),
            "limit": cpu_limit(root),
        },
        "memory": memory(root),
        "variables": {n: os.environ[n] for n in THREAD_VARIABLES if os.environ.get(n)},
        "nvidia_driver": _first_line(root / "proc/driver/nvidia/version"),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.mac_ver()[0]


def cpu_limit(root: Path = ROOT) -> float | None:
    """Return how many cores' time the control groups allow; None for no limit."""
    limits = []
    for group in _groups(root, ""):  # version 2
        quota, _, period = _first_line(group / "cpu.max", "").partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    for group in _groups(root, "cpu"):  # version 1
        quota = _first_line(group / "cpu.cfs_quota_us", "")
        period = _first_line(group / "cpu.cfs_period_us", "")
        if quota.isdigit() and period.isdigit():  # without a limit the quota is -1
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory(root: Path = ROOT) -> dict[str, int | None]:
    """Return in bytes the machine's memory, what is free of it, and the control groups' limit."""
    known = {}
    for line in text_of(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        amount = value.split()
        if amount and amount[0].isdigit():
            known[key] = int(amount[0]) * 1024
    limits = []
    files = [group / "memory.max" for group in _groups(root, "")]
    files += [group / "memory.limit_in_bytes" for group in _groups(root, "memory")]
    for file in files:
        limit = _first_line(file, "")
        if limit.isdigit() and int(limit) < _UNLIMITED:
            limits.append(int(limit))
    return {
        "machine": known.get("MemTotal"),
        "available": known.get("MemAvailable"),
        "limit": min(limits, default=None),
    }


def _groups(root: Path, controller: str) -> list[Path]:
    """Return the folders of the process's control group and of those above it.

    Args:
        root: where ``proc`` and ``sys`` are.
        controller: of version 1; empty for version 2.
    """
    top = root / "sys/fs/cgroup" / controller
    own = "/"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            own = path
    places = [top / own.strip("/"), *(top / own.strip("/")).parents]
    # In a container the path is often the host's, and the group itself is mounted at the top.
    return [place for place in places if place == top or top in place.parents]


def _first_line(path: Path, default: Any = None) -> Any:
    lines = text_of(path).splitlines()
    return lines[0].strip() if lines else default
