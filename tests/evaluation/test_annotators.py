"""Scores against annotators, by hand, against ChaosNLI's example and against a referee."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import Known, Page
from scipy.spatial.distance import jensenshannon

import bertnli
from bertnli import evaluation
from bertnli.bert.labels import LABELS, TWO_WAY, label_merging
from bertnli.data.corpus import Corpus
from bertnli.data.dataset import build_vocab
from bertnli.errors import DataError
from bertnli.evaluation.annotators import Annotators
from bertnli.evaluation.scores import MAX_DISTANCE, jensen_shannon, kl_divergence

COUNTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=8)
WEIGHTS = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 1e-3)


def annotated(counts, labels=None):
    """Make a corpus of pairs whose classes were counted among annotators."""
    n = len(counts)
    premises, hypotheses = [f"A dog {i} ." for i in range(n)], [f"A cat {i} ." for i in range(n)]
    counts, labels = np.array(counts, dtype=np.int32), labels or [0] * n
    return Corpus(premises, hypotheses, labels, tokenized=False, annotations=counts)


def as_probabilities(*rows):
    return [np.array([row]) / np.sum(row) for row in rows]


def test_distances_of_an_example_of_chaosnli():
    """From the README of ChaosNLI: E(21), N(12), C(67), and BERT-Large's probabilities."""
    p, q = as_probabilities([21, 12, 67], [15.72, 14.04, 70.24])
    assert jensen_shannon(p, q)[0] == pytest.approx(jensenshannon(p[0], q[0]), rel=1e-9)
    terms = [a * math.log(a / b) for a, b in zip(p[0], q[0], strict=True)]
    assert kl_divergence(p, np.log(q))[0] == pytest.approx(math.fsum(terms), rel=1e-12)


@given(WEIGHTS, WEIGHTS, WEIGHTS)
def test_the_distance_is_a_metric(a, b, c):
    p, q, r = as_probabilities(a, b, c)
    d = jensen_shannon(p, q)[0]
    assert d == jensen_shannon(q, p)[0] and 0 <= d <= MAX_DISTANCE + 1e-12
    assert jensen_shannon(p, p)[0] == 0
    assert d > 0 or np.abs(p - q).max() < 1e-7
    assert d <= jensen_shannon(p, r)[0] + jensen_shannon(r, q)[0] + 1e-7
    assert kl_divergence(p, np.log(np.maximum(q, 1e-300)))[0] >= 2 * (p - q).max() ** 2 - 1e-12


def test_distances_at_the_ends():
    p, q = as_probabilities([1, 0, 0], [0, 1, 0])
    assert jensen_shannon(p, q)[0] == pytest.approx(MAX_DISTANCE) == math.sqrt(math.log(2))
    assert kl_divergence(p, np.log(p + 1e-300))[0] == 0
    with np.errstate(divide="ignore"):
        assert kl_divergence(p, np.log(q))[0] == np.inf
    assert np.isfinite(jensen_shannon(p, np.array([[1.0, 5e-324, 0.0]]))).all()


