"""Dataclass fields that are options: what is said of a setting is said once, at its field."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def option(help: str, *flags: str, default: Any = None, **argparse: Any) -> Any:
    """Return a dataclass field that is an option, too.

    Args:
        help: what it does.
        flags: names on the command line; none for ``--`` and the field's name.
        default: the field's; None leaves the value to the function that the option is for.
        argparse: ``metavar``, ``choices``, ``type`` and others of ``argparse.add_argument``;
            ``exclusive`` names a set of options of which one at most is given.
    """
    return field(default=default, metadata={"help": help, "flags": flags, **argparse})


#: Of an option that must be given; of one without a value; of one that has no name.
required = partial(option, default=MISSING)
flag = partial(option, default=False)
argument = partial(option, default=MISSING, positional=True)


def section(title: str, description: str | None = None) -> Any:
    """Return a field without a value: the options after it are a section of the help."""
    return field(default=None, metadata={"title": title, "description": description})


def group(options: type, title: str = "", description: str | None = None) -> Any:
    """Return a field that is a group of options, of a dataclass; a section if it has a title."""
    titles = {"title": title, "description": description} if title else {}
    return field(default_factory=options, metadata=titles)


def at_least(least: int) -> Callable[[str], int]:
    """Return the ``type`` of whole numbers that are not below a number."""

    def number(text: str) -> int:
        if int(text) < least:
            raise ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return number


def documented(cls: T) -> T:
    """Add the help of a dataclass's options to its docstring, as its ``Args`` section."""
    lines = [f"    {item.name}: {item.metadata['help']}." for item in fields(cls)]
    cls.__doc__ = "\n".join([f"{cls.__doc__}".rstrip(), "", "Args:", *lines])
    return cls
