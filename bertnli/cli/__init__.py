"""The command line, one module per command; nothing of a framework in it."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from bertnli._util.hints import near_path
from bertnli.cli import (
    completion,
    convert,
    curve,
    data,
    demo,
    doctor,
    download,
    evaluate,
    explain,
    export,
    info,
    launch,
    lengths,
    parity,
    predict,
    pretrain,
    serve,
    train,
)
from bertnli.cli.parser import Parser
from bertnli.cli.terminal import printable_output
from bertnli.errors import BERTNLIError, CheckpointWarning, RankError, without_secrets
from bertnli.training.watch import STATUS as RANK_LOST
from bertnli.version import __version__

#: Each module's docstring is its command's help.
COMMANDS = {
    "data": data,
    "train": train,
    "pretrain": pretrain,
    "launch": launch,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "serve": serve,
    "download": download,
    "info": info,
    "curve": curve,
    "lengths": lengths,
    "convert": convert,
    "export": export,
    "parity": parity,
    "demo": demo,
    "doctor": doctor,
    "completion": completion,
}

#: What a shell reports for a program that a closed pipe ended (128 + SIGPIPE), or Ctrl-C.
BROKEN_PIPE, INTERRUPTED, BAD_INPUT = 141, 130, 2
#: What the frameworks say in errors of no class of their own, where there is no memory.
OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate", "out of memory", "bad_alloc")


def make_parser() -> Parser:
    """Return the parser of all commands; the chosen one's function is in ``args.run``."""
    parser = Parser(
        prog="bertnli",
        description="Fine-tune BERT for natural language inference, on PyTorch or Apache MXNet.",
        epilog="`bertnli COMMAND --help` shows a command's options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"bertnli {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        description, heading, examples = (module.__doc__ or "").partition("\nexample")
        command = commands.add_parser(
            name,
            help=description.partition("\n")[0].rstrip("."),
            description=description,
            epilog=(heading + examples).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    parser.set_defaults(make_parser=make_parser)
    return parser


@printable_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; without any, print the help.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status: 0; 1 where `parity` finds a difference or `doctor` no backend; 2 for input
        that cannot be used (one line on stderr says why); 75 if another process of a run is gone or
        silent; 130 after Ctrl-C; 141 if whoever read our
        output stopped reading.

    Raises:
        SystemExit: from argparse, after ``--help`` and ``--version`` or for a wrong option.
    """
    parser = make_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    args = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _shown(args.command, warnings.showwarning)
        warnings.simplefilter("always", CheckpointWarning)
        return _status(args)


def _shown(command: str, other: Callable[..., None]) -> Callable[..., None]:
    """Return a ``showwarning`` that words our own warnings as a command's errors are."""

    def show(message: Any, category: type[Warning], *where: Any, **file: Any) -> None:
        if issubclass(category, CheckpointWarning):
            print(f"bertnli {command}: {without_secrets(str(message))}", file=sys.stderr)
        else:
            other(message, category, *where, **file)

    return show


def _status(args: argparse.Namespace) -> int:
    """Run a command, and return the status that it ends with."""
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at its end, and would complain again.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (BERTNLIError, OSError) as error:
        hint = ""
        if isinstance(error, FileNotFoundError) and error.filename is not None:
            hint = near_path(str(error.filename))
        text = " ".join(without_secrets(str(error)).split())
        print(f"bertnli {args.command}: {text}{hint}", file=sys.stderr)
        return RANK_LOST if isinstance(error, RankError) else BAD_INPUT
    except KeyboardInterrupt:
        print(f"bertnli {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        reason = _too_much(error)
        if reason is None:
            raise
        print(f"bertnli {args.command}: {reason}", file=sys.stderr)
        return BAD_INPUT
    return status


def _too_much(error: Exception) -> str | None:
    """Return what to say of an error that means too large an input; None of any other."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(told in text for told in OUT_OF_MEMORY):
        return (
            f"memory does not suffice ({text[:200] or 'no more could be had'}); smaller batches "
            "(--batch-size), shorter pairs (--max-len) or a smaller model need less"
        )
    if isinstance(error, RecursionError):
        return f"an input is nested too deeply: {text}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {text}"
    return None


__all__ = ["COMMANDS", "main", "make_parser"]


def __dir__() -> list[str]:
    return __all__