def test_scores_by_hand():
    log_p = np.log([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    # Pairs with fewer than two annotators are left out.
    annotators = Annotators.of(
        annotated([[3, 1, 1], [2, 2, 0], [0, 0, 0], [1, 0, 0]], [0, 0, 1, 0])
    )
    result, facts = annotators.scores(log_p), annotators.facts()
    assert (facts["pairs"], facts["left_out"], facts["answers"]) == (2, 2, 9)
    assert result["agreement"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert result["gold"] == 0.5
    assert result["low"] < result["agreement"] < result["high"]
    assert facts["majority"]["agreement"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert facts["majority"]["gold"] == 1  # of two equally frequent classes, the gold label
    # Of 3, 1, 1 each of the three agrees with the majority of the others; of 2, 2 nobody does.
    assert facts["one"]["agreement"] == pytest.approx((3 / 5 + 0) / 2)
    assert facts["uniform"]["agreement"] == pytest.approx(1 / 3)
    assert facts["gold_label"]["kl"] is None and result["kl"] > 0
    assert [(name, rows.tolist()) for name, rows in annotators.bins()] == [
        ("fewer than 2 annotators", [False, False, True, True]),
        ("<60%", [False, True, False, False]),
        ("60% to <80%", [True, False, False, False]),
    ]


@given(COUNTS, st.integers(0, 1000))
def test_against_a_loop_over_annotators(counts, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1, 1, 1], len(counts))
    annotators = Annotators.of(annotated(counts, rng.integers(0, 3, len(counts)).tolist()))
    kept = [i for i, row in enumerate(counts) if sum(row) >= 2]
    if not kept:
        assert annotators is None
        return
    shares, ceiling, one, distances = [], [], [], []
    for i in kept:
        answers = [c for c, n in enumerate(counts[i]) for _ in range(n)]
        shares.append(np.mean([answer == p[i].argmax() for answer in answers]))
        ceiling.append(max(np.mean([answer == c for answer in answers]) for c in range(3)))
        agrees = []
        for k, answer in enumerate(answers):
            others = answers[:k] + answers[k + 1 :]
            most = max(others.count(c) for c in range(3))
            tied = [c for c in range(3) if others.count(c) == most]
            agrees.append(tied.count(answer) / len(tied))
        one.append(np.mean(agrees))
        distances.append(jensenshannon(p[i], np.array(counts[i]) / sum(counts[i])))
    result, facts = annotators.scores(np.log(p)), annotators.facts()
    assert result["agreement"] == pytest.approx(np.mean(shares))
    assert facts["majority"]["agreement"] == pytest.approx(np.mean(ceiling))
    assert facts["one"]["agreement"] == pytest.approx(np.mean(one))
    assert result["jensen_shannon"] == pytest.approx(np.mean(distances), abs=1e-6)
    for other in (result, facts["gold_label"], facts["uniform"], facts["one"]):
        assert other["agreement"] <= facts["majority"]["agreement"] + 1e-12


def test_counts_that_are_no_annotations():
    for counts in ([[1, 2]], [[1, 2, -1]]):
        with pytest.raises(DataError, match=r"shape \(1, 3\), pairs and classes, are expected"):
            Annotators.of(annotated(counts))
    assert Annotators.of(annotated([[1, 0, 0], [0, 0, 0]])) is None
    assert Annotators.of(Corpus.from_pairs([("A dog.", "A cat.")])) is None


@pytest.fixture(scope="module")
def reported():
    """A report of a set with five annotators, of the same with two classes, of one without."""
    dev, test = bertnli.read("sample", "dev"), bertnli.read("sample", "test")
    counts = np.random.default_rng(0).multinomial(2, [1 / 3] * 3, len(dev.labels)).astype(np.int32)
    counts[np.arange(len(counts)), dev.labels] += 3
    counts[:7] = 0
    places = label_merging(LABELS, TWO_WAY)
    merged = np.stack([counts[:, places == c].sum(1) for c in range(2)], 1).astype(np.int32)
    three = Corpus(*dev, tokenized=False, annotations=counts, name="three")
    options = {"tokenized": False, "label_names": TWO_WAY, "annotations": merged, "name": "two"}
    two = Corpus(*dev[:2], places[dev.labels].tolist(), **options)
    train = bertnli.read("sample", "train")
    vocab = build_vocab(train, 2)
    return evaluation.report(
        [(f"seed{seed}", Known(vocab, seed=seed)) for seed in (0, 1)],
        [three, two, test],
        baseline_on=train,
        calibrate_on=test.subset(np.arange(len(test.labels) // 2), "half"),
    )


def test_a_report_has_the_annotators(reported, tmp_path):
    paths = evaluation.write_report(reported, tmp_path)
    assert json.loads(paths[0].read_text("utf-8")) == reported
    for result in reported["sets"][:2]:
        facts = result["annotators"]
        assert (facts["pairs"], facts["left_out"]) == (result["pairs"] - 7, 7)
        values = [each["annotators"]["agreement"] for each in result["checkpoints"]]
        assert result["summary"]["agreement"]["mean"] == pytest.approx(np.mean(values))
        for each in result["checkpoints"]:
            scaled = each["scaled"]["annotators"]
            # A temperature changes the distances, not the predictions of three classes.
            assert scaled["jensen_shannon"] != each["annotators"]["jensen_shannon"]
            if result["name"] == "three":
                assert scaled["agreement"] == each["annotators"]["agreement"]
        agreement = result["baseline"]["annotators"]["agreement"]
        assert agreement <= facts["majority"]["agreement"]
        rows = next(b["rows"] for b in result["breakdowns"] if b["by"] == "agreement")
        assert rows[0]["pairs"] == 7
    three, two = (result["annotators"] for result in reported["sets"][:2])
    for key in ("gold_label", "majority", "one"):  # fewer classes, less disagreement
        assert three[key]["agreement"] <= two[key]["agreement"]


def test_the_page_has_the_annotators(reported):
    text = evaluation.to_html(reported)
    Page(text)
    three, two, without = text.split("<section")[1:]
    for section, result in zip((three, two), reported["sets"], strict=False):
        start = section.index("Against each annotator</h3>")
        part = section[start : section.index("<h3>", start)]
        assert "7 pairs with fewer than two are left out" in part
        rows = part.split("<tr>")[2:]
        assert len(rows) == 2 * 2 + 1 + 4 and part.count("<svg") == len(rows)
        x = 200 * result["annotators"]["majority"]["agreement"]
        assert part.count(f'd="M{x:.1f} 0V20"') == len(rows)  # the ceiling, in every bar
        for each in result["checkpoints"]:
            assert f"{each['annotators']['jensen_shannon']:.4f}" in part
    assert "nnotator" not in without


def test_a_report_of_one_checkpoint_without_a_baseline():
    corpus = annotated([[3, 2, 0], [0, 5, 0]], [0, 1])
    result = evaluation.report([("a", Known(build_vocab(corpus, 1)))], [corpus])
    page = evaluation.to_html(result)
    assert "10 answers on 2 pairs. Agreement" in page and "left out" not in page
    assert result["sets"][0]["annotators"]["majority"]["agreement"] == pytest.approx(0.8)
