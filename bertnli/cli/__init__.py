"""The command line: parse options into dataclasses, make a call of `bertnli.api`, print."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from bertnli._util.hints import near_path
from bertnli._util.options import argument
from bertnli.cli import backends, checkpoints, pairs, serve, training
from bertnli.cli.parser import Command, Parser, build
from bertnli.cli.terminal import printable_output
from bertnli.errors import BackendError, BERTNLIError, CheckpointWarning, RankError, without_secrets
from bertnli.training.watch import STATUS as RANK_LOST
from bertnli.version import __version__

SHELLS = ("bash", "zsh", "tcsh")
#: The metavars of options whose values are paths of files, and of folders.
FILES = {"DST", "FILE", "MODEL", "PATH", "RUN", "SOURCE", "SOURCE|SHARE", "SRC"}
FOLDERS = {"DIR"}


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print a script for a shell to complete bertnli's commands, options and files.

    Needs shtab: pip install "bertnli[completion]".

    examples:
      bertnli completion bash > ~/.local/share/bash-completion/completions/bertnli
      bertnli completion zsh > ~/.zfunc/_bertnli
          ~/.zshrc needs `fpath+=~/.zfunc` before `compinit`
    """

    shell: str = argument("the shell", choices=SHELLS)

    def run(self) -> None:
        try:
            import shtab
        except ImportError:
            raise BackendError('pip install "bertnli[completion]" for its package shtab') from None
        parser = make_parser()
        complete = dict.fromkeys(FILES, shtab.FILE) | dict.fromkeys(FOLDERS, shtab.DIRECTORY)
        for command in parser.commands.values():
            for action in command._actions:
                if isinstance(action.metavar, str) and action.metavar in complete:
                    action.complete = complete[action.metavar]  # type: ignore[attr-defined]
        print(shtab.complete(parser, self.shell))


COMMANDS: dict[str, type[Command]] = {
    command.__name__.lower(): command
    for command in (
        *(pairs.Data, training.Train, training.Pretrain, training.Launch, pairs.Evaluate),
        *(pairs.Predict, pairs.Explain, serve.Serve, checkpoints.Download, checkpoints.Info),
        *(backends.Curve, pairs.Lengths, checkpoints.Convert, checkpoints.Export),
        *(backends.Parity, backends.Demo, backends.Doctor, Completion),
    )
}
#: Exit statuses; the first two are 128 plus the number of SIGPIPE and of SIGINT.
BROKEN_PIPE, INTERRUPTED, BAD_INPUT = 141, 130, 2
#: Parts of the messages of generic errors that frameworks raise if memory does not suffice.
OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate", "out of memory", "bad_alloc")


def make_parser(words: Iterable[str] = COMMANDS) -> Parser:
    """Make the parser of all commands; a command gets its options if ``words`` contains it."""
    parser = Parser(
        prog="bertnli",
        description="Fine-tune BERT for natural language inference, on PyTorch or Apache MXNet.",
        epilog="`bertnli COMMAND --help` shows a command's options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"bertnli {__version__}")
    commands = parser.add_subparsers(dest="bertnli", metavar="COMMAND", required=True)
    parser.commands = commands.choices
    for name, command in COMMANDS.items():
        description, heading, examples = (inspect.getdoc(command) or "").partition("\nexample")
        subparser = commands.add_parser(
            name,
            help=description.partition("\n")[0].rstrip("."),
            description=description,
            epilog=(heading + examples).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in words:
            subparser.add_options(command)
    return parser


def parse(argv: Sequence[str]) -> Command:
    """Parse arguments into a command; if they are wrong, print the reason and exit."""
    values = vars(make_parser(argv).parse_args(argv))
    return build(COMMANDS[values["bertnli"]], values)


@printable_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; without any, print the help.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status: 0; 1 if `parity` finds a difference or `doctor` no backend; 2 for invalid
        input (one line on stderr says why); 75 if another process of a run has ended or does not
        respond; 130 after Ctrl-C; 141 after the reader of the output has ended.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser(words)
    if not words:
        parser.print_help()
        return 0
    values = vars(parser.parse_args(words))
    name = values["bertnli"]
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, name, warnings.showwarning)
        warnings.simplefilter("always", CheckpointWarning)
        try:
            status = build(COMMANDS[name], values).run() or 0
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes stdout again when it exits, which would print another error.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except KeyboardInterrupt:
            print(f"bertnli {name}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            print(f"bertnli {name}: {reason}", file=sys.stderr)
            return RANK_LOST if isinstance(error, RankError) else BAD_INPUT
    return status


def _show_warning(command: str, default: Any, message: Any, kind: Any, *where: Any) -> None:
    """Print a CheckpointWarning like a command's error, and others by ``default``."""
    if issubclass(kind, CheckpointWarning):
        print(f"bertnli {command}: {without_secrets(str(message))}", file=sys.stderr)
    else:
        default(message, kind, *where)


def _reason(error: Exception) -> str | None:
    """Return the message of an error that the input causes; None for a bug in the program."""
    text = " ".join(str(error).split())
    if isinstance(error, BERTNLIError | OSError):
        hint = ""
        if isinstance(error, FileNotFoundError) and error.filename is not None:
            hint = near_path(str(error.filename))
        return " ".join(without_secrets(str(error)).split()) + hint
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return (
            f"memory does not suffice ({text[:200] or 'no more could be had'}); smaller batches "
            "(--batch-size), shorter pairs (--max-len) or a smaller model need less"
        )
    if isinstance(error, RecursionError):
        return f"an input is nested too deeply: {text}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {text}"
    return None


__all__ = ["COMMANDS", "main", "make_parser", "parse"]


def __dir__() -> list[str]:
    return __all__
