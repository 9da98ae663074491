"""bertnli on PyTorch."""

from bertnli.backends.interface import Backend
from bertnli.backends.torch import devices, engine, model, workers

BACKEND = Backend.of_modules("torch", devices, engine, model, workers)

__all__ = ["BACKEND"]


def __dir__() -> list[str]:
    return __all__
