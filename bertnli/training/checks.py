"""Checks before a run begins: the files of its folder and, if it resumes, settings and machine.

Files are judged by their content: a run replaces none that it did not write.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.files import has_mark, is_plain_file
from bertnli._util.machine import cpu
from bertnli._util.outputs import check_output_folder
from bertnli._util.temporary import is_temporary
from bertnli.bert.config import TrainingConfig
from bertnli.errors import ConfigError, DataError
from bertnli.formats.native import is_checkpoint, is_replaceable, others_beside
from bertnli.nets.trainable import Trainable
from bertnli.training.engine import BaseEngine
from bertnli.training.history import CURVE_MARK, METRICS, read_history
from bertnli.training.sets import Source
from bertnli.training.state import is_state, states
from bertnli.version import __version__

#: Files and folders in the folder of a run; see `bertnli.training.run`.
BEST, LAST, CURVE, STATE = "best", "last", "curve.png", "state"
DIVERGED, LOCK = "diverged.npz", ".lock"
#: Key of the settings that are not compared: they explain why digests or vocabularies differ.
NOTES = "notes"
SETS = ("training set", "dev set")
#: Environment variables by which libraries choose instructions, and so the order of their sums.
VARIABLES = (
    "ATEN_CPU_CAPABILITY DNNL_DEFAULT_FPMATH_MODE DNNL_MAX_CPU_ISA MKL_CBWR "
    "MKL_ENABLE_INSTRUCTIONS MXNET_ENGINE_TYPE NVIDIA_TF32_OVERRIDE ONEDNN_DEFAULT_FPMATH_MODE "
    "ONEDNN_MAX_CPU_ISA OPENBLAS_CORETYPE"
)


def check_run_folder(path: Path, overwrite: bool, resume: bool) -> None:
    """Check that a run can write to a folder and replaces only files of an earlier run there.

    Args:
        path: the folder, which need not exist.
        overwrite, resume: whether to replace an earlier run in it, or to go on with that run.

    Raises:
        ConfigError: the folder cannot be written, or holds something else under a name that a run
            writes, or a run that is neither to be overwritten nor resumed, or none of its states.
    """
    check_output_folder(path, "output")
    if is_checkpoint(path):
        raise ConfigError(f"{path} is a checkpoint, not a run's folder; choose another folder")
    foreign = _foreign(path)
    if foreign:
        raise ConfigError(
            f"{', '.join(map(str, foreign))}: not written by a run of bertnli, or damaged, and "
            "left as it is. Choose another folder, or move it elsewhere"
        )
    checkpoints = any(is_checkpoint(path / name) for name in (BEST, LAST))
    can_resume = bool(states(path / STATE))
    if resume and checkpoints and not (path / STATE).is_dir():
        raise ConfigError(
            f"{path} holds checkpoints, but no {STATE}/ to go on from; choose another folder, or "
            "overwrite it"
        )
    if (checkpoints or can_resume or _size(path / METRICS)) and not (overwrite or resume):
        go_on = "to go on with it (--resume) or " if can_resume else ""
        raise ConfigError(
            f"{path} holds an earlier run; ask {go_on}to replace it (--overwrite), or choose "
            "another folder"
        )


def _foreign(path: Path) -> list[Path]:
    """List the paths that are named like a run's files but were not written by a run."""
    checks: dict[str, Callable[[Path], bool]] = {
        BEST: is_replaceable,
        LAST: is_replaceable,
        STATE: _is_state_folder,
        METRICS: _is_metrics,
        CURVE: partial(has_mark, mark=CURVE_MARK),
        DIVERGED: _is_diverged,
    }
    present = [name for name in checks if os.path.lexists(path / name)]
    foreign = []
    for name in present:
        if not checks[name](path / name):
            foreign += others_beside(path / name) or [path / name]
    lock = path / LOCK  # empty, or with the process that holds it, where a file system has no locks
    if os.path.lexists(lock) and not (is_plain_file(lock) and (present or not _size(lock))):
        foreign.append(lock)
    return foreign


def _is_state_folder(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    return all(is_state(entry) or is_temporary(entry) for entry in path.iterdir())


def _is_metrics(path: Path) -> bool:
    try:
        read_history(path)
    except DataError:
        return False
    return is_plain_file(path)


def _is_diverged(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return is_plain_file(path) and {"step.npy", "token_ids.npy"} <= {*file.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def settings_of(
    net: Trainable, config: TrainingConfig, train: Source, dev: Source | None
) -> dict[str, Any]:
    """Return the settings that a resumed run must repeat, as JSON values."""
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
    """Raise ConfigError, naming the differences, if two runs' settings differ."""
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
    """Return the versions, processor and threads on which the last bits of the weights depend.

    Floating-point sums depend on their order: on the number of threads, on the instructions that a
    library chooses, and on how a batch is divided.
    """
    framework, processor = engine.backend_info(), cpu()
    kinds = Counter("cpu" if str(d).startswith("cpu") else "gpu" for d in engine.devices)
    gpus = sorted({*framework["gpus"]}) if kinds["gpu"] else []
    variables = [f"{name}={os.environ[name]}" for name in VARIABLES.split() if os.environ.get(name)]
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
    """List the entries that differ between two mappings, each as ``name: now (was before)``.

    Keys in ``leave_out`` are not compared.
    """

    def text(value: Any) -> str:
        return "none" if value in (None, "") else str(value)

    return [
        f"{name}: {text(now.get(name))} (was {text(before.get(name))})"
        for name in {**now, **before}
        if name not in leave_out and before.get(name) != now.get(name)
    ]
