"""Show how long a corpus's pairs are, and what their padding would cost if it were computed.

Helps to choose --max-len: pairs that are longer are cut. Tokens are counted with the vocabulary of
a checkpoint, in word pieces if it has these; no framework is needed.

examples:
  bertnli lengths --data sample
  bertnli lengths --data SNLI --split train --checkpoint bert.small.torch.zip --plot lengths.png
  bertnli lengths --file mine.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral --json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bertnli.checkpoints.contents import locate, read_contents
from bertnli.cli import corpora, options
from bertnli.data.padding import padding_cost
from bertnli.errors import ConfigError
from bertnli.labels import LABELS
from bertnli.plots import check_figure_path, plot_lengths

_SHARES = (50, 90, 99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    corpora.add_labelled_source(parser, required=True)
    parser.add_argument(
        "--checkpoint",
        default=options.BUNDLED_MODEL,
        metavar="PATH",
        help=f"whose vocabulary and classes to take (default: {options.BUNDLED_MODEL})",
    )
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 512)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png, .pdf or .svg")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Count, print, and draw if asked to."""
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")
    contents = read_contents(locate(args.checkpoint))
    vocab = contents.vocab()
    if vocab is None:
        raise ConfigError(f"{args.checkpoint} has no vocabulary; name a checkpoint that has one")
    encoding = options.encoding_of(args, contents.config, contents.encoding)
    dataset = corpora.encode_labelled(args, contents.labels or LABELS, encoding, vocab)
    if not len(dataset):
        raise ConfigError(f"{dataset.source} has no pairs to count")
    cost = padding_cost(dataset, args.batch_size)
    lengths = dataset.lengths
    found = {
        "pairs": len(dataset),
        "mean": float(lengths.mean()),
        "percentiles": {str(p): int(np.percentile(lengths, p)) for p in _SHARES},
        "longest": int(lengths.max()),
        "cut": int(dataset.is_cut.sum()),
        **cost.to_dict(),
    }
    print(json.dumps(found, indent=2) if args.json else _as_text(found, corpora.describe(dataset)))
    if args.plot is not None:
        plot_lengths(lengths, cost).savefig(args.plot)
    return 0


def _as_text(found: dict[str, Any], source: str) -> str:
    shares = ", ".join(f"{p}% have up to {n}" for p, n in found["percentiles"].items())
    rows = (
        ("of the pairs", "tokens"),
        ("computed here", "computed"),
        ("each batch padded to its longest pair", "to_longest"),
        (f"all padded to {found['max_len']} tokens", "to_max_len"),
    )
    width = max(len(what) for what, _ in rows)
    tokens = found["tokens"]
    return "\n".join(
        [
            source,
            f"tokens of a pair: {found['mean']:.1f} on average; {shares}; {found['longest']} the "
            f"longest",
            f"pairs of more than {found['max_len']} tokens, which are cut: {found['cut']:,}, "
            f"{found['cut'] / found['pairs']:.2%}",
            f"tokens of an epoch, in batches of {found['batch_size']}:",
            *(
                f"  {what:<{width}}  {found[key]:>14,}  {found[key] / tokens:.2f}"
                for what, key in rows
            ),
        ]
    )
