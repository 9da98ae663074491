"""`bertnli.evaluate`: score classifiers on labelled pairs."""

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
from bertnli.api.loading import backend_of, describe, describe_encoding, print_precision
from bertnli.backends.interface import Backend
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset
from bertnli.data.read import read, read_sets
from bertnli.evaluation import Encoding, report, wilson_interval, write_report
from bertnli.evaluation.page import percent
from bertnli.evaluation.predictions import net_of
from bertnli.nets.classifier import Classifier
from bertnli.nets.metrics import Metrics
from bertnli.plots import plot_confusion
from bertnli.training.trainer import Trainer

#: The models that can be evaluated: the path of a checkpoint, a classifier, or its trainer.
Model = str | Path | Classifier | Trainer


@dataclass(frozen=True)
class Report:
    """The scores of classifiers on sets of pairs; ``str`` gives a table, or one score in full.

    Args:
        values: the content of ``report.json``, which ``docs/evaluation.md`` describes.
        is_first: whether this is the first of several processes; the others write nothing.

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
        """A list of (checkpoint's name, set's name, `Metrics`) for all checkpoints and sets."""
        rows = []
        for i, checkpoint in enumerate(self.values["checkpoints"]):
            for data in self.values["sets"]:
                score, labels = data["checkpoints"][i], tuple(data["labels"])
                metrics = Metrics(labels, np.array(score["confusion"]), score["loss"])
                rows.append((checkpoint["name"], data["name"], metrics))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return ``values``."""
        return self.values

    def to_json(self) -> str:
        """Return `Metrics.to_dict` as JSON; for several scores, a list of these."""
        rows = [{"checkpoint": c, "set": s, **m.to_dict()} for c, s, m in self.scores]
        return json.dumps(self.scores[0][2].to_dict() if len(rows) == 1 else rows, indent=2)

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``report.json`` and ``report.html`` into a folder; return both paths."""
        return write_report(self.values, folder)

    def plot(self) -> Any:
        """Draw the confusion matrices; return a matplotlib figure."""
        return plot_confusion({f"{c}: {s}": metrics for c, s, metrics in self.scores})

    def warnings(self) -> Iterator[str]:
        """Yield a warning for each score whose classes may be in another order."""
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
        """Return a text table: for each set the checkpoints' mean scores, and the baseline's."""
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

    Classes are matched by name, in any order. On a set of entailment and non-entailment, the
    probabilities that a three-way classifier gives neutral and contradiction are added.

    Args:
        models: a checkpoint of any format, a classifier or its trainer; or a list of several.
        sources: a source of pairs, see `bertnli.read`, or a list of several.
        split: the split to read from sources with several; None for dev.
        baseline_on: a source to train a baseline on that reads the hypothesis alone, such as the
            training set; None for no baseline.
        calibrate_on: a source to fit a temperature on, neither trained nor scored on.
        backend, devices, labels, num_heads: how checkpoints are loaded; see `bertnli.load`.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``.
        max_len, truncation: how pairs are cut to length; None for each classifier's own.
        batch_size: the number of pairs computed at a time.
        progress: whether to print the sets and the progress to standard error.
        reading: further arguments of `bertnli.read`; ``labels`` is the first classifier's.

    Raises:
        BERTNLIError: a source or a checkpoint cannot be read, or does not fit the others.

    Examples:
        >>> report = bertnli.evaluate("bert.mini", "sample", "test", progress=False)
        >>> report.scores[0][2].accuracy > 0.5
        True
    """
    given: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    encoding = (_PrintedEncoding if progress else Encoding)(max_len, truncation, batch_size)

    def named_models() -> Iterator[tuple[str, Classifier | Trainer]]:
        """Yield the name and model of each of ``given``; load a checkpoint when reached."""
        for i, model in enumerate(given, 1):
            if not isinstance(model, str | Path):
                yield (f"model {i}" if len(given) > 1 else "model"), model
                continue
            framework = backend_of(backend)
            net = framework.load(model, framework.as_devices(devices), labels, num_heads)
            # Refuses a max_len that is too large before any set is read.
            net.encoding.overridden(max_len, truncation, net.config.max_len)
            trainer = framework.Trainer(net, devices=devices, precision=precision)
            if progress:
                print_precision(trainer.net.precision, trainer.engine.precision_reason)
            yield str(model), trainer

    named = named_models()
    first_name, first = next(named)
    is_first = not isinstance(first, Trainer) or first.workers.is_first
    reading = {"labels": net_of(first).labels, **reading}

    def printed(corpus: Corpus, purpose: str = "") -> Corpus:
        if progress and is_first:
            print(f"{purpose}{describe(corpus)}", file=sys.stderr)
        return corpus

    several = sources if isinstance(sources, list) and not _is_pairs(sources) else [sources]
    sets = [printed(data) for data in read_sets(several, split, default="dev", **reading)]
    held_out = baseline = None
    if baseline_on is not None:
        baseline = printed(read_sets([baseline_on], default="train", **reading)[0], "baseline: ")
    if calibrate_on is not None:
        held_out = printed(read(calibrate_on, **reading), "temperature: ")
    values = report(
        chain([(first_name, first)], named),
        sets,
        baseline_on=baseline,
        calibrate_on=held_out,
        encoding=encoding,
        progress=progress and is_first,
    )
    return Report(values, is_first)


class _PrintedEncoding(Encoding):
    """An `Encoding` that also prints how many pairs were cut or have many unknown tokens."""

    def dataset(self, net: Classifier, corpus: Corpus) -> PairDataset:
        dataset = super().dataset(net, corpus)
        print(describe_encoding(dataset), file=sys.stderr)
        return dataset


def _is_pairs(sources: list) -> bool:
    """Return True if a list holds pairs or dictionaries, and False if it holds sources."""
    return all(
        isinstance(item, tuple | dict)
        or (isinstance(item, list) and len(item) in (2, 3) and isinstance(item[0], str))
        for item in sources
    )
