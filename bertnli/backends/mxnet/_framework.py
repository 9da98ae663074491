"""The one place that imports mxnet: ``from bertnli.backends.mxnet._framework import mx``.

MXNet 1.9.1 is older than the NumPy it has to run with, and its import changes the number of OpenMP
threads of the whole process. Both are dealt with here, so that neither ``numpy`` nor ``os.environ``
looks different after the import, and PyTorch in the same process keeps its threads. And its engine
is started.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bertnli._util.machine import available_cores
from bertnli.backends.memory import keep_freed_memory
from bertnli.errors import BackendError

_HOW = (
    'Install it with: pip install "bertnli[mxnet]" (MXNet 1.9.1; it needs Python 3.10 to 3.12 '
    "and numpy<2; on Python 3.12 also setuptools, in place of the distutils that Python dropped)."
)

# The names that NumPy 1.24 removed and mxnet 1.9.1 still uses: bool during the import, both later.
_ALIASES: dict[str, type] = {"bool": bool, "int": int}

# Where they are used after the import, and the name that NumPy has there: indexing by and assigning
# to an mx.np.ndarray, mx.np.full with a bool, converting NumPy's arguments, the test utilities.
_LATE_USES = {
    "mxnet.numpy.multiarray": "_np",
    "mxnet.ndarray.numpy._op": "_np",
    "mxnet.symbol.numpy._symbol": "_np",
    "mxnet.test_utils": "np",
}


@contextmanager
def _numpy_aliases() -> Iterator[None]:
    """Give numpy the removed aliases for a while; those the user has put there are left alone."""
    # vars(), not hasattr(): NumPy's module __getattr__ warns about these names.
    added = [name for name in _ALIASES if name not in vars(np)]
    for name in added:
        setattr(np, name, _ALIASES[name])
    try:
        yield
    finally:
        for name in added:
            vars(np).pop(name, None)


@contextmanager
def _settings() -> Iterator[None]:
    """Have a first import of mxnet use every core of the process, unless the user set a number."""
    # libmxnet.so reads its variables once, when it is loaded. Without either number of threads it
    # takes half of the cores (it supposes hyper-threading) and calls omp_set_num_threads, which
    # PyTorch in the same process gets too, for they share libgomp. MXNET_OMP_MAX_THREADS stops
    # both. The tuning runs elementwise operations on one thread that are faster on all. Nothing is
    # left in place, for child processes inherit the environment. An empty variable counts as
    # absent.
    wanted = {"MXNET_USE_OPERATOR_TUNING": "0"}
    if not os.environ.get("OMP_NUM_THREADS"):
        wanted["MXNET_OMP_MAX_THREADS"] = str(available_cores())
    with _variables(wanted):
        yield


@contextmanager
def _variables(wanted: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; those that say something are left alone."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if not before[name]})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_scikit_learn() -> Iterator[None]:
    """Hide scikit-learn, unless it is loaded.

    MXNet takes a base class of it where it is installed, for a model that nobody uses any more;
    loading it takes a second, and changes the environment.
    """
    name = "sklearn"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


def _start_engine(mxnet: Any) -> None:
    """Start the engine, on a machine without a GPU the one that computes in the calling thread.

    The usual one computes in threads of its own while Python prepares what comes next. Next to a
    GPU that is what one wants; but where every core computes, Python only takes one away: a
    training step on two cores takes a tenth longer. ``MXNET_ENGINE_TYPE`` decides where it is set.
    """
    if mxnet.context.num_gpus():
        return
    with _variables({"MXNET_ENGINE_TYPE": "NaiveEngine"}), _quiet_library():  # it reports its start
        mxnet.nd.waitall()


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep what is written to the standard error, past Python, to itself."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keep_aliases_inside_mxnet() -> None:
    """Let the modules of mxnet that use the aliases later see a copy of numpy that has them."""
    # A plain copy of the namespace: as quick to look up in as numpy itself. numpy's __getattr__
    # comes with it, so what numpy loads lazily is still found.
    view = types.ModuleType("numpy")
    vars(view).update(vars(np))
    for name, value in _ALIASES.items():
        vars(view).setdefault(name, value)
    for module_name, numpy_name in _LATE_USES.items():
        module = sys.modules.get(module_name)
        if module is not None and vars(module).get(numpy_name) is np:
            setattr(module, numpy_name, view)


def _import_mxnet() -> Any:
    """Import mxnet, or say what is missing.

    Where the user's own code has imported mxnet before, that module is returned, with the number of
    threads it was loaded with: mxnet has no way to raise it afterwards.

    Raises BackendError if mxnet, a module or a system library that it needs is missing, or if the
    installed NumPy is too new for it.
    """
    if int(np.__version__.split(".")[0]) >= 2:
        raise BackendError(
            f"The mxnet backend needs numpy<2, but numpy {np.__version__} is installed, with which "
            f"MXNet 1.9.1 cannot be imported. {_HOW}"
        )
    # Its limit of threads binds those of the usual engine, not the caller's.
    ours = "mxnet" not in sys.modules and not os.environ.get("MXNET_OMP_MAX_THREADS")
    try:
        with _numpy_aliases(), _settings(), _without_scikit_learn():
            mxnet = importlib.import_module("mxnet")
            if ours:
                _start_engine(mxnet)
    except ImportError as error:
        raise BackendError(f"The mxnet backend cannot import mxnet: {error}. {_HOW}") from error
    except OSError as error:
        raise BackendError(
            f"mxnet is installed, but its library cannot be loaded: {error}. Install the system "
            "library that the message names (on Debian and Ubuntu: apt install libgomp1 "
            "libquadmath0)."
        ) from error
    _keep_aliases_inside_mxnet()
    return mxnet


mx: Any = _import_mxnet()
keep_freed_memory()
