"""Small charts of a report, as SVG written by hand: no library, no script, the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

#: Sides of the reliability diagram, and the room around it for the axes and the legend.
SIDE, LEFT, TOP, BELOW = 240, 62, 10, 124
#: The legend of the reliability diagram: what is drawn, one over the other, and what it means.
LEGEND = (
    (("fill",), "accuracy of a bin's pairs"),
    (("gap",), "gap: confidence above accuracy"),
    (("fill", "gap"), "gap: confidence below accuracy"),
    (("ideal",), "no gap: calibrated perfectly"),
)


def accuracy_bar(
    accuracy: float,
    low: float | None,
    high: float | None,
    baseline: float | None,
    kind: str = "fill",
    ceiling: float | None = None,
) -> str:
    """Return a bar from 0 to 1, a whisker from low to high, a diamond at the baseline.

    The numbers are in the table beside it, so that it is hidden from screen readers.

    Args:
        accuracy, low, high, baseline: shares; None for no mark.
        kind: the bar's class in `STYLE`.
        ceiling: where a dashed line is drawn.
    """
    parts = [
        '<svg viewBox="-5 0 210 20" preserveAspectRatio="none" aria-hidden="true">',
        '<rect class="track" x="0" y="5" width="200" height="10"/>',
        f'<rect class="{kind}" x="0" y="5" width="{200 * accuracy:.1f}" height="10"/>',
    ]
    if low is not None and high is not None:
        a, b = 200 * low, 200 * high
        ends = f"M{a:.1f} 10H{b:.1f}M{a:.1f} 3V17M{b:.1f} 3V17"
        parts.append(f'<path class="whisker" d="{ends}"/>')
    if ceiling is not None:
        parts.append(f'<path class="ideal" d="M{200 * ceiling:.1f} 0V20"/>')
    if baseline is not None:
        x = 200 * baseline
        parts.append(f'<path class="mark" d="M{x:.1f} 1l4 9l-4 9l-4 -9z"/>')
    return "".join([*parts, "</svg>"])


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return a reliability diagram: accuracy of each bin of confidence, and the gap between both.

    Args:
        bins: of `calibration_bins`.
        title: what screen readers say it is.
    """

    def x(value: float) -> float:
        return LEFT + SIDE * value

    def y(value: float) -> float:
        return TOP + SIDE * (1 - value)

    parts = [
        f'<svg viewBox="0 0 {LEFT + SIDE + 16} {TOP + SIDE + BELOW}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="axis" d="M{x(0)} {y(tick)}H{x(1)}"/>')
        parts.append(f'<text x="{x(0) - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:.0%}</text>')
        parts.append(f'<text x="{x(tick)}" y="{y(0) + 16}" text-anchor="middle">{tick:.0%}</text>')
    for one in bins:
        if not one["pairs"]:
            continue
        left, width = x(one["low"]) + 1, SIDE * (one["high"] - one["low"]) - 2
        low, high = sorted((one["accuracy"], one["confidence"]))
        told = (
            f"{one['pairs']} pairs, confidence {one['confidence']:.1%}, accuracy "
            f"{one['accuracy']:.1%}"
        )
        for kind, bottom, top in (("fill", 0.0, one["accuracy"]), ("gap", low, high)):
            parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{y(top):.1f}" width="{width:.1f}" '
                f'height="{SIDE * (top - bottom):.1f}"><title>{told}</title></rect>'
            )
    parts.append(f'<path class="ideal" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    parts.append(f'<text x="{x(0.5)}" y="{y(0) + 36}" text-anchor="middle">confidence</text>')
    turned = f'transform="rotate(-90 14 {y(0.5)})"'
    parts.append(f'<text x="14" y="{y(0.5)}" text-anchor="middle" {turned}>accuracy</text>')
    for row, (kinds, what) in enumerate(LEGEND):
        middle = y(0) + 60 + 18 * row
        for kind in kinds:
            if kind == "ideal":
                parts.append(f'<path class="ideal" d="M{x(0)} {middle}h18"/>')
            else:
                box = f'x="{x(0)}" y="{middle - 6}" width="18" height="12"'
                parts.append(f'<rect class="{kind}" {box}/>')
        parts.append(f'<text x="{x(0) + 26}" y="{middle + 4}">{what}</text>')
    return "".join([*parts, "</svg>"])
