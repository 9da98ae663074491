"""Options that commands which train have in common: a run's folder, a model's sizes."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from bertnli.api.runs import MIN_FREQ, SETTINGS, SIZES, TRAINER
from bertnli.cli import options
from bertnli.training.run import KEEP, SAVE_EVERY
from bertnli.training.watch import RANK_TIMEOUT

#: What a model's sizes are.
_SIZES = {
    "num_hiddens": "width of every token's vector",
    "ffn_num_hiddens": "width inside the feed-forward networks",
    "num_heads": "attention heads",
    "num_blks": "encoder blocks",
    "max_positions": "positions that have an embedding",
}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --output and what a run does with its folder."""
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the run")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run that --output holds; what no run wrote is left",
    )
    start.add_argument(
        "--resume",
        action="store_true",
        help="go on where the run in --output was stopped; start it if there is none. Give the "
        "same options as before. The weights become the same to the bit on the same machine, with "
        "as many threads and the same versions, elsewhere to rounding: a note says what differs",
    )
    parser.add_argument(
        "--save-every",
        type=_steps_or_time,
        default=SAVE_EVERY,
        metavar="WHEN",
        help="how often to save a state to go on from while an epoch is under way, in steps (500) "
        "or time (30s, 10m, 1h; default: 10m); one is saved after every epoch too",
    )
    parser.add_argument(
        "--keep",
        type=options.positive,
        default=KEEP,
        metavar="N",
        help=f"how many such states to keep (default: {KEEP})",
    )
    parser.add_argument(
        "--rank-timeout",
        type=options.duration,
        default=RANK_TIMEOUT,
        metavar="TIME",
        help="of several processes: how long each waits for the others before it saves what can be "
        "saved and ends with the exit status 75 (default: 10m)",
    )
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="also write each step's loss and each epoch's numbers there, for TensorBoard; one "
        "folder for each run",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but errors; no progress bar"
    )


def add_size_options(group: Any) -> None:
    """Add the sizes of a BERT and its dropout."""
    for option, what in _SIZES.items():
        group.add_argument(f"--{option.replace('_', '-')}", type=int, metavar="N", help=what)
    group.add_argument(
        "--dropout", type=float, default=0.1, metavar="P", help="probability (default: 0.1)"
    )


def add_min_freq_option(group: Any) -> None:
    """Add --min-freq, of a vocabulary of words."""
    group.add_argument(
        "--min-freq",
        type=int,
        metavar="N",
        help=f"from scratch: words seen less often become <unk> (default: {MIN_FREQ})",
    )


def run_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `bertnli.train` and `bertnli.pretrain` have in common, as the options say."""
    names = (
        *("output", "backend", "devices", "pretrained", "model", "dropout", "min_freq", "max_len"),
        *("recipe", "rank_timeout", *SIZES, *SETTINGS, *TRAINER),
        *("overwrite", "resume", "save_every", "keep", "tensorboard"),
    )
    return {name: getattr(args, name) for name in names} | {"progress": not args.quiet}


def _steps_or_time(text: str) -> int | timedelta:
    """Return a number of steps, or a time, for argparse."""
    try:
        return options.positive(text) if text.isdecimal() else options.duration(text)
    except argparse.ArgumentTypeError:
        words = f"{text!r} is neither like 500 nor like 30s, 10m or 1h"
        raise argparse.ArgumentTypeError(words) from None
