"""The processor that this process may use."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

#: Instructions for which the frameworks have faster code: Linux's flag to the usual name.
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
    """Return how many threads OpenMP would start in this process; None if it is not loaded."""
    library = _libgomp()
    return None if library is None else int(library.omp_get_max_threads())


def use_one_openmp_thread() -> None:
    """Make OpenMP compute in the calling thread; a forked process hangs otherwise.

    The threads of the parent do not exist in the fork, but OpenMP would wait for them.
    """
    library = _libgomp()
    if library is not None:
        library.omp_set_num_threads(1)


def _libgomp() -> Any:
    """Return GNU's OpenMP library, if it is loaded."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return None


def cpu(root: Path = ROOT) -> dict[str, Any]:
    """Return the processor's name, and its `INSTRUCTIONS`; None where these are not known."""
    values: dict[str, str] = {}
    for line in text_of(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip().lower(), value.strip())
    flags = values.get("flags") or values.get("features")
    known = [name for flag, name in INSTRUCTIONS.items() if flag in (flags or "").split()]
    name = values.get("model name") or platform.processor() or platform.machine()
    return {"name": name, "instructions": known if flags else None}


def text_of(path: Path) -> str:
    """Return a file's text, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
