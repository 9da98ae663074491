"""Show what is in a source of pairs, before anything is trained on it.

Rows and those left out, classes, lengths, repeated pairs and those with several labels, premises
that splits or sources share, and the first pairs. With a checkpoint, its tokens are counted, and
those that it does not know. No framework is needed.

examples:
  bertnli data sample
  bertnli data mine.csv
  bertnli data train.csv dev.csv --checkpoint bert.mini --plot data.png
  bertnli data SNLI:dev --json
"""

from __future__ import annotations

import argparse

from bertnli.api.sets import note
from bertnli.api.summarize import summarize
from bertnli.cli import corpora, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", nargs="+", metavar=corpora.SOURCE, help=corpora.SOURCE_HELP)
    corpora.add_split_option(parser, "train, dev and test, each as a set")
    parser.add_argument(
        "--checkpoint",
        metavar="MODEL",
        help="whose tokens to count, and whose classes to take (default: words are counted)",
    )
    parser.add_argument(
        "--labels", type=options.names, metavar="NAMES", help="classes of your own, such as yes,no"
    )
    parser.add_argument("--max-len", type=int, metavar="N", help="tokens that the model reads")
    options.add_output_options(parser)
    corpora.add_reading_options(parser)


def run(args: argparse.Namespace) -> int:
    """Summarize, print, and draw if asked to."""
    options.check_output(args)
    how = {"split": args.split, "checkpoint": args.checkpoint, "max_len": args.max_len}
    how |= {} if args.labels is None else {"labels": args.labels}
    found = summarize(*args.source, **how, **corpora.reading_of(args))
    for one in found.sets:
        for text in one.notes:
            note(text)
    return options.put_out(args, found)
