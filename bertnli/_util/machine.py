"""The machine: its processor, cores, memory, and the limits of its control groups."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Instruction sets for which the frameworks have faster code: Linux's flag to the usual name.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "bf16": "BF16",
    "sve": "SVE",
}
#: Prefixes of the environment variables that set the number of threads or the devices.
PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "MXNET_", "CUDA_")
#: cgroup v1 writes "unlimited" as a huge number.
_UNLIMITED = 1 << 60
#: The folder that has ``proc`` and ``sys``; tests have another one.
ROOT = Path("/")


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def openmp_threads() -> int | None:
    """Return OpenMP's maximum number of threads in this process, or None if it is not loaded."""
    library = _libgomp()
    return None if library is None else int(library.omp_get_max_threads())


def use_one_openmp_thread() -> None:
    """Make OpenMP compute in the calling thread, for a forked process.

    The parent's threads do not exist in the fork, and OpenMP would wait for them forever.
    """
    library = _libgomp()
    if library is not None:
        library.omp_set_num_threads(1)


def _libgomp() -> Any:
    """Return GNU's OpenMP library, or None if it is not loaded."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return None


def describe_machine(root: Path = ROOT) -> dict[str, Any]:
    """Describe the system, processor, cores, memory and thread settings, from ``root``'s files."""
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
        "nvidia_driver": _read(root / "proc/driver/nvidia/version").partition("\n")[0] or None,
    }


def cpu(root: Path = ROOT) -> dict[str, Any]:
    """Read the processor's ``name`` and ``instructions`` (None if unknown) below ``root``."""
    values: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip().lower(), value.strip())
    flags = values.get("flags") or values.get("features") or ""
    known = [name for flag, name in INSTRUCTIONS.items() if flag in flags.split()]
    name = values.get("model name") or platform.processor() or platform.machine()
    return {"name": name, "instructions": known if flags else None}


def cpu_limit(root: Path = ROOT) -> float | None:
    """Read the control groups' limit of CPU time in cores, below ``root``; None for no limit."""
    quotas = [_read(group / "cpu.max") for group in _control_groups(root)]
    quotas += [
        f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}"
        for group in _control_groups(root, "cpu")
    ]
    matches = [re.match(r"(\d+)\s+(\d+)", quota) for quota in quotas]
    return min((int(match[1]) / int(match[2]) for match in matches if match), default=None)


def memory(root: Path = ROOT) -> dict[str, float | None]:
    """Read below ``root`` the total and available memory and the control groups' limit, in GiB."""
    sizes = dict(re.findall(r"(Mem\w+):\s+(\d+) kB", _read(root / "proc/meminfo")))
    files = [group / "memory.max" for group in _control_groups(root)]
    files += [group / "memory.limit_in_bytes" for group in _control_groups(root, "memory")]
    texts = [_read(file).strip() for file in files]
    limits = [int(text) for text in texts if text.isdigit() and int(text) < _UNLIMITED]
    return {
        "machine": round(int(sizes["MemTotal"]) / 2**20, 1) if sizes else None,
        "available": round(int(sizes["MemAvailable"]) / 2**20, 1) if sizes else None,
        "limit": round(min(limits) / 2**30, 1) if limits else None,
    }


def _control_groups(root: Path, controller: str = "") -> Iterator[Path]:
    """Yield the folders of this process's control groups; ``controller`` is empty for cgroup v2."""
    top = root / "sys/fs/cgroup" / controller
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            group = top / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if top in folder.parents)
    yield top  # in a container the group itself is mounted here


def _read(path: Path) -> str:
    """Return a file's text, or an empty string if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
