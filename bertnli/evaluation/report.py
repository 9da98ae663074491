"""Scores of classifiers on labelled sets, as one dictionary that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.files import has_mark, is_there
from bertnli._util.outputs import check_output_folder
from bertnli.bert.labels import label_merging
from bertnli.data.corpus import Corpus
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation import scores
from bertnli.evaluation.annotators import Annotators
from bertnli.evaluation.baseline import HypothesisBaseline
from bertnli.evaluation.page import FORMAT, to_html
from bertnli.evaluation.predictions import (
    Encoding,
    Model,
    logits_of,
    net_of,
    order_note,
    set_log_probabilities,
)
from bertnli.nets.metrics import Metrics
from bertnli.version import __version__

VERSION = 1
CONFIDENCE = 0.95
MAX_ERRORS = 20
NO_BASELINE = (
    "no training pairs were given, so there is no hypothesis-only baseline to compare with; name "
    "those that the classifier was trained on with baseline_on= (--baseline-on TRAIN)"
)
NO_TEMPERATURE = (
    "no held-out pairs were given, and a temperature must not be fitted on pairs that are scored; "
    "name labelled pairs that the classifier was not trained on with calibrate_on= "
    "(--calibrate-on HELD_OUT)"
)


def report(
    models: Iterable[tuple[str, Model]],
    sets: Sequence[Corpus],
    *,
    baseline_on: Corpus | None = None,
    calibrate_on: Corpus | None = None,
    encoding: Encoding | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score classifiers on sets of labelled pairs, with a hypothesis-only baseline.

    Args:
        models: names and classifiers (or their trainers), such as checkpoints of several seeds.
            They are taken one at a time, so a generator may load them as they are needed.
        sets: what to score on; see `bertnli.read`.
        baseline_on: the training set, on which the baseline is trained.
        calibrate_on: pairs for fitting the temperature, with the classifiers' own classes, neither
            trained nor scored on.
        encoding: how pairs become ids; None for the defaults.
        progress: print a line on standard error every 30 seconds.

    Returns:
        What `write_report` writes; ``docs/evaluation.md`` describes it.

    Raises:
        DataError: no pairs or labels, classes that do not fit, or a scored set that is also the one
            to calibrate on or to train the baseline on.
        ConfigError: no models or no sets.
    """
    _check_disjoint(sets, baseline_on, calibrate_on)
    encoding = encoding or Encoding()
    baseline = None if baseline_on is None else HypothesisBaseline.train(baseline_on)
    scored_sets = [_ScoredSet(corpus, baseline) for corpus in sets]
    checkpoints = []
    for name, model in models:
        net, temperature = net_of(model), None
        labels = tuple(net.labels)
        if calibrate_on is not None:
            dataset = encoding.dataset(net, calibrate_on)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            temperature = _fit_temperature(logits, labels, calibrate_on)
        cut = net.encoding.overridden(encoding.max_len, encoding.truncation, net.config.max_len)
        checkpoints.append(
            {"name": name, "labels": list(labels), **cut.to_dict(), "temperature": temperature}
        )
        for scored in scored_sets:
            dataset = encoding.dataset(net, scored.corpus)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            scored.add(name, logits, labels, temperature, int(dataset.is_cut.sum()))
    if not checkpoints or not scored_sets:
        raise ConfigError("a report needs a checkpoint and a set to score it on")
    return {
        "format": FORMAT,
        "version": VERSION,
        "bertnli": __version__,
        "confidence": CONFIDENCE,
        "checkpoints": checkpoints,
        "baseline": {"missing": NO_BASELINE} if baseline is None else baseline.to_dict(),
        "calibration": (
            {"missing": NO_TEMPERATURE}
            if calibrate_on is None
            else {
                "missing": None,
                "source": calibrate_on.source,
                "pairs": len(calibrate_on.labels),
            }
        ),
        "sets": [
            scored.to_dict() | {"notes": _notes(scored.corpus, baseline_on, calibrate_on)}
            for scored in scored_sets
        ],
    }


def check_report_folder(folder: str | Path) -> None:
    """Raise ConfigError if writing a report would fail, or replace a file that is not a report.

    The folder need not exist, and is not made.
    """
    check_output_folder(folder, "report")
    for path in _paths(Path(folder)):
        if is_there(path) and not has_mark(path, FORMAT):
            raise ConfigError(
                f"{path} is no report of bertnli, and left as it is; choose another folder, or "
                "move it elsewhere"
            )


