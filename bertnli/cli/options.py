"""Options that several commands have, and what they mean."""

from __future__ import annotations

import argparse
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from bertnli.backends import NAMES
from bertnli.bert.config import PRECISIONS
from bertnli.cli.parser import comma_list
from bertnli.plots import check_figure_path
from bertnli.text.pairs import TRUNCATIONS

#: The model that comes with bertnli.
BUNDLED_MODEL = "bert.mini"


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Add --backend, --devices and --precision."""
    group = parser.add_argument_group("where to compute")
    group.add_argument(
        "--backend",
        choices=NAMES,
        help=f"the framework (default: the first of {', '.join(NAMES)} that is installed)",
    )
    group.add_argument(
        "--devices",
        type=listed,
        metavar="NAMES",
        help="cpu, gpu (all of them), gpu:1 or gpu:0,gpu:1 (default: all GPUs, or else the CPU)",
    )
    add_precision_option(group)


def add_precision_option(group: Any) -> None:
    """Add --precision."""
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of matrix products; auto takes bf16 where the hardware has it (default: fp32)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add --plot and --json."""
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png, .pdf or .svg")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def check_output(args: argparse.Namespace) -> None:
    """Raise an error if the figure that --plot names cannot be written, before any work."""
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")


def put_out(args: argparse.Namespace, found: Any) -> int:
    """Print a result as text or JSON, draw it if asked to, and return the exit status.

    Args:
        found: has ``to_dict`` and ``plot``.
    """
    print(json.dumps(found.to_dict(), indent=2) if args.json else found)
    if args.plot is not None:
        found.plot().savefig(args.plot)
    return 0


def add_encoding_options(parser: Any) -> None:
    """Add --max-len and --truncation."""
    parser.add_argument(
        "--max-len",
        type=int,
        metavar="N",
        help="tokens of a pair, special ones included; longer pairs are cut (default: what the "
        "classifier was trained with; 128 where that is not known, and for a new one)",
    )
    parser.add_argument(
        "--truncation",
        choices=TRUNCATIONS,
        help="how long pairs are cut: book takes tokens off the longer sentence, longest_first "
        "does so as transformers does, ratio keeps the ratio of the two lengths (default: what the "
        "classifier was trained with; book where that is not known, and for a new one)",
    )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, the checkpoint."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"folder of a run or a checkpoint, or {BUNDLED_MODEL}, which comes with bertnli",
    )


def add_checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint, which is the bundled model where it is left out."""
    parser.add_argument(
        "--checkpoint",
        default=BUNDLED_MODEL,
        metavar="PATH",
        help="folder of a run or a checkpoint (default: the small model that comes with bertnli)",
    )


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add --labels and --num-heads, of a checkpoint that does not tell them."""
    parser.add_argument(
        "--labels",
        type=names,
        metavar="NAMES",
        help="the classes in the order of the logits, where the checkpoint does not name them, or "
        "contradicts itself",
    )
    parser.add_argument(
        "--num-heads",
        type=positive,
        metavar="N",
        help="attention heads, which files of parameters alone do not tell",
    )


def add_batch_option(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Add --batch-size, of work without training."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=batch_size,
        metavar="N",
        help=f"pairs computed at a time (default: {batch_size})",
    )


def loading_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `bertnli.load` is given, and --precision."""
    names = ("backend", "devices", "labels", "num_heads", "precision")
    return {name: getattr(args, name) for name in names}


def cut_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return how pairs are to be cut to length; None leaves it to the checkpoint."""
    return {"max_len": args.max_len, "truncation": args.truncation}


@comma_list
def listed(text: str) -> list[str]:
    """Return what stands with commas between, for argparse."""
    return [item.strip() for item in text.split(",")]


@comma_list
def names(text: str) -> tuple[str, ...]:
    """Return the class names that stand with commas between them, for argparse."""
    found = tuple(name.strip() for name in text.split(","))
    if len(found) < 2 or not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of classes such as yes,no")
    return found


def not_negative(text: str) -> int:
    """Return a whole number from 0 on, for argparse."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def positive(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def duration(text: str) -> timedelta:
    """Return a time such as 30s, 10m or 1h, for argparse."""
    found = re.fullmatch(r"(\d+)([smh])", text)
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 30s, 10m or 1h")
    return timedelta(seconds=int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]])
