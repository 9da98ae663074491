"""What commands that train have in common: a run's folder, a model's sizes, the run itself."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
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
from bertnli.data.dataset import PairDataset
from bertnli.errors import without_secrets
from bertnli.evaluation.scores import chance_bound
from bertnli.outputs import check_output_folder
from bertnli.parameters import Shapes
from bertnli.text.vocab import Vocab
from bertnli.training.history import EpochRecord, History
from bertnli.training.ownership import STATE, check_run_folder
from bertnli.training.run import KEEP, SAVE_EVERY
from bertnli.training.state import states
from bertnli.training.watch import RANK_TIMEOUT

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
        help="of several processes: how long one may be silent, or hold the others up, before "
        "these save what can be saved and end with the exit status 75 (default: 10m); half of "
        "it, at most 30 s, passes before they say so",
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
        help=f"from scratch: words seen less often become <unk> (default: {MIN_FREQ})",
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


def check_folders(args: argparse.Namespace, backend: Backend) -> None:
    """Raise ConfigError if a folder to write cannot be, before data are read.

    Of several processes the first alone writes; it says so to all when it makes the folder.
    """
    if backend.find_workers(args.rank_timeout).size > 1:
        return
    check_run_folder(Path(args.output), args.overwrite, args.resume)
    if args.tensorboard is not None:
        check_output_folder(args.tensorboard, "TensorBoard")


def describe_sizes(args: argparse.Namespace, config: BERTConfig, shapes: Shapes) -> str:
    """Return a line on the model."""
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return (
        f"model: {without_secrets(args.pretrained or 'from scratch')}, {config.num_blks} blocks, "
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
    workers = backend.find_workers(args.rank_timeout)
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
        rank_timeout=args.rank_timeout,
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
    if isinstance(train_set, PairDataset) and not args.quiet:
        for warning in _warnings_of_chance(args, history, train_set, dev_set):
            print(f"warning: {warning}", file=sys.stderr)
    return 0


def _describe_best(output: Path, best: EpochRecord) -> str:
    score = "" if best.dev_accuracy is None else f", dev acc {best.dev_accuracy:.3f}"
    return (
        f"checkpoints: {output / 'best'} (epoch {best.epoch}{score}), {output / 'last'}; "
        f"every epoch's numbers: {output / 'metrics.jsonl'}"
    )


def _warnings_of_chance(
    args: argparse.Namespace, history: History, train_set: PairDataset, dev_set: ExampleSet | None
) -> Iterator[str]:
    """Yield what to say of a classifier that predicts no better than chance; see `chance_bound`."""
    best = history.best
    name, data, accuracy, tries = "dev", dev_set, best.dev_accuracy, len(history.epochs)
    if accuracy is None:
        name, data, accuracy, tries = "training", train_set, best.train_accuracy, 1
    assert isinstance(data, PairDataset)
    share, majority, low = chance_bound(accuracy, data.labels, tries)
    label = data.label_names[majority]
    if share == 1:
        yield f"all {len(data)} {name} pairs are {label}: their accuracy says nothing"
    elif low <= share:
        pretrained = "" if args.pretrained else "a pretrained model (--pretrained bert.mini), "
        yield (
            f"not significantly better than chance: {name} accuracy {accuracy:.3f} on "
            f"{len(data)} pairs (the interval begins at {low:.3f}), and always saying {label} "
            f"scores {share:.3f}. Try {pretrained}more pairs than {len(train_set)}, a smaller "
            f"--batch-size or more --epochs ({history.epochs[-1].steps} steps were taken), or a "
            "higher --lr"
        )


def _steps_or_time(text: str) -> int | timedelta:
    """Return a number of steps, or a time, for argparse."""
    try:
        return options.positive(text) if text.isdecimal() else options.duration(text)
    except argparse.ArgumentTypeError:
        words = f"{text!r} is neither like 500 nor like 30s, 10m or 1h"
        raise argparse.ArgumentTypeError(words) from None
