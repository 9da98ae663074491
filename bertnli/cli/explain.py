"""Show what the answer to a pair came from: each token's share, and attention.

A token's share is what it adds to the probability of a class, from a pair on whose words are all
masked, by integrated gradients. --plot draws the shares beside the attention, as a heat map.

examples:
  bertnli explain "A man is asleep." "A man is awake."
  bertnli explain "A man is asleep." "A man is awake." --label neutral --plot pair.png
  bertnli explain --checkpoint runs/small --block 0 --head 2 --plot head.png \\
      "A man is asleep." "A man is awake."
  bertnli explain "A man is asleep." "A man is awake." --json > pair.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bertnli.api.loading import loaded
from bertnli.api.sets import describe_unknown
from bertnli.cli import options
from bertnli.errors import ConfigError
from bertnli.plots import check_figure_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("premise", metavar="PREMISE", help="text as people write it")
    parser.add_argument("hypothesis", metavar="HYPOTHESIS", help="likewise")
    options.add_checkpoint_option(parser)
    parser.add_argument(
        "--label", metavar="NAME", help="the class to explain (default: the most probable)"
    )
    parser.add_argument(
        "--steps",
        type=options.positive,
        default=50,
        metavar="N",
        help="points of the integral; more of them make the shares add up better (default: 50)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw attention and shares into this file: .png, .pdf or .svg",
    )
    for name in ("block", "head"):
        parser.add_argument(
            f"--{name}",
            type=int,
            metavar="N",
            help=f"of --plot: the {name}, from 0 (default: the mean of all)",
        )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, attention of all heads included"
    )
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Explain, and print or draw it."""
    if args.plot is None and (args.block is not None or args.head is not None):
        raise ConfigError("--block and --head choose what --plot draws; give --plot FILE")
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")
    if args.precision == "bf16":
        raise ConfigError("explain computes in fp32; leave --precision out")
    net = loaded(args.checkpoint, **options.loading_of(args))
    found = net.explain(
        args.premise,
        args.hypothesis,
        label=args.label,
        steps=args.steps,
        max_len=args.max_len,
        truncation=args.truncation,
    )
    if args.plot is not None:
        found.plot(args.block, args.head).savefig(args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
    print(json.dumps(found.to_dict()) if args.json else found)
    if found.is_cut:
        how = net.encoding.overridden(args.max_len, args.truncation, net.config.max_len)
        print(f"the pair had more than {how.max_len} tokens and was cut", file=sys.stderr)
    unread = describe_unknown(np.array([found.unknown_share]))
    if unread:
        print(unread, file=sys.stderr)
    return 0
