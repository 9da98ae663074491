"""Hints for mistyped names: "Did you mean ...?" with the most similar known name."""

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

#: Names in other tools, and bertnli's names for the same thing, if their letters differ much.
SYNONYMS = {
    "learning_rate": "lr",
    "num_train_epochs": "num_epochs",
    "max_seq_length": "max_len",
    "per_device_train_batch_size": "batch_size",
    "random_state": "seed",
    "framework": "backend",
    "pt": "torch",
    "mx": "mxnet",
    **dict.fromkeys(("max_grad_norm", "grad_clip"), "clip_norm"),
    **dict.fromkeys(("fp16", "bf16"), "precision"),
    **dict.fromkeys(("gpu", "gpus", "ctx"), "devices"),
    **dict.fromkeys(("eval_dataset", "validation"), "dev"),
    **dict.fromkeys(("model", "model_name_or_path", "ckpt", "ckpt_path"), "checkpoint"),
}
#: Most names that are compared: the header of a file may have millions.
MAX_KNOWN = 1000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one, or None if none is similar.

    Case and leading dashes are ignored, and dashes and underscores are the same.
    """
    by_key = {_key(candidate): candidate for candidate in reversed([*islice(known, MAX_KNOWN)])}
    key = _key(name)
    synonym = _key(SYNONYMS.get(key, ""))
    if synonym in by_key:
        return by_key[synonym]
    near = difflib.get_close_matches(key, by_key, n=1)
    return by_key[near[0]] if near else None


def _key(name: str) -> str:
    return name.lower().lstrip("-").replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``". Did you mean 'this'?"`` to end a message; empty if no known name is similar."""
    near = nearest(name, known)
    return "" if near is None else f". Did you mean {near!r}?"


def no_attribute(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the AttributeError for a missing attribute, with a hint at a similar name.

    Args:
        owner: the object or module, as the message calls it.
        name: the missing attribute.
        known: the names of all attributes.
    """
    hint = "" if name.startswith("__") else did_you_mean(name, known)
    # If the error had the object, Python would add another hint to the traceback.
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name, obj=None)


def near_path(path: str | Path) -> str:
    """Return ``". Did you mean PATH?"`` for a missing path, or empty without a similar sibling."""
    path = Path(path)
    try:
        names = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    near = nearest(path.name, names)
    return "" if near in (None, path.name) else f". Did you mean {path.parent / near}?"


def hinted(usage: str = "", beside: str = "") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a decorator that adds a hint to the TypeError for wrong arguments of a function.

    Args:
        usage: the hint to give if all keyword arguments are known.
        beside: the name of another method of the object, which may take an unknown argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                names, call = _parameters(function), _call(function)
                unknown = next((name for name in kwargs if name not in names), None)
                if unknown is None:
                    raise TypeError(f"{call}: {error}{usage and f'. {usage}'}") from None
                other = getattr(type(args[0]), beside) if beside else function
                near = nearest(unknown, names + _parameters(other))
                if near is None:
                    hint = f"It takes {', '.join(names)}"
                elif near in names:
                    hint = f"Did you mean {near!r}?"
                else:
                    hint = f"{_call(other)} takes {near!r}"
                raise TypeError(
                    f"{call} got an unexpected keyword argument {unknown!r}. {hint}"
                ) from None
            return function(*args, **kwargs)

        return checked

    return decorate


def _parameters(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters
    return [name for name in parameters if name not in ("self", "options")]


def _call(function: Callable[..., Any]) -> str:
    return f"{function.__qualname__.removesuffix('.__init__')}()"
