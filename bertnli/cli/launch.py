"""Start several processes that train together on MXNet, on one host or several.

Each process computes its share of every batch, and the numbers are those of one process. All are
ended when one dies; the same command with --resume goes on. For PyTorch, use torchrun.

examples:
  bertnli launch --workers 2 -- train --train SNLI --pretrained bert.small --output runs/small
  bertnli launch --workers 4 --hosts 2 --host 0 --address node0:9500 -- train ...
  bertnli launch --workers 4 --hosts 2 --host 1 --address node0:9500 -- train ...
      the same on each host but for --host
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from bertnli.cli import options
from bertnli.errors import ConfigError
from bertnli.training.launch import Layout, launch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--workers",
        type=options.positive,
        required=True,
        metavar="N",
        help="processes that train, on each host",
    )
    parser.add_argument(
        "--servers",
        type=options.positive,
        default=1,
        metavar="N",
        help="processes that add up gradients, on each host (default: 1)",
    )
    parser.add_argument(
        "--hosts", type=options.positive, default=1, metavar="N", help="hosts (default: 1)"
    )
    parser.add_argument(
        "--host", type=options.not_negative, default=0, metavar="I", help="this one, from 0"
    )
    parser.add_argument(
        "--address",
        type=_address,
        metavar="HOST:PORT",
        help="of the first of several hosts; its port must be free",
    )
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="what each worker runs: `train` and its options",
    )


def run(args: argparse.Namespace) -> int:
    """Start the processes, and wait for their end."""
    command = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    if command[:1] != ["train"]:
        raise ConfigError(
            "say what the workers shall run, after --: bertnli launch --workers 2 -- train ..."
        )
    backend = _given(command, "--backend")
    if backend not in (None, "mxnet"):
        raise ConfigError(
            f"launch is for MXNet, not {backend}; for PyTorch: torchrun --nproc-per-node "
            f"{args.workers} -m bertnli {shlex.join(command)}"
        )
    if backend is None:
        command = [*command, "--backend", "mxnet"]
    layout = Layout(args.workers, args.servers, args.hosts, args.host, args.address)
    return launch(layout, [sys.executable, "-m", "bertnli", *command])


def _given(command: Sequence[str], option: str) -> str | None:
    """Return what an option of the workers' command is given."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else following
    return None


def _address(text: str) -> tuple[str, int]:
    """Return host and port, for argparse."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not like node0:9500")
    return host, int(port)
