"""The command that scores checkpoints."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bertnli._util.options import flag, option
from bertnli.api.evaluate import evaluate
from bertnli.api.sets import note, note_test_split
from bertnli.cli import options
from bertnli.cli.parser import Command, arguments, group, section
from bertnli.data.sources import default_split, source_and_split
from bertnli.errors import ConfigError
from bertnli.evaluation import check_report_folder
from bertnli.evaluation.baseline import NO_SCIKIT_LEARN


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

    model: str = options.model_argument()
    source: list[str] = options.source_argument(nargs="+")
    split: str | None = options.split_option()
    also: list[str] | None = option(
        "further checkpoints, such as those of other seeds: mean and sample standard "
        "deviation are given",
        nargs="+",
        metavar="MODEL",
    )
    json: bool = flag("print JSON")
    plot: Path | None = options.plot_option("draw the confusion matrices: .png, .pdf or .svg")
    unnamed: options.Unnamed = group(options.Unnamed)
    cut: options.Cut = group(options.Cut)
    batch_size: int = options.batch_option(default=256)
    _report: None = section("report")
    report: str | None = option("write report.html and report.json there", metavar="DIR")
    baseline_on: str | None = option(
        "train the hypothesis-only baseline on these pairs, those of the training (default: "
        "the train split of the first source, if it has one)",
        metavar=options.SOURCE,
    )
    calibrate_on: str | None = option(
        "fit a temperature on these pairs, on which no checkpoint was trained",
        metavar=options.SOURCE,
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
        """Return what the baseline of a report is trained on."""
        if self.report is None or self.baseline_on is not None:
            return self.baseline_on
        source = source_and_split(self.source[0])[0]
        if not default_split(source, "train"):
            return None
        if find_spec("sklearn") is None:
            note(f"no baseline beside the scores: {NO_SCIKIT_LEARN}")
            return None
        return f"{source}:train"
