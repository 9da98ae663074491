"""Options that say how a run trains: the recipe, and what is to be other than it says."""

from __future__ import annotations

import argparse

from bertnli.bert.config import RECIPES, TrainingConfig
from bertnli.cli import options


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add --recipe, an option for each setting of `TrainingConfig`, and those of the data's ids.

    Their defaults are None, which leaves a setting to the recipe.
    """
    group = parser.add_argument_group(
        "training",
        "what is not given is the recipe's; 0 turns an option of it off (1 for --layer-decay)",
    )
    group.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default="book",
        help="book: Adam at a constant rate, as the chapter; best: " + _described("best"),
    )
    default = TrainingConfig()
    group.add_argument(
        "--epochs",
        dest="num_epochs",
        type=int,
        metavar="N",
        help=f"passes over the training set (book: {default.num_epochs})",
    )
    group.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"pairs in a step, over all devices and processes (book: {default.batch_size})",
    )
    group.add_argument(
        "--micro-batch-size",
        type=options.positive,
        metavar="N",
        help="pairs of a step that a process computes together, at most: the same steps in less "
        "memory (default: what is fastest)",
    )
    group.add_argument(
        "--auto-batch",
        action="store_true",
        help="where memory does not suffice, halve that number and go on with the same batches",
    )
    group.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        help="learning rate of Adam, the peak of a schedule (book: 1e-4, for fine-tuning; a small "
        "model from scratch wants more, such as 1e-3)",
    )
    group.add_argument(
        "--schedule",
        choices=("constant", "linear"),
        help="linear falls to 0 at the end of the run (book: constant)",
    )
    group.add_argument(
        "--warmup",
        type=float,
        metavar="FRACTION",
        help="share of all steps over which the rate rises to --lr (book: 0)",
    )
    group.add_argument(
        "--weight-decay",
        type=float,
        metavar="RATE",
        help="by which weights shrink in each step, times the learning rate; not biases and layer "
        "normalisation (book: 0)",
    )
    group.add_argument(
        "--clip-norm",
        type=float,
        metavar="NORM",
        help="norm that the gradient is scaled down to where it is larger (book: 0, never)",
    )
    group.add_argument(
        "--layer-decay",
        type=float,
        metavar="FACTOR",
        help="of the learning rate, from each block to the one below it (book: 1)",
    )
    group.add_argument(
        "--label-smoothing",
        type=float,
        metavar="P",
        help="probability that is taken from the right class and given to all alike (book: 0)",
    )
    group.add_argument(
        "--average",
        type=float,
        metavar="FRACTION",
        help="share of all steps, the last, whose weights are averaged (book: 0)",
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="end after so many epochs without a better dev accuracy (book: 0, never)",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="start values, order of the data and dropout depend on it alone (default: 0)",
    )
    options.add_encoding_options(group)


def _described(recipe: str) -> str:
    """Return a recipe's options as they are written on the command line."""
    settings = RECIPES[recipe].items()
    names = {"num_epochs": "epochs"}
    return " ".join(f"--{names.get(n, n).replace('_', '-')} {value}" for n, value in settings)
