"""A figure or a line of text in the output of a notebook's cell, replaced again and again."""

from __future__ import annotations

import base64
import io
import sys
from typing import Any


def in_notebook() -> bool:
    """Return whether the code runs in a notebook's kernel, which can show pictures."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class CellOutput:
    """A place in the output of a notebook's cell, where each figure or text replaces the last."""

    _display: Any = None

    def show(self, text: str, figure: Any = None) -> None:
        """Show a matplotlib figure or, if it is None, a line of text."""
        from IPython.display import display

        content = {"text/plain": text}
        if figure is not None:
            picture = io.BytesIO()
            figure.savefig(picture, format="png")
            content["image/png"] = base64.b64encode(picture.getvalue()).decode()
        if self._display is None:
            self._display = display(content, raw=True, display_id=True)
        else:
            self._display.update(content, raw=True)
