"""The command that compares the backends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bertnli._util.options import argument, at_least, option
from bertnli.backends import available_backends, get_backend
from bertnli.cli.options import Unnamed, batch_option, check_plot, json_option, plot_option
from bertnli.cli.parser import Command, group
from bertnli.errors import ConfigError
from bertnli.formats.load import load_checkpoint
from bertnli.parity.report import parity_report


@dataclass(frozen=True, kw_only=True)
class Parity(Command):
    """Check that both backends compute the same from a checkpoint of any format.

    Layer by layer, the activations and gradients of a batch of the sample corpus, and the losses of
    some steps of training, each compared between the backends and with the same model in float64
    NumPy, the referee, which shows which of them is off. Exits with 1 if something is beyond the
    tolerances.

    examples:
      bertnli parity runs/mine
      bertnli parity bert.small.zip --num-heads 4 --steps 20 --plot parity.png
      bertnli parity some-bert --labels contradiction,entailment,neutral --json
    """

    path: str = argument("a checkpoint of any format", metavar="PATH")
    unnamed: Unnamed = group(Unnamed)
    steps: int = option("of training", default=5, type=at_least(0))
    batch_size: int = batch_option(default=8)
    lr: float = option("learning rate of the steps", default=1e-4)
    plot: Path | None = plot_option("draw the losses into a PNG file")
    json: bool = json_option()

    def run(self) -> int:
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise ConfigError(f"--plot writes PNG files, and {self.plot} is not called one")
        check_plot(self.plot)
        checkpoint = load_checkpoint(self.path, self.unnamed.labels, self.unnamed.num_heads)
        backends = [get_backend(name) for name in available_backends()]
        report = parity_report(
            checkpoint, backends, steps=self.steps, batch_size=self.batch_size, lr=self.lr
        )
        if self.json:
            # JSON has no NaN, which a broken model may well give.
            values = {**report.to_dict(), "given": list(checkpoint.given)}
            plain = json.loads(json.dumps(values), parse_constant=lambda _: None)
            print(json.dumps(plain, indent=2))
        else:
            print(f"{report}{checkpoint.reservation}", flush=True)
        if self.plot is not None:
            report.plot(self.plot)
        return 0 if report.agrees else 1
