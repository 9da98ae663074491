"""Train a classifier of sentence pairs, on a pretrained BERT or on a small one from scratch.

The output folder gets best/ (the epoch with the highest dev accuracy), last/, metrics.jsonl,
curve.png, and state/, from which --resume goes on, whatever ended the run. The first Ctrl-C or
SIGTERM ends it after the step under way and saves last/ and state/; after SIGTERM the exit status
is 0, so that a cluster may move the run.

examples:
  bertnli train --train sample --output runs/sample --num-hiddens 128 --ffn-num-hiddens 256 \\
      --min-freq 2 --batch-size 32 --lr 1e-3 --epochs 10
      from scratch, on the small corpus that comes with bertnli: nothing is downloaded
  bertnli train --train SNLI --pretrained bert.small --output runs/small
      the book's chapter
  bertnli train --train train.csv --dev dev.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral \\
      --batch-size 32 --lr 1e-3 --output runs/mine
      from scratch, on tables of your own; small steps, for few pairs
  bertnli train --train pairs.csv --dev 0.1 --pretrained bert.mini --output runs/mine
      a tenth of the pairs is held out, by premise
  bertnli train --train SNLI --pretrained bert.base --recipe best --output runs/best
      with warm-up, decays and clipping, in place of the chapter's plain Adam
  bertnli train --train SNLI --pretrained bert.base --output runs/base --resume --save-every 5m
      the same line again, as often as it was stopped
"""

from __future__ import annotations

import argparse

from bertnli.api.runs import SCRATCH_MODEL
from bertnli.api.train import train
from bertnli.bert.config import PRESETS
from bertnli.cli import corpora, options, recipes, runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    runs.add_run_options(parser)
    _add_data_options(parser)
    _add_model_options(parser)
    recipes.add_training_options(parser)
    options.add_backend_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--train", required=True, nargs="+", metavar=corpora.SOURCE, help=f"{corpora.SOURCE_HELP}"
    )
    group.add_argument(
        "--dev",
        type=corpora.source_or_share,
        metavar="SOURCE|SHARE",
        help="what the best epoch is chosen by; or a share of the training pairs to hold out, such "
        "as 0.1, by premise (default: the dev split of --train, if it has one)",
    )
    group.add_argument(
        "--soft-labels",
        nargs="?",
        const="probabilities",
        metavar="KEY",
        help="train on the probabilities that a teacher gave each class: an object in each line of "
        "--train, as `bertnli predict --json` writes them (key: probabilities)",
    )
    group.add_argument(
        "--labels",
        type=options.names,
        metavar="NAMES",
        help="the classes, in the order of their ids (default: those of --train)",
    )
    corpora.add_reading_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "model", "from scratch by default, with a vocabulary of the training set"
    )
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained",
        metavar="MODEL",
        help="start from a name of the hub, a folder or zip with pretrained.params and "
        "vocab.json, a Hugging Face folder of a BERT, or a .params file of GluonNLP with its "
        "vocabulary beside it; sizes not given are taken from the file",
    )
    start.add_argument(
        "--model",
        choices=sorted(PRESETS),
        help=f"from scratch, with the sizes of this one (default: {SCRATCH_MODEL})",
    )
    group.add_argument(
        "--new-head",
        action="store_true",
        help="begin with a new output layer, also where --pretrained is a classifier of the same "
        "classes, which is gone on with otherwise; of a model that comes with bertnli, begin with "
        "the pretrained one",
    )
    runs.add_size_options(group)
    runs.add_min_freq_option(group)


def run(args: argparse.Namespace) -> int:
    """Train, and say what was done."""
    train(
        args.train if len(args.train) > 1 else args.train[0],
        args.dev,
        new_head=args.new_head,
        truncation=args.truncation,
        labels=args.labels,
        probabilities=args.soft_labels,
        **runs.run_of(args),
        **corpora.reading_of(args),
    )
    return 0
