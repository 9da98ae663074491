"""Dataclasses from the command line, by argparse: each field that has help is an option.

A list that is given twice adds up. Of a number or a choice, the second value is taken, with a note.
A second name or file is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from bertnli._util.hints import did_you_mean, nearest

#: The beginning of argparse's message for unknown options.
_UNKNOWN = "unrecognized arguments"
T = TypeVar("T")


def optional(config: type, default: str) -> Any:
    """Copy a dataclass of options with None as defaults, which the help calls ``default``."""

    def without_default(item: Field[Any]) -> tuple[str, str, Any]:
        help = f"{item.metadata['help']} ({default}: {_short(item.default)})"
        optional_field = field(default=None, metadata={**item.metadata, "help": help})
        return item.name, f"{item.type} | None", optional_field

    return make_dataclass(config.__name__, map(without_default, fields(config)), frozen=True)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Command:
    """Base class of the commands: its fields are the options, its docstring is the help."""

    def run(self) -> int | None:
        """Run the command; return its exit status, or None for 0."""
        raise NotImplementedError


def arguments(options: Any, *without: str) -> dict[str, Any]:
    """Return a dataclass's options by name, except those that are None or in ``without``."""
    values: dict[str, Any] = {}
    for item in fields(options):
        value = getattr(options, item.name)
        if is_dataclass(value):
            values |= arguments(value, *without)
        elif value is not None and item.name not in without:
            values[item.name] = value
    return values


def build(options: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of options from values by name; missing values are the defaults."""
    kinds = get_type_hints(options, include_extras=True)
    groups: dict[str, Any] = {
        name: build(kind, values)  # type: ignore[arg-type]
        for name, kind in kinds.items()
        if is_dataclass(kind)
    }
    return options(**groups, **{name: values[name] for name in kinds if name in values})


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors suggest what may have been meant.

    Its options have no defaults: a namespace holds only those that were given.
    """

    commands: Mapping[str, Parser]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def add_options(self, options: Any, place: Any = None) -> None:
        """Add the options of a dataclass to an argument group, or to this parser if it is None."""
        place = place or self
        exclusive = defaultdict[str, Any](lambda: place.add_mutually_exclusive_group())
        kinds = get_type_hints(options, include_extras=True)
        for item in fields(options):
            inner = place
            if "title" in item.metadata:
                inner = self.add_argument_group(**item.metadata)
            if is_dataclass(kinds[item.name]):
                self.add_options(kinds[item.name], inner)
            elif "help" in item.metadata:
                name = item.metadata.get("exclusive")
                _add_option(exclusive[name] if name else place, item, kinds[item.name])
            else:
                place = inner

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments as argparse does; an unknown option is an error."""
        self.words = list(sys.argv[1:] if args is None else args)
        values, unknown = super().parse_known_args(args, namespace)
        if unknown and not self._take_late(values, unknown):
            self.error(f"{_UNKNOWN}: {' '.join(unknown)}")
        return values, []

    def _take_late(self, values: argparse.Namespace, words: list[str]) -> bool:
        """Store positional arguments that follow options, which argparse leaves (bpo-14191)."""
        for action in self._actions:
            if action.option_strings or any(word.startswith("-") for word in words):
                continue
            if action.nargs == "+":
                getattr(values, action.dest).extend(words)
                return True
            if action.nargs == "?" and not hasattr(values, action.dest) and len(words) == 1:
                setattr(values, action.dest, words[0])
                return True
        return False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def error(self, message: str) -> NoReturn:
        """Print the error with a hint for each unknown option, and exit."""
        options = self._option_string_actions
        words = self.words[: self.words.index("--")] if "--" in self.words else self.words
        for name in (word.partition("=")[0] for word in words):
            if not name.startswith("-") or name in options:
                continue
            near = nearest(name, options)
            if near is not None:
                message += f". Did you mean {near}, where {name} is?"
            elif message.startswith(_UNKNOWN):
                message += f". `{self.prog} --help` lists the options"
        super().error(message)


def _value_type(kind: Any) -> tuple[Any, dict[str, Any]]:
    """Return the type of a field's value, and arguments for argparse, from its annotation."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Annotated:
            return part.__origin__, dict(part.__metadata__)
    return next((part for part in get_args(kind) if part is not NoneType), kind), {}


def _add_option(place: Any, item: Field[Any], kind: Any) -> None:
    """Add the option of a field to a parser or argument group; ``kind`` is its annotation."""
    value_type, keywords = _value_type(kind)
    keywords |= {**item.metadata, "default": argparse.SUPPRESS}
    flags, positional = keywords.pop("flags"), keywords.pop("positional", False)
    keywords.pop("exclusive", None)
    has_default = item.default not in (MISSING, None, ()) and not isinstance(item.default, bool)
    if has_default and "default: " not in keywords["help"]:
        keywords["help"] += f" (default: {_short(item.default)})"
    if positional:
        place.add_argument(item.name, action=_Store, **keywords)
        return
    flags = flags or ("--" + item.name.replace("_", "-"),)
    keywords["dest"] = item.name
    if kind is bool or ("const" in keywords and "nargs" not in keywords):
        keywords.setdefault("const", not item.default)
        place.add_argument(*flags, action="store_const", **keywords)
    elif value_type is bool:
        either = place.add_mutually_exclusive_group()
        either.add_argument(*flags, action="store_true", **keywords)
        keywords["help"] = "the contrary"
        either.add_argument(flags[0].replace("--", "--no-"), action="store_false", **keywords)
    else:
        if value_type in (int, float, Path):
            keywords.setdefault("type", value_type)
        if value_type is int:
            keywords.setdefault("metavar", "N")
        required = item.default is MISSING
        place.add_argument(*flags, action=_Store, required=required, **keywords)


class _Store(argparse.Action):
    """An argparse action: a second value is merged, replaces the first, or is refused."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        first = getattr(namespace, self.dest, values)
        if isinstance(first, list) and first is not values:
            values = [*first, *values]
        elif isinstance(first, dict):
            for key in first.keys() & values.keys():
                if first[key] != values[key]:
                    what = f"{key} is to be both {first[key]} and {values[key]}"
                    raise argparse.ArgumentError(self, what)
            values = first | values
        elif first != values:
            if self.choices is None and not isinstance(values, int | float | timedelta):
                what = f"given twice, as {str(first)!r} and {str(values)!r}; it takes one"
                raise argparse.ArgumentError(self, what)
            name = "/".join(self.option_strings)
            print(f"note: {name} is given twice; {values} is taken, not {first}", file=sys.stderr)
        setattr(namespace, self.dest, values)
