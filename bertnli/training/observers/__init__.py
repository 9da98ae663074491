"""Observers of a run: a progress bar, a live curve, TensorBoard, or a user's own."""

from bertnli.training.observers.interface import Observer
from bertnli.training.observers.progress import progress_observer

__all__ = ["Observer", "progress_observer"]


def __dir__() -> list[str]:
    return __all__
