"""Show how long a corpus's pairs are, and what their padding would cost if it were computed.

Helps to choose --max-len: pairs that are longer are cut. Tokens are counted with the vocabulary of
a checkpoint, in word pieces if it has these; no framework is needed.

examples:
  bertnli lengths sample
  bertnli lengths SNLI:train --checkpoint bert.small.torch.zip --plot lengths.png
  bertnli lengths mine.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral --json
"""

from __future__ import annotations

import argparse

from bertnli.api.lengths import lengths
from bertnli.cli import corpora, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar=corpora.SOURCE, help=corpora.SOURCE_HELP)
    corpora.add_split_option(parser)
    parser.add_argument(
        "--checkpoint",
        default=options.BUNDLED_MODEL,
        metavar="PATH",
        help=f"whose vocabulary and classes to take (default: {options.BUNDLED_MODEL})",
    )
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 512)
    options.add_output_options(parser)
    corpora.add_reading_options(parser)


def run(args: argparse.Namespace) -> int:
    """Count, print, and draw if asked to."""
    options.check_output(args)
    found = lengths(
        args.source,
        args.split,
        checkpoint=args.checkpoint,
        batch_size=args.batch_size,
        **options.cut_of(args),
        **corpora.reading_of(args),
    )
    return options.put_out(args, found)
