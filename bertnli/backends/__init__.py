"""The backends: the same library on PyTorch and on Apache MXNet, side by side in one process."""

from __future__ import annotations

import importlib
import importlib.util

from bertnli._util.hints import did_you_mean
from bertnli.backends.interface import Backend
from bertnli.errors import BackendError

#: The backends' names, with the package that each needs.
NAMES = ("torch", "mxnet")


def get_backend(name: str) -> Backend:
    """Return one framework's side of bertnli.

    Args:
        name: ``"torch"`` or ``"mxnet"``. Two backends can be used in one process.

    Raises:
        BackendError: the name is unknown, or the framework is not installed or does not work here;
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
        raise BackendError(f'{name} is not installed: pip install "bertnli[{name}]"')
    return importlib.import_module(f"bertnli.backends.{name}").BACKEND


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
