"""The commands that score, answer and explain."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bertnli._util.options import argument, flag, group, option, section
from bertnli.api.evaluate import evaluate
from bertnli.api.loading import loaded
from bertnli.api.predict import STANDARD_INPUT, predict
from bertnli.api.sets import describe_unknown, note, note_test_split
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments
from bertnli.data.sources import default_split, source_and_split
from bertnli.errors import ConfigError
from bertnli.evaluation import check_report_folder
from bertnli.evaluation.baseline import NO_SCIKIT_LEARN
from bertnli.nets.classifier import Prediction


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score checkpoints on labelled pairs.

    Prints accuracy, loss, each class's precision, recall and F1, and the confusion matrix; a table
    for several checkpoints or sets. Classes are matched by name, whatever their order; a warning
    says so where another order looks like the right one. Sets with two classes, entailment and
    non-entailment, are scored as such.

    With --report DIR it writes report.html, a page to read, and report.json, with the same numbers:
    intervals, calibration, a baseline that sees the hypothesis alone beside every score, accuracy
    on what that baseline gets wrong, by class, length and word overlap, and the most confident
    errors.

    examples:
      bertnli evaluate runs/sample sample
      bertnli evaluate runs/sample sample --report report
      bertnli evaluate runs/seed0 SNLI --split test --also runs/seed1 runs/seed2 --report report
      bertnli evaluate runs/small multinli_1.0_dev_matched.txt SICK.txt:test \\
          heuristics_evaluation_set.txt --baseline-on SNLI:train --calibrate-on held.tsv \\
          --report report
      bertnli evaluate runs/small SNLI:test --json
      bertnli evaluate runs/mine dev.csv --premise-column text --hypothesis-column claim \\
          --label-column y --label-map 0=entailment,1=contradiction,2=neutral
    """

    model: options.Model = argument(options.MODEL_HELP)
    source: options.Sources = argument(options.SOURCE_HELP)
    split: options.Name | None = options.split_option()
    also: options.Models | None = option(
        "further checkpoints, such as those of other seeds: mean and sample standard "
        "deviation are given"
    )
    json: bool = flag("print JSON")
    plot: options.File | None = option("draw the confusion matrices: .png, .pdf or .svg")
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = option("pairs computed at a time", default=256)
    _report: None = section("report")
    report: options.Folder | None = option("write report.html and report.json there")
    baseline_on: options.Source | None = option(
        "train the hypothesis-only baseline on these pairs, those of the training (default: "
        "the train split of the first source, if it has one)"
    )
    calibrate_on: options.Source | None = option(
        "fit a temperature on these pairs, on which no checkpoint was trained"
    )
    reading: options.Reading = options.reading_group(options.Reading)
    where: options.Where = options.where_group()

    def run(self) -> None:
        if self.report is None and (self.baseline_on or self.calibrate_on):
            raise ConfigError(
                "--baseline-on and --calibrate-on are for a report; give --report DIR"
            )
        if self.report is not None and self.json:
            raise ConfigError("--json prints scores; with --report, report.json has them and more")
        if self.report is not None and self.plot is not None:
            raise ConfigError("--plot draws what is printed; a report has the matrices in its page")
        options.check_plot(self.plot)
        if self.report is not None:
            check_report_folder(self.report)
        note_test_split(self.source, self.split)
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
        """Return the source that a report's baseline is trained on."""
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

    model: options.Model = argument(options.MODEL_HELP)
    source: options.Source | None = argument(
        f"{options.SOURCE_HELP} (default: standard input)", nargs="?", default=None
    )
    pair: list[str] | None = option(
        "two sentences, as people write them, instead of a source",
        nargs=2,
        metavar=("PREMISE", "HYPOTHESIS"),
    )
    split: options.Name | None = options.split_option("none")
    json: bool = flag(
        "print JSON objects with premise, hypothesis, label, probabilities, unknown_share (of "
        "the tokens, those that the model does not know) and is_cut (longer than --max-len)"
    )
    reading: options.PairReading = options.reading_group(options.PairReading)
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: options.Count = option("pairs computed at a time", default=64)
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
    label: options.Name | None = option("the class to explain (default: the most probable)")
    steps: options.Count = option(
        "points of the integral; more of them make the shares add up better", default=50
    )
    plot: options.File | None = option(
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
            self.premise, self.hypothesis, label=self.label, steps=self.steps, **arguments(self.cut)
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
