"""Reports of classifiers that are a table of logits, and their pages."""

import html
import json
import re

import numpy as np
import pytest
from colours import contrast, parsed
from report_fakes import Known, Page

import bertnli
from bertnli import evaluation
from bertnli.bert.labels import LABELS, TWO_WAY
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import PairDataset, build_vocab
from bertnli.errors import ConfigError, DataError
from bertnli.evaluation import predictions
from bertnli.evaluation.page import LEGEND

#: With a character that changes the direction of the text.
HOSTILE = "<script src='https://evil.example/x.js'></script><img src=x onerror=alert(1)>\u202e&"


@pytest.fixture(scope="module")
def vocab():
    return build_vocab(bertnli.read("sample", "train"), 2)


@pytest.fixture(scope="module")
def hostile(vocab):
    """A report of two seeds on a three-way and a two-way set, with names that are HTML."""
    sample = bertnli.read("sample", "dev")
    size = len(sample.labels)
    two_way = Corpus(
        sample.premises,
        [f"{HOSTILE} {text}" for text in sample.hypotheses],
        [min(label, 1) for label in sample.labels],
        tokenized=False,
        label_names=TWO_WAY,
        groups={
            "genre": ["fiction"] * size,
            "heuristic": [HOSTILE if i % 3 else "overlap" for i in range(size)],
        },
        source=HOSTILE,
        layout="HANS",
        notes=[f"{HOSTILE}, --format."],
    )
    return evaluation.report(
        [(f"seed{seed}{HOSTILE}", Known(vocab, seed=seed)) for seed in (0, 1)],
        [bertnli.read("sample", "test"), two_way],
        baseline_on=bertnli.read("sample", "train"),
        calibrate_on=bertnli.read("sample", "dev"),
    )


def test_numbers_are_consistent(hostile):
    for result in hostile["sets"]:
        accuracies = []
        for i, each in enumerate(result["checkpoints"]):
            correct = each["accuracy"]["correct"]
            assert np.trace(each["confusion"]) == correct
            assert np.sum(each["confusion"]) == result["pairs"] == each["accuracy"]["pairs"]
            for breakdown in result["breakdowns"]:
                rows = breakdown["rows"]
                assert sum(row["pairs"] for row in rows) == result["pairs"]
                assert sum(row["scores"][i]["correct"] for row in rows) == correct
                by_baseline = sum(row["baseline"]["correct"] for row in rows)
                assert by_baseline == result["baseline"]["accuracy"]["correct"]
            assert each["scaled"]["loss"] != each["loss"]
            probabilities = [error["probability"] for error in each["errors"]]
            assert probabilities == sorted(probabilities, reverse=True)
            accuracies.append(each["accuracy"]["accuracy"])
        summary = result["summary"]["accuracy"]
        assert summary["mean"] == pytest.approx(np.mean(accuracies))
        assert summary["sd"] == pytest.approx(np.std(accuracies, ddof=1))
        hard, easy = result["breakdowns"][0]["rows"]
        assert (hard["baseline"]["accuracy"], easy["baseline"]["accuracy"]) == (0, 1)


def test_a_two_way_set(hostile, vocab):
    """Predictions of three classes are merged: before the argmax, and after it."""
    three_way, two_way = hostile["sets"]
    assert two_way["labels"] == list(TWO_WAY)
    assert [b["by"] for b in two_way["breakdowns"]][-2:] == ["genre", "heuristic"]
    assert (two_way["name"], two_way["layout"]) == (HOSTILE, "HANS")
    assert two_way["notes"] == [f"{HOSTILE}, --format."]
    first = two_way["checkpoints"][0]["errors"][0]
    row = int(first["where"].rpartition(", line ")[2])
    hypothesis = first["hypothesis"].removeprefix(f"{HOSTILE} ")
    assert bertnli.read("sample", "dev")[1][row - 1] == hypothesis
    assert "argmax_then_merged" in two_way["checkpoints"][0]
    assert "argmax_then_merged" not in three_way["checkpoints"][0]

    class Sure(Known):
        def logits(self, batch):
            row = np.log([0.4, 0.35, 0.25])  # entailment is the first of three, not of two
            return np.tile(row, (len(batch), 1)).astype(np.float32)

    corpus = Corpus(["A dog."] * 2, ["A cat."] * 2, [0, 1], tokenized=False, label_names=TWO_WAY)
    (each,) = evaluation.report([("a", Sure(vocab))], [corpus])["sets"][0]["checkpoints"]
    assert each["confusion"] == [[0, 1], [0, 1]]
    assert each["errors"][0]["probability"] == pytest.approx(0.6)
    assert each["argmax_then_merged"]["correct"] == 1


def test_the_order_of_the_classes_changes_nothing(vocab):
    sets, held_out = [bertnli.read("sample", "test")], bertnli.read("sample", "dev")
    reports = [
        evaluation.report([("a", Known(vocab, labels))], sets, calibrate_on=held_out)
        for labels in (LABELS, ("neutral", "entailment", "contradiction"))
    ]
    temperatures = [report["checkpoints"].pop()["temperature"] for report in reports]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-6)
    for report in reports:  # these depend on the temperature's rounding
        for each in report["sets"][0]["checkpoints"]:
            del each["scaled"], each["loss"], each["ece"], each["bins"], each["errors"]
        del report["sets"][0]["summary"]
    assert reports[0] == reports[1]


