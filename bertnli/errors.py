"""The errors that bertnli raises on purpose; each message says what was found and what to do."""

from __future__ import annotations


class BERTNLIError(Exception):
    """Base of every error that bertnli raises on purpose."""


class ConfigError(BERTNLIError, ValueError):
    """An argument or a combination of arguments that cannot work."""


class DataError(BERTNLIError, ValueError):
    """A corpus, a vocabulary or a label that cannot be read as what it should be."""


class DownloadError(BERTNLIError, OSError):
    """A named file that could not be fetched, or whose content is not the expected one."""


class CheckpointError(BERTNLIError, ValueError):
    """A checkpoint that is damaged, incomplete, or made for another model."""


class TrainingError(BERTNLIError, ArithmeticError):
    """A run that cannot go on: its loss is no number any more, or it lacks memory or a process."""


class RankError(TrainingError):
    """A process of several that is gone, or silent for too long; the run can be started again."""


class BackendError(BERTNLIError, RuntimeError):
    """A framework that is missing, or that cannot do what is asked of it."""
