"""How often `evaluate` suspects another order of the classes: rightly, and wrongly.

    python benchmarks/label_order.py snli_1.0_dev.txt.gz --train train.tsv \\
        --json docs/results/label-order.json

The rule is that of `bertnli.nets.metrics.Metrics.better_permutation`: of all other orders the
one with the highest mean recall is named if each class is then predicted for its own pairs more
often than any other class, the mean recall is at least 54 % and significantly above guessing, and
it is significantly above that in the order as it is. A real order of a model that has learned its
task is like that; a model that is weak on a set seldom is.

False alarms are counted on subsets, drawn at random, of

- a real classifier's predictions on the set as it is, on the pairs that a hypothesis-only baseline
  gets wrong (the hard ones), on those of whose class the classifier is least sure, and on spoiled
  sentences whose labels stay: words shuffled, premise and hypothesis exchanged, premises of other
  pairs, a "not" put in;
- the baseline's own predictions, on all pairs and on those that the classifier gets wrong;
- simulated weak models: of 33 to 55 % accuracy, with errors like the classifier's; one that cannot
  tell entailment from neutral; some that guess, also with one class most of the time, also on sets
  of skewed classes, of two classes or of four; one whose right answers were nearly all taken out of
  the set, so that 20 % are left.

Hits are counted on simulated models of 60 to 95 % accuracy, with errors like the classifier's, in
each of the five wrong orders; the table shows the order that is found least often.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bertnli
from bertnli.data.corpus import Corpus
from bertnli.evaluation import Encoding, logits_of
from bertnli.evaluation.baseline import HypothesisBaseline
from bertnli.nets import metrics
from bertnli.nets.metrics import Metrics

SIZES = (50, 100, 200, 500, 1000)
ACCURACIES = (0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 0.95)
#: Share of the pairs that count as those the classifier is least sure of.
UNSURE = 0.2
#: Where "not" is put in, after the first of them.
VERBS = ("is", "are", "was", "were", "has", "have", "can", "will")

RULE = ("MIN_RECALL", "CHANCE_SIGMAS", "GAIN_SIGMAS")

#: Draws the confusion matrix of a set of a size.
Draw = Callable[[int], NDArray[np.int64]]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="SNLI's dev file, perhaps gzipped")
    parser.add_argument("--train", required=True, help="labelled pairs, for the baseline")
    parser.add_argument("--checkpoint", default="bert.mini", help="a classifier")
    parser.add_argument("--draws", type=int, default=2000, help="sets of each kind and size")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    net = bertnli.load(args.checkpoint)
    corpus = read(args.data)
    predictions = Predictions(net, corpus, HypothesisBaseline.train(bertnli.read(args.train)), rng)
    weak = {**predictions.kinds(), **simulated(predictions.confusion(), rng)}
    rows = [
        {"kind": kind} | {str(n): 100 * alarms(draw, n, args.draws) for n in SIZES}
        for kind, draw in weak.items()
    ]
    print("sets with a false alarm, percent, by their pairs")
    show(rows)
    hits = []
    for accuracy in ACCURACIES:
        errors = model(predictions.confusion(), accuracy)
        shares = {str(n): 100 * found_least(errors, n, args.draws // 5, rng) for n in SIZES}
        hits.append({"kind": f"found, {accuracy:.0%}"} | shares)
    print("wrong orders that are found, percent, of the order that is found least often")
    show(hits)
    if args.json is not None:
        columns = {"kind": {"label": "set, or accuracy in the right order"}}
        result = {
            "title": "sets where another order is suspected, percent, by their number of pairs",
            "script": "benchmarks/label_order.py",
            "source": f"what the script wrote, at bertnli {bertnli.__version__}",
            "date": f"{date.today():%B %Y}",
            "checkpoint": args.checkpoint,
            "draws": args.draws,
            "rule": {name: getattr(metrics, name) for name in RULE},
            "columns": columns | {str(n): {"label": f"{n:,}", "format": ".1f"} for n in SIZES},
            "rows": rows + hits,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def read(path: Path) -> Corpus:
    """Return the pairs of SNLI's dev file."""
    with tempfile.TemporaryDirectory() as folder:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as source, Path(folder, "snli_1.0_dev.txt").open("wb") as target:
            shutil.copyfileobj(source, target)
        return bertnli.read(folder, "dev")


class Predictions:
    """What a classifier and a baseline predict of a corpus, as it is and spoiled."""

    def __init__(
        self, net: Any, corpus: Corpus, baseline: HypothesisBaseline, rng: np.random.Generator
    ) -> None:
        self.net, self.corpus, self.rng = net, corpus, rng
        self.true = np.array(corpus.labels)
        logits = self._logits(corpus.premises, corpus.hypotheses)
        self.predicted = logits.argmax(1)
        margin = np.diff(np.sort(logits, axis=1)[:, -2:])[:, 0]
        self.unsure = margin < np.quantile(margin, UNSURE)
        self.baseline = baseline.log_probabilities(corpus).argmax(1)

    def _logits(self, premises: list[str], hypotheses: list[str]) -> NDArray[np.float32]:
        changed = Corpus(premises, hypotheses, self.corpus.labels, tokenized=True)
        return logits_of(self.net, Encoding().dataset(self.net, changed))

    def confusion(self) -> NDArray[np.int64]:
        """Return the classifier's confusion matrix on all pairs."""
        return _confusion(self.true, self.predicted)

    def kinds(self) -> dict[str, Draw]:
        """Return the sets of real predictions, by what they are called."""
        wrong = self.predicted != self.true
        everything = np.ones(len(wrong), bool)
        own, premises, hypotheses = self.predicted, self.corpus.premises, self.corpus.hypotheses
        result = {
            "all pairs": self._drawn(own, everything),
            "hard: baseline wrong": self._drawn(own, self.baseline != self.true),
            "least sure": self._drawn(own, self.unsure),
            "baseline, all pairs": self._drawn(self.baseline, everything),
            "baseline where the classifier is wrong": self._drawn(self.baseline, wrong),
        }
        other = self.rng.permutation(len(premises))
        for kind, first, second in (
            ("words shuffled", premises, [self._shuffled(text) for text in hypotheses]),
            ("premise and hypothesis exchanged", hypotheses, premises),
            ("premises of other pairs", [premises[i] for i in other], hypotheses),
            ("not put in", premises, [_negated(text) for text in hypotheses]),
        ):
            result[kind] = self._drawn(self._logits(first, second).argmax(1), everything)
        return result

    def _drawn(self, predicted: NDArray, chosen: NDArray[np.bool_]) -> Draw:
        places = np.flatnonzero(chosen)

        def draw(size: int) -> NDArray[np.int64]:
            some = self.rng.choice(places, size, replace=False)
            return _confusion(self.true[some], predicted[some])

        return draw

    def _shuffled(self, text: str) -> str:
        return " ".join(self.rng.permutation(text.split()))


