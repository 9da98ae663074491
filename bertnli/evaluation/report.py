"""From logits to a report: a dictionary of scores that JSON can hold and `page` makes readable."""

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
    """Score classifiers on sets of labelled pairs, a hypothesis-only baseline beside them.

    Args:
        models: names and classifiers (or their trainers), such as the checkpoints of several seeds;
            one is needed at a time.
        sets: what to score on; see `bertnli.read`.
        baseline_on: the pairs that the baseline is trained on: the training set.
        calibrate_on: pairs for fitting the temperature: labelled as the classifiers do, neither
            trained nor scored on.
        encoding: how pairs become ids; None for the defaults.
        progress: print a line on standard error every 30 seconds.

    Returns:
        What `write_report` writes; ``docs/evaluation.md`` describes it.

    Raises:
        DataError: no pairs or labels, classes that do not fit, or a set to be scored that is also
            the one to calibrate or to train the baseline on.
        ConfigError: no models or no sets.
    """
    _check_apart(sets, baseline_on, calibrate_on)
    encoding = encoding or Encoding()
    baseline = None if baseline_on is None else HypothesisBaseline.train(baseline_on)
    scored = [_Scored(one, baseline) for one in sets]
    checkpoints = []
    for name, model in models:
        net, temperature = net_of(model), None
        labels = tuple(net.labels)
        if calibrate_on is not None:
            dataset = encoding.dataset(net, calibrate_on)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            temperature = _temperature(logits, labels, calibrate_on)
        how = net.encoding.overridden(encoding.max_len, encoding.truncation, net.config.max_len)
        facts = {"name": name, "labels": list(labels), **how.to_dict()}
        checkpoints.append(facts | {"temperature": temperature})
        for one in scored:
            dataset = encoding.dataset(net, one.corpus)
            logits = logits_of(model, dataset, encoding.batch_size, progress)
            one.add(name, logits, labels, temperature, int(dataset.is_cut.sum()))
    if not checkpoints or not scored:
        raise ConfigError("a report needs a checkpoint and a set to score it on")
    return {
        "format": FORMAT,
        "version": VERSION,
        "bertnli": __version__,
        "confidence": CONFIDENCE,
        "checkpoints": checkpoints,
        "baseline": _baseline_facts(baseline),
        "calibration": _calibration_facts(calibrate_on),
        "sets": [
            one.to_dict() | {"notes": _notes(one.corpus, baseline_on, calibrate_on)}
            for one in scored
        ],
    }


def check_report_folder(folder: str | Path) -> None:
    """Raise ConfigError if a report cannot be written into a folder, or would replace other files.

    Args:
        folder: which may not be there yet; it is not made.
    """
    check_output_folder(folder, "report")
    for path in _paths(Path(folder)):
        if is_there(path) and not has_mark(path, FORMAT):
            raise ConfigError(
                f"{path} is no report of bertnli, and left as it is; choose another folder, or "
                "move it elsewhere"
            )


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "report.json", folder / "report.html"


