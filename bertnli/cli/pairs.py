"""The commands that read sentence pairs: to describe, score, classify or explain them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bertnli._util.options import argument, flag, group, option, section
from bertnli.api.describe import lengths, summarize
from bertnli.api.evaluate import evaluate
from bertnli.api.loading import describe_unknown, loaded, note
from bertnli.api.predict import STANDARD_INPUT, predict
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments
from bertnli.data.sources import default_split, source_and_split
from bertnli.errors import ConfigError
from bertnli.evaluation import check_report_folder
from bertnli.evaluation.baseline import NO_SCIKIT_LEARN

#: The fields of a prediction that `predict --json` prints.
JSON_FIELDS = ("premise", "hypothesis", "label", "probabilities", "unknown_share", "is_cut")


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """Describe a source of pairs before training on it.

    Prints rows and those left out, classes, lengths, repeated pairs and those with several labels,
    premises that splits or sources share, and the first pairs. No framework is needed.

    examples:
      bertnli data sample
      bertnli data train.csv dev.csv --checkpoint bert.mini --plot data.png
    """

    source: options.Sources = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option("train, dev and test, each as a set")
    checkpoint: options.Model | None = option("count this model's tokens (default: words)")
    labels: options.Names | None = option("names of your own classes, such as yes,no")
    max_len: int | None = option("number of tokens that the model reads")
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
    """Show how long a corpus's pairs are, and the cost of padding, to choose --max-len.

    Tokens are counted with the vocabulary of a checkpoint. No framework is needed.

    examples:
      bertnli lengths SNLI:train --checkpoint bert.small.torch.zip --plot lengths.png
    """

    source: options.Source = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option()
    checkpoint: options.AnyPath = options.checkpoint_option()
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = option("number of pairs in a training step", default=512)
    output: options.Output = group(options.Output)
    reading: options.Reading = options.reading_group(options.Reading)

    def run(self) -> None:
        options.check_plot(self.output.plot)
        self.output.write(lengths(**arguments(self, "plot", "json")))


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score checkpoints on labelled pairs.

    Prints accuracy, loss, each class's precision, recall and F1, and the confusion matrix; a table
    for several checkpoints or sets. Classes are matched by name, in any order; of a set with
    entailment and non-entailment, neutral and contradiction are the latter.

    A report has intervals, calibration, a baseline that reads the hypothesis alone, accuracy where
    that baseline is wrong, by class, length and word overlap, and the most confident errors.

    examples:
      bertnli evaluate runs/seed0 SNLI --split test --also runs/seed1 runs/seed2 --report report
      bertnli evaluate runs/small multinli_1.0_dev_matched.txt SICK.txt:test \\
          --baseline-on SNLI:train --calibrate-on held.tsv --report report
      bertnli evaluate runs/mine dev.csv --premise-column text --hypothesis-column claim \\
          --label-column y --label-map 0=entailment,1=contradiction,2=neutral --json
    """

    model: options.Model = argument(options.MODEL_HELP)
    source: options.Sources = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option()
    also: options.Models | None = option("further checkpoints, such as those of other seeds")
    json: bool = flag("print JSON")
    plot: options.File | None = option("draw the confusion matrices: .png, .pdf or .svg")
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = options.batch_size_option(default=256)
    _report: None = section("report")
    report: options.Folder | None = option("folder for report.html and report.json")
    baseline_on: options.Source | None = option(
        "pairs to train the baseline on (default: the train split of the first source)"
    )
    calibrate_on: options.Source | None = option("pairs, not trained on, to fit a temperature")
    reading: options.Reading = options.reading_group(options.Reading)
    where: options.Where = options.where_group()

    def run(self) -> None:
        if self.report is None and (self.baseline_on or self.calibrate_on):
            raise ConfigError("--baseline-on and --calibrate-on need a report; give --report DIR")
        if self.report is not None:
            if self.json:
                raise ConfigError("--json prints scores; with --report, report.json has them")
            if self.plot is not None:
                raise ConfigError("--plot is not for --report; a report has the matrices")
            check_report_folder(self.report)
        options.check_plot(self.plot)
        options.note_test_split(self.source, self.split)
        scores = evaluate(
            [self.model, *(self.also or [])],
            self.source,
            baseline_on=self._baseline(),
            **arguments(self, "model", "source", "also", "report", "baseline_on", "plot", "json"),
        )
        if not scores.is_first:
            return
        for warning in scores.warnings():
            print(f"warning: {warning}", file=sys.stderr)
        if self.report is not None:
            for path in scores.write(self.report):
                print(f"wrote {path}", file=sys.stderr)
            print(scores.summary())
        else:
            print(scores.to_json() if self.json else scores)
        if self.plot is not None:
            scores.plot().savefig(self.plot)

    def _baseline(self) -> str | None:
        """Choose the source that a report's baseline is trained on; None for no baseline."""
        if self.report is None or self.baseline_on is not None:
            return self.baseline_on
        source = source_and_split(self.source[0])[0]
        if not default_split(source, "train"):
            return None
        if find_spec("sklearn") is None:
            note(f"no baseline beside the scores: {NO_SCIKIT_LEARN}")
            return None
        return f"{source}:train"


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Print the class of sentence pairs: one line for each, in their order, with all probabilities.

    Pairs come from --pair, from a source, or else from standard input, where they are answered as
    they come: JSON objects, or a premise, a tab and a hypothesis in each line.

    examples:
      bertnli predict bert.mini --pair "A man is asleep." "A man is awake."
      bertnli predict runs/sample pairs.tsv --json > predictions.jsonl
      printf 'A man is asleep.\\tA man is awake.\\n' | bertnli predict runs/sample
    """

    model: options.Model = argument(options.MODEL_HELP)
    source: options.Source | None = argument(
        f"{options.SOURCE_HELP} (default: standard input)", nargs="?", default=None
    )
    pair: list[str] | None = option(
        "two sentences instead of a source", nargs=2, metavar=("PREMISE", "HYPOTHESIS")
    )
    split: options.Name | None = options.split_option("none")
    json: bool = flag(f"print JSON objects with {', '.join(JSON_FIELDS)}")
    reading: options.PairReading = options.reading_group(options.PairReading)
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = options.batch_size_option(default=64)
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
            if self.json:
                values = {name: getattr(prediction, name) for name in JSON_FIELDS}
                line = json.dumps({**values, "unknown_share": round(values["unknown_share"], 4)})
            else:
                numbers = (f"{label}={p:.4f}" for label, p in prediction.probabilities.items())
                line = "\t".join([prediction.label, *numbers])
            print(line, flush=True)
        if prediction is None:
            print(f"{self.source or 'standard input'} has no pairs", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Explain(Command):
    """Show how the answer to a pair came about: each token's share, and attention.

    A token's share is its part in the difference between the probability of a class and that for
    the same pair with all words masked, by integrated gradients. --plot draws the shares beside the
    attention, as a heat map.

    examples:
      bertnli explain "A man is asleep." "A man is awake." --label neutral --plot pair.png
      bertnli explain "A man is asleep." "A man is awake." --json > pair.json
    """

    premise: str = argument("text as people write it", metavar="PREMISE")
    hypothesis: str = argument("text as people write it", metavar="HYPOTHESIS")
    checkpoint: options.AnyPath = options.checkpoint_option()
    label: options.Name | None = option("the class to explain (default: the most probable)")
    steps: options.Count = option("points of the integral; more reduce its error", default=50)
    plot: options.File | None = option("draw attention and shares: .png, .pdf or .svg")
    block: int | None = option("index of the block that --plot draws (default: the mean of all)")
    head: int | None = option("index of the head that --plot draws (default: the mean of all)")
    json: bool = flag("print one JSON object, with the attention of all heads")
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
        how = {"label": self.label, "steps": self.steps, **arguments(self.cut)}
        explanation = net.explain(self.premise, self.hypothesis, **how)
        if self.plot is not None:
            explanation.plot(self.block, self.head).savefig(self.plot)
            print(f"wrote {self.plot}", file=sys.stderr)
        print(json.dumps(explanation.to_dict()) if self.json else explanation)
        if explanation.is_cut:
            max_len = self.cut.max_len or net.encoding.max_len
            print(f"the pair had more than {max_len} tokens and was cut", file=sys.stderr)
        warning = describe_unknown(np.array([explanation.unknown_share]))
        if warning:
            print(warning, file=sys.stderr)