def _confusion(true: NDArray, predicted: NDArray) -> NDArray[np.int64]:
    result = np.zeros((3, 3), np.int64)
    np.add.at(result, (true, predicted), 1)
    return result


def _negated(text: str) -> str:
    words = text.split()
    at = next((i for i, word in enumerate(words) if word.lower() in VERBS), None)
    return text if at is None else " ".join([*words[: at + 1], "not", *words[at + 1 :]])


def model(confusion: NDArray, accuracy: float) -> NDArray[np.float64]:
    """Return the rows (predicted class by true class) of a model whose errors are like another's.

    Args:
        confusion: the other's; its errors are made more or fewer in proportion.
        accuracy: the mean recall.
    """
    rows = confusion / confusion.sum(axis=1, keepdims=True)
    np.fill_diagonal(rows, 0)
    rows *= (1 - accuracy) * len(rows) / rows.sum()
    np.fill_diagonal(rows, 1 - rows.sum(axis=1))
    return rows


def simulated(confusion: NDArray, rng: np.random.Generator) -> dict[str, Draw]:
    """Return sets of models that are weak by construction, by what they are called."""

    def of(rows: Any, shares: Any = None) -> Draw:
        rows = np.asarray(rows, float)
        return lambda size: drawn(rows, size, rng, shares)

    def skewed(rows: Callable[[], NDArray]) -> Draw:
        return lambda size: drawn(rows(), size, rng, rng.dirichlet(np.ones(3)))

    halves = [[0.5, 0.5]] * 2
    left = [[0.2, 0.4, 0.4], [0.4, 0.2, 0.4], [0.4, 0.4, 0.2]]
    blind = [[0.47, 0.06, 0.47], [0.1, 0.8, 0.1], [0.47, 0.06, 0.47]]
    return {
        **{f"weak, {a:.0%}": of(model(confusion, a)) for a in (0.33, 0.4, 0.45, 0.5, 0.55)},
        "entailment and neutral alike": of(blind),
        "guesses": of(np.full((3, 3), 1 / 3)),
        "one class, 80 %": of([[0.1, 0.1, 0.8]] * 3),
        "one class, 97 %": of([[0.97, 0.02, 0.01]] * 3),
        "one class, skewed set": skewed(lambda: np.tile(rng.dirichlet(np.ones(3) / 2), (3, 1))),
        "weak, 50%, skewed set": skewed(lambda: model(confusion, 0.5)),
        "20 % are left, others even": of(left),
        "two classes, guesses": of(halves),
        "two classes, one of them, skewed set": of([[0.9, 0.1]] * 2, [0.15, 0.85]),
        "two classes, 55 %": of([[0.55, 0.45], [0.45, 0.55]]),
        "four classes, guesses": of(np.full((4, 4), 1 / 4)),
    }


def drawn(
    rows: NDArray, size: int, rng: np.random.Generator, shares: Any = None
) -> NDArray[np.int64]:
    """Return a confusion matrix of some pairs, whose classes have these shares or are even."""
    even = np.full(len(rows), 1 / len(rows))
    pairs = rng.multinomial(size, even if shares is None else shares)
    return np.array([rng.multinomial(n, row) for n, row in zip(pairs, rows, strict=True)])


def suspected(confusion: NDArray[np.int64]) -> bool:
    """Return whether another order would be suspected."""
    labels = tuple("abcdef"[: len(confusion)])
    return Metrics(labels, confusion, 0.0).better_permutation() is not None


def alarms(draw: Draw, size: int, draws: int) -> float:
    """Return in which share of sets of a size another order is suspected."""
    return sum(suspected(draw(size)) for _ in range(draws)) / draws


def found_least(rows: NDArray, size: int, draws: int, rng: np.random.Generator) -> float:
    """Return in which share of sets a wrong order is found, of that which is found least often."""

    def share(order: tuple[int, ...]) -> float:
        return alarms(lambda n: drawn(rows[:, order], n, rng), size, draws)

    return min(share(order) for order in list(permutations(range(len(rows))))[1:])


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table of shares by the size of sets."""
    print(f"{'':<42}" + "".join(f"{n:>8}" for n in SIZES))
    for row in rows:
        print(f"{row['kind']:<42}" + "".join(f"{row[str(n)]:>8.2f}" for n in SIZES))
    print(flush=True)


if __name__ == "__main__":
    main()
