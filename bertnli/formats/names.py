"""Tensor names: each framework's file names to and from the canonical ones of `parameters`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from numpy.typing import NDArray

from bertnli.errors import CheckpointError

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

#: What PyTorch's wrappers add to names, and what a module may call the net that it holds.
_WRAPPERS, _ATTRIBUTES = {"module", "_orig_mod"}, {"model", "net"}


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


def unwrapped(stored: Mapping[str, NDArray], source: str) -> dict[str, NDArray]:
    """Return tensors without what wrappers of PyTorch put into their names.

    These are ``module`` (`DataParallel` and its kin) and ``_orig_mod`` (`torch.compile`), in any
    order, and before all names ``model`` or ``net`` (what a Lightning module calls the net).

    Args:
        stored: name to tensor.
        source: the file, for messages.

    Raises:
        CheckpointError: two tensors have the same name without them.
    """
    parts = {name: [p for p in name.split(".") if p not in _WRAPPERS] for name in stored}
    first = {each[0] for each in parts.values() if each}
    start = 1 if len(first) == 1 and first <= _ATTRIBUTES else 0
    found: dict[str, NDArray] = {}
    for name, array in stored.items():
        plain = ".".join(parts[name][start:])
        if plain in found:
            raise CheckpointError(f"{source} holds {plain} twice, with and without a wrapper")
        found[plain] = array
    return found


def by_template(name: str, table: Mapping[str, str]) -> str:
    """Return what a table makes of a tensor's name.

    Args:
        name: such as ``encoder.blks.3.ffn.dense1.weight``.
        table: names of tensors, or of layers, for those of all their tensors; ``{}`` in a key and
            in its value is the number of a block.

    Raises:
        KeyError: the table does not have it.
    """
    found = _by_layer(name, table)
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    if found is None and number is not None:
        template = f"{name[: number.start()]}{{}}{name[number.end() :]}"
        found = _by_layer(template, table)
        found = found and found.replace("{}", number[0], 1)
    if found is None:
        raise KeyError(name)
    return found


def _by_layer(name: str, table: Mapping[str, str]) -> str | None:
    if name in table:
        return table[name]
    layer, _, tensor = name.rpartition(".")
    return f"{table[layer]}.{tensor}" if layer in table else None


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
