"""Diagnose an installation: what is installed, whether each backend works, and what to do."""

from bertnli.doctor.diagnosis import diagnose

__all__ = ["diagnose"]


def __dir__() -> list[str]:
    return __all__
