"""Reports from classifiers that are a table of logits, and their pages."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertnli
from bertnli import evaluation
from bertnli.backends.interface import Classifier
from bertnli.config import BERTConfig
from bertnli.data.batches import Batch
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import build_vocab
from bertnli.data.layouts import LabelledSet
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation.charts import LEGEND
from bertnli.labels import LABELS, TWO_WAY
from bertnli.text.pairs import PairEncoding
from bertnli.text.vocab import Vocab

#: With a character that turns the direction of the text.
HOSTILE = "<script src='https://evil.example/x.js'></script><img src=x onerror=alert(1)>\u202e&"


@dataclass
class Known(Classifier):
    """A classifier whose logits depend on a pair's tokens alone, and on a seed."""

    vocab: Vocab
    labels: tuple[str, ...] = LABELS
    seed: int = 0
    config: BERTConfig = field(default_factory=lambda: BERTConfig(100, 8, 8, 2, 1, 0.0, 64))
    encoding: PairEncoding = field(default_factory=lambda: PairEncoding(64))

    def logits(self, batch: Batch) -> np.ndarray:
        by_name = np.random.default_rng(self.seed).normal(size=(len(self.vocab), 3))
        pairs = zip(batch.token_ids, batch.valid_lens, strict=True)
        sums = np.stack([by_name[ids[:n]].sum(axis=0) for ids, n in pairs])
        return sums[:, [LABELS.index(label) for label in self.labels]].astype(np.float32)

    activations = arrays = load_arrays = loss = outcomes = None  # type: ignore[assignment]
    probability_gradients = None  # type: ignore[assignment]


def named(split: str, **changes: Any) -> LabelledSet:
    return LabelledSet(split, bertnli.read_sample(split), "sample", **changes)


@pytest.fixture(scope="module")
def vocab() -> Vocab:
    return build_vocab(bertnli.read_sample("train"), 2)


@pytest.fixture(scope="module")
def hostile(vocab: Vocab) -> dict[str, Any]:
    """A report of two seeds on a three-way set and a two-way one, with text that would do harm."""
    sample = bertnli.read_sample("dev")
    two_way = Corpus(
        sample.premises,
        [f"{HOSTILE} {text}" for text in sample.hypotheses],
        [min(label, 1) for label in sample.labels],
        tokenized=False,
        label_names=TWO_WAY,
        source=HOSTILE,
    )
    heuristics = [HOSTILE if i % 3 else "overlap" for i in range(len(sample.labels))]
    sets = [named("test"), LabelledSet(HOSTILE, two_way, "HANS", {"heuristic": heuristics})]
    return evaluation.report(
        [(f"seed{seed}{HOSTILE}", Known(vocab, seed=seed)) for seed in (0, 1)],
        sets,
        baseline_on=bertnli.read_sample("train"),
        calibrate_on=named("dev"),
    )


def test_numbers_belong_to_one_another(hostile: dict[str, Any]) -> None:
    for one in hostile["sets"]:
        accuracies = []
        for i, each in enumerate(one["checkpoints"]):
            correct = each["accuracy"]["correct"]
            assert np.trace(each["confusion"]) == correct
            assert np.sum(each["confusion"]) == one["pairs"] == each["accuracy"]["pairs"]
            for breakdown in one["breakdowns"]:
                rows = breakdown["rows"]
                assert sum(row["pairs"] for row in rows) == one["pairs"]
                assert sum(row["scores"][i]["correct"] for row in rows) == correct
                by_baseline = sum(row["baseline"]["correct"] for row in rows)
                assert by_baseline == one["baseline"]["accuracy"]["correct"]
            assert each["scaled"]["loss"] != each["loss"]
            probabilities = [error["probability"] for error in each["errors"]]
            assert probabilities == sorted(probabilities, reverse=True)
            accuracies.append(each["accuracy"]["accuracy"])
        summary = one["summary"]["accuracy"]
        assert summary["mean"] == pytest.approx(np.mean(accuracies))
        assert summary["sd"] == pytest.approx(np.std(accuracies, ddof=1))
        hard, easy = one["breakdowns"][0]["rows"]
        assert (hard["baseline"]["accuracy"], easy["baseline"]["accuracy"]) == (0, 1)
    two_way = hostile["sets"][1]
    assert two_way["labels"] == list(TWO_WAY)
    assert [b["by"] for b in two_way["breakdowns"]][-1] == "heuristic"
    assert "argmax_then_merged" in two_way["checkpoints"][0]
    assert "argmax_then_merged" not in hostile["sets"][0]["checkpoints"][0]


def test_the_two_ways_to_merge_three_classes(vocab: Vocab) -> None:
    class Sure(Known):
        def logits(self, batch: Batch) -> np.ndarray:
            row = np.log([0.4, 0.35, 0.25])  # entailment first of three, not of two
            return np.tile(row, (len(batch), 1)).astype(np.float32)

    corpus = Corpus(["A dog."] * 2, ["A cat."] * 2, [0, 1], tokenized=False, label_names=TWO_WAY)
    found = evaluation.report([("a", Sure(vocab))], [LabelledSet("x", corpus)])["sets"][0]
    each = found["checkpoints"][0]
    assert each["confusion"] == [[0, 1], [0, 1]]
    assert each["errors"][0]["probability"] == pytest.approx(0.6)
    assert each["argmax_then_merged"]["correct"] == 1


