"""What is here, what works, and what to do about the rest."""

from bertnli.doctor.examine import Examination, examine

__all__ = ["Examination", "examine"]
