"""Figures, where matplotlib is installed."""

from __future__ import annotations

from typing import Any

from bertnli.errors import BackendError


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
