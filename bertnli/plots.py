"""Figures, where matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bertnli.errors import BackendError

if TYPE_CHECKING:
    from bertnli.explain import Explanation

#: What speaks for a class, and against it.
POSITIVE, NEGATIVE = "#2563eb", "#d9480f"


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that only a file is made of: no window, no state of pyplot's.

    Args:
        width, height: inches.

    Raises:
        BackendError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError('curves need matplotlib: pip install "bertnli[plots]"') from None
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    return figure


def plot_explanation(explanation: Explanation, attention: NDArray) -> Any:
    """Return a figure of what a classifier made of a pair.

    Args:
        explanation: tokens and their shares.
        attention: (T, T), of a head or a mean of some.

    Raises:
        BackendError: matplotlib is missing.
    """
    tokens = explanation.tokens
    size = max(3.2, 0.26 * len(tokens))
    figure = new_figure(size + 4.2, size + 1.2)
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2, width_ratios=[size, 2.4], sharey=True)
    image = left.imshow(attention, cmap="Blues", vmin=0, aspect="auto")
    places = range(len(tokens))
    left.set_xticks(places, tokens, rotation=90)
    left.set_yticks(places, tokens)
    left.tick_params(length=0)
    between = explanation.segments.index(1) - 0.5 if 1 in explanation.segments else None
    if between is not None:
        for line in (left.axhline, left.axvline, right.axhline):
            line(between, color="0.6", linewidth=0.8)
    left.set_title("attention: a row's token takes from the columns'", fontsize=9)
    figure.colorbar(image, ax=left, location="bottom", fraction=0.04, pad=0.02)
    colours = [POSITIVE if share > 0 else NEGATIVE for share in explanation.saliency]
    right.barh(places, explanation.saliency, color=colours)
    right.axvline(0, color="0.3", linewidth=0.8)
    right.tick_params(labelleft=False, left=False)
    right.spines[["top", "right", "left"]].set_visible(False)
    right.set_title(f"share in p({explanation.target})", fontsize=9)
    found = ", ".join(f"{name} {p:.3f}" for name, p in explanation.probabilities.items())
    figure.suptitle(found, fontsize=10)
    return figure
