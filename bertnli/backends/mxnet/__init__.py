"""bertnli on Apache MXNet."""

from bertnli.backends.interface import Backend
from bertnli.backends.mxnet import devices, engine, model, workers

BACKEND = Backend.of_modules("mxnet", devices, engine, model, workers)

__all__ = ["BACKEND"]


def __dir__() -> list[str]:
    return __all__
