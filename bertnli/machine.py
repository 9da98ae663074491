"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import sys


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
