"""Draw the training curves of runs, of either backend, into one picture.

Of one run it is the book's figure: train loss, train accuracy and dev accuracy. Of several, which
may be under way, loss and accuracy stand side by side, a colour for each run.

examples:
  bertnli curve runs/first
  bertnli curve runs/demo/torch runs/demo/mxnet -o curves.png
  bertnli curve runs/seed0 runs/seed1 runs/seed2 -o seeds.svg --names "seed 0,seed 1,seed 2"
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bertnli.cli import options
from bertnli.errors import ConfigError
from bertnli.plots import FORMATS, check_figure_path, plot_curves
from bertnli.training.history import read_history


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("curve.png"),
        metavar="FILE",
        help=f"{', '.join(FORMATS)} by its name (default: curve.png)",
    )
    parser.add_argument(
        "--names", type=options.listed, metavar="NAMES", help="of the runs (default: their paths)"
    )


def run(args: argparse.Namespace) -> int:
    """Read the runs, draw, and print where."""
    check_figure_path(args.output, "--output")
    names = args.names or args.runs
    if len(names) != len(args.runs):
        raise ConfigError(f"--names has {len(names)} names for {len(args.runs)} runs")
    if len(set(names)) < len(names):
        raise ConfigError("a run is given twice, or two have one name; name each once")
    histories = {name: read_history(path) for name, path in zip(names, args.runs, strict=True)}
    for name, history in histories.items():
        if not history.epochs:
            raise ConfigError(f"{name} has no finished epoch yet; there is nothing to draw")
    if len(histories) == 1 and args.names is None:
        histories = {"": next(iter(histories.values()))}
    plot_curves(histories).savefig(args.output)
    print(f"wrote {args.output}")
    return 0
