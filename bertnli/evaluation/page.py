"""A report as one page of HTML, which asks no host for anything and runs no script.

So it opens anywhere, years later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from bertnli.evaluation.charts import accuracy_bar, reliability
from bertnli.evaluation.markup import (
    NONE,
    accuracy_cells,
    confusion,
    interval,
    percent,
    spread,
    table,
)
from bertnli.evaluation.scores import MAX_DISTANCE
from bertnli.evaluation.style import STYLE

#: Even if something of a corpus came through as markup, the browser would load and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
TITLES = {
    "baseline": ("Where the baseline is right, and where it is wrong", "hypothesis alone"),
    "class": ("By true class", "class"),
    "length": ("By length", "words of the pair"),
    "agreement": ("By agreement of the annotators", "share of the majority"),
    "overlap": ("By word overlap", "hypothesis words in the premise"),
}
#: What marks a report as one.
FORMAT = "bertnli-report"


def to_html(found: Mapping[str, Any]) -> str:
    """Return the page of a report, a complete HTML document.

    Args:
        found: what `bertnli.evaluation.report` returned, or the content of its ``report.json``.
    """
    body = "\n".join([*_head(found), *_summary(found)])
    for number, one in enumerate(found["sets"]):
        body += "\n" + "\n".join(_set(found, one, number))
    title = escape("Evaluation: " + ", ".join(one["name"] for one in found["sets"]))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{FORMAT}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _several(found: Mapping[str, Any]) -> bool:
    return len(found["checkpoints"]) > 1


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    yield "<h1>How good is it, and how sure is that?</h1>"
    names = ", ".join(escape(one["name"]) for one in found["checkpoints"])
    yield f'<p class="soft">Checkpoint{"s" * _several(found)}: {names}</p>'
    whisker = "from its lowest to its highest score" if _several(found) else "with its interval"
    ways = sorted({(one["max_len"], one["truncation"]) for one in found["checkpoints"]})
    cut = " or ".join(f"{length} tokens ({escape(rule)})" for length, rule in ways)
    yield (
        f'<p class="soft">Intervals: Wilson, {found["confidence"]:.0%}. '
        + ("Over checkpoints: mean ± sample standard deviation. " if _several(found) else "")
        + f"Pairs of more than {cut} are cut. "
        'In the charts, <span class="model">■ the classifier</span> '
        f"{whisker}, and "
        '<span class="base">◆ the hypothesis-only baseline</span>.</p>'
    )
    base = found["baseline"]
    if base["missing"]:
        yield f'<p class="note">No baseline: {escape(base["missing"])}.</p>'
    else:
        yield (
            '<p class="soft"><b>Hypothesis-only baseline</b>: logistic regression on '
            f"{base['features']:,} words and bigrams of the hypothesis; it never sees the premise. "
            f"Trained on {base['pairs']:,} pairs of {escape(base['source'])}; "
            f"{percent(base['held_out_accuracy'])} right on a held-out tenth of them.</p>"
        )
    held_out = found["calibration"]
    if held_out["missing"]:
        yield f'<p class="note">No temperature: {escape(held_out["missing"])}.</p>'
    else:
        values = ", ".join(f"{one['temperature']:.3f}" for one in found["checkpoints"])
        yield (
            f'<p class="soft"><b>Temperature</b> {values}, fitted on {held_out["pairs"]:,} '
            f"held-out pairs of {escape(held_out['source'])}.</p>"
        )


def _columns(found: Mapping[str, Any]) -> list[str]:
    second = "sd" if _several(found) else f"{found['confidence']:.0%}"
    return [f"accuracy <small>{second}</small>", "baseline", "0 to 100%"]


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for number, one in enumerate(found["sets"]):
        scores = [each["accuracy"] for each in one["checkpoints"]]
        base = one["baseline"] and one["baseline"]["accuracy"]
        link = f'<a href="#set{number}">{escape(one["name"])}</a>'
        pairs = f"{one['pairs']:,}"
        rows.append([link, pairs, *accuracy_cells(scores, one["summary"]["accuracy"], base)])
    head = ["set", "pairs", *_columns(found)]
    yield table("Accuracy on each set, and the baseline's on the same pairs", head, rows)


def _set(found: Mapping[str, Any], one: Mapping[str, Any], number: int) -> Iterator[str]:
    yield f'<section aria-labelledby="set{number}">'
    yield f'<h2 id="set{number}">{escape(one["name"])}</h2>'
    labels = ", ".join(map(escape, one["labels"]))
    skipped = "".join(f"; {n:,} left out ({escape(why)})" for why, n in one["skipped"].items())
    yield (
        f'<p class="soft">{one["pairs"]:,} pairs of {escape(one["source"])}{skipped}. Layout: '
        f"{escape(one['layout'])}. Classes: {labels}. Always saying the most frequent class: "
        f"{percent(one['majority'])}.</p>"
    )
    if one["baseline_missing"] and not found["baseline"]["missing"]:
        yield f'<p class="note">No baseline here: {escape(one["baseline_missing"])}</p>'
    for note in [*one["notes"], *filter(None, (each["order"] for each in one["checkpoints"]))]:
        yield f'<p class="note">{escape(note.rstrip("."))}.</p>'
    cut = [each["cut"] for each in one["checkpoints"]]
    if any(cut):
        counts = " or ".join(f"{n:,}" for n in sorted({*cut}))
        yield f'<p class="note">{counts} of {one["pairs"]:,} pairs were cut.</p>'
    yield _cards(one)
    yield from _merging(one)
    if _several(found):
        yield _checkpoints(one)
    if one["annotators"]:
        yield from _annotators(found, one, one["annotators"])
    for breakdown in one["breakdowns"]:
        title, column = TITLES.get(breakdown["by"], (f"By {breakdown['by']}", breakdown["by"]))
        yield f"<h3>{escape(title)}</h3>"
        rows = [
            [
                escape(row["name"]),
                f"{row['pairs']:,}",
                *accuracy_cells(row["scores"], row["summary"], row["baseline"]),
            ]
            for row in breakdown["rows"]
        ]
        yield table("", [escape(column), "pairs", *_columns(found)], rows)
    for i, checkpoint in enumerate(one["checkpoints"]):
        if _several(found):
            opened = " open" if i == 0 else ""
            yield f"<details{opened}><summary>{escape(checkpoint['name'])}</summary>"
        yield from _checkpoint(one, checkpoint)
        if _several(found):
            yield "</details>"
    yield "</section>"


def _cards(one: Mapping[str, Any]) -> str:
    first, base, summary = one["checkpoints"][0], one["baseline"], one["summary"]
    single = len(one["checkpoints"]) == 1
    mean = summary["accuracy"]
    below = (
        interval(first["accuracy"])
        if single
        else f"± {100 * mean['sd']:.1f}, over {mean['n']} checkpoints"
    )
    cards = [("Accuracy", "model", percent(mean["mean"]), below)]
    if base is not None:
        gain = 100 * (mean["mean"] - base["accuracy"]["accuracy"])
        side = "above" if gain >= 0 else "below"
        text = f"{interval(base['accuracy'])}; the classifier is {abs(gain):.1f} points {side}"
        cards.append(("Hypothesis alone", "base", percent(base["accuracy"]["accuracy"]), text))
        hard = one["breakdowns"][0]["rows"][0]
        text = f"of the {hard['pairs']:,} pairs that the baseline gets wrong"
        if single:
            text = f"{interval(hard['scores'][0])}; {text}"
        cards.append(("Hard subset", "model", spread(hard["summary"]), text))
    ece = percent(summary["ece"]["mean"])
    text = "expected calibration error"
    if "ece_scaled" in summary:
        text += f"; {percent(summary['ece_scaled']['mean'])} with the temperature"
    if base is not None:
        text += f"; baseline {percent(base['ece'])}"
    cards.append(("Calibration", "model", ece, text))
    if one["annotators"]:
        alone, ceiling = (one["annotators"][key]["agreement"] for key in ("one", "majority"))
        text = f"share of annotators that it agrees with; at most {percent(ceiling)}, and a single "
        text += f"annotator {percent(alone)}"
        cards.append(("Against each annotator", "model", spread(summary["agreement"]), text))
    return (
        '<dl class="cards">'
        + "".join(
            f'<div><dt>{title}</dt><dd class="{kind}">{value}</dd>'
            f'<dd class="small">{text}</dd></div>'
            for title, kind, value, text in cards
        )
        + "</dl>"
    )


def _merging(one: Mapping[str, Any]) -> Iterator[str]:
    other = [c["argmax_then_merged"]["accuracy"] for c in one["checkpoints"] if _is_merged(c)]
    if other:
        mean = sum(other) / len(other)
        yield (
            '<p class="soft">A two-way set: the classifier\'s probabilities of neutral and '
            "contradiction are added. Taking the most probable of three classes first, and merging "
            f"then (McCoy et al., 2019), gives {percent(mean)}.</p>"
        )


def _is_merged(checkpoint: Mapping[str, Any]) -> bool:
    return "argmax_then_merged" in checkpoint


def _checkpoints(one: Mapping[str, Any]) -> str:
    base, summary = one["baseline"], one["summary"]
    rows = []
    for each in one["checkpoints"]:
        accuracy = each["accuracy"]
        cells = [percent(accuracy["accuracy"]), interval(accuracy), f"{each['loss']:.4f}"]
        rows.append([escape(each["name"]), *cells, percent(each["ece"])])
    mean, loss = summary["accuracy"], summary["loss"]
    cells = [spread(mean), "", f"{loss['mean']:.4f} ± {loss['sd']:.4f}", spread(summary["ece"])]
    if base is not None:
        accuracy = base["accuracy"]
        cells_base = [percent(accuracy["accuracy"]), interval(accuracy), f"{base['loss']:.4f}"]
        rows.append(["hypothesis-only baseline", *cells_base, percent(base["ece"])])
    rows.append(["mean ± spread of the checkpoints", *cells])
    head = ["checkpoint", "accuracy", "interval", "loss (nats)", "calibration error"]
    return table("Each checkpoint", head, rows, last_is_sum=True)


def _checkpoint(one: Mapping[str, Any], each: Mapping[str, Any]) -> Iterator[str]:
    base, labels = one["baseline"], one["labels"]
    yield "<h3>Per class</h3>"
    rows = []
    for label in labels:
        row = each["per_class"][label]
        cells = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        under = base and base["per_class"][label]
        cells += [
            f'<td class="base">{under[key]:.3f}</td>' if under else NONE
            for key in ("precision", "recall", "f1")
        ]
        rows.append([escape(label), *cells, f"{row['support']:,}"])
    names = ["precision", "recall", "F1"]
    yield table(
        "",
        ["class", *names, *(f"{name}, baseline" for name in names), "pairs"],
        rows,
    )
    yield "<h3>Confusion matrix</h3>"
    yield confusion("The classifier: rows are true classes", labels, each["confusion"])
    if base is not None:
        caption = "The hypothesis-only baseline"
        yield confusion(caption, labels, base["confusion"])
    yield '<h3>Calibration</h3><div class="pair">'
    yield _reliability("As it is", each)
    if each["scaled"]:
        yield _reliability("With the temperature", each["scaled"])
    if base is not None:
        yield _reliability("The hypothesis-only baseline", base)
    yield "</div>"
    yield from _errors(each, base is not None)


def _annotators(
    found: Mapping[str, Any], one: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[str]:
    yield "<h3>Against each annotator</h3>"
    left_out = f"; {facts['left_out']:,} pairs with fewer than two are left out"
    ceiling = facts["majority"]["agreement"]
    yield (
        f'<p class="soft">{facts["answers"]:,} answers on {facts["pairs"]:,} pairs'
        f"{left_out if facts['left_out'] else ''}. Agreement is the mean share of a pair's "
        f"annotators who chose the same class. One answer for each pair reaches at most "
        f"{percent(ceiling)}, the dashed line: that of most annotators. Jensen-Shannon distance "
        f"(0 to {MAX_DISTANCE:.2f}) and Kullback-Leibler divergence (nats) are between "
        "probabilities and the annotators' shares, and 0 is best.</p>"
    )
    rows: list[tuple[str, Mapping[str, Any], str]] = []
    for each in one["checkpoints"]:
        name = escape(each["name"])
        rows.append((name, each["annotators"], "fill"))
        if each["scaled"]:
            rows.append((f"{name}, with the temperature", each["scaled"]["annotators"], "fill"))
    if one["baseline"]:
        rows.append(("hypothesis-only baseline", one["baseline"]["annotators"], "other"))
    rows += [
        ("one annotator, and most of the others", facts["one"], "other"),
        ("the gold label", facts["gold_label"], "other"),
        ("the answer of most annotators", facts["majority"], "other"),
        ("all classes equally probable", facts["uniform"], "other"),
    ]
    cells = []
    for name, scores, kind in rows:
        share, low, high = (scores[key] for key in ("agreement", "low", "high"))
        bar = accuracy_bar(share, low, high, None, kind, ceiling)
        distances = (scores.get(key) for key in ("jensen_shannon", "kl"))
        cells.append(
            [
                name,
                f"{percent(share)} <small>{interval(scores)}</small>",
                f'<td class="bar">{bar}</td>',
                percent(scores.get("gold")),
                *(NONE if value is None else f"{value:.4f}" for value in distances),
            ]
        )
    second = f"agreement <small>{found['confidence']:.0%}</small>"
    head = ["", second, "0 to 100%", "gold label", "Jensen-Shannon", "Kullback-Leibler"]
    yield table("", head, cells)


def _reliability(title: str, one: Mapping[str, Any]) -> str:
    told = f"{title}: ECE {percent(one['ece'])}, loss {one['loss']:.4f} nats"
    return f"<figure>{reliability(one['bins'], told)}<figcaption>{told}</figcaption></figure>"


def _errors(each: Mapping[str, Any], with_baseline: bool) -> Iterator[str]:
    yield "<h3>The most confident errors</h3>"
    if not each["errors"]:
        yield "<p>There are none: every pair is classified right.</p>"
        return
    yield '<ol class="errors">'
    for error in each["errors"]:
        base = f"; baseline: {escape(error['baseline'])}" if with_baseline else ""
        where = f' <small class="soft">{escape(error["where"])}</small>' if error["where"] else ""
        # <bdi>: text of another direction, or characters that turn it, stay within.
        yield (
            f'<li><p><span class="soft">Premise</span> <bdi>{escape(error["premise"])}</bdi></p>'
            f'<p><span class="soft">Hypothesis</span> <bdi>{escape(error["hypothesis"])}</bdi></p>'
            f'<p><b class="base">{escape(error["predicted"])}</b> '
            f"{percent(error['probability'])}, in truth <b>{escape(error['label'])}</b>{base}"
            f"{where}</p></li>"
        )
    yield "</ol>"
