"""Check that both backends compute the same from a checkpoint of any format.

Layer by layer, the activations and gradients of a batch of the sample corpus, and the losses of
some steps of training, each compared between the backends and with the same model in float64 NumPy,
the referee, which shows which of them is off. Exits with 1 if something is beyond the tolerances.

examples:
  bertnli parity runs/mine
  bertnli parity bert.small.zip --num-heads 4 --steps 20 --plot parity.png
  bertnli parity some-bert --labels contradiction,entailment,neutral --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from bertnli.backends import NAMES, available_backends, get_backend
from bertnli.cli import options
from bertnli.errors import ConfigError
from bertnli.formats.load import load_checkpoint
from bertnli.parity.report import (
    ACTIVATIONS,
    GRADIENTS,
    LOSSES,
    ParityReport,
    Row,
    parity_report,
)
from bertnli.plots import check_figure_path

#: What a shell takes for "no".
DIFFERS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", help="a checkpoint of any format")
    options.add_checkpoint_options(parser)
    parser.add_argument(
        "--steps",
        type=options.not_negative,
        default=5,
        metavar="N",
        help="of training (default: 5)",
    )
    options.add_batch_option(parser, 8)
    parser.add_argument(
        "--lr", type=float, default=1e-4, help="learning rate of the steps (default: 1e-4)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the losses into a PNG file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Compare, and print the tables and the verdict."""
    if args.plot is not None and args.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot writes PNG files, and {args.plot} is not called one")
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")
    checkpoint = load_checkpoint(args.path, args.labels, args.num_heads)
    backends = [get_backend(name) for name in available_backends()]
    report = parity_report(
        checkpoint, backends, steps=args.steps, batch_size=args.batch_size, lr=args.lr
    )
    if args.json:
        # JSON has no NaN, which a broken model may well give.
        found = {**report.to_dict(), "given": list(checkpoint.given)}
        plain = json.loads(json.dumps(found), parse_constant=lambda _: None)
        print(json.dumps(plain, indent=2))
    else:
        print("\n".join(_as_text(report)) + checkpoint.reservation, flush=True)
    if args.plot is not None:
        report.plot(args.plot)
    return 0 if report.agrees else DIFFERS


def _as_text(report: ParityReport) -> Iterable[str]:
    yield f"{report.source}: {report.pairs} pairs, {report.tokens} tokens, no dropout"
    for missing in sorted(set(NAMES) - set(report.backends)):
        yield f"{missing} is not installed, and so not compared"
    yield "\nactivations: max abs difference (norm of the difference by the norm)"
    yield from _table(report.activations)
    yield "\ngradients, the worst tensor of each layer; without key biases, which have none"
    yield from _table(report.layer_gradients())
    if any(report.losses.values()):
        yield f"\nlosses of steps at the rate {report.lr:g}, in nats"
        yield from _columns(
            ["step", *report.losses],
            [
                [str(step + 1), *(f"{values[step]:.7f}" for values in report.losses.values())]
                for step in range(len(next(iter(report.losses.values()))))
            ],
        )
    yield (
        f"\ntolerances: activations {ACTIVATIONS:g}, gradients {GRADIENTS:g} of their norm; "
        f"losses {LOSSES:g} nats"
    )
    yield from report.problems
    yield "verdict: " + ("they agree" if report.agrees else "they do not agree")


def _table(rows: Sequence[Row]) -> Iterable[str]:
    versus = list(rows[0].absolute)
    return _columns(
        ["layer", *versus],
        [[r.name, *(f"{r.absolute[v]:.1e} ({r.relative[v]:.1e})" for v in versus)] for r in rows],
    )


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
