"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

#: Instructions that the frameworks have faster code for: a flag of Linux's, what people call it.
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
#: Where ``proc`` and ``sys`` are.
ROOT = Path("/")


def available_cores() -> int:
    """Return how many cores the process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def openmp_threads() -> int | None:
    """Return how many threads OpenMP would start in this process; None where it has none."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return None
    return int(library.omp_get_max_threads())


def cpu(root: Path = ROOT) -> dict[str, Any]:
    """Return the processor's name, and which of `INSTRUCTIONS` it has; None where nobody tells."""
    found: dict[str, str] = {}
    for line in text_of(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip().lower(), value.strip())
    flags = found.get("flags") or found.get("features")
    name = found.get("model name") or platform.processor() or platform.machine()
    known = None
    if flags is not None:
        has = set(flags.split())
        known = [name for flag, name in INSTRUCTIONS.items() if flag in has]
    return {"name": name, "instructions": known}


def text_of(path: Path) -> str:
    """Return a file's text; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
