"""Scores of classifiers on labelled pairs, in one call."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bertnli._util.progress import aligned
from bertnli.api.loading import backend_of, print_precision
from bertnli.api.sets import describe, describe_encoding
from bertnli.backends.interface import Backend
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read, read_sets
from bertnli.evaluation import Encoding, report, wilson_interval, write_report
from bertnli.evaluation.page import percent
from bertnli.nets.classifier import Classifier
from bertnli.nets.metrics import Metrics
from bertnli.plots import plot_confusion
from bertnli.training.trainer import Trainer

#: What can be evaluated: a checkpoint, a classifier, or its trainer.
Model = str | Path | Classifier | Trainer


@dataclass(frozen=True)
class Report:
    """The scores of classifiers on sets. As text it is the table, or one score in full.

    Args:
        values: all of it, as JSON can hold it; ``docs/evaluation.md`` describes it.
        is_first: whether this is the first of the processes that computed it.

    Examples:
        >>> report = bertnli.evaluate("bert.mini", "sample", "dev", progress=False)
        >>> [(checkpoint, name, metrics)] = report.scores
        >>> checkpoint, metrics.num_pairs
        ('bert.mini', 90)
    """

    values: dict[str, Any]
    is_first: bool = True

    @property
    def scores(self) -> list[tuple[str, str, Metrics]]:
        """Checkpoint, set and score, of each checkpoint on each set."""
        rows = []
        for i, checkpoint in enumerate(self.values["checkpoints"]):
            for data in self.values["sets"]:
                score, labels = data["checkpoints"][i], tuple(data["labels"])
                metrics = Metrics(labels, np.array(score["confusion"]), score["loss"])
                rows.append((checkpoint["name"], data["name"], metrics))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return self.values

    def to_json(self) -> str:
        """Return the scores alone, as `Metrics.to_dict` has them; of several a list."""
        rows = [{"checkpoint": c, "set": s, **m.to_dict()} for c, s, m in self.scores]
        return json.dumps(self.scores[0][2].to_dict() if len(rows) == 1 else rows, indent=2)

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``report.json`` and the page ``report.html``; see `write_report`."""
        return write_report(self.values, folder)

    def plot(self) -> Any:
        """Return a figure of the confusion matrices."""
        return plot_confusion({f"{c}: {s}": metrics for c, s, metrics in self.scores})

    def warnings(self) -> Iterator[str]:
        """Yield a warning for each score whose classes seem to be in another order."""
        for data in self.values["sets"]:
            yield from filter(None, (score["order"] for score in data["checkpoints"]))

    def __str__(self) -> str:
        scores = self.scores
        if len(scores) == 1:
            return str(scores[0][2])
        cells = [["checkpoint", "set", "pairs", "accuracy", "95% interval", "loss"]]
        for name, set_name, metrics in scores:
            low, high = wilson_interval(int(metrics.confusion.trace()), metrics.num_pairs)
            numbers = (f"{metrics.accuracy:.4f}", f"{low:.4f}-{high:.4f}", f"{metrics.loss:.4f}")
            cells.append([name, set_name, str(metrics.num_pairs), *numbers])
        lines = aligned(cells)
        if len(self.values["checkpoints"]) > 1:
            cells = [["set", "accuracy: mean", "sd", "loss: mean", "sd"]]
            for data in self.values["sets"]:
                columns = (data["summary"][what] for what in ("accuracy", "loss"))
                means = (f"{c[key]:.4f}" for c in columns for key in ("mean", "sd"))
                cells.append([data["name"], *means])
            lines += ["", *aligned(cells)]
        return "\n".join(lines)

    def summary(self) -> str:
        """Return a table of the sets: means over the checkpoints, beside the baseline's score."""
        cells = [["set", "pairs", "accuracy", "sd", "hypothesis alone", "hard subset", "ECE"]]
        for data in self.values["sets"]:
            summary, baseline, hard = data["summary"], "-", "-"
            if data["baseline"]:
                baseline = percent(data["baseline"]["accuracy"]["accuracy"])
                hard_summary = data["breakdowns"][0]["rows"][0]["summary"]
                hard = percent(hard_summary and hard_summary["mean"])
            accuracy, sd = (percent(summary["accuracy"][key]) for key in ("mean", "sd"))
            ece = percent(summary["ece"]["mean"])
            cells.append([data["name"], str(data["pairs"]), accuracy, sd, baseline, hard, ece])
        return "\n".join(aligned(cells))


