"""The machine, as far as it decides how fast bertnli runs."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertnli._util.machine import ROOT, available_cores, cpu, text_of

#: Environment variables with these prefixes decide the number of threads, and the devices.
PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MXNET_", "CUDA_")
#: cgroup v1 writes "unlimited" as a huge number.
_UNLIMITED = 1 << 60


def describe_machine(root: Path = ROOT) -> dict[str, Any]:
    """Return the system, the processor, cores, memory and the variables of threads.

    Args:
        root: the folder of ``proc`` and ``sys``.
    """
    return {
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "cpu": cpu(root),
        "cores": {
            "machine": os.cpu_count() or 1,
            "usable": available_cores(),
            "limit": cpu_limit(root),
        },
        "memory_gib": memory(root),
        "variables": {n: v for n, v in sorted(os.environ.items()) if n.startswith(PREFIXES)},
        "nvidia_driver": text_of(root / "proc/driver/nvidia/version").partition("\n")[0] or None,
    }


def cpu_limit(root: Path = ROOT) -> float | None:
    """Return the number of cores whose time the control groups allow; None for no limit."""
    quotas = [text_of(group / "cpu.max") for group in _control_groups(root)]
    quotas += [
        f"{text_of(group / 'cpu.cfs_quota_us')} {text_of(group / 'cpu.cfs_period_us')}"
        for group in _control_groups(root, "cpu")
    ]
    matches = [re.match(r"(\d+)\s+(\d+)", quota) for quota in quotas]
    return min((int(match[1]) / int(match[2]) for match in matches if match), default=None)


def memory(root: Path = ROOT) -> dict[str, float | None]:
    """Return in GiB the machine's memory, what is available, and the control groups' limit."""
    sizes = dict(re.findall(r"(Mem\w+):\s+(\d+) kB", text_of(root / "proc/meminfo")))
    files = [group / "memory.max" for group in _control_groups(root)]
    files += [group / "memory.limit_in_bytes" for group in _control_groups(root, "memory")]
    texts = [text_of(file).strip() for file in files]
    limits = [int(text) for text in texts if text.isdigit() and int(text) < _UNLIMITED]
    return {
        "machine": round(int(sizes["MemTotal"]) / 2**20, 1) if sizes else None,
        "available": round(int(sizes["MemAvailable"]) / 2**20, 1) if sizes else None,
        "limit": round(min(limits) / 2**30, 1) if limits else None,
    }


def _control_groups(root: Path, controller: str = "") -> Iterator[Path]:
    """Yield the folders of the process's control group and of those above it.

    Args:
        root: the folder of ``proc`` and ``sys``.
        controller: of cgroup v1; empty for v2.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            group = top / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if top in folder.parents)
    yield top  # in a container the group itself is mounted here