def write_report(report: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Write a report as ``report.json`` and ``report.html``; return their paths.

    Args:
        report: what `report` returned.
        folder: made if it does not exist; a report in it is replaced.

    Raises:
        ConfigError: the folder cannot be written, or has files of these names that are no report.
    """
    folder = Path(folder)
    check_report_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    json_path, html_path = _paths(folder)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    json_path.write_text(text + "\n", encoding="utf-8")
    html_path.write_text(to_html(report), encoding="utf-8")
    return json_path, html_path


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "report.json", folder / "report.html"


class _ScoredSet:
    """A set and its scores, to which checkpoints are added one by one."""

    def __init__(self, corpus: Corpus, baseline: HypothesisBaseline | None) -> None:
        self.corpus, self.names = corpus, corpus.label_names
        self.labels = np.asarray(corpus.labels, dtype=np.int64)
        if not len(self.labels) or self.labels.min() < 0:
            left_out = "".join(f"; {n} left out ({why})" for why, n in corpus.skipped.items())
            raise DataError(f"{corpus.source}: labelled pairs are needed{left_out}")
        self.annotators = Annotators.of(corpus)
        self.checkpoints: list[dict[str, Any]] = []
        self.predictions: list[NDArray[np.int64]] = []
        self.baseline: dict[str, Any] | None = None
        self.baseline_predictions: NDArray[np.int64] | None = None
        self.baseline_missing: str | None = NO_BASELINE
        if baseline is not None:
            try:
                places = label_merging(baseline.labels, self.names)
            except DataError as error:
                self.baseline_missing = f"the baseline's classes are others: {error}"
            else:
                log_p = baseline.log_probabilities(corpus)
                log_p = scores.merged(log_p, places, len(self.names))
                self.baseline, self.baseline_missing = self._scores(log_p), None
                self.baseline_predictions = log_p.argmax(axis=1)

    def add(
        self,
        name: str,
        logits: NDArray,
        labels: tuple[str, ...],
        temperature: float | None,
        num_cut: int,
    ) -> None:
        """Add a checkpoint's logits (N, labels); ``num_cut`` of its pairs were cut to length."""
        log_p = set_log_probabilities(logits, labels, self.names)
        checkpoint: dict[str, Any] = {"name": name, "cut": num_cut, **self._scores(log_p)}
        checkpoint |= {"scaled": None, "order": None}
        if len(labels) == len(self.names):  # merged classes do not show their order
            metrics = Metrics.from_logits(self.names, log_p, self.labels)
            checkpoint["order"] = order_note(name, metrics)
        else:
            guesses = label_merging(labels, self.names)[logits.argmax(axis=1)]
            checkpoint["argmax_then_merged"] = _score(guesses == self.labels)
        if temperature is not None:
            scaled = self._scores(set_log_probabilities(logits, labels, self.names, temperature))
            checkpoint["scaled"] = {k: scaled[k] for k in ("loss", "ece", "bins", "annotators")}
        checkpoint["errors"] = list(self._errors(log_p))
        self.checkpoints.append(checkpoint)
        self.predictions.append(log_p.argmax(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the set's part of the report."""
        return {
            "name": self.corpus.name or "unnamed",
            "source": self.corpus.source,
            "layout": self.corpus.layout,
            "labels": list(self.names),
            "pairs": len(self.labels),
            "skipped": self.corpus.skipped,
            "majority": float(np.bincount(self.labels).max() / len(self.labels)),
            "baseline": self.baseline,
            "baseline_missing": self.baseline_missing,
            "annotators": None if self.annotators is None else self.annotators.facts(),
            "summary": self._summary(),
            "checkpoints": self.checkpoints,
            "breakdowns": [
                {"by": by, "rows": [self._row(name, rows) for name, rows in parts]}
                for by, parts in self._breakdowns()
            ],
        }

    def _scores(self, log_p: NDArray[np.float64]) -> dict[str, Any]:
        metrics = Metrics.from_logits(self.names, log_p, self.labels).to_dict()
        bins = scores.calibration_bins(np.exp(log_p), self.labels)
        return {
            "accuracy": _score(log_p.argmax(axis=1) == self.labels),
            "loss": metrics["loss"],
            "ece": scores.calibration_error(bins),
            "bins": bins,
            "per_class": metrics["per_class"],
            "confusion": metrics["confusion"],
            "annotators": None if self.annotators is None else self.annotators.scores(log_p),
        }

    def _errors(self, log_p: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
        """Yield the most confident errors."""
        predicted, confidence = log_p.argmax(axis=1), np.exp(log_p.max(axis=1))
        wrong = np.flatnonzero(predicted != self.labels)
        by_baseline = self.baseline_predictions
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_ERRORS]:
            yield {
                "where": self.corpus.where(i) if self.corpus.source else None,
                "premise": self.corpus.premises[i],
                "hypothesis": self.corpus.hypotheses[i],
                "label": self.names[self.labels[i]],
                "predicted": self.names[predicted[i]],
                "probability": float(confidence[i]),
                "baseline": None if by_baseline is None else self.names[by_baseline[i]],
            }

    def _summary(self) -> dict[str, Any]:
        """Return mean and spread over the checkpoints."""
        columns = {
            "accuracy": [one["accuracy"]["accuracy"] for one in self.checkpoints],
            "loss": [one["loss"] for one in self.checkpoints],
            "ece": [one["ece"] for one in self.checkpoints],
        }
        if all(one["scaled"] for one in self.checkpoints):
            columns["ece_scaled"] = [one["scaled"]["ece"] for one in self.checkpoints]
        if self.annotators is not None:
            for key in ("agreement", "jensen_shannon"):
                columns[key] = [one["annotators"][key] for one in self.checkpoints]
        return {key: scores.mean_and_spread(values) for key, values in columns.items()}

    def _breakdowns(self) -> Iterator[tuple[str, scores.Bins]]:
        if self.baseline_predictions is not None:
            right = self.baseline_predictions == self.labels
            yield "baseline", [("baseline wrong (hard)", ~right), ("baseline right", right)]
        yield "class", [(name, self.labels == i) for i, name in enumerate(self.names)]
        yield "length", scores.length_bins(scores.pair_lengths(self.corpus))
        yield "overlap", scores.overlap_bins(scores.word_overlap(self.corpus))
        if self.annotators is not None:
            yield "agreement", self.annotators.bins()
        for column, values in self.corpus.groups.items():
            yield column, [(name, np.array(values) == name) for name in sorted(set(values))]

    def _row(self, name: str, rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the scores on some rows of the set, a bool mask (N,)."""
        row_scores = [_score((guess == self.labels)[rows]) for guess in self.predictions]
        accuracies = [one["accuracy"] for one in row_scores]
        by_baseline = self.baseline_predictions
        return {
            "name": name,
            "pairs": int(rows.sum()),
            "scores": row_scores,
            "summary": scores.mean_and_spread(accuracies) if rows.any() else None,
            "baseline": (
                None if by_baseline is None else _score((by_baseline == self.labels)[rows])
            ),
        }


def _score(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return pairs, correct, accuracy and its interval; accuracy is None without pairs."""
    n, correct = len(right), int(right.sum())
    accuracy, low, high = None, None, None
    if n:
        accuracy, (low, high) = correct / n, scores.wilson_interval(correct, n, CONFIDENCE)
    return {"pairs": n, "correct": correct, "accuracy": accuracy, "low": low, "high": high}


def _fit_temperature(logits: NDArray, labels: tuple[str, ...], held_out: Corpus) -> float:
    places = label_merging(labels, held_out.label_names)
    if len(held_out.label_names) != len(labels):
        raise DataError(
            f"{held_out.source}: its classes are {list(held_out.label_names)}, and the "
            f"classifier's {list(labels)}; a temperature is fitted on pairs of the classifier's "
            "own classes"
        )
    true = np.asarray(held_out.labels, dtype=np.int64)
    if not len(true) or true.min() < 0:
        raise DataError(f"{held_out.source}: labelled pairs are needed to calibrate on")
    return scores.fit_temperature(logits, np.argsort(places)[true])


def _check_disjoint(
    sets: Sequence[Corpus], baseline_on: Corpus | None, calibrate_on: Corpus | None
) -> None:
    """Raise DataError if a scored set has the same pairs as one that something is fitted on."""
    sources = {corpus.digest(): corpus.source for corpus in sets}
    for corpus, use in (
        (baseline_on, "train the baseline on (--baseline-on)"),
        (calibrate_on, "calibrate on (--calibrate-on)"),
    ):
        if corpus is not None and (same := sources.get(corpus.digest())) is not None:
            raise DataError(
                f"{corpus.source}: to {use} has the same pairs as {same}, which is scored; "
                "give pairs that are not"
            )


def _notes(scored: Corpus, baseline_on: Corpus | None, calibrate_on: Corpus | None) -> list[str]:
    notes, pairs = list(scored.notes), scored.pairs()
    for use, other in (
        ("that the baseline was trained on", baseline_on),
        ("that the temperature was fitted on", calibrate_on),
    ):
        shared = len(pairs & other.pairs()) if other is not None else 0
        if shared:
            notes.append(f"{shared} of the {len(pairs)} different pairs are also among those {use}")
    return notes
