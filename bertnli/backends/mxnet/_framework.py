"""The one place that imports mxnet, 1.9 or 2.0, and that knows what the two call differently.

MXNet needs names that NumPy has removed, and its import changes the number of OpenMP threads of the
whole process. After this import ``numpy`` and ``os.environ`` are as before, PyTorch in the same
process keeps its threads, and MXNet's engine is started.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.machine import available_cores, use_one_openmp_thread
from bertnli.backends import how_to_install
from bertnli.backends.memory import keep_freed_memory
from bertnli.errors import BackendError

_HOW = (
    f"Install it with: {how_to_install('mxnet')} (MXNet 1.9.1; setuptools from Python 3.12 on, "
    "in place of the distutils that Python dropped)."
)


def _without(name: str) -> Any:
    """Return a function that raises RuntimeError: NumPy gave ``name`` to another package."""

    def function(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"NumPy has no {name} any more; the package numpy-financial has")

    function.__doc__ = f"{name} of numpy-financial."
    return function


_FINANCIAL = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")
_NUMBERS = {"NAN": np.nan, "NaN": np.nan, "Inf": np.inf, "PINF": np.inf, "NINF": -np.inf}
_RENAMED = {"alltrue": "all", "product": "prod", "round_": "round"}
_RENAMED |= {"sometrue": "any", "trapz": "trapezoid"}
#: What mxnet takes from NumPy, during its import or later, and NumPy removed by 1.24, 2.0 or 2.4.
#: MXNet keeps its own functions by those of NumPy, so each of these is a function of its own.
_REMOVED: dict[str, Any] = {
    "bool": bool,
    "int": int,
    **{name: _without(name) for name in _FINANCIAL},
    **_NUMBERS,
    "PZERO": 0.0,
    "NZERO": -0.0,
    **{old: partial(getattr(np, new)) for old, new in _RENAMED.items() if hasattr(np, new)},
    "msort": partial(np.sort, axis=0),
    "in1d": lambda values, *args, **kwargs: np.isin(np.ravel(values), *args, **kwargs),
    "compat": types.SimpleNamespace(basestring=str),
}

#: The modules of mxnet that use them later, and the name that NumPy has in them.
_LATE_USES = {
    "mxnet.numpy.multiarray": "_np",
    "mxnet.ndarray.numpy._op": "_np",
    "mxnet.symbol.numpy._symbol": "_np",
    "mxnet.test_utils": "np",
    "mxnet.gluon.contrib.estimator.event_handler": "np",
}

#: The engine that computes in the calling thread. On a CPU, Python would take a core from the
#: threads of MXNet's default engine: a training step on two cores takes a tenth longer with it.
#: ``MXNET_ENGINE_TYPE`` overrides this.
_ENGINE = {"MXNET_ENGINE_TYPE": "NaiveEngine"}


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager that drops what MXNet's library reports on standard error."""
    sys.stderr.flush()
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def _start_engine(mxnet: Any) -> None:
    """Start MXNet's engine, where the import did not: without a GPU, the one of `_ENGINE`."""
    with (
        _temporarily(os.environ, {} if mxnet.context.num_gpus() else _ENGINE),
        _quiet(),  # it reports the engine, and 2.0 its first array
    ):
        mxnet.nd.zeros(1).wait_to_read()


def _text(value: Any) -> str:
    """Convert an operator's argument to text; in a list, NumPy 2 writes ``np.int64(2)`` for 2."""
    text = str(value)
    if "np." in text:
        with np.printoptions(legacy="1.21"):
            return str(value)
    return text


def _version() -> str | None:
    """Return the version of mxnet before its import, as its files say; None if there is none."""
    spec = importlib.util.find_spec("mxnet")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("libinfo.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
    return found[1] if found else "of an unknown version"


def _import_mxnet() -> Any:
    """Import mxnet, or raise BackendError that says what is missing.

    If mxnet was imported before, it keeps its number of threads.
    """
    version = _version()
    if version is not None and not version.startswith(("1.9.", "2.0.")):
        raise BackendError(
            f"MXNet {version} is installed; the mxnet backend is written for 1.9 and 2.0. {_HOW}"
        )
    # The library reads these once, when it is loaded. Operator tuning would run operations on one
    # thread that are faster on all. Without a number of threads it takes half of the cores, and
    # calls omp_set_num_threads, which changes PyTorch's too.
    settings = {"MXNET_USE_OPERATOR_TUNING": "0"}
    if not os.environ.get("OMP_NUM_THREADS"):
        settings["MXNET_OMP_MAX_THREADS"] = str(available_cores())
    # A limit of threads applies to those of the default engine, not to the caller's.
    imported = "mxnet" in sys.modules
    starts_engine = not imported and not os.environ.get("MXNET_OMP_MAX_THREADS")
    is_2 = version is not None and version.startswith("2.")
    if is_2 and starts_engine and not Path("/proc/driver/nvidia/version").exists():
        settings |= _ENGINE  # its import starts the engine
    without_sklearn = {"sklearn": None}  # mxnet would load it, for a second, and not use it
    try:
        with (
            _temporarily(vars(np), _REMOVED),
            _temporarily(os.environ, settings),
            _temporarily(sys.modules, without_sklearn),
            _quiet() if is_2 else nullcontext(),
        ):
            mxnet = importlib.import_module("mxnet")
            if is_2 and not imported:  # numbers below 1e-38 became 0 in the whole process
                mxnet.util.set_flush_denorms(False)
            if starts_engine:
                _start_engine(mxnet)
    except ImportError as error:
        raise BackendError(f"The mxnet backend cannot import mxnet: {error}. {_HOW}") from error
    except OSError as error:
        # That of 2.0 may hold another one, whose text is split into characters.
        cause = error.args[0] if isinstance(error.args[0], OSError) else error
        text = "".join(map(str, cause.args)).partition("\n")[0]
        raise BackendError(
            f"mxnet is installed, but its library cannot be loaded: {text}. Install the system "
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
    if int(np.__version__.split(".")[0]) >= 2:
        for module_name in ("mxnet._ctypes.ndarray", "mxnet._ctypes.symbol"):
            vars(sys.modules[module_name])["str"] = _text
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
