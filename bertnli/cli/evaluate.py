"""Score checkpoints on labelled pairs.

Prints accuracy, loss, each class's precision, recall and F1, and the confusion matrix; a table for
several checkpoints or sets. Classes are matched by name, whatever their order; a warning says so
where another order looks like the right one. Sets with two classes, entailment and non-entailment,
are scored as such.

With --report DIR it writes report.html, a page to read, and report.json, with the same numbers:
intervals, calibration, a baseline that sees the hypothesis alone beside every score, accuracy on
what that baseline gets wrong, by class, length and word overlap, and the most confident errors.

examples:
  bertnli evaluate runs/sample sample
  bertnli evaluate runs/sample sample --report report
  bertnli evaluate runs/seed0 SNLI --split test --also runs/seed1 runs/seed2 --report report
  bertnli evaluate runs/small multinli_1.0_dev_matched.txt SICK.txt:test \\
      heuristics_evaluation_set.txt --baseline-on SNLI:train --calibrate-on held.tsv --report report
  bertnli evaluate runs/small SNLI:test --json
  bertnli evaluate runs/mine dev.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from bertnli.api.evaluate import evaluate
from bertnli.api.sets import note
from bertnli.cli import corpora, options
from bertnli.data.sources import default_split, source_and_split
from bertnli.errors import ConfigError
from bertnli.evaluation import check_report_folder
from bertnli.evaluation.baseline import NO_SCIKIT_LEARN
from bertnli.plots import check_figure_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options.add_model_argument(parser)
    parser.add_argument("source", nargs="+", metavar=corpora.SOURCE, help=corpora.SOURCE_HELP)
    corpora.add_split_option(parser)
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="further checkpoints, such as those of other seeds: mean and sample standard "
        "deviation are given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the confusion matrices: .png, .pdf or .svg"
    )
    group = parser.add_argument_group("report")
    group.add_argument("--report", metavar="DIR", help="write report.html and report.json there")
    group.add_argument(
        "--baseline-on",
        metavar=corpora.SOURCE,
        help="train the hypothesis-only baseline on these pairs, those of the training (default: "
        "the train split of the first source, if it has one)",
    )
    group.add_argument(
        "--calibrate-on",
        metavar=corpora.SOURCE,
        help="fit a temperature on these pairs, on which no checkpoint was trained",
    )
    corpora.add_reading_options(parser)
    options.add_checkpoint_options(parser)
    options.add_encoding_options(parser)
    options.add_batch_option(parser, 256)
    options.add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the scores or write the report."""
    if args.report is None and (args.baseline_on or args.calibrate_on):
        raise ConfigError("--baseline-on and --calibrate-on are for a report; give --report DIR")
    if args.report is not None and args.json:
        raise ConfigError("--json prints scores; with --report, report.json has them and more")
    if args.report is not None and args.plot is not None:
        raise ConfigError("--plot draws what is printed; a report has the matrices in its page")
    if args.plot is not None:
        check_figure_path(args.plot, "--plot")
    baseline_on = args.baseline_on
    if args.report is not None:
        check_report_folder(args.report)
        whole = source_and_split(args.source[0])[0]
        if baseline_on is None and default_split(whole, "train"):
            if find_spec("sklearn") is None:
                note(f"no baseline beside the scores: {NO_SCIKIT_LEARN}")
            else:
                baseline_on = f"{whole}:train"
    corpora.say_test(args.source, args.split)
    found = evaluate(
        [args.model, *args.also],
        args.source,
        args.split,
        baseline_on=baseline_on,
        calibrate_on=args.calibrate_on,
        batch_size=args.batch_size,
        **options.loading_of(args),
        **options.cut_of(args),
        **corpora.reading_of(args),
    )
    if not found.is_first:
        return 0
    for warning in found.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    if args.report is not None:
        for path in found.write(args.report):
            print(f"wrote {path}", file=sys.stderr)
        print(found.summary())
    else:
        print(found.to_json() if args.json else found)
    if args.plot is not None:
        found.plot().savefig(args.plot)
    return 0
