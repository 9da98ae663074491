"""What watches a run while it trains: a bar, a live curve, TensorBoard, or anything of a user's."""

from bertnli.training.observers.interface import Observer, watched
from bertnli.training.observers.shown import progress_observer

__all__ = ["Observer", "progress_observer", "watched"]


def __dir__() -> list[str]:
    return __all__
