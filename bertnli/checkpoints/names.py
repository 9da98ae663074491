"""Tensor names: each framework's file names to and from the canonical ones of `parameters`."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The book's modules give the same tensor different names in its two tabs: a torch Sequential
# counts the activation as a layer of its own, and gluon calls a LayerNorm's scale and shift gamma
# and beta.
_TORCH = (
    (r"^hidden\.", "hidden.0."),
    (r"^mlm\.dense\.", "mlm.mlp.0."),
    (r"^mlm\.ln\.", "mlm.mlp.2."),
    (r"^mlm\.decoder\.", "mlm.mlp.3."),
)
_MXNET = (
    (r"ln\.weight$", "ln.gamma"),
    (r"ln\.bias$", "ln.beta"),
    (r"^mlm\.dense\.", "mlm.mlp.0."),
    (r"^mlm\.ln\.", "mlm.mlp.1."),
    (r"^mlm\.decoder\.", "mlm.mlp.2."),
)


def to_torch(name: str) -> str:
    """Return the name that a canonical tensor has in the book's torch state dict."""
    return _rename(name, _TORCH)


def to_mxnet(name: str) -> str:
    """Return the structural name that a canonical tensor has in the book's MXNet file."""
    return _rename(name, _MXNET)


def from_torch(name: str) -> str:
    """Return the canonical name of a tensor of the book's torch state dict."""
    return _rename(name, _inverse(_TORCH))


def from_mxnet(name: str) -> str:
    """Return the canonical name of a tensor of the book's MXNet file."""
    return _rename(name, _inverse(_MXNET))


def _inverse(rules: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    inverse = []
    for pattern, text in rules:
        start, end = pattern.startswith("^"), pattern.endswith("$")
        source = ("^" if start else "") + re.escape(text) + ("$" if end else "")
        inverse.append((source, pattern.strip("^$").replace("\\.", ".")))
    return tuple(reversed(inverse))


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
