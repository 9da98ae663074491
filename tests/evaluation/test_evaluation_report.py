"""Reports from classifiers that are a table of logits, and their pages."""

import html
import json
import re

import numpy as np
import pytest
from report_fakes import Known, Page

import bertnli
from bertnli import evaluation
from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation import predictions
from bertnli.evaluation.page import LEGEND

#: With a character that turns the direction of the text.
HOSTILE = "<script src='https://evil.example/x.js'></script><img src=x onerror=alert(1)>\u202e&"


@pytest.fixture(scope="module")
def vocab():
    return build_vocab(bertnli.read("sample", "train"), 2)


@pytest.fixture(scope="module")
def hostile(vocab):
    """A report of two seeds on a three-way set and a two-way one, with text that would do harm."""
    sample = bertnli.read("sample", "dev")
    two_way = Corpus(
        sample.premises,
        [f"{HOSTILE} {text}" for text in sample.hypotheses],
        [min(label, 1) for label in sample.labels],
        tokenized=False,
        label_names=TWO_WAY,
        groups={
            "genre": ["fiction"] * len(sample.labels),
            "heuristic": [HOSTILE if i % 3 else "overlap" for i in range(len(sample.labels))],
        },
        source=HOSTILE,
        layout="HANS",
        notes=[f"{HOSTILE}, --format."],
    )
    sets = [bertnli.read("sample", "test"), two_way]
    return evaluation.report(
        [(f"seed{seed}{HOSTILE}", Known(vocab, seed=seed)) for seed in (0, 1)],
        sets,
        baseline_on=bertnli.read("sample", "train"),
        calibrate_on=bertnli.read("sample", "dev"),
    )


def test_numbers_belong_to_one_another(hostile):
    sample = bertnli.read("sample", "dev")
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
    assert [b["by"] for b in two_way["breakdowns"]][-2:] == ["genre", "heuristic"]
    assert (two_way["name"], two_way["layout"]) == (HOSTILE, "HANS")
    assert two_way["notes"] == [f"{HOSTILE}, --format."]
    first = two_way["checkpoints"][0]["errors"][0]
    row = int(first["where"].rpartition(", line ")[2])
    assert sample[1][row - 1] == first["hypothesis"].removeprefix(f"{HOSTILE} ")
    assert "argmax_then_merged" in two_way["checkpoints"][0]
    assert "argmax_then_merged" not in hostile["sets"][0]["checkpoints"][0]


def test_the_two_ways_to_merge_three_classes(vocab):
    class Sure(Known):
        def logits(self, batch):
            row = np.log([0.4, 0.35, 0.25])  # entailment first of three, not of two
            return np.tile(row, (len(batch), 1)).astype(np.float32)

    corpus = Corpus(["A dog."] * 2, ["A cat."] * 2, [0, 1], tokenized=False, label_names=TWO_WAY)
    result = evaluation.report([("a", Sure(vocab))], [corpus])["sets"][0]
    each = result["checkpoints"][0]
    assert each["confusion"] == [[0, 1], [0, 1]]
    assert each["errors"][0]["probability"] == pytest.approx(0.6)
    assert each["argmax_then_merged"]["correct"] == 1


def test_the_order_of_the_classes_changes_nothing(vocab):
    other = ("neutral", "entailment", "contradiction")
    sets, held_out = [bertnli.read("sample", "test")], bertnli.read("sample", "dev")
    result = [
        evaluation.report([("a", Known(vocab, labels))], sets, calibrate_on=held_out)
        for labels in (LABELS, other)
    ]
    assert result[0]["checkpoints"].pop()["temperature"] == pytest.approx(
        result[1]["checkpoints"].pop()["temperature"], rel=1e-6
    )
    for one in result:  # rounding of the temperature
        for each in one["sets"][0]["checkpoints"]:
            del each["scaled"], each["loss"], each["ece"], each["bins"], each["errors"]
        del one["sets"][0]["summary"]
    assert result[0] == result[1]