def write_report(found: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Write a report as ``report.json`` and ``report.html``; return where they are.

    Args:
        found: what `report` returned.
        folder: made where it is not there; a report in it is replaced.

    Raises:
        ConfigError: the folder cannot be written, or has files of these names that are no report.
    """
    folder = Path(folder)
    check_report_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = _paths(folder)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    paths[0].write_text(text + "\n", encoding="utf-8")
    paths[1].write_text(to_html(found), encoding="utf-8")
    return paths


def score(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return pairs, correct, accuracy and its interval; None of no pairs."""
    n, correct = len(right), int(right.sum())
    if not n:
        return {"pairs": 0, "correct": 0, "accuracy": None, "low": None, "high": None}
    low, high = scores.wilson_interval(correct, n, CONFIDENCE)
    return {"pairs": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high}


class _Scored:
    """A set, and what is found on it, checkpoint by checkpoint."""

    def __init__(self, corpus: Corpus, baseline: HypothesisBaseline | None) -> None:
        self.corpus, self.names = corpus, corpus.label_names
        self.labels = np.asarray(corpus.labels, dtype=np.int64)
        if not len(self.labels) or self.labels.min() < 0:
            left_out = "".join(f"; {n} left out ({why})" for why, n in corpus.skipped.items())
            raise DataError(f"{corpus.source}: labelled pairs are needed{left_out}")
        self.annotators = Annotators.of(corpus)
        self.checkpoints: list[dict[str, Any]] = []
        self.rights: list[NDArray[np.bool_]] = []
        self.baseline, self.baseline_missing = None, NO_BASELINE
        self.baseline_predicted: NDArray[np.int64] | None = None
        if baseline is not None:
            try:
                places = label_merging(baseline.labels, self.names)
            except DataError as error:
                self.baseline_missing = f"the baseline's classes are others: {error}"
            else:
                found = baseline.log_probabilities(self.corpus)
                log_p = scores.merged(found, places, len(self.names))
                self.baseline = self._scores(log_p)
                self.baseline_predicted = log_p.argmax(axis=1)

    def _scores(self, log_p: NDArray[np.float64]) -> dict[str, Any]:
        metrics = Metrics.from_logits(self.names, log_p, self.labels).to_dict()
        bins = scores.calibration_bins(np.exp(log_p), self.labels)
        return {
            "accuracy": score(log_p.argmax(axis=1) == self.labels),
            "loss": metrics["loss"],
            "ece": scores.calibration_error(bins),
            "bins": bins,
            "per_class": metrics["per_class"],
            "confusion": metrics["confusion"],
            "annotators": None if self.annotators is None else self.annotators.scores(log_p),
        }

    def add(
        self,
        name: str,
        logits: NDArray,
        labels: tuple[str, ...],
        temperature: float | None,
        cut: int,
    ) -> None:
        """Score a checkpoint's logits (N, labels), for which some pairs were cut."""
        log_p = set_log_probabilities(logits, labels, self.names)
        found = {"name": name, "cut": cut, **self._scores(log_p), "scaled": None, "order": None}
        if len(labels) == len(self.names):  # of merged classes it says nothing
            found["order"] = order_note(name, Metrics.from_logits(self.names, log_p, self.labels))
        if temperature is not None:
            scaled = self._scores(set_log_probabilities(logits, labels, self.names, temperature))
            found["scaled"] = {key: scaled[key] for key in ("loss", "ece", "bins", "annotators")}
        if len(labels) > len(self.names):
            guesses = label_merging(labels, self.names)[logits.argmax(axis=1)]
            found["argmax_then_merged"] = score(guesses == self.labels)
        found["errors"] = list(self._errors(log_p))
        self.checkpoints.append(found)
        self.rights.append(log_p.argmax(axis=1) == self.labels)

    def _errors(self, log_p: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
        predicted, confidence = log_p.argmax(axis=1), np.exp(log_p.max(axis=1))
        wrong = np.flatnonzero(predicted != self.labels)
        for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_ERRORS]:
            by = self.baseline_predicted
            yield {
                "where": self.corpus.where(i) if self.corpus.source else None,
                "premise": self.corpus.premises[i],
                "hypothesis": self.corpus.hypotheses[i],
                "label": self.names[self.labels[i]],
                "predicted": self.names[predicted[i]],
                "probability": float(confidence[i]),
                "baseline": None if by is None else self.names[by[i]],
            }

    def to_dict(self) -> dict[str, Any]:
        """Return all that was found."""
        return {
            "name": self.corpus.name or "unnamed",
            "source": self.corpus.source,
            "layout": self.corpus.layout,
            "labels": list(self.names),
            "pairs": len(self.labels),
            "skipped": self.corpus.skipped,
            "majority": float(np.bincount(self.labels).max() / len(self.labels)),
            "baseline": self.baseline,
            "baseline_missing": None if self.baseline else self.baseline_missing,
            "annotators": None if self.annotators is None else self.annotators.facts(),
            "summary": self._summary(),
            "checkpoints": self.checkpoints,
            "breakdowns": list(self._breakdowns()),
        }

    def _summary(self) -> dict[str, Any]:
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

    def _breakdowns(self) -> Iterator[dict[str, Any]]:
        if self.baseline_predicted is not None:
            right = self.baseline_predicted == self.labels
            parts = [
                {"name": "baseline wrong (hard)", "rows": ~right},
                {"name": "baseline right", "rows": right},
            ]
            yield self._breakdown("baseline", parts)
        classes = [{"name": name, "rows": self.labels == i} for i, name in enumerate(self.names)]
        yield self._breakdown("class", classes)
        yield self._breakdown("length", scores.length_bins(scores.pair_lengths(self.corpus)))
        yield self._breakdown("overlap", scores.overlap_bins(scores.word_overlap(self.corpus)))
        if self.annotators is not None:
            yield self._breakdown("agreement", self.annotators.bins())
        for column, values in self.corpus.groups.items():
            array = np.array(values)
            groups = [{"name": name, "rows": array == name} for name in sorted(set(values))]
            yield self._breakdown(column, groups)

    def _breakdown(self, by: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        rows = []
        for part in parts:
            chosen = part["rows"]
            found = [score(right[chosen]) for right in self.rights]
            row: dict[str, Any] = {"name": part["name"], "pairs": int(chosen.sum())}
            row["scores"] = found
            row["summary"] = (
                scores.mean_and_spread([one["accuracy"] for one in found]) if row["pairs"] else None
            )
            by_baseline = self.baseline_predicted
            row["baseline"] = (
                None if by_baseline is None else score((by_baseline == self.labels)[chosen])
            )
            rows.append(row)
        return {"by": by, "rows": rows}


def _temperature(logits: NDArray, labels: tuple[str, ...], held_out: Corpus) -> float:
    names = held_out.label_names
    places = label_merging(labels, names)
    if len(names) != len(labels):
        raise DataError(
            f"{held_out.source}: its classes are {list(names)}, and the classifier's "
            f"{list(labels)}; a temperature is fitted on pairs of the classifier's own classes"
        )
    true = np.asarray(held_out.labels, dtype=np.int64)
    if not len(true) or true.min() < 0:
        raise DataError(f"{held_out.source}: labelled pairs are needed to calibrate on")
    return scores.fit_temperature(logits, np.argsort(places)[true])


def _check_apart(
    sets: Sequence[Corpus], baseline_on: Corpus | None, calibrate_on: Corpus | None
) -> None:
    """Raise DataError if what is scored is, whatever its file, what something is fitted on."""
    digests = {one.digest(): one.source for one in sets}
    used = []
    if baseline_on is not None:
        used.append((baseline_on, "train the baseline on (--baseline-on)"))
    if calibrate_on is not None:
        used.append((calibrate_on, "calibrate on (--calibrate-on)"))
    for one, what in used:
        same = digests.get(one.digest())
        if same is not None:
            raise DataError(
                f"{one.source}: to {what} has the same pairs as {same}, which is scored; "
                "give pairs that are not"
            )


def _notes(scored: Corpus, baseline_on: Corpus | None, calibrate_on: Corpus | None) -> list[str]:
    notes, pairs = list(scored.notes), scored.pairs()
    for what, other in (
        ("that the baseline was trained on", baseline_on),
        ("that the temperature was fitted on", calibrate_on),
    ):
        shared = len(pairs & other.pairs()) if other is not None else 0
        if shared:
            notes.append(
                f"{shared} of the {len(pairs)} different pairs are also among those {what}"
            )
    return notes


def _baseline_facts(baseline: HypothesisBaseline | None) -> dict[str, Any]:
    if baseline is None:
        return {"missing": NO_BASELINE}
    return {
        "missing": None,
        "source": baseline.source,
        "pairs": baseline.pairs,
        "features": len(baseline.vectorizer.vocabulary_),
        "l2": baseline.l2,
        "held_out_accuracy": baseline.held_out_accuracy,
    }


def _calibration_facts(held_out: Corpus | None) -> dict[str, Any]:
    if held_out is None:
        return {"missing": NO_TEMPERATURE}
    return {"missing": None, "source": held_out.source, "pairs": len(held_out.labels)}
