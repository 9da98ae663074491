"""The one place that imports mxnet: ``from bertnli.backends.mxnet._framework import mx``.

MXNet 1.9.1 needs names that NumPy has removed, and its import changes the number of OpenMP threads
of the whole process. After this import ``numpy`` and ``os.environ`` are as before, PyTorch in the
same process keeps its threads, and MXNet's engine is started.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bertnli._util.machine import available_cores, use_one_openmp_thread
from bertnli.backends.memory import keep_freed_memory
from bertnli.errors import BackendError

_HOW = (
    'Install it with: pip install "bertnli[mxnet]" (MXNet 1.9.1; it needs Python 3.10 to 3.12 '
    "and numpy<2; on Python 3.12 also setuptools, in place of the distutils that Python dropped)."
)

#: Names that NumPy 1.24 removed: mxnet uses bool during its import, and both later.
_ALIASES: dict[str, type] = {"bool": bool, "int": int}

#: The modules of mxnet that use the aliases later, and the name that NumPy has in them.
_LATE_USES = {
    "mxnet.numpy.multiarray": "_np",
    "mxnet.ndarray.numpy._op": "_np",
    "mxnet.symbol.numpy._symbol": "_np",
    "mxnet.test_utils": "np",
}


@contextmanager
def _temporarily(mapping: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Context manager that adds items to a dictionary; keys that are present keep their value."""
    before = {key: mapping[key] for key in values if key in mapping}
    mapping.update({key: value for key, value in values.items() if not before.get(key)})
    try:
        yield
    finally:
        for key in values:
            mapping.pop(key, None)
        mapping.update(before)


def _start_engine(mxnet: Any) -> None:
    """Start MXNet's engine: without a GPU, the one that computes in the calling thread.

    On a CPU, Python would take a core from the threads of MXNet's default engine: a training step
    on two cores takes a tenth longer with it. ``MXNET_ENGINE_TYPE`` overrides this.
    """
    if mxnet.context.num_gpus():
        return
    sys.stderr.flush()
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # the library reports the start
    try:
        with _temporarily(os.environ, {"MXNET_ENGINE_TYPE": "NaiveEngine"}):
            mxnet.nd.waitall()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def _import_mxnet() -> Any:
    """Import mxnet, or raise BackendError that says what is missing.

    If mxnet was imported before, it keeps its number of threads.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        raise BackendError(
            f"The mxnet backend needs numpy<2, but numpy {np.__version__} is installed, with which "
            f"MXNet 1.9.1 cannot be imported. {_HOW}"
        )
    # The library reads these once, when it is loaded. Operator tuning would run operations on one
    # thread that are faster on all. Without a number of threads it takes half of the cores, and
    # calls omp_set_num_threads, which changes PyTorch's too.
    settings = {"MXNET_USE_OPERATOR_TUNING": "0"}
    if not os.environ.get("OMP_NUM_THREADS"):
        settings["MXNET_OMP_MAX_THREADS"] = str(available_cores())
    # A limit of threads applies to those of the default engine, not to the caller's.
    starts_engine = "mxnet" not in sys.modules and not os.environ.get("MXNET_OMP_MAX_THREADS")
    without_sklearn = {"sklearn": None}  # mxnet would load it, for a second, and not use it
    try:
        with (
            _temporarily(vars(np), _ALIASES),
            _temporarily(os.environ, settings),
            _temporarily(sys.modules, without_sklearn),
        ):
            mxnet = importlib.import_module("mxnet")
            if starts_engine:
                _start_engine(mxnet)
    except ImportError as error:
        raise BackendError(f"The mxnet backend cannot import mxnet: {error}. {_HOW}") from error
    except OSError as error:
        raise BackendError(
            f"mxnet is installed, but its library cannot be loaded: {error}. Install the system "
            "library that the message names (on Debian and Ubuntu: apt install libgomp1 "
            "libquadmath0)."
        ) from error
    # Modules that use the aliases later see a copy of numpy that has them.
    view = types.ModuleType("numpy")
    vars(view).update(_ALIASES | vars(np))  # with numpy's __getattr__, for what it loads lazily
    for module_name, numpy_name in _LATE_USES.items():
        module = sys.modules.get(module_name)
        if module is not None and vars(module).get(numpy_name) is np:
            setattr(module, numpy_name, view)
    if hasattr(os, "register_at_fork"):  # gluon's data loader forks
        os.register_at_fork(after_in_child=use_one_openmp_thread)
    return mxnet


mx: Any = _import_mxnet()
keep_freed_memory()
