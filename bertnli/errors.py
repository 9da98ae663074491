"""The errors that bertnli raises on purpose; each message says what is wrong and what to do."""

from __future__ import annotations

import re

#: Most characters of a message, and of its end: a damaged file may put all its content into one.
MAX_MESSAGE, ITS_END = 2000, 500
#: Secrets in URLs, and their replacements.
_SECRETS = (
    # User and password of a URL; a Path has made one slash of two.
    (re.compile(r"(:/{1,2})[^\s/]+@"), r"\1***@"),
    # Its query and fragment, without punctuation of the sentence around it.
    (
        re.compile(
            r"(:/{1,2}[^\s'\"<>?#]+[?#])[^\s'\"<>]*?(?=[.,:;)\]}]*(?:[\s'\"<>]|$))",
        ),
        r"\1***",
    ),
    # A query, and a user and a password, of a URL without its beginning.
    (re.compile(r"(?<=[\w/.])\?[^\s'\"<>()]*=[^\s'\"<>()]*"), "?***"),
    (re.compile(r"(?<![\w/*])[^\s/:@'\"]+:[^\s/@'\"]+@(?=[\w.-])"), "***@"),
)


class BERTNLIError(Exception):
    """Base of every error that bertnli raises on purpose; the middle of a long message is cut."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ConfigError(BERTNLIError, ValueError):
    """An argument or a combination of arguments that cannot work."""


class DataError(BERTNLIError, ValueError):
    """A corpus, a vocabulary or a label that cannot be read."""


class LabelError(DataError):
    """A source whose class names are not known, or whose labels are none of the classes."""


class DownloadError(BERTNLIError, OSError):
    """A named file that could not be downloaded, or whose content is not the expected one."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class CheckpointError(BERTNLIError, ValueError):
    """A checkpoint that is damaged, incomplete, or made for another model."""


class CheckpointWarning(UserWarning):
    """A checkpoint that can be used, but has probably a mistake."""


class TrainingError(BERTNLIError, ArithmeticError):
    """A run that cannot go on: its loss is not finite, or memory or a process is missing."""


class RankError(TrainingError):
    """One of several processes is gone, or silent for too long; the run can be started again."""


class BackendError(BERTNLIError, RuntimeError):
    """A framework that is missing, or that lacks a feature."""


def shortened(text: str) -> str:
    """Return a text of at most about `MAX_MESSAGE` characters: its beginning and its end.

    The words at the cut are removed: a piece of a URL could be a piece of a password.
    """
    text = str(text)
    if len(text) <= MAX_MESSAGE:
        return text
    begin = re.sub(r"\s\S*$", "", text[: MAX_MESSAGE - ITS_END])
    end = re.sub(r"^\S*\s", "", text[-ITS_END:])
    return f"{begin} ... {end}"


def without_secrets(text: str) -> str:
    """Return text, shortened, with ``***`` for users, passwords, queries and fragments of URLs."""
    text = shortened(text)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


__all__ = [
    "BERTNLIError",
    "BackendError",
    "CheckpointError",
    "CheckpointWarning",
    "ConfigError",
    "DataError",
    "DownloadError",
    "TrainingError",
]


def __dir__() -> list[str]:
    return __all__
