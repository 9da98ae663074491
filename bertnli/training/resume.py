"""Comparison of a run that resumes with the run before: settings, data, and the machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bertnli._util.machine import cpu
from bertnli.bert.config import TrainingConfig
from bertnli.errors import ConfigError
from bertnli.nets.trainable import Trainable
from bertnli.training.engine import BaseEngine
from bertnli.training.sets import Source
from bertnli.version import __version__

#: Key of the settings that are not compared: they explain why digests or vocabularies differ.
NOTES = "notes"
SETS = ("training set", "dev set")
#: Environment variables by which libraries choose instructions, and so the order of their sums.
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


def settings_of(
    net: Trainable, config: TrainingConfig, train: Source, dev: Source | None
) -> dict[str, Any]:
    """Collect the settings that a resumed run must repeat, as values that JSON can hold."""
    settings = {**asdict(config), **net.config.to_dict(), "labels": list(net.labels)}
    settings["precision"] = net.precision
    if not config.depends_on_length:
        del settings["num_epochs"]  # no step depends on it
    notes: dict[str, Any] = {"min_freq (--min-freq)": getattr(net.vocab, "min_freq", None)}
    for name, source in zip(SETS, (train, dev), strict=True):
        settings[name] = None if source is None else source.name()
        data = None if source is None else source.examples
        if data is not None:
            notes[f"{name}'s examples"] = len(data)
            notes[f"{name}'s max_len (--max-len)"] = getattr(data, "max_len", None)
            notes[f"{name}'s truncation (--truncation)"] = getattr(data, "truncation", None)
    return {**settings, NOTES: notes}


def check_settings(now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming what differs, unless two runs have the same settings."""
    other_sets = [name for name in SETS if now.get(name) != before.get(name)]
    differ = differences(before, now, {NOTES, *SETS})
    if not differ and not other_sets:
        return
    for name in other_sets:
        if now.get(name) and before.get(name):
            differ.append(f"the {name} has other examples, labels, order or encoding")
        else:
            differ.append(f"the {name} {'was added' if now.get(name) else 'is missing'}")
    differ += differences(before.get(NOTES, {}), now.get(NOTES, {}))
    raise ConfigError(
        f"the run cannot go on with other settings: {'; '.join(differ)}. Give the same as before, "
        "or start a new run in another folder"
    )


def environment(engine: BaseEngine) -> dict[str, Any]:
    """Collect the versions, processor and threads on which the weights' last bits depend.

    Floating-point sums depend on their order: on the number of threads, on the instructions that a
    library chooses, and on how a batch is divided.
    """
    framework, processor = engine.backend_info(), cpu()
    kinds = Counter("cpu" if str(d).startswith("cpu") else "gpu" for d in engine.devices)
    gpus = sorted({*framework["gpus"]}) if kinds["gpu"] else []
    variables = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    return {
        "bertnli": __version__,
        "backend": f"{framework['backend']} {framework['version']}",
        "numpy": np.__version__,
        "device": ", ".join([f"{count} {kind}" for kind, count in kinds.items()] + gpus),
        "threads": framework["threads"],
        "processor": processor["name"],
        "instructions": " ".join(processor["instructions"] or []),
        "code for": framework["code for"],
        "processes": engine.workers.size,
        "micro_batch_size": engine.limits.micro_batch_size,
        "variables": " ".join(variables),
    }


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], leave_out: Collection[str] = ()
) -> list[str]:
    """List the values that differ, each as ``name: now (was before)``."""

    def text(value: Any) -> str:
        return "none" if value in (None, "") else str(value)

    return [
        f"{name}: {text(now.get(name))} (was {text(before.get(name))})"
        for name in {**now, **before}
        if name not in leave_out and before.get(name) != now.get(name)
    ]
