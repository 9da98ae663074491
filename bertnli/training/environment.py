"""What the last bits of a run's weights depend on, beside its settings and its data.

Floating-point sums depend on their order, and the order on the number of threads, on the
instructions a library chooses, and on how a batch is divided.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertnli._util.machine import cpu
from bertnli.training.engine import BaseEngine
from bertnli.version import __version__

#: Environment variables by which libraries choose instructions, or how they add up.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MXNET_ENGINE_TYPE",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)


def environment(engine: BaseEngine) -> dict[str, Any]:
    """Return where an engine computes, name to value, as JSON can write it."""
    framework, processor = engine.backend_info(), cpu()
    return {
        "bertnli": __version__,
        "backend": f"{framework['backend']} {framework['version']}",
        "numpy": np.__version__,
        "device": _devices(engine.device_kinds(), framework["gpus"]),
        "threads": framework["threads"],
        "processor": processor["name"],
        "instructions": " ".join(processor["instructions"] or []),
        "code for": framework["code for"],
        "processes": engine.workers.size,
        "micro_batch_size": engine.limits.micro_batch_size,
        "variables": " ".join(f"{n}={os.environ[n]}" for n in VARIABLES if os.environ.get(n)),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two environments, each as ``name: now (was before)``."""
    return [
        f"{name}: {_shown(now.get(name))} (was {_shown(before.get(name))})"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    ]


def describe_differences(found: Sequence[str]) -> str:
    """Return a sentence on what `differences` found, and what it means."""
    return (
        f"the run goes on elsewhere than it was saved: {'; '.join(found)}. The weights at its end "
        "agree with those of an uninterrupted run to rounding, not to the bit"
    )


def _devices(kinds: Sequence[str], gpus: Sequence[str]) -> str:
    """Return the devices in words: ``cpu``, or ``2 gpu (the model's name)``."""
    counted = [f"{n} {kind}" if n > 1 else kind for kind, n in Counter(kinds).items()]
    models = f" ({', '.join(sorted({*gpus}))})" if gpus and {*kinds} != {"cpu"} else ""
    return ", ".join(counted) + models


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else str(value)
