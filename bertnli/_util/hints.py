"""Did you mean ...? The known name that is nearest to a mistyped one, for messages of errors."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: What other tools call a thing, and our name for it, where the letters do not tell.
SYNONYMS = {
    "learning_rate": "lr",
    "num_train_epochs": "num_epochs",
    "max_seq_length": "max_len",
    "max_grad_norm": "clip_norm",
    "grad_clip": "clip_norm",
    "per_device_train_batch_size": "batch_size",
    "fp16": "precision",
    "bf16": "precision",
    "gpu": "devices",
    "gpus": "devices",
    "ctx": "devices",
    "random_state": "seed",
    "eval_dataset": "dev",
    "validation": "dev",
    "model": "checkpoint",
    "model_name_or_path": "checkpoint",
    "ckpt": "checkpoint",
    "ckpt_path": "checkpoint",
    "framework": "backend",
    "pt": "torch",
    "mx": "mxnet",
}
#: How alike two names must be, from 0 to 1; see `difflib.get_close_matches`.
CUTOFF = 0.6
#: Names among which one is looked for: a file's header may have millions.
MAX_KNOWN = 1000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a mistyped one is most like, in any case; None if none is.

    Dashes before a name, and dashes or underscores in it, count for nothing.
    """
    by_key: dict[str, str] = {}
    for one in islice(known, MAX_KNOWN):
        by_key.setdefault(_key(one), one)
    key = _key(name)
    meant = _key(SYNONYMS.get(key, ""))
    if meant in by_key:
        return by_key[meant]
    near = difflib.get_close_matches(key, by_key, n=1, cutoff=CUTOFF)
    return by_key[near[0]] if near else None


def _key(name: str) -> str:
    return name.lower().lstrip("-").replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``". Did you mean 'this'?"`` for the end of a message, or nothing."""
    near = nearest(name, known)
    return "" if near is None else f". Did you mean {near!r}?"


def no_attribute(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the error for a name that an object or a module lacks, with the one that was meant."""
    # Without the object Python, which would add a hint of its own to a traceback, has none.
    hint = "" if name.startswith("__") else did_you_mean(name, known)
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name, obj=None)


def near_path(path: str | Path) -> str:
    """Return ``". Did you mean this?"`` for a path that is not there, by the names beside it."""
    path = Path(path)
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    near = nearest(path.name, names)
    return "" if near in (None, path.name) else f". Did you mean {path.parent / near}?"


def hinted(usage: str = "", beside: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: a TypeError about a function's arguments then says what was meant.

    Args:
        usage: what to say where the arguments do not fit in another way than by a name.
        beside: the method of the same object that may take what this one does not.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                what, names = f": {error}", _names(signature)
                hint = f". {usage}" if usage else ""
                unknown = next((name for name in kwargs if name not in names), None)
                if unknown is not None:
                    what = f" got an unexpected keyword argument {unknown!r}"
                    hint = _meant(unknown, names, args, beside)
                raise TypeError(f"{_called(function, args)}{what}{hint}") from None
            return function(*args, **kwargs)

        return checked

    return decorated


def _names(signature: inspect.Signature) -> list[str]:
    return [name for name in signature.parameters if name not in ("self", "options")]


def _meant(name: str, names: list[str], args: tuple[object, ...], beside: str) -> str:
    """Return what takes a name like this one, this function or the method beside it."""
    method = getattr(type(args[0]), beside) if beside else None
    near = nearest(name, names + ([] if method is None else _names(inspect.signature(method))))
    if near is None:
        return f". It takes {', '.join(names)}"
    if method is None or near in names:
        return f". Did you mean {near!r}?"
    return f". {_called(method, args)} takes {near!r}"


def _called(function: Callable[..., object], args: tuple[object, ...]) -> str:
    """Return what the user wrote to call a function: its name, or that of its class."""
    if function.__name__ == "__init__" and args:
        return f"{type(args[0]).__name__}()"
    return f"{function.__name__}()"