def test_what_is_missing_is_said(vocab):
    result = evaluation.report([("a", Known(vocab))], [bertnli.read("sample", "dev")])
    one = result["sets"][0]
    assert one["baseline"] is None and "--baseline-on" in result["baseline"]["missing"]
    assert one["checkpoints"][0]["scaled"] is None
    assert result["checkpoints"][0]["temperature"] is None
    assert "--calibrate-on" in result["calibration"]["missing"]
    page = evaluation.to_html(result)
    assert "--baseline-on TRAIN" in page and "--calibrate-on HELD_OUT" in page


def test_nothing_is_fitted_on_what_is_scored(vocab):
    dev, models = bertnli.read("sample", "dev"), [("a", Known(vocab))]
    backwards = Corpus(*(column[::-1] for column in dev), tokenized=False)
    with pytest.raises(DataError, match=r"to calibrate on .* has the same pairs"):
        evaluation.report(models, [dev], calibrate_on=backwards)
    with pytest.raises(DataError, match=r"to train the baseline on .* has the same pairs"):
        evaluation.report(models, [dev], baseline_on=dev)
    both = Corpus(*(a + b for a, b in zip(dev, bertnli.read("sample", "test"), strict=True)),
                  tokenized=False)  # fmt: skip
    result = evaluation.report(models, [dev], calibrate_on=both)
    pairs = len(dev.labels)
    assert result["sets"][0]["notes"] == [
        f"{pairs} of the {pairs} different pairs are also among those that the temperature was "
        "fitted on"
    ]


def test_what_cannot_be_scored_is_refused(vocab):
    models = [("a", Known(vocab))]
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        evaluation.report([], [bertnli.read("sample", "dev")])
    with pytest.raises(DataError, match="labelled pairs are needed"):
        unlabelled = Corpus.from_pairs([("A dog.", "A cat.")])
        evaluation.report(models, [unlabelled])
    words = Corpus(["A."], ["B."], [0], tokenized=False, label_names=("yes", "no"))
    with pytest.raises(DataError, match=r"--label-map yes=CLASS,no=CLASS\)"):
        evaluation.report(models, [words])
    two_way = Corpus(["A."], ["B."], [0], tokenized=False, label_names=TWO_WAY)
    with pytest.raises(DataError, match="the classifier's own classes"):
        evaluation.report(models, [bertnli.read("sample", "dev")], calibrate_on=two_way)


def test_of_other_classes_the_line_to_add_is_said(vocab):
    three = Corpus(["A."], ["B."], [2], tokenized=False)
    logits, two = np.zeros((1, 2), np.float32), ("not_entailment", "Entailment")
    line = "--label-map entailment=Entailment,contradiction=not_entailment,neutral=not_entailment)"
    with pytest.raises(DataError, match=re.escape(line)):
        predictions.set_log_probabilities(logits, two, three.label_names)
    with pytest.raises(DataError, match=re.escape(line)):
        dataset = PairDataset(three, 16, vocab, verbose=False)
        predictions.metrics_of(logits, two, dataset)
    maybe = ("entailment", "contradiction", "unknown")
    line = "--label-map entailment=entailment,contradiction=contradiction,unknown=CLASS)"
    with pytest.raises(DataError, match=re.escape(line)):
        predictions.set_log_probabilities(np.zeros((1, 3), np.float32), LABELS, maybe)


def test_the_page_asks_no_host_and_runs_nothing(hostile, tmp_path):
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


def test_every_score_has_the_baselines_beside_it(hostile):
    text = evaluation.to_html(hostile)
    heads = re.findall(r"<thead>(.*?)</thead>", text, re.DOTALL)
    scores = [head for head in heads if "accuracy <small>" in head]
    assert len(scores) == 1 + sum(len(one["breakdowns"]) for one in hostile["sets"])
    assert all(">baseline<" in head for head in scores)
    assert text.count("The hypothesis-only baseline: ECE") == 8  # told twice; seeds; sets


def test_the_calibration_chart_names_its_axes_and_its_marks(hostile):
    page = html.unescape(evaluation.to_html(hostile))
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


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_is_that_of_wcag_aa():
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


EMPTY = {
    "checkpoints": [],
    "sets": [],
    "confidence": 0.95,
    "truncation": "book",
    "baseline": {"missing": "x"},
    "calibration": {"missing": "x"},
}
