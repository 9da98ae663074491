"""The command that answers pairs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from bertnli._util.options import argument, flag, option
from bertnli.api.predict import STANDARD_INPUT, predict
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments, group
from bertnli.errors import ConfigError
from bertnli.nets.classifier import Prediction


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Print the class of sentence pairs: one line for each, in their order, with all probabilities.

    Pairs come from the command line, from a source such as a file, or else from standard input: one
    pair per line, with a tab between premise and hypothesis, or JSON objects. Those of standard
    input are answered as they come. A table has these two columns only, or a header that names
    them.

    examples:
      bertnli predict bert.mini --pair "A man is asleep." "A man is awake."
      bertnli predict runs/sample pairs.csv
      bertnli predict runs/sample pairs.tsv --json > predictions.jsonl
      printf 'A man is asleep.\\tA man is awake.\\n' | bertnli predict runs/sample
    """

    model: str = options.model_argument()
    source: str | None = argument(
        f"{options.SOURCE_HELP} (default: standard input)",
        metavar=options.SOURCE,
        nargs="?",
        default=None,
    )
    pair: list[str] | None = option(
        "two sentences, as people write them, instead of a source",
        nargs=2,
        metavar=("PREMISE", "HYPOTHESIS"),
    )
    split: str | None = options.split_option("none")
    json: bool = flag(
        "print JSON objects with premise, hypothesis, label, probabilities, unknown_share (of "
        "the tokens, those that the model does not know) and is_cut (longer than --max-len)",
    )
    reading: options.PairReading = options.reading_group(options.PairReading)
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: int = options.batch_option(default=64)
    where: options.Where = options.where_group()

    def run(self) -> None:
        if self.pair is not None and (self.source or self.split or arguments(self.reading)):
            raise ConfigError("give either --pair or a source and how it is read, not both")
        source = self.source or STANDARD_INPUT
        if self.pair is None and source == STANDARD_INPUT and sys.stdin.isatty():
            print("one pair per line: premise, tab, hypothesis; Ctrl-D ends", file=sys.stderr)
        pairs = source if self.pair is None else [tuple(self.pair)]
        prediction = None
        for prediction in predict(source=pairs, **arguments(self, "source", "pair", "json")):
            print(_as_json(prediction) if self.json else _as_text(prediction), flush=True)
        if prediction is None:
            print(f"{self.source or 'standard input'} has no pairs", file=sys.stderr)


def _as_text(prediction: Prediction) -> str:
    numbers = (f"{label}={p:.4f}" for label, p in prediction.probabilities.items())
    return "\t".join([prediction.label, *numbers])


def _as_json(prediction: Prediction) -> str:
    names = ("premise", "hypothesis", "label", "probabilities", "unknown_share", "is_cut")
    values = {name: getattr(prediction, name) for name in names}
    return json.dumps({**values, "unknown_share": round(prediction.unknown_share, 4)})
