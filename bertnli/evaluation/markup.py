"""Shares, scores and tables as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bertnli.evaluation.charts import accuracy_bar

NONE = "–"


def percent(value: float | None) -> str:
    """Return a share as a percentage with one digit, or a dash."""
    return NONE if value is None else f"{100 * value:.1f}%"


def spread(summary: Mapping[str, Any] | None) -> str:
    """Return mean and sample standard deviation of shares, in percent."""
    if summary is None:
        return NONE
    if summary["sd"] is None:
        return percent(summary["mean"])
    return f"{100 * summary['mean']:.1f} ± {100 * summary['sd']:.1f}%"


def interval(one: Mapping[str, Any]) -> str:
    """Return the interval of a score, in percent."""
    return NONE if one["low"] is None else f"{100 * one['low']:.1f}–{100 * one['high']:.1f}%"


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], last_is_sum: bool = False
) -> str:
    """Return a table; cells are HTML, the first of each row is its header."""
    lines = ["".join(f'<th scope="col">{cell}</th>' for cell in head)]
    for first, *cells in rows:
        tds = (cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<th scope="row">{first}</th>' + "".join(tds))
    start, *others = lines
    body = [f"<tr>{line}</tr>" for line in others]
    if last_is_sum:
        body[-1] = body[-1].replace("<tr>", '<tr class="sum">', 1)
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{start}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def accuracy_cells(
    scores: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    baseline: Mapping[str, Any] | None,
) -> list[str]:
    """Return the cells accuracy with its interval or spread, baseline, chart."""
    base = None if baseline is None else baseline["accuracy"]
    if summary is None:
        return [NONE, f'<td class="base">{percent(base)}</td>', '<td class="bar"></td>']
    if len(scores) == 1:
        second, low, high = interval(scores[0]), scores[0]["low"], scores[0]["high"]
    else:
        low, high = summary["min"], summary["max"]
        second = f"± {100 * summary['sd']:.1f}"
    bar = accuracy_bar(summary["mean"], low, high, base)
    return [
        f'<td><b class="model">{percent(summary["mean"])}</b> <small>{second}</small></td>',
        f'<td class="base">{percent(base)}</td>',
        f'<td class="bar">{bar}</td>',
    ]


def confusion(caption: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return a confusion matrix, each cell as dark as its share of the row."""
    rows = []
    for label, row in zip(labels, counts, strict=True):
        total = sum(row) or 1
        cells = (f'<td class="shade" style="--share:{n / total:.3f}">{n:,}</td>' for n in row)
        rows.append([escape(label), *cells])
    return table(caption, ["true \\ predicted", *map(escape, labels)], rows)
