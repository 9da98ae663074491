"""What this process may use of the machine."""

from __future__ import annotations

import os
import sys


def available_cores() -> int:
    """Return how many cores the process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
