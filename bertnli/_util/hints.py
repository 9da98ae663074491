"""Did you mean ...? Hints at the known name that is most similar to a mistyped one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: Names in other tools, and ours, where the letters are not similar.
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
#: How similar two names must be, from 0 to 1; see `difflib.get_close_matches`.
CUTOFF = 0.6
#: Most names that are compared: the header of a file may have millions.
MAX_KNOWN = 1000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one; None if none is.

    Case, leading dashes, and the difference of dashes and underscores are ignored.
    """
    by_key = {_key(candidate): candidate for candidate in reversed([*islice(known, MAX_KNOWN)])}
    key = _key(name)
    synonym = _key(SYNONYMS.get(key, ""))
    if synonym in by_key:
        return by_key[synonym]
    near = difflib.get_close_matches(key, by_key, n=1, cutoff=CUTOFF)
    return by_key[near[0]] if near else None


def _key(name: str) -> str:
    return name.lower().lstrip("-").replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``". Did you mean 'this'?"`` for the end of a message, or nothing."""
    near = nearest(name, known)
    return "" if near is None else f". Did you mean {near!r}?"


def no_attribute(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the error for a name that an object or a module lacks, with a similar name."""
    hint = "" if name.startswith("__") else did_you_mean(name, known)
    # With the object, Python would add another hint to the traceback.
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name, obj=None)


def near_path(path: str | Path) -> str:
    """Return ``". Did you mean this?"`` for a missing path, by the names beside it, or nothing."""
    path = Path(path)
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    near = nearest(path.name, names)
    return "" if near in (None, path.name) else f". Did you mean {path.parent / near}?"


def hinted(usage: str = "", beside: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that adds a hint to a TypeError about a function's arguments.

    Args:
        usage: the hint where no keyword argument is unknown.
        beside: a method of the same object that may take an unknown keyword argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                names, called = _names(function), _call(function)
                unknown = next((name for name in kwargs if name not in names), None)
                if unknown is None:
                    hint = f". {usage}" if usage else ""
                    raise TypeError(f"{called}: {error}{hint}") from None
                other = getattr(type(args[0]), beside) if beside else function
                near = nearest(unknown, names + _names(other))
                hint = (
                    f"Did you mean {near!r}?" if near in names else f"{_call(other)} takes {near!r}"
                )
                if near is None:
                    hint = f"It takes {', '.join(names)}"
                raise TypeError(
                    f"{called} got an unexpected keyword argument {unknown!r}. {hint}"
                ) from None
            return function(*args, **kwargs)

        return checked

    return decorate


def _names(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters
    return [name for name in parameters if name not in ("self", "options")]


def _call(function: Callable[..., Any]) -> str:
    return f"{function.__qualname__.removesuffix('.__init__')}()"
