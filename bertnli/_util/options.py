"""Dataclass fields that are also command-line options, so that a setting is described once."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def option(help: str, *flags: str, default: Any = None, **argparse: Any) -> Any:
    """Make a dataclass field that is also a command-line option.

    Args:
        help: the description of the option.
        flags: the option's names; by default ``--`` and the field's name.
        default: the field's default; None leaves the choice to the function that gets the value.
        argparse: keyword arguments of ``argparse.add_argument``; and ``exclusive``, the name of a
            set of options of which at most one may be given.
    """
    return field(default=default, metadata={"help": help, "flags": flags, **argparse})


#: Fields for an option that must be given, an option without a value, and a positional argument.
required = partial(option, default=MISSING)
flag = partial(option, default=False)
argument = partial(option, default=MISSING, positional=True)


def section(title: str, description: str | None = None) -> Any:
    """Make a dataclass field without a value that starts a section of the ``--help`` text.

    The section lists the options of the fields after it, below its ``title`` and ``description``.
    """
    return field(default=None, metadata={"title": title, "description": description})


def group(options: type, title: str = "", description: str | None = None) -> Any:
    """Make a dataclass field whose value is another dataclass of options.

    If ``title`` is given, these options have a section of their own in the ``--help`` text.
    """
    titles = {"title": title, "description": description} if title else {}
    return field(default_factory=options, metadata=titles)


def at_least(least: int) -> Callable[[str], int]:
    """Make a function for argparse's ``type`` that accepts whole numbers from ``least`` on."""

    def number(text: str) -> int:
        if int(text) < least:
            raise ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return number


def documented(cls: T) -> T:
    """Decorate a dataclass of options: add an ``Args`` section to its docstring from their help."""
    lines = [f"    {item.name}: {item.metadata['help']}." for item in fields(cls)]
    cls.__doc__ = "\n".join([f"{cls.__doc__}".rstrip(), "", "Args:", *lines])
    return cls
