"""The commands that look at corpora and at training curves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bertnli._util.options import argument, group, option
from bertnli.api.lengths import lengths
from bertnli.api.sets import note
from bertnli.api.summarize import summarize
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments
from bertnli.errors import ConfigError
from bertnli.plots import FORMATS, check_figure_path, plot_curves
from bertnli.training.history import read_history


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """Show what is in a source of pairs, before anything is trained on it.

    Rows and those left out, classes, lengths, repeated pairs and those with several labels,
    premises that splits or sources share, and the first pairs. With a checkpoint, its tokens are
    counted, and those that it does not know. No framework is needed.

    examples:
      bertnli data sample
      bertnli data mine.csv
      bertnli data train.csv dev.csv --checkpoint bert.mini --plot data.png
      bertnli data SNLI:dev --json
    """

    source: options.Sources = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option("train, dev and test, each as a set")
    checkpoint: options.Model | None = option(
        "whose tokens to count, and whose classes to take (default: words are counted)"
    )
    labels: options.Names | None = option("classes of your own, such as yes,no")
    max_len: int | None = option("tokens that the model reads")
    output: options.Output = group(options.Output)
    reading: options.Reading = options.reading_group(options.Reading)

    def run(self) -> None:
        options.check_plot(self.output.plot)
        summary = summarize(*self.source, **arguments(self, "source", "plot", "json"))
        for text in (text for each in summary.sets for text in each.notes):
            note(text)
        self.output.write(summary)


@dataclass(frozen=True, kw_only=True)
class Lengths(Command):
    """Show how long a corpus's pairs are, and what their padding would cost if it were computed.

    Helps to choose --max-len: pairs that are longer are cut. Tokens are counted with the vocabulary
    of a checkpoint, in word pieces if it has these; no framework is needed.

    examples:
      bertnli lengths sample
      bertnli lengths SNLI:train --checkpoint bert.small.torch.zip --plot lengths.png
      bertnli lengths mine.csv --premise-column text --hypothesis-column claim \\
          --label-column y --label-map 0=entailment,1=contradiction,2=neutral --json
    """

    source: options.Source = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option()
    checkpoint: str = option(
        "whose vocabulary and classes to take", default=options.BUNDLED_MODEL, metavar="PATH"
    )
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = option("pairs computed at a time", default=512)
    output: options.Output = group(options.Output)
    reading: options.Reading = options.reading_group(options.Reading)

    def run(self) -> None:
        options.check_plot(self.output.plot)
        self.output.write(lengths(**arguments(self, "plot", "json")))


@dataclass(frozen=True, kw_only=True)
class Curve(Command):
    """Draw the training curves of runs, of either backend, into one picture.

    Of one run it is the book's figure: train loss, train accuracy and dev accuracy. Of several,
    which may be under way, loss and accuracy stand side by side, a colour for each run.

    examples:
      bertnli curve runs/first
      bertnli curve runs/demo/torch runs/demo/mxnet -o curves.png
      bertnli curve runs/seed0 runs/seed1 runs/seed2 -o seeds.svg --names "seed 0,seed 1,seed 2"
    """

    runs: list[str] = argument("folders of runs", metavar="RUN", nargs="+")
    output: options.File = option(
        f"{', '.join(FORMATS)} by its name", "-o", "--output", default=Path("curve.png")
    )
    names: options.Names | None = option("of the runs (default: their paths)")

    def run(self) -> None:
        check_figure_path(self.output, "--output")
        names = self.names or self.runs
        if len(names) != len(self.runs):
            raise ConfigError(f"--names has {len(names)} names for {len(self.runs)} runs")
        if len(set(names)) < len(names):
            raise ConfigError("a run is given twice, or two have one name; name each once")
        histories = {name: read_history(path) for name, path in zip(names, self.runs, strict=True)}
        for name, history in histories.items():
            if not history.epochs:
                raise ConfigError(f"{name} has no finished epoch yet; there is nothing to draw")
        if len(histories) == 1 and self.names is None:
            histories = {"": next(iter(histories.values()))}
        plot_curves(histories).savefig(self.output)
        print(f"wrote {self.output}")
