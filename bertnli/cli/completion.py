"""Print a script with which a shell completes bertnli's commands, options and files.

Needs shtab: pip install "bertnli[completion]".

examples:
  mkdir -p ~/.local/share/bash-completion/completions
  bertnli completion bash > ~/.local/share/bash-completion/completions/bertnli
      for each new bash, where the package bash-completion is installed
  mkdir -p ~/.zfunc
  bertnli completion zsh > ~/.zfunc/_bertnli
      for zsh; ~/.zshrc has `fpath+=~/.zfunc` before `compinit`
  bertnli completion tcsh > ~/.bertnli-completion.csh
      for tcsh; ~/.tcshrc has `source ~/.bertnli-completion.csh`
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from bertnli.errors import BackendError

SHELLS = ("bash", "zsh", "tcsh")
#: What an option's value is called where it is the path of a file, or of a folder.
FILES = {"DST", "FILE", "MODEL", "PATH", "RUN", "SOURCE", "SOURCE|SHARE", "SRC"}
FOLDERS = {"DIR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("shell", choices=SHELLS, help="whose language the script is in")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise BackendError('completion needs shtab: pip install "bertnli[completion]"') from None
    parser = args.make_parser()
    for action in _actions(parser):
        names = action.metavar if isinstance(action.metavar, str) else ""
        if names in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif names in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all options and arguments of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
