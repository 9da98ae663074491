"""The parser of a command: argparse, with nothing lost where an option is given twice, and hints.

Of an option that is a list, one given again adds to it. Of any other, a number or a choice given
again takes the place of the one before, with a note, so that a script's line can be overridden at
its end; a name or a file would be lost, and is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

from bertnli._util.hints import did_you_mean, nearest

#: What a second value may take the place of.
_SETTINGS = (int, float, timedelta)
#: argparse's own words.
_UNKNOWN = "unrecognized arguments"
_Convert = Callable[[str], Any]


def comma_list(convert: _Convert) -> _Convert:
    """Mark a function, an option's type, as one that takes a list with commas."""
    convert.is_comma_list = True  # type: ignore[attr-defined]
    return convert


class Parser(argparse.ArgumentParser):
    """An argparse parser whose options add up, and whose errors say what may have been meant."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})
        for name in (None, "store"):
            self.register("action", name, _Store)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser.parse_known_args`; what is not known is an error here."""
        self.words = list(sys.argv[1:] if args is None else args)
        self.given: dict[argparse.Action, Any] = {}
        found, unknown = super().parse_known_args(args, namespace)
        for action, value in self.given.items():
            if isinstance(action, _Store):
                action.finish(self, found, value)
        if unknown and not self._take_late(found, unknown):
            self.error(f"{_UNKNOWN}: {' '.join(unknown)}")
        return found, []

    def _take_late(self, found: argparse.Namespace, words: list[str]) -> bool:
        """Take sources that stand after options, which argparse leaves; see bpo-14191."""
        for action in self._actions:
            if action.option_strings or any(word.startswith("-") for word in words):
                continue
            before = getattr(found, action.dest)
            if action.nargs == "+":
                setattr(found, action.dest, [*before, *words])
                return True
            if action.nargs == "?" and before is None and len(words) == 1:
                setattr(found, action.dest, words[0])
                return True
        return False

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices or ()))
            raise

    def error(self, message: str) -> NoReturn:
        """Print the error with a hint for each option that there is not, and exit."""
        options = self._option_string_actions
        words = self.words[: self.words.index("--")] if "--" in self.words else self.words
        for word in words:
            name = word.partition("=")[0]
            if not name.startswith("-") or name in options:
                continue
            near = nearest(name, options)
            if near is not None:
                message += f". Did you mean {near}, where {name} is?"
            elif message.startswith(_UNKNOWN):
                message += f". `{self.prog} --help` lists the options"
        super().error(message)


class _Store(argparse.Action):
    """What argparse's own action of an option does, when it is given once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.convert: _Convert | None = None
        if getattr(options.get("type"), "is_comma_list", False):
            self.convert = options.pop("type")
        super().__init__(*args, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Take a value, beside the one before if there is one."""
        assert isinstance(parser, Parser)
        if option_string is not None and self in parser.given:
            values = self._both(parser.given[self], values)
        parser.given[self] = values
        setattr(namespace, self.dest, values)

    def _both(self, first: Any, second: Any) -> Any:
        if isinstance(first, list):
            return [*first, *second]
        if first == second:
            return second
        if self.convert is not None:
            return f"{first},{second}"
        if self.choices is None and not isinstance(second, _SETTINGS):
            raise argparse.ArgumentError(
                self, f"given twice, as {str(first)!r} and {str(second)!r}; it takes one"
            )
        name = "/".join(self.option_strings)
        print(f"note: {name} is given twice; {second} is taken, not {first}", file=sys.stderr)
        return second

    def finish(self, parser: Parser, namespace: argparse.Namespace, values: Any) -> None:
        """Convert a list with commas, now that all of it is there."""
        if self.convert is None:
            return
        try:
            setattr(namespace, self.dest, self.convert(values))
        except argparse.ArgumentTypeError as error:
            parser.error(str(argparse.ArgumentError(self, str(error))))
