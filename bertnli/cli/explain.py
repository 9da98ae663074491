"""The command that explains an answer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertnli._util.options import argument, at_least, flag, option
from bertnli.api.loading import loaded
from bertnli.api.sets import describe_unknown
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments, group
from bertnli.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Explain(Command):
    """Show what the answer to a pair came from: each token's share, and attention.

    A token's share is what it adds to the probability of a class, from a pair on whose words are
    all masked, by integrated gradients. --plot draws the shares beside the attention, as a heat
    map.

    examples:
      bertnli explain "A man is asleep." "A man is awake."
      bertnli explain "A man is asleep." "A man is awake." --label neutral --plot pair.png
      bertnli explain --checkpoint runs/small --block 0 --head 2 --plot head.png \\
          "A man is asleep." "A man is awake."
      bertnli explain "A man is asleep." "A man is awake." --json > pair.json
    """

    premise: str = argument("text as people write it", metavar="PREMISE")
    hypothesis: str = argument("likewise", metavar="HYPOTHESIS")
    checkpoint: str = options.checkpoint_option()
    label: str | None = option("the class to explain (default: the most probable)", metavar="NAME")
    steps: int = option(
        "points of the integral; more of them make the shares add up better",
        default=50,
        type=at_least(1),
    )
    plot: Path | None = options.plot_option(
        "draw attention and shares into this file: .png, .pdf or .svg"
    )
    block: int | None = option("of --plot: the block, from 0 (default: the mean of all)")
    head: int | None = option("of --plot: the head, from 0 (default: the mean of all)")
    json: bool = flag("print one JSON object, attention of all heads included")
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    where: options.Where = options.where_group()

    def run(self) -> None:
        if self.plot is None and (self.block is not None or self.head is not None):
            raise ConfigError("--block and --head choose what --plot draws; give --plot FILE")
        options.check_plot(self.plot)
        if self.where.precision == "bf16":
            raise ConfigError("explain computes in fp32; leave --precision out")
        net = loaded(self.checkpoint, **arguments(self.where), **arguments(self.unnamed))
        explanation = net.explain(
            self.premise,
            self.hypothesis,
            label=self.label,
            steps=self.steps,
            **arguments(self.cut),
        )
        if self.plot is not None:
            explanation.plot(self.block, self.head).savefig(self.plot)
            print(f"wrote {self.plot}", file=sys.stderr)
        print(json.dumps(explanation.to_dict()) if self.json else explanation)
        if explanation.is_cut:
            how = net.encoding.overridden(self.cut.max_len, self.cut.truncation, net.config.max_len)
            print(f"the pair had more than {how.max_len} tokens and was cut", file=sys.stderr)
        unread = describe_unknown(np.array([explanation.unknown_share]))
        if unread:
            print(unread, file=sys.stderr)
