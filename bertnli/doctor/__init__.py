"""What is here, what works, and what to do about the rest."""

from bertnli.doctor.examination import Examination, examine

__all__ = ["Examination", "examine"]


def __dir__() -> list[str]:
    return __all__