def test_the_order_of_the_classes_changes_nothing(vocab: Vocab) -> None:
    other = ("neutral", "entailment", "contradiction")
    sets, held_out = [named("test")], named("dev")
    found = [
        evaluation.report([("a", Known(vocab, labels))], sets, calibrate_on=held_out)
        for labels in (LABELS, other)
    ]
    assert found[0]["checkpoints"].pop()["temperature"] == pytest.approx(
        found[1]["checkpoints"].pop()["temperature"], rel=1e-6
    )
    for one in found:  # rounding of the temperature
        for each in one["sets"][0]["checkpoints"]:
            del each["scaled"], each["loss"], each["ece"], each["bins"], each["errors"]
        del one["sets"][0]["summary"]
    assert found[0] == found[1]


def test_what_is_missing_is_said(vocab: Vocab) -> None:
    found = evaluation.report([("a", Known(vocab))], [named("dev")])
    one = found["sets"][0]
    assert one["baseline"] is None and "--baseline-on" in found["baseline"]["missing"]
    assert one["checkpoints"][0]["scaled"] is None
    assert found["checkpoints"][0]["temperature"] is None
    assert "--calibrate-on" in found["calibration"]["missing"]
    page = evaluation.to_html(found)
    assert "--baseline-on TRAIN" in page and "--calibrate-on HELD_OUT" in page


def test_nothing_is_fitted_on_what_is_scored(vocab: Vocab) -> None:
    dev, models = named("dev"), [("a", Known(vocab))]
    backwards = Corpus(*(column[::-1] for column in dev.corpus), tokenized=False)
    with pytest.raises(DataError, match=r"to calibrate on .* has the same pairs"):
        evaluation.report(models, [dev], calibrate_on=LabelledSet("x", backwards))
    with pytest.raises(DataError, match=r"to train the baseline on .* has the same pairs"):
        evaluation.report(models, [dev], baseline_on=dev.corpus)
    both = Corpus(*(a + b for a, b in zip(dev.corpus, bertnli.read_sample("test"), strict=True)),
                  tokenized=False)  # fmt: skip
    found = evaluation.report(models, [dev], calibrate_on=LabelledSet("x", both))
    pairs = len(dev.corpus.labels)
    assert found["sets"][0]["notes"] == [
        f"{pairs} of the {pairs} different pairs are also among those that the temperature was "
        "fitted on"
    ]


def test_what_cannot_be_scored_is_refused(vocab: Vocab) -> None:
    models = [("a", Known(vocab))]
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        evaluation.report([], [named("dev")])
    with pytest.raises(DataError, match="labelled pairs are needed"):
        unlabelled = LabelledSet("x", Corpus.from_pairs([("A dog.", "A cat.")]))
        evaluation.report(models, [unlabelled])
    words = Corpus(["A."], ["B."], [0], tokenized=False, label_names=("yes", "no"))
    with pytest.raises(DataError, match="are not the labels"):
        evaluation.report(models, [LabelledSet("x", words)])
    two_way = Corpus(["A."], ["B."], [0], tokenized=False, label_names=TWO_WAY)
    with pytest.raises(DataError, match="the classifier's own classes"):
        evaluation.report(models, [named("dev")], calibrate_on=LabelledSet("x", two_way))


class Page(HTMLParser):
    """What a browser would load, run or follow; and that all that opens is closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_asks_no_host_and_runs_nothing(hostile: dict[str, Any], tmp_path: Path) -> None:
    paths = evaluation.write_report(hostile, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.json", "report.html"]
    assert json.loads(paths[0].read_text("utf-8")) == hostile
    text = paths[1].read_text("utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcset"}
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert HOSTILE in "".join(page.text)  # it is shown as it is


def test_every_score_has_the_baselines_beside_it(hostile: dict[str, Any]) -> None:
    text = evaluation.to_html(hostile)
    heads = re.findall(r"<thead>(.*?)</thead>", text, re.DOTALL)
    scores = [head for head in heads if "accuracy <small>" in head]
    assert len(scores) == 1 + sum(len(one["breakdowns"]) for one in hostile["sets"])
    assert all(">baseline<" in head for head in scores)
    assert text.count("The hypothesis-only baseline: ECE") == 8  # told twice; seeds; sets


def test_the_calibration_chart_names_its_axes_and_its_marks(hostile: dict[str, Any]) -> None:
    page = evaluation.to_html(hostile)
    styled = set(re.findall(r"svg \.(\w+) \{", page))
    charts = re.findall(r"<figure>(<svg.*?</svg>)", page)
    assert len(charts) == page.count("<figcaption>") > 0
    for chart in charts:
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        legend = [what for _, what in LEGEND]
        assert texts[-len(legend) - 2 :] == ["confidence", "accuracy", *legend]
        assert set(re.findall(r'class="(\w+)"', chart)) <= styled
        # 11 pixels a character's height, and some 6 its width: all of it is within the picture.
        width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', chart)[0])
        for x, y, what in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([^<]*)', chart):
            assert float(x) + 6 * len(what) <= width and float(y) + 4 <= height


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_is_that_of_wcag_aa() -> None:
    """WCAG 2.1, 1.4.3: 4.5 to 1 for text, in the light and in the dark."""
    style = evaluation.to_html({**EMPTY}).partition("</style>")[0]
    schemes = re.findall(r":root \{([^}]*)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft", "model", "base"):
            for ground in ("ground", "card", "note"):
                dark, light = sorted(luminance(colours[name]) for name in (ink, ground))
                ratio = (light + 0.05) / (dark + 0.05)
                assert ratio >= 4.5, (ink, ground, ratio)


EMPTY: dict[str, Any] = {
    "checkpoints": [],
    "sets": [],
    "confidence": 0.95,
    "truncation": "book",
    "baseline": {"missing": "x"},
    "calibration": {"missing": "x"},
}
