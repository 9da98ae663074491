"""Pretrain a BERT on plain text: masked words, and which sentence follows.

A line of a text file is a sentence, and an empty line ends a document; with --text-column, a row of
a table is a document. The output folder is a
run's, as with `bertnli train`, and `bertnli train --pretrained RUN` takes its best/: the last
epoch, or with --dev-text the one with the most masked words predicted right.

examples:
  bertnli pretrain --text corpus.txt --output runs/pretrained --epochs 10 --batch-size 256 \\
      --lr 1e-3 --schedule linear --warmup 0.05
      bert.small's sizes, with a vocabulary of the text's words
  bertnli pretrain --text wiki.txt --split-sentences --word-pieces 8000 --whole-words \\
      --tasks mlm --output runs/mlm
      a line is a paragraph; word pieces are learned of the text, and words masked as a whole
  bertnli pretrain --text reviews.csv --text-column review --pretrained bert.small \\
      --output runs/adapted
      go on with a model that there is, on text of your own
"""

from __future__ import annotations

import argparse

from bertnli.api.pretrain import pretrain
from bertnli.api.runs import SCRATCH_MODEL
from bertnli.bert.config import PRESETS
from bertnli.cli import corpora, options, recipes, runs
from bertnli.errors import ConfigError

TASKS = ("mlm,nsp", "mlm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    runs.add_run_options(parser)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar=corpora.SOURCE,
        help="text files, UTF-8, a sentence a line; or tables",
    )
    group.add_argument(
        "--text-column",
        metavar="NAME",
        help="the column of text, where --text and --dev-text name tables",
    )
    group.add_argument(
        "--dev-text", nargs="+", metavar=corpora.SOURCE, help="what the best epoch is chosen by"
    )
    group.add_argument(
        "--split-sentences",
        action="store_true",
        help="a line is a document of several sentences, which end at . ! or ?",
    )
    group = parser.add_argument_group("tasks")
    group.add_argument(
        "--tasks",
        choices=TASKS,
        default=TASKS[0],
        metavar="TASKS",
        help="mlm,nsp: masked words and the next sentence; mlm: masked words alone (default: "
        "mlm,nsp)",
    )
    group.add_argument("--whole-words", action="store_true", help="mask all pieces of a word")
    group.add_argument(
        "--mask-rate",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="of an example's tokens that are predicted (default: 0.15)",
    )
    group = parser.add_argument_group("model")
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained", metavar="MODEL", help="go on with this one; see `bertnli train --help`"
    )
    start.add_argument(
        "--model",
        choices=sorted(PRESETS),
        help=f"from start values, with the sizes of this one (default: {SCRATCH_MODEL})",
    )
    runs.add_size_options(group)
    vocabulary = group.add_mutually_exclusive_group()
    runs.add_min_freq_option(vocabulary)
    vocabulary.add_argument(
        "--word-pieces",
        type=options.positive,
        metavar="N",
        help="learn so many word pieces of the text, instead of taking its words",
    )
    recipes.add_training_options(parser)
    options.add_backend_options(parser)
    corpora.add_reading_options(parser, columns=())


def run(args: argparse.Namespace) -> int:
    """Pretrain, and say what was done."""
    if args.truncation not in (None, "book"):
        raise ConfigError("--truncation is for labelled pairs; text is cut as the book cuts it")
    pretrain(
        args.text,
        args.dev_text,
        text_column=args.text_column,
        split_sentences=args.split_sentences,
        next_sentence=args.tasks == TASKS[0],
        whole_words=args.whole_words,
        mask_rate=args.mask_rate,
        word_pieces=args.word_pieces,
        **runs.run_of(args),
        **corpora.reading_of(args),
    )
    return 0
