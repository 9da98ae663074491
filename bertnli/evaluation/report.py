"""Scores of classifiers on labelled sets, as one dictionary that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli.bert.labels import label_merging
from bertnli.data.corpus import Corpus
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation import scores
from bertnli.evaluation.annotators import Annotators
from bertnli.evaluation.baseline import HypothesisBaseline
from bertnli.evaluation.page import FORMAT
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
#: Purposes of the sets to fit on, in the words of an error and of a note.
PURPOSES = (
    ("train the baseline on (--baseline-on)", "that the baseline was trained on"),
    ("calibrate on (--calibrate-on)", "that the temperature was fitted on"),
)
#: A set to fit on, with its purposes.
FittedOn = tuple[Corpus, str, str]


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
        models: names and classifiers (or their trainers), such as checkpoints of several seeds. An
            iterator is advanced only after the model before was scored, so that it can load one
            model at a time.
        sets: the labelled sets to score on; see `bertnli.read`.
        baseline_on: the training set, on which the baseline is trained.
        calibrate_on: pairs for fitting the temperature, with the classifiers' own classes. The
            classifiers were not trained on them, and they are not among ``sets``.
        encoding: how pairs become token ids; None for the defaults.
        progress: print a line on standard error every 30 seconds.

    Returns:
        The report as a dictionary, described in ``docs/evaluation.md``, for `write_report`.

    Raises:
        DataError: no pairs or labels, classes that do not fit, or a scored set that is also the one
            to calibrate on or to train the baseline on.
        ConfigError: no models or no sets.
    """
    others = zip((baseline_on, calibrate_on), PURPOSES, strict=True)
    fitted_on = [(corpus, *purposes) for corpus, purposes in others if corpus is not None]
    _check_disjoint(sets, fitted_on)
    encoding = encoding or Encoding()
    baseline = None if baseline_on is None else HypothesisBaseline.train(baseline_on)
    scored_sets = [_ScoredSet(corpus, baseline) for corpus in sets]
    checkpoints = []
    for name, model in models:
        net, temperature = net_of(model), None
        if calibrate_on is not None:
            dataset = encoding.dataset(net, calibrate_on)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            temperature = _fit_temperature(logits, net.labels, calibrate_on)
        cut = net.encoding.overridden(encoding.max_len, encoding.truncation, net.config.max_len)
        checkpoint = {"name": name, "labels": list(net.labels), **cut.to_dict()}
        checkpoints.append(checkpoint | {"temperature": temperature})
        for scored in scored_sets:
            dataset = encoding.dataset(net, scored.corpus)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            scored.add(checkpoints[-1], logits, int(dataset.is_cut.sum()))
    if not checkpoints or not scored_sets:
        raise ConfigError("a report needs a checkpoint and a set to score it on")
    calibration: dict[str, Any] = {"missing": NO_TEMPERATURE}
    if calibrate_on is not None:
        pairs = len(calibrate_on.labels)
        calibration = {"missing": None, "source": calibrate_on.source, "pairs": pairs}
    return {
        "format": FORMAT,
        "version": VERSION,
        "bertnli": __version__,
        "confidence": CONFIDENCE,
        "checkpoints": checkpoints,
        "baseline": {"missing": NO_BASELINE} if baseline is None else baseline.to_dict(),
        "calibration": calibration,
        "sets": [scored.to_dict(fitted_on) for scored in scored_sets],
    }


