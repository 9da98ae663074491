"""Score checkpoints on labelled pairs.

Prints accuracy, loss, each class's precision, recall and F1, and the confusion matrix; a table for
several checkpoints or files. Classes are matched by name, whatever their order; a warning says so
where another order looks like the right one. Sets with two classes, entailment and non-entailment,
are scored as such.

With --report DIR it writes report.html, a page to read, and report.json, with the same numbers:
intervals, calibration, a baseline that sees the hypothesis alone beside every score, accuracy on
what that baseline gets wrong, by class, length and word overlap, and the most confident errors.

examples:
  bertnli evaluate runs/sample --data sample
  bertnli evaluate runs/sample --data sample --report report
  bertnli evaluate runs/seed0 runs/seed1 runs/seed2 --data SNLI --split test --report report
  bertnli evaluate runs/small --baseline-on SNLI:train --calibrate-on held.tsv --report report \\
      --file multinli_1.0_dev_matched.txt SICK.txt heuristics_evaluation_set.txt
  bertnli evaluate runs/small --data SNLI --split test --json
  bertnli evaluate runs/mine --file dev.csv --premise-column text --hypothesis-column claim \\
      --label-column y --label-map 0=entailment,1=contradiction,2=neutral
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bertnli.cli import corpora, options
from bertnli.data.dataset import PairDataset
from bertnli.data.layouts import LabelledSet
from bertnli.errors import ConfigError, without_secrets
from bertnli.evaluation import (
    Encoding,
    check_report_folder,
    logits_of,
    report,
    wilson_interval,
    write_report,
)
from bertnli.evaluation.page import percent
from bertnli.evaluation.predictions import metrics_of, net_of, order_note
from bertnli.evaluation.scores import mean_and_spread
from bertnli.plots import check_figure_path, plot_confusion
from bertnli.training.metrics import Metrics
from bertnli.training.trainer import BaseTrainer

#: A checkpoint's name, and the trainer that computes with it.
Model = tuple[str, BaseTrainer]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="+",
        help="folders of runs or checkpoints; of several, such as those of several seeds, mean and "
        "sample standard deviation are given",
    )
    corpora.add_labelled_source(parser, required=True, several=True)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the confusion matrices: .png, .pdf or .svg"
    )
    group = parser.add_argument_group("report")
    group.add_argument("--report", metavar="DIR", help="write report.html and report.json there")
    group.add_argument(
        "--baseline-on",
        metavar="TRAIN",
        help="train the hypothesis-only baseline on these pairs: a file, a split of --data, or "
        "CORPUS:SPLIT such as SNLI:train (default: the train split of --data)",
    )
    group.add_argument(
        "--calibrate-on",
        metavar="HELD_OUT",
        help="fit a temperature on these pairs, on which no checkpoint was trained: named likewise",
    )
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
    if args.report is not None:
        check_report_folder(args.report)
    models = _models(args)
    return _print_scores(args, models) if args.report is None else _write_report(args, models)


def _models(args: argparse.Namespace) -> Iterator[Model]:
    """Yield the checkpoints, each loaded when its turn comes."""
    backend = options.backend_of(args)
    devices = backend.as_devices(args.devices)
    for path in args.checkpoint:
        net = backend.load(path, devices, args.labels, args.num_heads)
        options.encoding_of(args, net.config, net.encoding)  # refuses too long a --max-len
        trainer = backend.Trainer(net, devices=devices, precision=args.precision)
        options.say_precision(trainer.net.precision, trainer.precision_reason)
        yield path, trainer


def _encoding(args: argparse.Namespace) -> Encoding:
    return Encoding(args.max_len, args.truncation, args.batch_size)


def _print_scores(args: argparse.Namespace, models: Iterator[Model]) -> int:
    rows: list[tuple[str, str, Metrics]] = []
    sets: list[LabelledSet] | None = None
    for name, trainer in models:
        net = trainer.net
        if sets is None and args.file is not None:
            sets = corpora.read_sets(args, net.labels)
        for set_name, dataset in _datasets(args, trainer, sets):
            if name == args.checkpoint[0]:
                print(corpora.describe(dataset), file=sys.stderr)
            print(corpora.describe_encoding(dataset), file=sys.stderr)
            logits = logits_of(trainer, dataset, args.batch_size, progress=True)
            metrics = metrics_of(logits, tuple(net.labels), dataset)
            if len(metrics.labels) == len(net.labels):  # of merged classes it says nothing
                _warn(order_note(name, metrics))
            rows.append((name, set_name, metrics))
    if args.json:
        found: Any = [{"checkpoint": c, "set": s, **m.to_dict()} for c, s, m in rows]
        print(json.dumps(rows[0][2].to_dict() if len(rows) == 1 else found, indent=2))
    else:
        print(rows[0][2] if len(rows) == 1 else _table(rows, len(args.checkpoint)))
    if args.plot is not None:
        titles = [f"{name}: {set_name}" for name, set_name, _ in rows]
        scores = {title: row[2] for title, row in zip(titles, rows, strict=True)}
        plot_confusion(scores).savefig(args.plot)
    return 0


def _datasets(
    args: argparse.Namespace, trainer: BaseTrainer, sets: Sequence[LabelledSet] | None
) -> Iterator[tuple[str, PairDataset]]:
    if sets is not None:
        for one in sets:
            yield one.name, _encoding(args).dataset(net_of(trainer), one.corpus)
        return
    split = corpora.split_of(args)
    net = net_of(trainer)
    encoding = options.encoding_of(args, net.config, net.encoding)
    dataset = corpora.encode_split(args, split, encoding, net.required_vocab())
    yield f"{without_secrets(args.data)}, {split}", dataset


def _warn(note: str | None) -> None:
    if note is not None:
        print(f"warning: {note}", file=sys.stderr)


def _table(rows: Sequence[tuple[str, str, Metrics]], num_checkpoints: int) -> str:
    cells = [["checkpoint", "set", "pairs", "accuracy", "95% interval", "loss"]]
    by_set: dict[str, list[Metrics]] = {}
    for name, set_name, metrics in rows:
        low, high = wilson_interval(int(metrics.confusion.trace()), metrics.num_pairs)
        within = f"{low:.4f}-{high:.4f}"
        accuracy, loss = f"{metrics.accuracy:.4f}", f"{metrics.loss:.4f}"
        cells.append([name, set_name, str(metrics.num_pairs), accuracy, within, loss])
        by_set.setdefault(set_name, []).append(metrics)
    lines = _aligned(cells)
    if num_checkpoints > 1:
        cells = [["set", "accuracy: mean", "sd", "loss: mean", "sd"]]
        for set_name, found in by_set.items():
            numbers = []
            for values in ([one.accuracy for one in found], [one.loss for one in found]):
                summary = mean_and_spread(values)
                numbers += [f"{summary['mean']:.4f}", f"{summary['sd']:.4f}"]
            cells.append([set_name, *numbers])
        lines += ["", *_aligned(cells)]
    return "\n".join(lines)


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _write_report(args: argparse.Namespace, models: Iterator[Model]) -> int:
    first = next(models)
    labels = first[1].net.labels
    sets = corpora.read_sets(args, labels)
    for one in sets:
        print(corpora.describe(one.corpus), file=sys.stderr)
    baseline_on = corpora.read_baseline(args, labels)
    if baseline_on is not None:
        print(f"baseline: {corpora.describe(baseline_on)}", file=sys.stderr)
    calibrate_on = None
    if args.calibrate_on is not None:
        calibrate_on = corpora.read_named(args, args.calibrate_on, labels)
        print(f"temperature: {corpora.describe(calibrate_on.corpus)}", file=sys.stderr)
    found = report(
        chain([first], models),
        sets,
        baseline_on=baseline_on,
        calibrate_on=calibrate_on,
        encoding=_encoding(args),
        progress=True,
    )
    if first[1].workers.is_first:
        for one in found["sets"]:
            for checkpoint in one["checkpoints"]:
                _warn(checkpoint["order"])
        for path in write_report(found, args.report):
            print(f"wrote {path}", file=sys.stderr)
        for line in _cut_rows(found):
            print(line, file=sys.stderr)
        print("\n".join(_aligned(list(_report_rows(found)))))
    return 0


def _cut_rows(found: dict[str, Any]) -> Iterator[str]:
    for one in found["sets"]:
        for facts, scored in zip(found["checkpoints"], one["checkpoints"], strict=True):
            yield (
                f"{facts['name']}: {scored['cut']} of {one['pairs']} pairs of {one['name']} have "
                f"more than {facts['max_len']} tokens and were cut ({facts['truncation']})"
            )


def _report_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    yield ["set", "pairs", "accuracy", "sd", "hypothesis alone", "hard subset", "ECE"]
    for one in found["sets"]:
        summary, baseline, hard = one["summary"], "-", "-"
        if one["baseline"]:
            baseline = percent(one["baseline"]["accuracy"]["accuracy"])
            hard_summary = one["breakdowns"][0]["rows"][0]["summary"]
            hard = percent(hard_summary and hard_summary["mean"])
        sd = percent(summary["accuracy"]["sd"])
        accuracy, ece = percent(summary["accuracy"]["mean"]), percent(summary["ece"]["mean"])
        yield [one["name"], str(one["pairs"]), accuracy, sd, baseline, hard, ece]
