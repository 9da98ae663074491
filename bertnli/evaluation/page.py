"""The files of a report: ``report.json``, and a page from the template ``report.html.jinja``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertnli._util.files import has_mark, is_there
from bertnli._util.outputs import check_output_folder
from bertnli.errors import ConfigError
from bertnli.evaluation.scores import MAX_DISTANCE

#: Identifies both files of a report.
FORMAT = "bertnli-report"
JSON, PAGE = "report.json", "report.html"
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


def check_report_folder(folder: str | Path) -> None:
    """Raise ConfigError if writing a report would fail, or replace a file that is not a report.

    The folder need not exist, and is not made.
    """
    check_output_folder(folder, "report")
    for path in (Path(folder, JSON), Path(folder, PAGE)):
        if is_there(path) and not has_mark(path, FORMAT):
            raise ConfigError(
                f"{path} is no report of bertnli, and left as it is; choose another folder, or "
                "move it elsewhere"
            )


def write_report(report: dict[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Write a report as ``report.json`` and ``report.html``; return their paths.

    Args:
        report: the dictionary that `bertnli.evaluation.report` returned.
        folder: the folder for both files; made if it does not exist. A report in it is replaced.

    Raises:
        ConfigError: the folder cannot be written, or has files of these names that are no report.
    """
    check_report_folder(folder)
    json_path, html_path = Path(folder, JSON), Path(folder, PAGE)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    json_path.write_text(text + "\n", encoding="utf-8")
    html_path.write_text(to_html(report), encoding="utf-8")
    return json_path, html_path


def to_html(report: Mapping[str, Any]) -> str:
    """Render a report as a complete HTML document.

    Args:
        report: the dictionary that `bertnli.evaluation.report` returned, or the content of its
            ``report.json``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # takes 50 ms

    environment = Environment(
        loader=PackageLoader("bertnli.evaluation", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "percent": percent,
        "spread": _spread,
        "interval": _interval,
        "nats": lambda value: MISSING if value is None else f"{value:.4f}",
    }
    checkpoints = report["checkpoints"]
    return environment.get_template("report.html.jinja").render(
        report,
        encodings=sorted({(each["max_len"], each["truncation"]) for each in checkpoints}),
        format_name=FORMAT,
        legend=LEGEND,
        max_distance=MAX_DISTANCE,
        titles=TITLES,
    )


def percent(share: float | None) -> str:
    """Format a share between 0 and 1 as a percentage with one decimal; None as a dash."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def _spread(summary: Mapping[str, Any] | None) -> str:
    """Format mean and sample standard deviation of shares, in percent."""
    if summary is None or summary["sd"] is None:
        return percent(None if summary is None else summary["mean"])
    return f"{100 * summary['mean']:.1f} ± {100 * summary['sd']:.1f}%"


def _interval(score: Mapping[str, Any]) -> str:
    """Format the confidence interval of a score, in percent."""
    low, high = score["low"], score["high"]
    return MISSING if low is None else f"{100 * low:.1f}–{100 * high:.1f}%"
