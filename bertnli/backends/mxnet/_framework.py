"""The one place that imports mxnet, 1.9 or 2.0, and that knows what the two call differently.

MXNet needs names that NumPy has removed, and its import changes the number of OpenMP threads of the
whole process. After this import ``numpy`` and ``os.environ`` are as before, PyTorch in the same
process keeps its threads, and MXNet's engine is started.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np

from bertnli._util.machine import available_cores, use_one_openmp_thread
from bertnli.backends.memory import keep_freed_memory
from bertnli.errors import BackendError

_HOW = (
    'Install it with: pip install "bertnli[mxnet]" (MXNet 1.9.1 with numpy<2, on Python 3.10 to '
    "3.12). pip refuses the wheel beside numpy 2, and so on Python 3.13; it works there after: pip "
    "install --no-deps mxnet==1.9.1 && pip install graphviz requests setuptools (setuptools from "
    "Python 3.12 on, in place of the distutils that Python dropped)."
)


def _without(name: str) -> Any:
    """Return a function that raises RuntimeError; NumPy 1.20 moved ``name`` to numpy-financial."""

    def function(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"NumPy has no {name} any more; it is in the package numpy-financial")

    function.__doc__ = f"{name} of numpy-financial."
    return function


#: What mxnet takes from NumPy, during its import or later, and NumPy has removed. MXNet keeps its
#: own functions by those of NumPy, so each is one of its own.
_REMOVED: dict[str, Any] = {
    # By 1.24.
    **{"bool": bool, "int": int},
    **{name: _without(name) for name in ("mirr", "npv", "pmt", "ppmt", "pv", "rate")},
    # By 2.0.
    **{"NAN": np.nan, "NaN": np.nan, "Inf": np.inf, "PINF": np.inf, "NINF": -np.inf},
    **{"PZERO": 0.0, "NZERO": -0.0, "compat": types.SimpleNamespace(basestring=str)},
    **{"alltrue": partial(np.all), "sometrue": partial(np.any), "product": partial(np.prod)},
    **{"round_": partial(np.round), "msort": partial(np.sort, axis=0)},
    # By 2.4.
    **{"in1d": partial(np.isin), "trapz": partial(getattr(np, "trapezoid", None) or np.trapz)},
}

#: The modules of mxnet that use them later, and the name that NumPy has in them.
_LATE_USES = {
    "mxnet.numpy.multiarray": "_np",
    "mxnet.ndarray.numpy._op": "_np",
    "mxnet.symbol.numpy._symbol": "_np",
    "mxnet.test_utils": "np",
    "mxnet.gluon.contrib.estimator.event_handler": "np",
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
    os.dup2(devnull, 2)  # the library reports the start, and 2.0 its first array
    try:
        with _temporarily(os.environ, {"MXNET_ENGINE_TYPE": "NaiveEngine"}):
            mxnet.nd.zeros(1).wait_to_read()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def _import_mxnet() -> Any:
    """Import mxnet, or raise BackendError that says what is missing.

    If mxnet was imported before, it keeps its number of threads.
    """
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
            _temporarily(vars(np), _REMOVED),
            _temporarily(os.environ, settings),
            _temporarily(sys.modules, without_sklearn),
        ):
            mxnet = importlib.import_module("mxnet")
            if not mxnet.__version__.startswith(("1.9.", "2.0.")):
                raise BackendError(
                    f"MXNet {mxnet.__version__} is installed, and the mxnet backend is written for "
                    f"1.9 and 2.0. {_HOW}"
                )
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
    # Modules that use removed names later see a copy of numpy that has them.
    view = types.ModuleType("numpy")
    vars(view).update(_REMOVED | vars(np))  # with numpy's __getattr__, for what it loads lazily
    for module_name, numpy_name in _LATE_USES.items():
        module = sys.modules.get(module_name)
        if module is not None and vars(module).get(numpy_name) is np:
            setattr(module, numpy_name, view)
    if hasattr(os, "register_at_fork"):  # gluon's data loader forks
        os.register_at_fork(after_in_child=use_one_openmp_thread)
    return mxnet


mx: Any = _import_mxnet()
keep_freed_memory()

# What 1.9 and 2.0 call differently: 1.9 has contexts, and 2.0 devices.
_is_2 = mx.__version__.startswith("2.")
#: The class of devices.
Device: type = mx.device.Device if _is_2 else mx.context.Context
#: Return the device of an `mx.nd` or `mx.np` array.
device_of: Any = attrgetter("device" if _is_2 else "ctx")
#: Return a list of the devices that hold a parameter.
devices_of_parameter: Any = methodcaller("list_device" if _is_2 else "list_ctx")


def new_parameter(block: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Make a parameter of a gluon block, to be kept as its attribute ``name``."""
    if _is_2:
        return mx.gluon.Parameter(name, shape=shape)
    return block.params.get(name, shape=shape)


def move_parameters(block: Any, devices: list[Any]) -> None:
    """Move a gluon block's parameters to devices, with a copy on each."""
    if _is_2:
        block.reset_device(devices)
    else:
        block.collect_params().reset_ctx(devices)
