"""The backends: the same library on PyTorch and on Apache MXNet, both usable in one process."""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np

from bertnli._util.hints import did_you_mean
from bertnli.backends.interface import Backend
from bertnli.errors import BackendError

#: The backends' names, which are also their frameworks' packages.
NAMES = ("torch", "mxnet")


def get_backend(name: str) -> Backend:
    """Import bertnli on a framework.

    Args:
        name: ``"torch"`` or ``"mxnet"``. Both can be used in one process.

    Raises:
        BackendError: the name is unknown, or the framework is not installed or cannot be imported;
            the message says what to install.

    Examples:
        >>> nli = bertnli.get_backend("torch")
        >>> nli.name
        'torch'
    """
    if name not in NAMES:
        hint = did_you_mean(str(name), NAMES)
        raise BackendError(f"unknown backend {name!r}; choose one of {list(NAMES)}{hint}")
    if importlib.util.find_spec(name) is None:
        raise BackendError(f"{name} is not installed: {how_to_install(name)}")
    return importlib.import_module(f"bertnli.backends.{name}").BACKEND


def how_to_install(name: str) -> str:
    """Return the command that installs a backend's framework beside the NumPy that is here."""
    if name == "mxnet" and int(np.__version__.split(".")[0]) >= 2:
        return (  # its wheel asks for NumPy 1 and an old graphviz, and works without
            "pip install --no-deps mxnet==1.9.1 graphviz setuptools"
        )
    return f'pip install "bertnli[{name}]"'


def available_backends() -> list[str]:
    """Return the names of the backends whose framework is installed.

    Examples:
        >>> "torch" in bertnli.available_backends()
        True
    """
    return [name for name in NAMES if importlib.util.find_spec(name) is not None]


__all__ = ["NAMES", "Backend", "available_backends", "get_backend"]


def __dir__() -> list[str]:
    return __all__