def test_a_report_says_which_options_would_add_more(vocab):
    report = evaluation.report([("a", Known(vocab))], [bertnli.read("sample", "dev")])
    assert report["sets"][0]["baseline"] is None
    assert report["sets"][0]["checkpoints"][0]["scaled"] is None
    assert report["checkpoints"][0]["temperature"] is None
    assert "--baseline-on" in report["baseline"]["missing"]
    assert "--calibrate-on" in report["calibration"]["missing"]
    page = evaluation.to_html(report)
    assert "--baseline-on TRAIN" in page and "--calibrate-on HELD_OUT" in page


def test_nothing_is_fitted_on_the_pairs_that_are_scored(vocab):
    dev, models = bertnli.read("sample", "dev"), [("a", Known(vocab))]
    backwards = Corpus(*(column[::-1] for column in dev), tokenized=False)
    with pytest.raises(DataError, match=r"to calibrate on .* has the same pairs"):
        evaluation.report(models, [dev], calibrate_on=backwards)
    with pytest.raises(DataError, match=r"to train the baseline on .* has the same pairs"):
        evaluation.report(models, [dev], baseline_on=dev)
    columns = zip(dev, bertnli.read("sample", "test"), strict=True)
    both = Corpus(*(a + b for a, b in columns), tokenized=False)
    report = evaluation.report(models, [dev], calibrate_on=both)
    note = f"{len(dev.labels)} of the {len(dev.labels)} different pairs are also among those that "
    assert report["sets"][0]["notes"] == [f"{note}the temperature was fitted on"]


def test_errors(vocab):
    models, dev = [("a", Known(vocab))], bertnli.read("sample", "dev")
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        evaluation.report([], [dev])
    with pytest.raises(DataError, match="labelled pairs are needed"):
        evaluation.report(models, [Corpus.from_pairs([("A dog.", "A cat.")])])
    words = Corpus(["A."], ["B."], [0], tokenized=False, label_names=("yes", "no"))
    with pytest.raises(DataError, match=r"--label-map yes=CLASS,no=CLASS\)"):
        evaluation.report(models, [words])
    two_way = Corpus(["A."], ["B."], [0], tokenized=False, label_names=TWO_WAY)
    with pytest.raises(DataError, match="the classifier's own classes"):
        evaluation.report(models, [dev], calibrate_on=two_way)


def test_an_error_about_classes_shows_the_option_to_add(vocab):
    three = Corpus(["A."], ["B."], [2], tokenized=False)
    logits, two = np.zeros((1, 2), np.float32), ("not_entailment", "Entailment")
    line = "--label-map entailment=Entailment,contradiction=not_entailment,neutral=not_entailment)"
    with pytest.raises(DataError, match=re.escape(line)):
        predictions.set_log_probabilities(logits, two, three.label_names)
    with pytest.raises(DataError, match=re.escape(line)):
        predictions.metrics_of(logits, two, PairDataset(three, 16, vocab, verbose=False))
    maybe = ("entailment", "contradiction", "unknown")
    line = "--label-map entailment=entailment,contradiction=contradiction,unknown=CLASS)"
    with pytest.raises(DataError, match=re.escape(line)):
        predictions.set_log_probabilities(np.zeros((1, 3), np.float32), LABELS, maybe)


def test_the_page_loads_nothing_and_runs_nothing(hostile, tmp_path):
    paths = evaluation.write_report(hostile, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.json", "report.html"]
    assert json.loads(paths[0].read_text("utf-8")) == hostile
    text = paths[1].read_text("utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcset"}
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert HOSTILE in "".join(page.text)


def test_the_page_shows_the_baseline_beside_every_score(hostile):
    text = evaluation.to_html(hostile)
    heads = re.findall(r"<thead>(.*?)</thead>", text, re.DOTALL)
    scores = [head for head in heads if "accuracy <small>" in head]
    assert len(scores) == 1 + sum(len(result["breakdowns"]) for result in hostile["sets"])
    assert all(">baseline<" in head for head in scores)


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
        # Characters are 11 pixels high and about 6 wide: all text is within the picture.
        width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', chart)[0])
        for x, y, what in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([^<]*)', chart):
            assert float(x) + 6 * len(what) <= width and float(y) + 4 <= height


def test_contrasts_of_text_are_wcag_aa(hostile):
    """The ratio is at least 4.5, in the light scheme and in the dark one."""
    style = evaluation.to_html(hostile).partition("</style>")[0]
    schemes = re.findall(r":root \{([^}]*)\}", style)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft", "model", "base"):
            for ground in ("ground", "card", "note"):
                ratio = contrast(parsed(colours[ink]), parsed(colours[ground]))
                assert ratio >= 4.5, (ink, ground, ratio)