def evaluate(
    models: Model | Sequence[Model],
    sources: Any,
    split: str | None = None,
    *,
    baseline_on: Any = None,
    calibrate_on: Any = None,
    backend: str | Backend | None = None,
    devices: Any = None,
    labels: Sequence[str] | None = None,
    num_heads: int | None = None,
    precision: str = "fp32",
    max_len: int | None = None,
    truncation: str | None = None,
    batch_size: int = 256,
    progress: bool = True,
    **reading: Any,
) -> Report:
    """Score classifiers on sets of labelled pairs.

    Classes are matched by name, whatever their order; of a set with two classes, entailment and
    non-entailment, a three-way classifier's neutral and contradiction are added up.

    Args:
        models: a checkpoint of any format, a classifier or its trainer; or several, such as those
            of several seeds.
        sources: a source of pairs, see `bertnli.read`, or a list of several, each a set.
        split: of a source with several; None for dev.
        baseline_on: the source that a baseline is trained on that sees the hypothesis alone: the
            training set. None for no baseline.
        calibrate_on: a source that a temperature is fitted on, neither trained nor scored on.
        backend, devices, labels, num_heads, precision: of a checkpoint; see `bertnli.load`.
        max_len, truncation: how pairs are cut; None for each classifier's own.
        batch_size: pairs computed at a time.
        progress: print to standard error what is read, and how far the work is.
        reading: as for `bertnli.read`; its ``labels`` are the first classifier's.

    Returns:
        The scores.

    Raises:
        BERTNLIError: of a source, as `bertnli.read`; of a checkpoint, as `bertnli.load`; of scores,
            as `bertnli.evaluation.report`.

    Examples:
        >>> report = bertnli.evaluate("bert.mini", "sample", "test", progress=False)
        >>> report.scores[0][2].accuracy > 0.5
        True
    """
    given: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    encoding = (_PrintedEncoding if progress else Encoding)(max_len, truncation, batch_size)
    options = {"labels": labels, "num_heads": num_heads}
    named = _models(given, backend, devices, precision, options, encoding, progress)
    first = next(named)
    is_first = not isinstance(first[1], Trainer) or first[1].workers.is_first
    net = first[1].net if isinstance(first[1], Trainer) else first[1]
    reading = {"labels": net.labels, **reading}
    progress = progress and is_first

    def printed(corpus: Corpus, what: str = "") -> Corpus:
        if progress:
            print(f"{what}{describe(corpus)}", file=sys.stderr)
        return corpus

    several = sources if isinstance(sources, list) and not _is_pairs(sources) else [sources]
    sets = [printed(data) for data in read_sets(several, split, default="dev", **reading)]
    held_out = baseline = None
    if baseline_on is not None:
        baseline = printed(read_sets([baseline_on], default="train", **reading)[0], "baseline: ")
    if calibrate_on is not None:
        held_out = printed(read(calibrate_on, **reading), "temperature: ")
    values = report(
        chain([first], named),
        sets,
        baseline_on=baseline,
        calibrate_on=held_out,
        encoding=encoding,
        progress=progress,
    )
    return Report(values, is_first)


class _PrintedEncoding(Encoding):
    """Prints how many pairs were cut, or have words that the model does not know."""

    def dataset(self, net: Classifier, corpus: Corpus) -> PairDataset:
        dataset = super().dataset(net, corpus)
        print(describe_encoding(dataset), file=sys.stderr)
        return dataset


def _is_pairs(sources: list) -> bool:
    """Return whether a list is a set itself: of pairs, or of objects with their fields."""
    return all(
        isinstance(item, tuple | dict)
        or (isinstance(item, list) and len(item) in (2, 3) and isinstance(item[0], str))
        for item in sources
    )


def _models(
    models: Sequence[Model],
    backend: str | Backend | None,
    devices: Any,
    precision: str,
    options: dict[str, Any],
    encoding: Encoding,
    progress: bool,
) -> Iterator[tuple[str, Classifier | Trainer]]:
    """Yield name and classifier or trainer of each, loaded when its turn comes."""
    for i, model in enumerate(models, 1):
        if not isinstance(model, str | Path):
            yield (f"model {i}" if len(models) > 1 else "model"), model
            continue
        framework = backend_of(backend)
        net = framework.load(model, framework.as_devices(devices), **options)
        # Too long a max_len is refused before anything is read.
        net.encoding.overridden(encoding.max_len, encoding.truncation, net.config.max_len)
        trainer = framework.Trainer(net, devices=devices, precision=precision)
        if progress:
            print_precision(trainer.net.precision, trainer.engine.precision_reason)
        yield str(model), trainer
