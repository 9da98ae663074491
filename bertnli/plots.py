"""Draw runs, scores and pairs: each function returns a matplotlib figure, to write by ``savefig``.

They raise a BackendError if matplotlib is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.outputs import check_output_file
from bertnli.data.packing import PaddingCost
from bertnli.data.summary import SetSummary
from bertnli.errors import BackendError, ConfigError

#: Maximum number of points of a curve; in longer curves, neighbouring steps are averaged.
MAX_POINTS = 500
NO_MATPLOTLIB = 'curves need matplotlib: pip install "bertnli[plots]"'
#: File types of a figure.
FORMATS = (".png", ".pdf", ".svg")
#: The curves of one run, as in the book's figure: field of an `EpochRecord` to label.
_CURVES = {"train_loss": "train loss", "train_accuracy": "train acc", "dev_accuracy": "dev acc"}
#: Height of a bar of `plot_lengths` as a share of its row; its label is above it.
BAR = 0.5
#: Colours of tokens with a positive and with a negative share.
POSITIVE, NEGATIVE = "#2563eb", "#d9480f"


def new_figure(width: float, height: float) -> Any:
    """Make an empty matplotlib figure without a window; ``width`` and ``height`` are in inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError(NO_MATPLOTLIB) from None
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def check_figure_path(path: Path, option: str) -> None:
    """Raise ConfigError if a figure cannot be written to the path that an option gives."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{option} writes {', '.join(FORMATS)}; {path} ends in none of them")
    check_output_file(path, option)
    if importlib.util.find_spec("matplotlib") is None:
        raise BackendError(NO_MATPLOTLIB)


def plot_curves(histories: Mapping[str, Any]) -> Any:
    """Draw the loss and the accuracies of runs against epochs; return the matplotlib figure.

    Several runs get a panel for the loss and one for the accuracies. A single run gets one panel
    with three curves, like the training figures of the book.

    Args:
        histories: dictionary of each run's name, for the legend, to its `bertnli.History`.
    """
    if len(histories) == 1:
        [(name, history)] = histories.items()
        return _single_run(history, "epoch", f"{name} ".lstrip())
    figure = new_figure(8.6, 3.8)
    panels = figure.subplots(1, 2)
    # The first curves are wide and pale, the last thin, so that similar ones remain visible.
    widths = np.linspace(3.5, 1.2, len(histories))
    for i, ((name, history), width) in enumerate(zip(histories.items(), widths, strict=True)):
        style = {"color": f"C{i % 10}", "alpha": 0.4 + 0.6 * (i + 1) / len(histories)}
        style |= {"linewidth": width, "markersize": 2.5 + width}
        for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
            axes.plot(*_points(history, "epoch", f"train_{quantity}"), "--", **style)
            axes.plot(*_points(history, "epoch", f"dev_{quantity}"), "-o", **style)
        panels[0].plot([], [], label=name, **style)
    for axes, quantity in zip(panels, ("loss, nats", "accuracy"), strict=True):
        axes.set_title(f"{quantity} (dashed: train, dots: dev)", fontsize="medium")
        _label_x(axes, "epoch")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure


def plot_progress(history: Any, title: str = "") -> Any:
    """Draw an unfinished run: the loss of each step, and the loss and accuracies of each epoch."""
    return _single_run(history, "steps", "", title)


def _single_run(history: Any, x: str, prefix: str, title: str = "") -> Any:
    """Draw the curves of a run over its epochs, or over its steps with the loss of each step.

    Args:
        history: a `bertnli.History`.
        x: the field of `EpochRecord` on the x axis, ``"epoch"`` or ``"steps"``.
        prefix: the beginning of each label in the legend.
        title: the title of the figure.
    """
    figure = new_figure(5.2, 3.6)
    axes = figure.add_subplot()
    losses = np.array(history.step_losses if x == "steps" else [], np.float64)
    if len(losses):
        starts = np.arange(0, len(losses), -(-len(losses) // MAX_POINTS))
        means = np.add.reduceat(losses, starts) / np.diff([*starts, len(losses)])
        axes.plot(starts + 1, means, color="C0", alpha=0.35, linewidth=1, label="loss of a step")
    for i, (field, label) in enumerate(_CURVES.items()):
        points = _points(history, x, field)
        if len(points[0]):
            axes.plot(*points, color=f"C{i}", marker="o", markersize=4, label=prefix + label)
    _label_x(axes, "step" if x == "steps" else x)
    axes.set_ylabel("loss (nats), accuracy")
    axes.set_title(title, fontsize="small")
    if axes.lines:
        axes.legend(fontsize="small")
    return figure


def _points(history: Any, x: str, y: str) -> tuple[list[float], list[float]]:
    """Return two fields of `EpochRecord` as lists, for the epochs in which ``y`` is not None."""
    records = [record for record in history.epochs if getattr(record, y) is not None]
    return [getattr(record, x) for record in records], [getattr(record, y) for record in records]


def _label_x(axes: Any, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.4)


def plot_confusion(scores: Mapping[str, Any]) -> Any:
    """Draw confusion matrices side by side, with the count and the share of its row in each cell.

    Args:
        scores: dictionary of each matrix's title to its `bertnli.Metrics`.
    """
    size = 1.3 + 0.75 * max(len(metrics.labels) for metrics in scores.values())
    figure = new_figure((size + 0.6) * len(scores), size)
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for axes, (title, metrics) in zip(panels, scores.items(), strict=True):
        counts = metrics.confusion
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        style = {"ha": "center", "va": "center", "fontsize": "small"}
        for (row, column), share in np.ndenumerate(shares):
            text = f"{counts[row, column]:,}\n{share:.0%}"
            axes.text(column, row, text, color="white" if share > 0.55 else "black", **style)
        ticks = range(len(metrics.labels))
        axes.set_xticks(ticks, metrics.labels, rotation=20, ha="right", fontsize="small")
        axes.set_yticks(ticks, metrics.labels, fontsize="small")
        axes.set(xlabel="predicted", ylabel="true")
        accuracy = f"accuracy {metrics.accuracy:.1%} of {metrics.num_pairs:,} pairs"
        axes.set_title(f"{title}\n{accuracy}".strip(), fontsize="small")
    return figure


def plot_lengths(lengths: Sequence[int] | NDArray, cost: PaddingCost) -> Any:
    """Draw a histogram of pair lengths, and a bar chart of the cost of padding.

    Args:
        lengths: (N,) the number of tokens of each pair, special ones included.
        cost: the number of tokens in batches of these pairs.
    """
    figure = new_figure(8.6, 3.6)
    from matplotlib.ticker import EngFormatter, MaxNLocator

    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    counts = np.bincount(np.asarray(lengths, np.int64), minlength=cost.max_len + 1)
    left.bar(np.arange(len(counts)), counts, width=1.0, color="C0")
    left.axvline(np.mean(lengths), color="C3", label=f"mean, {np.mean(lengths):.1f}")
    left.axvline(cost.max_len, color="0.4", linestyle=":", label=f"max_len, {cost.max_len}")
    left.set_xlim(0, 1.05 * len(counts))
    left.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    left.set(xlabel="tokens of a pair", ylabel="pairs")
    left.set_title(f"{len(lengths):,} pairs", fontsize="medium")
    left.legend(fontsize="small")
    names = (f"all to max_len, {cost.max_len}", "each batch to its longest", "computed here")
    padded = (cost.to_max_len, cost.to_longest, cost.computed)
    places = np.arange(len(names))[::-1]
    right.barh(places, padded, BAR, color="0.8", label="padding")
    right.barh(places, cost.tokens, BAR, color="C0", label="tokens of pairs")
    style = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": "small"}
    for place, value in zip(places, padded, strict=True):
        text = f"{value / cost.tokens:.2f} times the pairs' tokens"
        right.annotate(text, (0, place + BAR / 2), **style)
    right.set_yticks(places, names, fontsize="small")
    right.set(ylim=(-1, len(names) - 0.35), xlabel="tokens of an epoch")
    right.xaxis.set_major_formatter(EngFormatter(sep=""))
    right.set_title(f"batches of {cost.batch_size}", fontsize="medium")
    right.legend(fontsize="small", loc="lower right", ncols=2, frameon=False)
    return figure


def plot_summary(sets: Sequence[SetSummary]) -> Any:
    """Draw the shares of the classes and histograms of the lengths, for several sets."""
    figure = new_figure(8.6, 3.6)
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for part in sets for name in part.classes))
    width = 0.8 / len(sets)
    longest = max(part.longest for part in sets)
    bins = np.arange(0, longest + 2, max(1, longest // 40))
    for i, part in enumerate(sets):
        shares = [part.classes.get(name, 0) / max(part.pairs, 1) for name in names]
        places = np.arange(len(names)) + (i - (len(sets) - 1) / 2) * width
        label = f"{part.name}, {part.pairs:,} pairs"
        left.bar(places, shares, width, color=f"C{i % 10}", label=label)
        weights = np.full(len(part.lengths), 1 / max(part.pairs, 1))
        right.hist(part.lengths, bins, weights=weights, histtype="step", color=f"C{i % 10}")
    left.set_xticks(range(len(names)), names, fontsize="small")
    left.set_ylabel("share of the pairs")
    right.set_xlabel(f"{sets[0].unit} of a pair")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure


def plot_explanation(explanation: Any, attention: NDArray) -> Any:
    """Draw a heat map of attention between the tokens of a pair, beside each token's share.

    Args:
        explanation: a `bertnli.Explanation`.
        attention: (T, T) the attention weights.
    """
    tokens = explanation.tokens
    size = max(3.2, 0.26 * len(tokens))
    figure = new_figure(size + 4.2, size + 1.2)
    left, right = figure.subplots(1, 2, width_ratios=[size, 2.4], sharey=True)
    image = left.imshow(attention, cmap="Blues", vmin=0, aspect="auto")
    places = range(len(tokens))
    left.set_xticks(places, tokens, rotation=90)
    left.set_yticks(places, tokens)
    left.tick_params(length=0)
    for line in (left.axhline, left.axvline, right.axhline):  # between premise and hypothesis
        line(explanation.segments.index(1) - 0.5, color="0.6", linewidth=0.8)
    left.set_title("attention: a row's token takes from the columns'", fontsize=9)
    bar = figure.colorbar(image, ax=left, location="bottom", fraction=0.04, pad=0.02)
    bar.set_label("attention weight", fontsize=9)
    colours = [POSITIVE if share > 0 else NEGATIVE for share in explanation.saliency]
    right.barh(places, explanation.saliency, color=colours)
    right.axvline(0, color="0.3", linewidth=0.8)
    right.tick_params(labelleft=False, left=False)
    right.spines[["top", "right", "left"]].set_visible(False)
    right.set_title(f"share in p({explanation.target})", fontsize=9)
    title = ", ".join(f"{name} {p:.3f}" for name, p in explanation.probabilities.items())
    figure.suptitle(title, fontsize=10)
    return figure