class _ScoredSet:
    """A labelled set and its scores; `add` adds those of one checkpoint."""

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
                log_p = scores.merged(baseline.log_probabilities(corpus), places, len(self.names))
                self.baseline, self.baseline_missing = self._scores(log_p), None
                self.baseline_predictions = log_p.argmax(axis=1)

    def add(self, checkpoint: dict[str, Any], logits: NDArray, num_cut: int) -> None:
        """Score a checkpoint's logits, and keep the result.

        Args:
            checkpoint: the checkpoint's ``name``, ``labels`` and ``temperature`` (perhaps None).
            logits: (N, labels) of the set's pairs.
            num_cut: number of pairs that were truncated.
        """
        name, labels, temperature = (checkpoint[k] for k in ("name", "labels", "temperature"))
        log_p = set_log_probabilities(logits, labels, self.names)
        result: dict[str, Any] = {"name": name, "cut": num_cut, **self._scores(log_p)}
        result |= {"scaled": None, "order": None}
        if len(labels) == len(self.names):  # merged classes do not show their order
            metrics = Metrics.from_logits(self.names, log_p, self.labels)
            result["order"] = order_note(name, metrics)
        else:
            guesses = label_merging(labels, self.names)[logits.argmax(axis=1)]
            result["argmax_then_merged"] = _score(guesses == self.labels)
        if temperature is not None:
            scaled = self._scores(set_log_probabilities(logits, labels, self.names, temperature))
            result["scaled"] = {k: scaled[k] for k in ("loss", "ece", "bins", "annotators")}
        result["errors"] = list(self._errors(log_p))
        self.checkpoints.append(result)
        self.predictions.append(log_p.argmax(axis=1))

    def to_dict(self, fitted_on: Sequence[FittedOn]) -> dict[str, Any]:
        """Return the set's entry in the report, with notes of pairs shared with ``fitted_on``."""
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
                {"by": by, "rows": [self._row(name, mask) for name, mask in bins]}
                for by, bins in self._breakdowns()
            ],
            "notes": _notes(self.corpus, fitted_on),
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
        """Yield the `MAX_ERRORS` errors of highest confidence."""
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
        """Compute mean and spread of each score over the checkpoints."""
        columns = {
            "accuracy": [checkpoint["accuracy"]["accuracy"] for checkpoint in self.checkpoints],
            "loss": [checkpoint["loss"] for checkpoint in self.checkpoints],
            "ece": [checkpoint["ece"] for checkpoint in self.checkpoints],
        }
        if all(checkpoint["scaled"] for checkpoint in self.checkpoints):
            columns["ece_scaled"] = [each["scaled"]["ece"] for each in self.checkpoints]
        if self.annotators is not None:
            for key in ("agreement", "jensen_shannon"):
                columns[key] = [each["annotators"][key] for each in self.checkpoints]
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

    def _row(self, name: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
        """Score the pairs that a mask (N,) selects: one row of a breakdown."""
        row_scores = [_score((guess == self.labels)[mask]) for guess in self.predictions]
        accuracies, guess = [s["accuracy"] for s in row_scores], self.baseline_predictions
        return {
            "name": name,
            "pairs": int(mask.sum()),
            "scores": row_scores,
            "summary": scores.mean_and_spread(accuracies) if mask.any() else None,
            "baseline": None if guess is None else _score((guess == self.labels)[mask]),
        }


def _score(is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """Compute accuracy and its interval of predictions (n,), None without predictions."""
    n, correct = len(is_right), int(is_right.sum())
    low, high = scores.wilson_interval(correct, n, CONFIDENCE) if n else (None, None)
    accuracy = correct / n if n else None
    return {"pairs": n, "correct": correct, "accuracy": accuracy, "low": low, "high": high}


def _fit_temperature(logits: NDArray, labels: Sequence[str], held_out: Corpus) -> float:
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


def _check_disjoint(sets: Sequence[Corpus], fitted_on: Sequence[FittedOn]) -> None:
    """Raise DataError if a scored set has the same pairs as one that something is fitted on."""
    sources = {corpus.digest(): corpus.source for corpus in sets}
    for corpus, purpose, _ in fitted_on:
        if (same := sources.get(corpus.digest())) is not None:
            raise DataError(
                f"{corpus.source}: to {purpose} has the same pairs as {same}, which is scored; "
                "give pairs that are not"
            )


def _notes(scored: Corpus, fitted_on: Sequence[FittedOn]) -> list[str]:
    """Return a set's notes, and one for each overlap with a set that something is fitted on."""
    notes, pairs = list(scored.notes), scored.pairs()
    for corpus, _, purpose in fitted_on:
        if shared := len(pairs & corpus.pairs()):
            note = f"{shared} of the {len(pairs)} different pairs are also among those {purpose}"
            notes.append(note)
    return notes
