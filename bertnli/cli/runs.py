"""What commands that train have in common: a run's folder, a model's sizes, the run itself."""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.backends.interface import Backend, Trainable
from bertnli.checkpoints.native import is_native
from bertnli.cli import options
from bertnli.config import BERTConfig, TrainingConfig
from bertnli.data.batches import ExampleSet
from bertnli.parameters import Shapes
from bertnli.text.vocab import Vocab
from bertnli.training.history import EpochRecord
from bertnli.training.ownership import STATE
from bertnli.training.run import KEEP, SAVE_EVERY
from bertnli.training.state import states

#: Sizes that can be given: the option's name, the argument of BERTModel, what it is.
SIZES = (
    ("num_hiddens", "num_hiddens", "width of every token's vector"),
    ("ffn_num_hiddens", "ffn_num_hiddens", "width inside the feed-forward networks"),
    ("num_heads", "num_heads", "attention heads"),
    ("num_blks", "num_blks", "encoder blocks"),
    ("max_positions", "max_len", "positions that have an embedding"),
)
SCRATCH_MODEL = "bert.small"
MIN_FREQ = 5


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
        help="steps (500) or time (30s, 10m, 1h) after which an epoch under way is saved, to go on "
        "from (default: 10m); it is after every epoch",
    )
    parser.add_argument(
        "--keep",
        type=options.positive,
        default=KEEP,
        metavar="N",
        help=f"how many such states to keep (default: {KEEP})",
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
    for option, _, what in SIZES:
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
        help=f"from scratch: words seen less often are left to <unk> (default: {MIN_FREQ})",
    )


def min_freq_of(args: argparse.Namespace) -> int:
    """Return the --min-freq to use."""
    return MIN_FREQ if args.min_freq is None else int(args.min_freq)


def sizes_of(args: argparse.Namespace) -> dict[str, int]:
    """Return the sizes that were given."""
    given = {argument: getattr(args, option) for option, argument, _ in SIZES}
    return {argument: size for argument, size in given.items() if size is not None}


def say(args: argparse.Namespace, text: str) -> None:
    """Print, unless asked to be quiet."""
    if not args.quiet:
        print(text, flush=True)


def describe_sizes(args: argparse.Namespace, config: BERTConfig, shapes: Shapes) -> str:
    """Return a line on the model."""
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return (
        f"model: {args.pretrained or 'from scratch'}, {config.num_blks} blocks, "
        f"{config.num_hiddens} wide, {config.ffn_num_hiddens} inside, {config.num_heads} heads, "
        f"{config.max_len} positions, {parameters:,} parameters"
    )


def describe_vocab(token_ids: NDArray[np.int32], vocab: Vocab, what: str) -> str:
    """Return a line on the vocabulary, and on what it does not know of a set."""
    unknown = float((token_ids == vocab.unk).mean()) if len(token_ids) else 0.0
    return f"vocabulary: {len(vocab)} tokens; {unknown:.1%} of the {what} is <unk>"


def fit(
    args: argparse.Namespace,
    config: TrainingConfig,
    backend: Backend,
    devices: Any,
    net: Trainable,
    train_set: ExampleSet,
    dev_set: ExampleSet | None,
) -> int:
    """Train a net, say what was done, and return the exit status."""
    workers = backend.find_workers()
    if workers.size > 1:
        say(args, f"processes: {workers.size}, each with its share of every batch")
    settings = asdict(config)
    epochs, batch_size = settings.pop("num_epochs"), settings.pop("batch_size")
    trainer = backend.Trainer(
        net,
        devices=devices,
        precision=args.precision,
        micro_batch_size=args.micro_batch_size,
        exact_sums=args.exact_sums,
        auto_batch=args.auto_batch,
        **settings,
    )
    if not args.quiet:
        options.say_precision(trainer.net.precision, trainer.precision_reason)
    output = Path(args.output)
    try:
        history = trainer.fit(
            train_set,
            dev_set,
            epochs,
            batch_size,
            output=output,
            overwrite=args.overwrite,
            resume=args.resume,
            save_every=args.save_every,
            keep=args.keep,
            progress=not args.quiet,
            on_epoch=lambda record: say(args, str(record)),
            tensorboard=args.tensorboard,
        )
    except (KeyboardInterrupt, SystemExit) as stop:
        saved = is_native(output / "last")
        where = f"the weights are in {output / 'last'}" if saved else "nothing was saved"
        again = "; --resume goes on" if states(output / STATE) else ""
        ended = isinstance(stop, SystemExit)
        why = "stopped by SIGTERM" if ended else "interrupted"
        if workers.is_first:
            print(f"bertnli {args.command}: {why}; {where}{again}", file=sys.stderr)
        return 0 if ended else 130
    say(args, _describe_best(output, history.best))
    return 0


def _describe_best(output: Path, best: EpochRecord) -> str:
    score = "" if best.dev_accuracy is None else f", dev acc {best.dev_accuracy:.3f}"
    return (
        f"checkpoints: {output / 'best'} (epoch {best.epoch}{score}), {output / 'last'}; "
        f"every epoch's numbers: {output / 'metrics.jsonl'}"
    )


def _steps_or_time(text: str) -> int | timedelta:
    """Return a number of steps, or a time, for argparse."""
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither like 500 nor like 30s, 10m or 1h")
    number = int(found[1])
    seconds = {"s": 1, "m": 60, "h": 3600}
    return timedelta(seconds=number * seconds[found[2]]) if found[2] else number
