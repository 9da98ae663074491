"""The errors that bertnli raises on purpose; each message says what was found and what to do."""

from __future__ import annotations

import re

#: A password with a slash, a space or a quotation mark, which no URL should have in it. What
#: follows the colon is no port. A path has made one slash of two, perhaps.
_PASSWORD = re.compile(
    r"(?<=:/)(/?)[^\s/?#:@'\"\[]*:(?!\s|\d+(?![^\s/?#'\",;.)]))[^@\n]*(?:@[^\s@/?#]*)*@"
)
_URL = re.compile(r"\b([A-Za-z][\w+.-]*:/{1,2})([^\s'\"<>]+)")
#: The query of a URL without its host; a user and a password before a host without a scheme.
_QUERY = re.compile(r"(?<=[\w/.])\?[^\s'\"<>()]*=[^\s'\"<>()]*")
_USER = re.compile(r"(?<![\w/*])[^\s/:@'\"]+:[^\s/@'\"]+@(?=[\w.-])")
_CUT_FIRST, _CUT_LAST = re.compile(r"^\S*\s"), re.compile(r"\s\S*$")
#: Characters of a message. A damaged file may put all that is in it into one.
MAX_MESSAGE, ITS_END = 2000, 500


class BERTNLIError(Exception):
    """Base of every error that bertnli raises on purpose; a long message is cut in its middle."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class ConfigError(BERTNLIError, ValueError):
    """An argument or a combination of arguments that cannot work."""


class DataError(BERTNLIError, ValueError):
    """A corpus, a vocabulary or a label that cannot be read as what it should be."""


class LabelError(DataError):
    """A source whose classes nobody names, or whose labels are none of the classes."""


class DownloadError(BERTNLIError, OSError):
    """A named file that could not be fetched, or whose content is not the expected one."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class CheckpointError(BERTNLIError, ValueError):
    """A checkpoint that is damaged, incomplete, or made for another model."""


class CheckpointWarning(UserWarning):
    """A checkpoint that can be used, but hardly is what somebody meant."""


class TrainingError(BERTNLIError, ArithmeticError):
    """A run that cannot go on: its loss is no number any more, or it lacks memory or a process."""


class RankError(TrainingError):
    """A process of several that is gone, or silent for too long; the run can be started again."""


class BackendError(BERTNLIError, RuntimeError):
    """A framework that is missing, or that cannot do what is asked of it."""


def shortened(text: str) -> str:
    """Return a text of at most about `MAX_MESSAGE` characters: what begins and what ends it.

    The two words where it is cut are left out whole: a piece of a URL could be one of a password.
    """
    text = str(text)
    if len(text) <= MAX_MESSAGE:
        return text
    begin, end = text[: MAX_MESSAGE - ITS_END], text[-ITS_END:]
    return f"{_CUT_LAST.sub('', begin)} ... {_CUT_FIRST.sub('', end)}"


def without_secrets(text: str) -> str:
    """Return text, shortened, with ``***`` in place of what its URLs may keep secret.

    That is the user and the password before a host, and everything after ``?`` or ``#``: links of
    stores and of private hubs have their tokens there.
    """
    text = _PASSWORD.sub(r"\1***@", shortened(text))
    text = _URL.sub(lambda url: url[1] + _public(url[2]), text)
    return _USER.sub("***@", _QUERY.sub("?***", text))


def _public(rest: str) -> str:
    """Return what follows a URL's scheme without its secrets."""
    host, after = re.fullmatch(r"([^/?#]*)(.*)", rest).groups()  # type: ignore[union-attr]
    if "@" in host:
        host = "***@" + host.rpartition("@")[2]
    # The last signs may be those of the sentence around it.
    return host + re.sub(r"([?#]).*?(?=[.,:;)\]}]*$)", r"\1***", after, count=1)


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
