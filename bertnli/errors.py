"""The errors of bertnli; each message says what is wrong and what to do."""

from __future__ import annotations

import re

#: Maximum number of characters of a message, and of its end, which is kept if it is cut: a message
#: about a damaged file may contain all of the file.
MAX_MESSAGE, ITS_END = 2000, 500
#: Patterns of secrets in URLs, and their replacements.
_SECRETS = (
    # User and password of a URL, whose two slashes ``Path`` may have made one.
    (r"(:/{1,2})[^\s/]+@", r"\1***@"),
    # Query and fragment of a URL, without the punctuation of the sentence around it.
    (r"(:/{1,2}[^\s'\"<>?#]+[?#])[^\s'\"<>]*?(?=[.,:;)\]}]*(?:[\s'\"<>]|$))", r"\1***"),
    # A query, and a user and a password, in a part of a URL.
    (r"(?<=[\w/.])\?[^\s'\"<>()]*=[^\s'\"<>()]*", "?***"),
    (r"(?<![\w/*])[^\s/:@'\"]+:[^\s/@'\"]+@(?=[\w.-])", "***@"),
)


class BERTNLIError(Exception):
    """Base class of bertnli's errors; the middle of a long message is cut out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ConfigError(BERTNLIError, ValueError):
    """Raised for an invalid argument or combination of arguments."""


class DataError(BERTNLIError, ValueError):
    """Raised if a corpus, a vocabulary or a label cannot be read."""


class LabelError(DataError):
    """Raised if the classes of a source are unknown, or are not those of its labels."""


class DownloadError(BERTNLIError, OSError):
    """Raised if a file cannot be downloaded, or its hash is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class CheckpointError(BERTNLIError, ValueError):
    """Raised if a checkpoint is damaged, incomplete, or made for another model."""


class CheckpointWarning(UserWarning):
    """Issued if a checkpoint can be used, but probably contains a mistake."""


class TrainingError(BERTNLIError, ArithmeticError):
    """Raised if training cannot continue: the loss is not finite, or memory does not suffice."""


class RankError(TrainingError):
    """Raised if one of several processes ends or does not respond; the run can be resumed."""


class BackendError(BERTNLIError, RuntimeError):
    """Raised if a framework or package is not installed, or lacks a feature."""


def shortened(text: str) -> str:
    """Cut the middle out of a text that has more than `MAX_MESSAGE` characters.

    The words at the cut are removed: they may be parts of a password in a URL, which
    `without_secrets` would not recognise.
    """
    text = str(text)
    if len(text) <= MAX_MESSAGE:
        return text
    begin = re.sub(r"\s\S*$", "", text[: MAX_MESSAGE - ITS_END])
    end = re.sub(r"^\S*\s", "", text[-ITS_END:])
    return f"{begin} ... {end}"


def without_secrets(text: str) -> str:
    """Shorten a text, and replace users, passwords, queries and fragments of URLs by ``***``."""
    text = shortened(text)
    for pattern, replacement in _SECRETS:
        text = re.sub(pattern, replacement, text)
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
