"""A report as one page of HTML, from the template ``report.html.jinja``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertnli.evaluation.scores import MAX_DISTANCE

#: What marks a report as one.
FORMAT = "bertnli-report"
#: Heading and first column of each breakdown.
TITLES = {
    "baseline": ("Where the baseline is right, and where it is wrong", "hypothesis alone"),
    "class": ("By true class", "class"),
    "length": ("By length", "words of the pair"),
    "agreement": ("By agreement of the annotators", "share of the majority"),
    "overlap": ("By word overlap", "hypothesis words in the premise"),
}
#: The reliability diagram's legend: style classes, drawn one over the other, and their meaning.
LEGEND = (
    (("fill",), "accuracy of a bin's pairs"),
    (("gap",), "gap: confidence above accuracy"),
    (("fill", "gap"), "gap: confidence below accuracy"),
    (("ideal",), "no gap: calibrated perfectly"),
)
MISSING = "–"


def to_html(report: Mapping[str, Any]) -> str:
    """Return the page of a report, a complete HTML document.

    Args:
        report: what `bertnli.evaluation.report` returned, or the content of its ``report.json``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # takes 50 ms

    environment = Environment(
        loader=PackageLoader("bertnli.evaluation", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "percent": percent,
        "spread": spread,
        "interval": interval,
        "nats": lambda value: MISSING if value is None else f"{value:.4f}",
    }
    ways = sorted({(one["max_len"], one["truncation"]) for one in report["checkpoints"]})
    return environment.get_template("report.html.jinja").render(
        report,
        encodings=ways,
        format_name=FORMAT,
        legend=LEGEND,
        max_distance=MAX_DISTANCE,
        titles=TITLES,
    )


def percent(share: float | None) -> str:
    """Return a share as a percentage with one digit, or a dash."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def spread(summary: Mapping[str, Any] | None) -> str:
    """Return mean and sample standard deviation of shares, in percent."""
    if summary is None:
        return MISSING
    if summary["sd"] is None:
        return percent(summary["mean"])
    return f"{100 * summary['mean']:.1f} ± {100 * summary['sd']:.1f}%"


def interval(score: Mapping[str, Any]) -> str:
    """Return the confidence interval of a score, in percent."""
    return (
        MISSING if score["low"] is None else f"{100 * score['low']:.1f}–{100 * score['high']:.1f}%"
    )
